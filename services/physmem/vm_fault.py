"""Page faults (vm_fault.c): zero-fill, copy on write, page-in; a fault that sleeps is plain data (FaultOp).

A fault runs without interruption until it must sleep. Only a read from a pager keeps something across its sleep: the
busy pages, references and paging-in-progress counts that C holds too. After every other sleep the fault starts anew,
as C does at RetryFault.

Left out: growth of stacks, madvise(2) behaviours.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.physmem.machine import Machine
from services.physmem.ops import FaultKind, FaultOp
from services.physmem.page_array import (
    PG_DOOMED,
    PGA_REFERENCED,
    PQ_ACTIVE,
    PQ_INACTIVE,
    VPB_UNBUSIED,
)
from services.physmem.page_busy import (
    vm_page_busied,
    vm_page_busy_sleep,
    vm_page_xbusy,
    vm_page_xunbusy,
)
from services.physmem.pmap import pmap_enter, pmap_unwire, vpn_of
from services.physmem.replacement import make_room
from services.physmem.state import OBJ_MIGHTBEDIRTY, ObjectType, VmObject
from services.physmem.swap_reserve import swap_release, swap_reserve
from services.physmem.vm_fault_around import PFBAK, PFFOR, vm_fault_dontneed, vm_fault_prefault
from services.physmem.vm_map import (
    MAP_ENTRY_IN_TRANSITION,
    MAP_ENTRY_NEEDS_COPY,
    MAP_ENTRY_NEEDS_WAKEUP,
    MAP_ENTRY_UNFAULTABLE,
    VM_PROT_WRITE,
    VmMap,
    VmMapEntry,
    charge_object,
    vm_map_entry_back,
    vm_map_wait,
)
from services.physmem.vm_object import (
    vm_object_deallocate,
    vm_object_pip_add,
    vm_object_pip_wakeup,
    vm_object_reference,
    vm_object_set_writeable_dirty,
    vm_object_shadow,
)
from services.physmem.vm_page import (
    VM_ALLOC_NORMAL,
    VM_ALLOC_ZERO,
    vm_page_activate,
    vm_page_alloc,
    vm_page_count_severe,
    vm_page_deactivate,
    vm_page_dequeue,
    vm_page_dirty,
    vm_page_free,
    vm_page_rename,
    vm_page_unwire,
    vm_page_wire,
    vm_pager_page_unswapped,
    vm_waitpfault,
)
from services.physmem.vm_pager import read_start, read_wait
from services.ports.common import Suspension
from services.ports.pager import VmPager
from services.ports.physmem import KernReturn, Replacement
from services.runtime.errors import KernelPanic
from services.runtime.events import Kind

VM_FAULT_READ_BEHIND = 8
"""Pages read in front of a fault that is not sequential."""
VM_FAULT_READ_AHEAD_MIN = 7
"""Read-ahead window after a fault that was not sequential."""
VM_FAULT_READ_AHEAD_MAX = 31
"""Widest read-ahead window."""

_EVENTS = {
    FaultKind.MINOR: Kind.FAULT_MINOR,
    FaultKind.ZERO_FILL: Kind.FAULT_ZERO_FILL,
    FaultKind.COW: Kind.FAULT_COW,
    FaultKind.MAJOR: Kind.FAULT_MAJOR,
}


@dataclass(slots=True)
class Lookup:
    """vm_map_lookup's answer: the entry, its object, and what the mapping may grant."""

    entry: VmMapEntry
    object: VmObject
    pindex: int
    prot: int
    fault_type: int
    wired: bool


def vm_fault(vm: Machine, map_: VmMap, op: FaultOp) -> KernReturn | Suspension:
    """vm_fault: make the page at ``op.va`` accessible, or wire it.

    Args:
        vm: The machine.
        map_: The map; a locked one makes the fault wait.
        op: The fault; to resume a sleeping one, call again with the same. Afterwards `kind` and `frame` tell what was
            done.

    Returns:
        SUCCESS, the KERN_ code of the failure, or the sleep (without an operation id).
    """
    if not op.counted:
        vm.cnt.v_vm_faults += 1
        op.counted = True
    if map_.locked:
        return vm_map_wait(map_)
    if op.io:
        return _fault_after_read(vm, map_, op)
    found = vm_map_lookup(vm, map_, op)
    if not isinstance(found, Lookup):
        return _failed(vm, map_, op, found)
    m = found.object.resident.get(found.pindex)
    if m is not None and not op.wiring and _fast_path(vm, map_, op, found, m):
        return KernReturn.SUCCESS
    return _fault_chain(vm, map_, op, found, found.object, found.pindex, None)


def vm_map_lookup(vm: Machine, map_: VmMap, op: FaultOp) -> Lookup | KernReturn | Suspension:
    """vm_map_lookup: the object behind an address for a kind of access; shadows it if a write needs a copy."""
    present, i = map_.lookup_entry(op.va)
    if not present:
        return KernReturn.INVALID_ADDRESS
    entry = map_.entries[i]
    prot, fault_type = entry.protection, op.fault_type
    if fault_type & ~prot or prot == 0:
        return KernReturn.PROTECTION_FAILURE
    if entry.eflags & (MAP_ENTRY_IN_TRANSITION | MAP_ENTRY_UNFAULTABLE):
        if entry.eflags & MAP_ENTRY_UNFAULTABLE:
            return KernReturn.FAILURE
        if entry.wiring_op != op.wiring_op:
            entry.eflags |= MAP_ENTRY_NEEDS_WAKEUP
            return vm_map_wait(map_)
    if entry.wired_count:
        fault_type = prot
    if entry.eflags & MAP_ENTRY_NEEDS_COPY:
        if fault_type & VM_PROT_WRITE:
            if not entry.charged and not map_.system_map:
                if not swap_reserve(vm, entry.size):
                    return KernReturn.RESOURCE_SHORTAGE
                entry.charged = True
            vm_shadow_entry(vm, entry)
        else:
            prot &= ~VM_PROT_WRITE
    obj = vm.objects[entry.object] if entry.object else vm_map_entry_back(vm, entry)
    pindex = (op.va - entry.start + entry.offset) >> vm.arch.page_shift
    return Lookup(entry, obj, pindex, prot, fault_type, entry.wired_count != 0)


def vm_shadow_entry(vm: Machine, entry: VmMapEntry) -> None:
    """The first write behind a copy-on-write mapping: from now on a new object takes what is written."""
    shift = vm.arch.page_shift
    if entry.object:
        source = vm.objects[entry.object]
        shadow, offset = vm_object_shadow(vm, source, entry.offset >> shift, (entry.end - entry.start) >> shift)
        entry.object, entry.offset = shadow.id, offset << shift
        if shadow.charged and entry.charged:  # it is its own copy already
            swap_release(vm, entry.size)
            entry.charged = False
        charge_object(vm, entry)
    entry.eflags &= ~MAP_ENTRY_NEEDS_COPY


def _failed(vm: Machine, map_: VmMap, op: FaultOp, error: KernReturn | Suspension) -> KernReturn | Suspension:
    """Record a failure on its way out; sleeps pass."""
    if isinstance(error, KernReturn):
        vm.ctx.event(Kind.FAULT_ERROR, map_.id, op.va, error)
    return error


def _fast_path(vm: Machine, map_: VmMap, op: FaultOp, found: Lookup, m: int) -> bool:
    """The top object holds a valid page: map it.

    A page that may become writable must not be busy, and one of a file must be known to become dirty.
    """
    pages, writable = vm.pages, found.prot & VM_PROT_WRITE
    if pages.valid[m] != vm.bits_all or pages.flags[m] & PG_DOOMED:
        return False
    may_dirty = found.object.anonymous or found.object.flags & OBJ_MIGHTBEDIRTY
    if writable and (pages.busy_lock[m] != VPB_UNBUSIED or not may_dirty):
        return False
    pmap_enter(vm, map_.id, vpn_of(vm, op.va), m, found.prot, found.wired, found.fault_type)
    if writable and found.fault_type & VM_PROT_WRITE:
        vm_page_dirty(vm, m)
        vm_pager_page_unswapped(vm, m)
    if not found.wired:
        vm_fault_prefault(vm, map_, found.entry, op.va, PFBAK, PFFOR)
    op.frame, op.kind = m, FaultKind.MINOR
    vm.ctx.event(Kind.FAULT_MINOR, map_.id, op.va, found.object.id, found.pindex, m)
    return True


def _fault_chain(
    vm: Machine, map_: VmMap, op: FaultOp, found: Lookup, obj: VmObject, pindex: int, first_m: int | None
) -> KernReturn | Suspension:
    """Search the shadow chain from `obj` on for the page, reading it from a pager where one has it.

    Args:
        vm: The machine.
        map_: The map.
        op: The fault.
        found: What was looked up.
        obj: Object to go on at.
        pindex: Index in it.
        first_m: Busy page of the top object, once the search is behind that.
    """
    first = found.object
    while True:
        m = obj.resident.get(pindex)
        if m is not None:
            if vm_page_busied(vm, m):
                return _sleep_on_busy(vm, m, first_m)
            vm_page_dequeue(vm, m)
            vm_page_xbusy(vm, m)
        elif obj.type != ObjectType.DEFAULT or obj is first:
            if pindex >= obj.size:
                _free(vm, first_m)
                return _failed(vm, map_, op, KernReturn.PROTECTION_FAILURE)
            sleep = make_room(vm)
            if sleep is None:
                m = _allocate(vm, obj, pindex)
                sleep = vm_waitpfault(vm) if m is None else None
            if sleep is not None:
                _free(vm, first_m)
                return sleep
        if m is not None and vm.pages.valid[m] == vm.bits_all:
            return _fault_found(vm, map_, op, found, obj, m, first_m)
        if m is not None and obj.type != ObjectType.DEFAULT:
            status = _read(vm, map_, op, found, obj, pindex, m, first_m)
            if isinstance(status, Suspension):
                return status
            if status != VmPager.FAIL:
                return _read_failed(vm, map_, op, m, first_m, status)
        if obj is first:
            first_m = m
        else:
            _free(vm, m)
        if not obj.backing:
            assert first_m is not None, "the top object's page was allocated in the first round"
            return _zero_fill(vm, map_, op, found, first_m)
        pindex += obj.backing_offset
        obj = vm.objects[obj.backing]


def _sleep_on_busy(vm: Machine, m: int, first_m: int | None) -> Suspension:
    """Another operation has the page: give up what is held and wait for it."""
    vm.pages.aflags[m] |= PGA_REFERENCED
    _free(vm, first_m)
    vm.cnt.v_intrans += 1
    return vm_page_busy_sleep(vm, m, "vmpfw")


def _allocate(vm: Machine, obj: VmObject, pindex: int) -> int | None:
    """A page for a fault; None while memory is severely short."""
    if vm_page_count_severe(vm):
        return None
    zero = VM_ALLOC_ZERO if obj.type != ObjectType.VNODE and not obj.backing else 0
    return vm_page_alloc(vm, obj, pindex, VM_ALLOC_NORMAL | zero)


def _free(vm: Machine, m: int | None) -> None:
    if m is not None:
        vm_page_free(vm, m)


def _zero_fill(vm: Machine, map_: VmMap, op: FaultOp, found: Lookup, m: int) -> KernReturn:
    """The end of the chain: nobody ever had the page."""
    vm.ram.zero(m)
    vm.cnt.v_zfod += 1
    vm.pages.valid[m] = vm.bits_all
    op.kind = FaultKind.ZERO_FILL
    return _fault_map(vm, map_, op, found, m)


def _read(
    vm: Machine, map_: VmMap, op: FaultOp, found: Lookup, obj: VmObject, pindex: int, m: int, first_m: int | None
) -> VmPager | Suspension:
    """Start to read a page with its neighbours and sleep; FAIL if the pager does not have it."""
    behind, ahead = _read_window(vm, map_, op, found, pindex)
    started = read_start(vm, obj, pindex, m, behind, ahead)
    if started.status != VmPager.PEND:
        return started.status
    op.io = started.io
    op.first_object, op.first_pindex, op.first_frame = found.object.id, found.pindex, first_m
    op.object, op.pages, op.next_read = obj.id, started.count, started.first + started.count
    op.behind, op.ahead = behind, ahead
    vm_object_reference(vm, found.object)
    vm_object_pip_add(vm, found.object, 1)
    if obj is not found.object:
        vm_object_pip_add(vm, obj, 1)
    return read_wait(vm, obj, m)


def _read_window(vm: Machine, map_: VmMap, op: FaultOp, found: Lookup, pindex: int) -> tuple[int, int]:
    """Pages to read in front of and behind the faulting one; the window grows while faults are sequential."""
    if vm.replacement is not Replacement.FREEBSD:
        return 0, 0
    entry, shift = found.entry, vm.arch.page_shift
    behind = min((op.va - entry.start) >> shift, VM_FAULT_READ_BEHIND)
    ahead = ((entry.end - op.va) >> shift) - 1
    if pindex == entry.next_read:
        ahead = min(ahead, entry.read_ahead + behind, VM_FAULT_READ_AHEAD_MAX)
        behind = 0
        if entry.read_ahead == VM_FAULT_READ_AHEAD_MAX:
            vm_fault_dontneed(vm, map_, entry, found.object, op.va, ahead)
    else:
        ahead = min(ahead, VM_FAULT_READ_AHEAD_MIN)
    entry.read_ahead = ahead
    return behind, ahead


def _fault_after_read(vm: Machine, map_: VmMap, op: FaultOp) -> KernReturn | Suspension:
    """The sleep for a read is over: take the page over if it came and the map still leads to it."""
    read = vm.reads[op.io]
    obj = vm.objects[op.object]
    m, first_m = read.requested, op.first_frame
    if read.status is None:
        return read_wait(vm, obj, m)
    if read.status != VmPager.OK:
        error = _read_failed(vm, map_, op, m, first_m, read.status)
        _release_counts(vm, op)
        return error
    op.major = True
    found = vm_map_lookup(vm, map_, op)
    if not isinstance(found, Lookup) or not _still_there(vm, op, found, m):
        _release_page(vm, m)
        _free(vm, first_m)
        _release_counts(vm, op)
        return vm_fault(vm, map_, op)
    _release_counts(vm, op)
    found.entry.next_read = op.next_read
    return _fault_found(vm, map_, op, found, obj, m, first_m)


def _still_there(vm: Machine, op: FaultOp, found: Lookup, m: int) -> bool:
    """Whether the map leads to the same page as before the sleep, and nobody unmapped that page meanwhile."""
    doomed = vm.pages.flags[m] | (vm.pages.flags[op.first_frame] if op.first_frame is not None else 0)
    return (found.object.id, found.pindex) == (op.first_object, op.first_pindex) and not doomed & PG_DOOMED


def _release_counts(vm: Machine, op: FaultOp) -> None:
    """Give back the counts that a fault holds while it sleeps for a read, after its busy pages were dealt with."""
    if not vm.reads[op.io].abandoned:
        del vm.reads[op.io]
    op.io = 0
    if op.object != op.first_object:
        vm_object_pip_wakeup(vm, vm.objects[op.object])
    first = vm.objects[op.first_object]
    vm_object_pip_wakeup(vm, first)
    vm_object_deallocate(vm, first)


def fault_abandon(vm: Machine, op: FaultOp) -> None:
    """The thread of a sleeping fault will not come back: give up all that the fault holds."""
    if not op.io:
        return
    read = vm.reads[op.io]
    _free(vm, op.first_frame)
    if read.status is None:
        read.abandoned = True
    elif read.status == VmPager.OK:
        _release_page(vm, read.requested)
    else:
        _free(vm, read.requested)
    _release_counts(vm, op)


def _release_page(vm: Machine, m: int) -> None:
    """release_page: a busy page that is not needed after all."""
    vm_page_xunbusy(vm, m)
    if vm.pages.flags[m] & PG_DOOMED:
        vm_page_free(vm, m)
    else:
        vm_page_deactivate(vm, m)


def _read_failed(
    vm: Machine, map_: VmMap, op: FaultOp, m: int, first_m: int | None, status: VmPager
) -> KernReturn | Suspension:
    """The pager could not deliver: SIGSEGV or SIGBUS for the thread."""
    _free(vm, m)
    _free(vm, first_m)
    bad = status == VmPager.BAD
    return _failed(vm, map_, op, KernReturn.PROTECTION_FAILURE if bad else KernReturn.FAILURE)


def _fault_found(
    vm: Machine, map_: VmMap, op: FaultOp, found: Lookup, obj: VmObject, m: int, first_m: int | None
) -> KernReturn:
    """The page was found, valid and busied by us: copy it if a write needs that, then map it."""
    op.kind = FaultKind.MAJOR if op.major else FaultKind.MINOR
    if obj is found.object:
        return _fault_map(vm, map_, op, found, m)
    if not found.fault_type & VM_PROT_WRITE:
        found.prot &= ~VM_PROT_WRITE
        _free(vm, first_m)
        return _fault_map(vm, map_, op, found, m)
    assert first_m is not None, "the chain was entered through the top object"
    if obj.shadow_count == 1 and obj.ref_count == 1 and obj.anonymous and obj.id == found.object.backing:
        vm_page_free(vm, first_m)
        vm_pager_page_unswapped(vm, m)  # C leaves the block behind until the object is collapsed
        vm_page_rename(vm, m, found.object, found.pindex)
        vm.cnt.v_cow_optim += 1
    else:
        vm.ram.copy(m, first_m)
        vm.pages.valid[first_m] = vm.bits_all
        if found.wired and not op.wiring:
            vm_page_wire(vm, first_m)
            vm_page_unwire(vm, m, PQ_INACTIVE)
        _release_page(vm, m)
        m = first_m
    vm.cnt.v_cow_faults += 1
    if not op.major:
        op.kind = FaultKind.COW
    return _fault_map(vm, map_, op, found, m)


def _fault_map(vm: Machine, map_: VmMap, op: FaultOp, found: Lookup, m: int) -> KernReturn:
    """Dirty, map, wire or activate, and unbusy the page."""
    if found.prot & VM_PROT_WRITE:
        vm_object_set_writeable_dirty(found.object)
    if found.prot & VM_PROT_WRITE and found.fault_type & VM_PROT_WRITE and not op.wiring:
        vm_page_dirty(vm, m)
        vm_pager_page_unswapped(vm, m)
    pmap_enter(vm, map_.id, vpn_of(vm, op.va), m, found.prot, found.wired, found.fault_type)
    _prefault(vm, map_, op, found)
    if op.wiring:
        vm_page_wire(vm, m)
    else:
        vm_page_activate(vm, m)
    vm_page_xunbusy(vm, m)
    op.frame = m
    if op.major:
        vm.cnt.v_io_faults += 1
    last = op.pages if op.kind is FaultKind.MAJOR else m
    vm.ctx.event(_EVENTS[op.kind], map_.id, op.va, found.object.id, found.pindex, last)
    return KernReturn.SUCCESS


def _prefault(vm: Machine, map_: VmMap, op: FaultOp, found: Lookup) -> None:
    """Map neighbours in advance: those of a read's window, else some; none of a page of zeros or a lone one."""
    if op.wiring or found.wired or op.kind is FaultKind.ZERO_FILL:
        return
    if not op.major:
        vm_fault_prefault(vm, map_, found.entry, op.va, PFBAK, PFFOR)
    elif op.pages != 1:
        vm_fault_prefault(vm, map_, found.entry, op.va, op.behind, op.ahead)


def vm_fault_unwire(vm: Machine, map_: VmMap, entry: VmMapEntry, end: int) -> None:
    """Unwire the pages of an entry up to `end`: each goes to the active queue with its last wiring.

    Raises:
        KernelPanic: A page of the entry is missing.
    """
    shift = vm.arch.page_shift
    first = vpn_of(vm, entry.start)
    pmap_unwire(vm, map_.id, first, first + ((end - entry.start) >> shift))
    for pindex in range(entry.offset >> shift, (entry.offset + end - entry.start) >> shift):
        vm_page_unwire(vm, vm_object_resident(vm, entry.object, pindex), PQ_ACTIVE)


def vm_object_resident(vm: Machine, object_id: int, pindex: int) -> int:
    """The wired page of an object or of those behind it (vm_object_unwire)."""
    while object_id:
        obj = vm.objects[object_id]
        frame = obj.resident.get(pindex, -1)
        if frame >= 0:
            return frame
        object_id, pindex = obj.backing, pindex + obj.backing_offset
    raise KernelPanic("vm_object_unwire: missing page", "vm_object_unwire")
