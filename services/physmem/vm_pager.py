"""vm_pager_get_pages: reads in two phases, start and completion (vm_pager.c, swap_pager.c, vnode_pager.c)."""

from __future__ import annotations

from services.physmem.machine import Machine
from services.physmem.ops import PageRead
from services.physmem.page_array import PG_DOOMED, PQ_NONE
from services.physmem.page_busy import vm_page_xunbusy
from services.physmem.pmap import pmap_remove_all
from services.physmem.state import PVM, ObjectType, VmObject, vm_pager_flush
from services.physmem.vm_object import vm_object_pip_add, vm_object_pip_wakeup
from services.physmem.vm_page import (
    VM_ALLOC_IFNOTCACHED,
    VM_ALLOC_NOOBJ,
    VM_ALLOC_NORMAL,
    vm_page_alloc,
    vm_page_deactivate,
    vm_page_dequeue,
    vm_page_enqueue,
    vm_page_free,
    vm_page_insert,
    vm_page_remove,
)
from services.ports.common import Suspension
from services.ports.pager import GetPagesStart, ObjectKind, PagesRead, VmPager

PSWP = 80
"""Sleep priority of a read from swap."""
_SWREAD_SECONDS = 20
"""Seconds after which swap_pager_getpages looks again at a read that does not end."""


def read_start(vm: Machine, obj: VmObject, pindex: int, m: int, behind: int, ahead: int) -> GetPagesStart:
    """Start to read page `m` and absent neighbours; pages for these are allocated as far as memory goes.

    Args:
        vm: The machine.
        obj: Object with a pager.
        pindex: Index of the page.
        m: The page, exclusively busy.
        behind: Pages wanted in front of it, at most; a resident one ends the run.
        ahead: Pages wanted behind it, at most.

    Returns:
        The pager's answer; PEND: the read is in ``vm.reads``.
    """
    room = vm.cnt.v_free_count + vm.cnt.v_cache_count - vm.cnt.v_free_reserved
    first, last = pindex, pindex
    while first > 0 and pindex - first < min(behind, room) and _absent(obj, first - 1):
        first -= 1
    while last + 1 < obj.size and last - pindex < min(ahead, room - pindex + first) and _absent(obj, last + 1):
        last += 1
    started = _start(vm, obj, pindex, pindex - first, last - pindex, wired=False)
    if started.status == VmPager.PEND:
        covered = range(started.first, started.first + started.count)
        _started(vm, obj, started, [m if p == pindex else _neighbour(vm, obj, p) for p in covered], m)
    return started


def _absent(obj: VmObject, pindex: int) -> bool:
    return pindex not in obj.resident and pindex not in obj.cached


def read_start_wired(vm: Machine, obj: VmObject, pindex: int, ma: list[int]) -> GetPagesStart:
    """Start to read wired pages that the caller has, `ma` from `pindex` on; the pager may take fewer of them."""
    started = _start(vm, obj, pindex, 0, len(ma) - 1, wired=True)
    if started.status == VmPager.PEND:
        _started(vm, obj, started, ma[: started.count], ma[0])
    return started


def _start(vm: Machine, obj: VmObject, pindex: int, behind: int, ahead: int, wired: bool) -> GetPagesStart:
    """Ask the pager, unless it is known not to have the page."""
    if obj.anonymous and pindex not in obj.swapped:
        return GetPagesStart(VmPager.FAIL)
    vm_pager_flush(vm)
    kind = ObjectKind(obj.type)
    return vm.pager.get_pages_start(obj.id, kind, obj.file, pindex, behind, ahead, wired)


def _neighbour(vm: Machine, obj: VmObject, pindex: int) -> int:
    """A busy page for a neighbour of the requested one."""
    m = vm_page_alloc(vm, obj, pindex, VM_ALLOC_NORMAL | VM_ALLOC_IFNOTCACHED)
    assert m is not None, "no more neighbours are read than there is memory for"
    return m


def _started(vm: Machine, obj: VmObject, started: GetPagesStart, frames: list[int], requested: int) -> None:
    vm.ctx.count("vmglue.physmem.pages_read", len(frames))
    vm.reads[started.io] = PageRead(obj.id, started.first, frames, requested)
    vm_object_pip_add(vm, obj, len(frames))
    vm.ctx.io_started(started.io, started.due_us)


def read_wait(vm: Machine, obj: VmObject, m: int) -> Suspension:
    """The reader's sleep until page `m` is there."""
    if obj.type == ObjectType.VNODE:
        return Suspension(channel=f"page:{m}", priority=PVM, wmesg="vnread")
    return Suspension(channel=f"page:{m}", priority=PSWP, wmesg="swread", timeout_ticks=_SWREAD_SECONDS * vm.ctx.hz)


def reads_finish(vm: Machine, ios: list[int]) -> None:
    """swp_pager_async_iodone for reads that are due: pages become valid, all but the requested one are released."""
    for io, answer in zip(ios, vm.pager.get_pages_finish(ios).reads, strict=True):
        _finish(vm, io, answer)


def _finish(vm: Machine, io: int, answer: PagesRead) -> None:
    read = vm.reads[io]
    obj = vm.objects[read.object]
    if answer.status == VmPager.OK:
        _fill(vm, read, answer.data)
    for m in read.frames:
        if m != read.requested:
            _release(vm, m, answer.status == VmPager.OK)
    read.status = answer.status
    vm.ctx.wakeup(f"page:{read.requested}")
    if read.abandoned:
        _release(vm, read.requested, answer.status == VmPager.OK)
        del vm.reads[io]
    vm_object_pip_wakeup(vm, obj, len(read.frames))


def _fill(vm: Machine, read: PageRead, data: bytes) -> None:
    """Contents come in; the pager keeps its blocks, so the pages are clean."""
    size = vm.arch.page_size
    for i, m in enumerate(read.frames):
        vm.ram.write(m, data[i * size : (i + 1) * size])
        vm.pages.valid[m], vm.pages.dirty[m] = vm.bits_all, 0


def _release(vm: Machine, m: int, good: bool) -> None:
    """A page that nobody waits for: to the inactive queue, unless it is wired, unreadable or no longer wanted."""
    wired = vm.pages.wire_count[m] != 0
    if not wired and (not good or vm.pages.flags[m] & PG_DOOMED):
        vm_page_free(vm, m)
    elif good:
        vm_page_deactivate(vm, m)
        vm_page_xunbusy(vm, m)


def get_pages_scripted(vm: Machine, obj: VmObject, first: int, ma: list[int]) -> VmPager | None:
    """A scripted answer of vm_pager_get_pages (question of that name) applied to a run of pages; None: ask the pager.

    An answer is an integer: bits 0-2 the VM_PAGER_ code; bit 3 filled pages stay busy; bits 4-9 how many pages of the
    run are filled, plus one, 0 for all; bits 10-41 positions whose page the pager first replaces by another one in the
    same state; bits 42-62 positions whose page leaves the object.

    Args:
        vm: The machine.
        obj: The object.
        first: Index of the run's first page.
        ma: The run, exclusively busy.
    """
    answer = vm.ctx.env.ask("vm_pager_get_pages", lambda: -1)
    if answer < 0:
        return None
    status, keep_busy, filled = VmPager(answer & 7), answer >> 3 & 1, (answer >> 4 & 63) - 1
    if filled < 0:
        filled = len(ma)
    for i in range(len(ma)):
        m = _replace(vm, obj, first + i) if answer >> 10 + i & 1 else obj.resident[first + i]
        if status == VmPager.OK and i < filled:
            vm.pages.valid[m], vm.pages.dirty[m] = vm.bits_all, 0
            if i > 0 and not keep_busy:
                _release(vm, m, good=True)
        if answer >> 42 + i & 1:
            vm_page_lose(vm, obj, first + i)
    return status


def _replace(vm: Machine, obj: VmObject, pindex: int) -> int:
    """Put another page in the same state in a page's place; the frame is copied, the old one freed."""
    old = obj.resident[pindex]
    m = vm_page_alloc(vm, None, 0, VM_ALLOC_NOOBJ)
    assert m is not None, "a script is not played on a machine without memory"
    fields = vm.pages.np
    for name in ("flags", "aflags", "oflags", "act_count", "wire_count", "hold_count", "busy_lock", "valid", "dirty"):
        getattr(fields, name)[m] = getattr(fields, name)[old]
    fields.wire_count[old] = 0
    vm.ram.copy(old, m)
    queue, times = vm.pages.queue[old], obj.replaced.get(pindex, 0)
    vm_page_free(vm, old)
    vm_page_insert(vm, m, obj, pindex)
    obj.own("replaced")[pindex] = times + 1
    if queue != PQ_NONE:
        vm_page_enqueue(vm, queue, m)
    return m


def vm_page_lose(vm: Machine, obj: VmObject, pindex: int) -> None:
    """A fault: the page leaves its object, wired or not; the frame stays as it is, owned by nobody."""
    m = obj.resident[pindex]
    pmap_remove_all(vm, m)
    vm_page_dequeue(vm, m)
    vm_page_remove(vm, m)
