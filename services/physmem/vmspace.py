"""Address spaces: creation, fork, references, removal (vm_map.c)."""

from __future__ import annotations

from dataclasses import replace

from services.physmem.machine import Machine, VmSpace
from services.physmem.ops import AccessOp, MapChangeOp, Operation, WireOp
from services.physmem.pmap import (
    pmap_copy,
    pmap_enter,
    pmap_pinit,
    pmap_protect,
    pmap_release,
    pmap_resident_count,
    vpn_of,
)
from services.physmem.state import OBJ_NOSPLIT, OBJ_ONEMAPPING, ObjectType, VmObject
from services.physmem.swap_reserve import swap_reserve, swap_reserve_force
from services.physmem.sysv_shm import shmexit
from services.physmem.vm_fault import fault_abandon, vm_fault_unwire, vm_object_resident, vm_shadow_entry
from services.physmem.vm_map import (
    MAP_ENTRY_COW,
    MAP_ENTRY_IN_TRANSITION,
    MAP_ENTRY_NEEDS_COPY,
    MAP_ENTRY_NEEDS_WAKEUP,
    MAP_ENTRY_USER_WIRED,
    VM_INHERIT_SHARE,
    VM_PROT_WRITE,
    VmMap,
    VmMapEntry,
    charge_object,
    is_charged,
    vm_map_entry_back,
)
from services.physmem.vm_map_delete import vm_map_entry_delete
from services.physmem.vm_map_wire import vm_map_entry_unwire
from services.physmem.vm_object import (
    vm_object_allocate,
    vm_object_collapse,
    vm_object_reference,
    vm_object_split,
)
from services.physmem.vm_page import (
    VM_ALLOC_NOBUSY,
    VM_ALLOC_NORMAL,
    vm_page_activate,
    vm_page_alloc,
    vm_page_dirty,
)
from services.runtime.events import Kind


def vmspace_alloc(vm: Machine, min_offset: int, max_offset: int) -> VmSpace:
    """vmspace_alloc: an empty address space with one reference."""
    vm.last_space += 1
    space = VmSpace(VmMap(vm.last_space, min_offset, max_offset))
    vm.spaces[vm.last_space] = space
    pmap_pinit(vm, vm.last_space)
    return space


def vmspace_resident_count(vm: Machine, map_: VmMap) -> int:
    """vmspace_resident_count: pages that the address space maps."""
    return pmap_resident_count(vm, map_.id)


def vmspace_free(vm: Machine, space: VmSpace) -> None:
    """vmspace_free: drop a reference; the last one removes all mappings and the pmap."""
    space.refcnt -= 1
    if space.refcnt > 0:
        return
    map_ = space.map
    _abandon(vm, map_.id)
    shmexit(vm, space)
    while map_.entries:
        entry = map_.entries[-1]
        if entry.wired_count:
            vm_map_entry_unwire(vm, map_, entry)
        vm_map_entry_delete(vm, map_, len(map_.entries) - 1)
    pmap_release(vm, map_.id)
    del vm.spaces[map_.id]
    vm.ctx.event(Kind.SPACE_FREE, map_.id)


def _abandon(vm: Machine, vmspace: int) -> None:
    """Nobody comes back for operations that sleep in an address space that goes away."""
    for op in sorted(vm.ops):
        operation = vm.ops[op]
        if _space_of(operation) != vmspace:
            continue
        vm.forget(op)
        wire = operation.wire if isinstance(operation, MapChangeOp) else operation
        if isinstance(wire, WireOp):
            _abandon_wire(vm, wire)
        if isinstance(wire, WireOp | AccessOp) and wire.fault is not None:
            fault_abandon(vm, wire.fault)


def _space_of(operation: Operation) -> int:
    match operation:
        case AccessOp() | MapChangeOp():
            return operation.vmspace
        case WireOp():
            return operation.space
    return 0


def _abandon_wire(vm: Machine, wire: WireOp) -> None:
    """Unwire the pages that an unfinished wiring has wired in its last entry; the others are wired entries by now."""
    map_ = vm.space(wire.space).map
    found, i = map_.lookup_entry(wire.next)
    if found and map_.entries[i].wiring_op == wire.id and wire.fault is not None:
        vm_fault_unwire(vm, map_, map_.entries[i], wire.fault.va)
        map_.entries[i].wired_count = 0


def vmspace_fork(vm: Machine, old: VmMap) -> VmSpace | None:
    """vmspace_fork: a copy of an address space; written pages are copied when one of both writes them next.

    Wired writable memory is copied at once, so that the parent's stays wired. Swap is reserved for what both sides may
    write, as fork1 does behind vmspace_fork.

    Returns:
        The child; None if memory for the eager copies is short, or swap is refused.
    """
    child = vmspace_alloc(vm, old.min_offset, old.max_offset)
    fork_charge = 0
    old.lock()
    copied = True
    for entry in old.entries:
        new = _copy_entry(entry)
        if entry.inheritance == VM_INHERIT_SHARE:
            _share(vm, entry, new)
            _pmap_copy(vm, child.map, old, entry)
        elif entry.object and _is_wired(entry) and entry.protection & VM_PROT_WRITE:
            copied = _vm_fault_copy_entry(vm, child.map, entry, new)
            fork_charge += entry.size
        elif entry.object:
            fork_charge += _vm_map_copy_entry(vm, old, entry, new)
            _pmap_copy(vm, child.map, old, entry)
        else:
            fork_charge += entry.size * entry.charged
        child.map.link(len(child.map.entries), new)
        if not copied:
            break
    if not copied or not swap_reserve(vm, fork_charge):
        swap_reserve_force(vm, fork_charge)  # the child gives its part back
        vmspace_free(vm, child)
        return None
    vm.ctx.event(Kind.SPACE_FORK, child.map.id, old.id, len(old.entries))
    return child


def _copy_entry(entry: VmMapEntry) -> VmMapEntry:
    """The child's entry: never wired, never in transition."""
    eflags = entry.eflags & ~(MAP_ENTRY_USER_WIRED | MAP_ENTRY_IN_TRANSITION | MAP_ENTRY_NEEDS_WAKEUP)
    return replace(entry, wired_count=0, wiring_op=0, eflags=eflags)


def _is_wired(entry: VmMapEntry) -> bool:
    """Wired for good: all its pages are there."""
    return entry.wired_count > 0 and not entry.eflags & MAP_ENTRY_IN_TRANSITION


def _share(vm: Machine, entry: VmMapEntry, new: VmMapEntry) -> None:
    """VM_INHERIT_SHARE: both map the same object from now on."""
    if entry.object == 0:
        vm_map_entry_back(vm, entry)
    if entry.eflags & MAP_ENTRY_NEEDS_COPY:
        vm_shadow_entry(vm, entry)
    obj = vm.objects[entry.object]
    vm_object_reference(vm, obj)
    obj.flags &= ~OBJ_ONEMAPPING
    charge_object(vm, entry)
    new.object, new.offset, new.eflags, new.charged = entry.object, entry.offset, entry.eflags, False


def _vm_map_copy_entry(vm: Machine, old: VmMap, entry: VmMapEntry, new: VmMapEntry) -> int:
    """vm_map_copy_entry: both sides map the object copy on write; bytes for which swap must be reserved."""
    charged = is_charged(vm, entry)
    if not entry.eflags & MAP_ENTRY_NEEDS_COPY and entry.protection & VM_PROT_WRITE:
        first, end = vpn_of(vm, entry.start), vpn_of(vm, entry.end - 1) + 1
        pmap_protect(vm, old.id, first, end, entry.protection & ~VM_PROT_WRITE)
    obj = vm.objects[entry.object]
    if obj.anonymous:
        vm_object_collapse(vm, obj)
        if obj.flags & (OBJ_NOSPLIT | OBJ_ONEMAPPING) == OBJ_ONEMAPPING:
            obj = _split(vm, entry, obj)
            new.object, new.offset = entry.object, entry.offset
    vm_object_reference(vm, obj)
    obj.flags &= ~OBJ_ONEMAPPING
    own = not entry.eflags & MAP_ENTRY_NEEDS_COPY
    if own:
        charge_object(vm, entry)
        entry.charged = charged
    new.charged = charged
    entry.eflags |= MAP_ENTRY_COW | MAP_ENTRY_NEEDS_COPY
    new.eflags |= MAP_ENTRY_COW | MAP_ENTRY_NEEDS_COPY
    return entry.size * (charged + (charged and own))


def _pmap_copy(vm: Machine, child: VmMap, old: VmMap, entry: VmMapEntry) -> None:
    """The child maps at once what the parent maps of an entry."""
    pmap_copy(vm, child.id, old.id, vpn_of(vm, entry.start), vpn_of(vm, entry.end - 1) + 1)


def _split(vm: Machine, entry: VmMapEntry, obj: VmObject) -> VmObject:
    """vm_object_split for an entry; its object afterwards."""
    shift = vm.arch.page_shift
    own = vm_object_split(vm, obj, entry.offset >> shift, (entry.end - entry.start) >> shift)
    if own is not obj:
        entry.object, entry.offset = own.id, 0
    return own


def _vm_fault_copy_entry(vm: Machine, child: VmMap, entry: VmMapEntry, new: VmMapEntry) -> bool:
    """vm_fault_copy_entry: copy a wired entry's pages now; False if memory is short."""
    shift = vm.arch.page_shift
    copy = vm_object_allocate(vm, ObjectType.DEFAULT, (entry.end - entry.start) >> shift)
    copy.charged, copy.charge = True, entry.size
    new.object, new.offset, new.charged = copy.id, 0, False
    new.eflags &= ~(MAP_ENTRY_COW | MAP_ENTRY_NEEDS_COPY)
    for pindex in range(copy.size):
        m = vm_page_alloc(vm, copy, pindex, VM_ALLOC_NORMAL | VM_ALLOC_NOBUSY)
        if m is None:
            return False
        vm.ram.copy(vm_object_resident(vm, entry.object, (entry.offset >> shift) + pindex), m)
        vm.pages.valid[m] = vm.bits_all
        vm_page_dirty(vm, m)
        pmap_enter(vm, child.id, vpn_of(vm, entry.start) + pindex, m, entry.protection, wired=False)
        vm_page_activate(vm, m)
    return True
