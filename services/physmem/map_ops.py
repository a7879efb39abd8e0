"""Batches of map changes, as mmap(2), munmap(2), mprotect(2) and exec make them."""

from __future__ import annotations

from services.physmem.imgact import vnode_object
from services.physmem.machine import Machine
from services.physmem.ops import MapChangeOp, WireOp
from services.physmem.pmap import pmap_wired_count
from services.physmem.vm_map import (
    MAP_ENTRY_COW,
    MAP_ENTRY_NEEDS_COPY,
    MAP_ENTRY_UNFAULTABLE,
    MAP_WIREFUTURE,
    VM_INHERIT_COPY,
    VM_INHERIT_SHARE,
    VM_PROT_ALL,
    VmMap,
    VmMapEntry,
    vm_map_clip_end,
    vm_map_clip_start,
    vm_map_insert,
    vm_map_pmap_enter,
    vm_map_protect,
    vm_map_wait,
)
from services.physmem.vm_map_delete import vm_map_delete
from services.physmem.vm_map_wire import vm_map_unwire, vm_map_wire
from services.physmem.vm_object import vm_object_deallocate, vm_object_reference
from services.ports.common import Suspension
from services.ports.physmem import KernReturn, MapOp, MapOpKind
from services.runtime.errors import Reason, Refused

_LIMIT = 1 << 64


def validate(vm: Machine, ops: list[MapOp]) -> None:
    """Refuse what is not an address range of whole pages with rights of the C type.

    Raises:
        Refused: The first operation that is not.
    """
    mask = vm.arch.page_size - 1
    for i, op in enumerate(ops):
        if op.start & mask:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, f"ops[{i}].start", hex(op.start), "a page boundary")
        if op.size & mask or op.start + op.size > _LIMIT:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, f"ops[{i}].size", op.size, "whole pages below 2^64")
        if op.prot & ~VM_PROT_ALL:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, f"ops[{i}].prot", op.prot, "VM_PROT_ bits: 0 to 7")


def map_ops(vm: Machine, map_: VmMap, change: MapChangeOp) -> Suspension | None:
    """Make the changes that are still to be made; the sleep of the one that must wait, or None."""
    while len(change.results) < len(change.ops):
        if map_.locked:
            return vm_map_wait(map_)
        result = _map_op(vm, map_, change)
        if isinstance(result, Suspension):
            return result
        change.results.append(result)
    return None


def _map_op(vm: Machine, map_: VmMap, change: MapChangeOp) -> KernReturn | Suspension:
    op = change.ops[len(change.results)]
    start, end = op.start, op.start + op.size
    match op.kind:
        case MapOpKind.INSERT:
            return _mmap(vm, map_, change, op)
        case MapOpKind.REMOVE:
            return vm_map_delete(vm, map_, start, end) or KernReturn.SUCCESS
        case MapOpKind.PROTECT:
            return _protect(vm, map_, op)
        case MapOpKind.WIRE:
            return _wire(vm, map_, change, start, end)
        case MapOpKind.UNWIRE:
            return vm_map_unwire(vm, map_, start, end)
        case MapOpKind.BOUNDS:
            map_.min_offset, map_.max_offset = start, end
            return KernReturn.SUCCESS


def _mmap(vm: Machine, map_: VmMap, change: MapChangeOp, op: MapOp) -> KernReturn | Suspension:
    """vm_mmap: a new entry, wired at once after mlockall(MCL_FUTURE); what cannot be wired is mapped all the same.

    NO_SPACE, which is ENOMEM to a program, is answered as well if the entry would exceed RLIMIT_MEMLOCK.
    """
    if change.wire is None:
        if map_.flags & MAP_WIREFUTURE and not vm.tun.old_mlock:
            wired = pmap_wired_count(vm, map_.id) << vm.arch.page_shift
            if wired + op.size > map_.memlock:
                return KernReturn.NO_SPACE
        result = _insert(vm, map_, op)
        if result != KernReturn.SUCCESS or not map_.flags & MAP_WIREFUTURE:
            return result
        change.wire = WireOp(map_.id, op.start, op.start + op.size, user=True)
    wired_all = vm_map_wire(vm, map_, change.wire)
    if isinstance(wired_all, Suspension):
        return wired_all
    change.wire = None
    return KernReturn.SUCCESS


def _insert(vm: Machine, map_: VmMap, op: MapOp) -> KernReturn | Suspension:
    """A new entry; with `replace` what was there goes first, as with MAP_FIXED."""
    end = op.start + op.size
    if op.replace:
        sleep = vm_map_delete(vm, map_, op.start, end)
        if sleep is not None:
            return sleep
    entry = VmMapEntry(op.start, end, protection=op.prot)
    entry.inheritance = VM_INHERIT_SHARE if op.shared else VM_INHERIT_COPY
    if op.unfaultable:
        entry.eflags = MAP_ENTRY_UNFAULTABLE
    if not op.file:
        return vm_map_insert(vm, map_, entry)
    obj = vnode_object(vm, op.file, op.file_pages)
    vm_object_reference(vm, obj)
    entry.object, entry.offset = obj.id, op.offset_pages << vm.arch.page_shift
    if not op.shared:
        entry.eflags |= MAP_ENTRY_COW | MAP_ENTRY_NEEDS_COPY
    result = vm_map_insert(vm, map_, entry)
    if result == KernReturn.SUCCESS:
        pages = op.size >> vm.arch.page_shift
        vm_map_pmap_enter(vm, map_, op.start, op.prot, obj, op.offset_pages, pages, partial=not op.prefault)
    else:
        vm_object_deallocate(vm, obj)
    return result


def _protect(vm: Machine, map_: VmMap, op: MapOp) -> KernReturn:
    """mprotect(2); with `unfaultable` the pages cannot be brought in from now on."""
    end = op.start + op.size
    result = vm_map_protect(vm, map_, op.start, end, op.prot)
    if op.unfaultable and result == KernReturn.SUCCESS:
        _make_unfaultable(vm, map_, op.start, end)
    return result


def _make_unfaultable(vm: Machine, map_: VmMap, start: int, end: int) -> None:
    """The entries of a range, which vm_map_protect may have joined with their neighbours."""
    i = map_.first_from(start)
    if i < len(map_.entries):
        i = vm_map_clip_start(vm, map_, i, start)
    while i < len(map_.entries) and map_.entries[i].start < end:
        vm_map_clip_end(vm, map_, i, end)
        map_.entries[i].eflags |= MAP_ENTRY_UNFAULTABLE
        i += 1


def _wire(vm: Machine, map_: VmMap, change: MapChangeOp, start: int, end: int) -> KernReturn | Suspension:
    change.wire = change.wire or WireOp(map_.id, start, end)
    result = vm_map_wire(vm, map_, change.wire)
    if not isinstance(result, Suspension):
        change.wire = None
    return result
