"""Situations: stacks, image files and address spaces placed in memory as a caller describes them.

Everything here is refused unless injection is allowed.
"""

from __future__ import annotations

from services.physmem.imgact import vnode_object
from services.physmem.kstack_pages import stack_allocate
from services.physmem.machine import Machine
from services.physmem.page_array import PQ_ACTIVE, PQ_INACTIVE, PQ_NONE
from services.physmem.page_busy import vm_page_busied, vm_page_xbusy
from services.physmem.pmap import pmap_qenter, pmap_remove_all
from services.physmem.state import VmObject
from services.physmem.vm_page import (
    VM_ALLOC_NOBUSY,
    VM_ALLOC_NORMAL,
    vm_page_alloc,
    vm_page_dequeue,
    vm_page_enqueue,
    vm_page_free,
    vm_page_lookup,
    vm_page_undirty,
    vm_page_wire,
)
from services.physmem.vmspace import vmspace_alloc
from services.ports.physmem import (
    PageQueue,
    PageState,
    PageValid,
    Placed,
    PlacedFile,
    PlacedStack,
    StackPages,
)
from services.runtime.errors import Reason, Refused

QUEUES = {PageQueue.INACTIVE: PQ_INACTIVE, PageQueue.ACTIVE: PQ_ACTIVE, PageQueue.NONE: PQ_NONE}
"""Number of each page queue."""
_COUNT_MAX = 0xFFFF
"""Largest hold count that a page can have, and largest wire count that may be placed."""


def allowed(vm: Machine, field: str, value: object) -> None:
    """Refuse what changes memory behind the kernel's back.

    Raises:
        Refused: The system was not started to allow injection.
    """
    if not vm.ctx.env.allow_inject:
        raise Refused(Reason.INJECTION_REFUSED, field, value, "a system that was started with injection allowed")


def place(vm: Machine, stacks: list[PlacedStack], files: list[PlacedFile], vmspaces: list[int]) -> Placed:
    """Build stacks and files with their pages, and empty address spaces with their reference counts.

    Raises:
        Refused: A description contradicts itself, or memory is too small for it; nothing was changed.
    """
    _check(vm, stacks, files)
    for file in files:
        _place_pages(vm, vnode_object(vm, file.file, file.size), file.pages)
    placed = Placed([_place_stack(vm, stack) for stack in stacks])
    arch = vm.arch
    for refcnt in vmspaces:
        space = vmspace_alloc(vm, arch.user_min, arch.user_max)
        space.refcnt = refcnt
        placed.vmspaces.append(space.map.id)
    return placed


def _check(vm: Machine, stacks: list[PlacedStack], files: list[PlacedFile]) -> None:
    for i, stack in enumerate(stacks):
        if not 1 <= stack.size <= vm.kstack_max_pages:
            most = vm.kstack_max_pages
            raise Refused(Reason.FIELD_OUT_OF_RANGE, f"stacks[{i}].size", stack.size, f"1 to {most} pages")
        _check_pages(f"stacks[{i}].pages", stack.pages, stack.size)
    names = [file.file for file in files]
    for i, file in enumerate(files):
        if not file.file or file.file in vm.files or names.count(file.file) > 1:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, f"files[{i}].file", file.file, "the name of a new file")
        _check_pages(f"files[{i}].pages", file.pages, 1 << 63)
    wanted = sum(len(stack.pages) for stack in stacks) + sum(len(file.pages) for file in files)
    room = vm.cnt.v_free_count - vm.cnt.v_free_reserved
    if wanted > room:
        raise Refused(Reason.QUOTA, "stacks", wanted, f"at most {room} pages, which are free")


def _check_pages(field: str, pages: list[PageState], size: int) -> None:
    seen: set[int] = set()
    for i, page in enumerate(pages):
        if page.pindex >= size or page.pindex in seen:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, f"{field}[{i}].pindex", page.pindex, "each page of it once")
        seen.add(page.pindex)
        for name, count in (("wired", page.wired), ("held", page.held)):
            if count > _COUNT_MAX:
                raise Refused(Reason.FIELD_OUT_OF_RANGE, f"{field}[{i}].{name}", count, f"at most {_COUNT_MAX}")


def _place_stack(vm: Machine, placed: PlacedStack) -> StackPages:
    """A stack with its address; no page of it needs to be there."""
    stack = stack_allocate(vm, placed.size)
    if stack is None:
        raise Refused(Reason.QUOTA, "stacks", placed.size, "kernel address space for it")
    frames = _place_pages(vm, vm.objects[stack.obj], placed.pages)
    if placed.mapped:
        for page, m in zip(placed.pages, frames, strict=True):
            pmap_qenter(vm, stack.ks + page.pindex * vm.arch.page_size, [m])
    vm.stacks[stack.obj].resident = placed.mapped
    return stack


def _place_pages(vm: Machine, obj: VmObject, pages: list[PageState]) -> list[int]:
    return [_place_page(vm, obj, page) for page in pages]


def _place_page(vm: Machine, obj: VmObject, page: PageState) -> int:
    """One page of zeros in the wanted state."""
    m = vm_page_alloc(vm, obj, page.pindex, VM_ALLOC_NORMAL | VM_ALLOC_NOBUSY)
    assert m is not None, "there was room for all pages"
    vm.ram.zero(m)
    set_valid(vm, m, page.valid, page.dirty)
    for _ in range(page.wired):
        vm_page_wire(vm, m)
    vm.pages.hold_count[m] = page.held
    if not page.wired and page.queue is not PageQueue.NONE:
        vm_page_enqueue(vm, QUEUES[page.queue], m)
    if page.busy:
        vm_page_xbusy(vm, m)
    if page.generation:
        obj.own("replaced")[page.pindex] = page.generation
    return m


def set_valid(vm: Machine, m: int, valid: PageValid, dirty: bool) -> None:
    """Set which blocks of a page are valid: all, the first, or none; and whether all are dirty."""
    vm.pages.valid[m] = {PageValid.NONE: 0, PageValid.PARTIAL: 1, PageValid.ALL: vm.bits_all}[valid]
    vm.pages.dirty[m] = vm.bits_all if dirty else 0


def evict(vm: Machine, obj: VmObject, pindexes: list[int]) -> list[int]:
    """Take pages of an object as the page daemon does once what was dirty is written; indexes of those it could take.

    A stack's page that no longer is wired may still be mapped at the stack's address by a lost swap-out: that mapping
    is not managed and stays.
    """
    taken = []
    for pindex in pindexes:
        m = vm_page_lookup(vm, obj, pindex)
        if m is None or vm.pages.wire_count[m] or vm.pages.hold_count[m] or vm_page_busied(vm, m):
            continue
        pmap_remove_all(vm, m)
        vm_page_undirty(vm, m)
        vm_page_dequeue(vm, m)
        vm_page_free(vm, m)
        taken.append(pindex)
    return taken
