"""Wiring of address ranges: vm_map_wire and vm_map_unwire (vm_map.c)."""

from __future__ import annotations

from services.physmem.machine import Machine
from services.physmem.ops import FaultOp, WireOp
from services.physmem.vm_fault import vm_fault, vm_fault_unwire
from services.physmem.vm_map import (
    MAP_ENTRY_IN_TRANSITION,
    MAP_ENTRY_NEEDS_WAKEUP,
    MAP_ENTRY_USER_WIRED,
    MAP_ENTRY_WIRE_SKIPPED,
    VM_PROT_EXECUTE,
    VM_PROT_READ,
    VmMap,
    VmMapEntry,
    vm_map_clip_end,
    vm_map_clip_start,
    vm_map_simplify_entry,
    vm_map_wait,
)
from services.ports.common import Suspension
from services.ports.physmem import KernReturn

_FAILED = -1
"""wired_count of an entry whose pages could not all be brought in, as in C."""


def vm_map_wire(vm: Machine, map_: VmMap, op: WireOp) -> KernReturn | Suspension:
    """vm_map_wire: bring in and wire every page of a range, or change nothing.

    Where holes are allowed, what may neither be read nor executed is passed over as well.

    Args:
        vm: Memory.
        map_: The map.
        op: The request and its progress; to go on after a sleep, call again with the same.
    """
    if map_.locked:
        return vm_map_wait(map_)
    if op.id == 0:
        if op.start == op.end:
            return KernReturn.SUCCESS
        op.id = vm.new_op()
        op.start, op.end = map_.range_check(op.start, op.end)
        op.next = op.start
        if not op.holes_ok and not map_.lookup_entry(op.start)[0]:
            return KernReturn.INVALID_ADDRESS
    map_.lock()
    while op.next < op.end:
        result = _wire_entry(vm, map_, op)
        if isinstance(result, Suspension):
            return result
        if result != KernReturn.SUCCESS:
            op.end = op.next
            return _finish(vm, map_, op, result)
    return _finish(vm, map_, op, KernReturn.SUCCESS)


def _wire_entry(vm: Machine, map_: VmMap, op: WireOp) -> KernReturn | Suspension:
    """Wire the entry at ``op.next`` and step behind it; on failure too, so that the roll-back covers it."""
    found, i = map_.lookup_entry(op.next)
    if not found:
        if not op.holes_ok:
            return KernReturn.INVALID_ADDRESS
        op.next = map_.entries[i + 1].start if i + 1 < len(map_.entries) else op.end
        return KernReturn.SUCCESS
    if op.fault is None:
        if map_.entries[i].eflags & MAP_ENTRY_IN_TRANSITION:
            map_.entries[i].eflags |= MAP_ENTRY_NEEDS_WAKEUP
            return vm_map_wait(map_)
        i = vm_map_clip_start(vm, map_, i, op.next)
        vm_map_clip_end(vm, map_, i, op.end)
    entry = map_.entries[i]
    entry.eflags |= MAP_ENTRY_IN_TRANSITION
    entry.wiring_op = op.id
    result: KernReturn | Suspension = KernReturn.SUCCESS
    if not entry.protection & (VM_PROT_READ | VM_PROT_EXECUTE):
        entry.eflags |= MAP_ENTRY_WIRE_SKIPPED
        result = KernReturn.SUCCESS if op.holes_ok else KernReturn.INVALID_ADDRESS
    elif op.fault is not None or entry.wired_count == 0:
        result = _wire_pages(vm, map_, op, entry)
        if isinstance(result, Suspension):
            return result
    elif op.user and entry.eflags & MAP_ENTRY_USER_WIRED:
        entry.eflags |= MAP_ENTRY_WIRE_SKIPPED  # it is wired already, and stays so whatever becomes of the others
    else:
        entry.wired_count += 1
    op.next = entry.end
    return result


def _wire_pages(vm: Machine, map_: VmMap, op: WireOp, entry: VmMapEntry) -> KernReturn | Suspension:
    """Fault in every page of an entry that was not wired; undo it if one fails."""
    entry.wired_count = 1
    va = op.fault.va if op.fault else entry.start
    while va < entry.end:
        op.fault = op.fault or FaultOp(va, 0, wiring=True, wiring_op=op.id)
        result = vm_fault(vm, map_, op.fault)
        if isinstance(result, Suspension):
            return result
        op.fault = None
        if result != KernReturn.SUCCESS:
            vm_fault_unwire(vm, map_, entry, va)
            entry.wired_count = _FAILED
            return result
        va += vm.arch.page_size
    return KernReturn.SUCCESS


def _finish(vm: Machine, map_: VmMap, op: WireOp, rv: KernReturn) -> KernReturn:
    """The end of vm_map_wire: roll back on failure, end the transition, wake who waits for it."""
    i = map_.first_from(op.start)
    wakeup = False
    while i < len(map_.entries) and map_.entries[i].start < op.end:
        entry = map_.entries[i]
        if entry.wiring_op == op.id:
            if not entry.eflags & MAP_ENTRY_WIRE_SKIPPED:
                _settle_entry(vm, map_, entry, op.user, rv)
            wakeup |= bool(entry.eflags & MAP_ENTRY_NEEDS_WAKEUP)
            entry.eflags &= ~(MAP_ENTRY_IN_TRANSITION | MAP_ENTRY_NEEDS_WAKEUP | MAP_ENTRY_WIRE_SKIPPED)
            entry.wiring_op = 0
        i = vm_map_simplify_entry(vm, map_, i) + 1
    if wakeup:
        vm.ctx.wakeup(map_.channel)
    return rv


def _settle_entry(vm: Machine, map_: VmMap, entry: VmMapEntry, user: bool, rv: KernReturn) -> None:
    """What becomes of an entry that the wiring reached: it is the user's now, or as it was before."""
    if rv == KernReturn.SUCCESS:
        entry.eflags |= MAP_ENTRY_USER_WIRED if user else 0
    elif entry.wired_count == _FAILED:
        entry.wired_count = 0
    else:
        _unwire_entry(vm, map_, entry)


def vm_map_unwire(
    vm: Machine, map_: VmMap, start: int, end: int, user: bool = False, holes_ok: bool = False
) -> KernReturn:
    """vm_map_unwire: take one wiring off every page of a range, or change nothing.

    An entry that another thread's vm_map_wire holds in transition counts without that thread's wiring; unlike the C
    code this one does not wait for it.

    Args:
        vm: The machine.
        map_: The map.
        start: First address.
        end: End, exclusive.
        user: The user's wiring, where there is one; False: one of the system's, and each entry must have one.
        holes_ok: What is not mapped is passed over.
    """
    if start == end:
        return KernReturn.SUCCESS
    map_.lock()
    start, end = map_.range_check(start, end)
    found, i = map_.lookup_entry(start)
    if not found:
        if not holes_ok:
            return KernReturn.INVALID_ADDRESS
        i += 1
    if start == end or i == len(map_.entries):
        return KernReturn.SUCCESS
    error = _check_unwire(map_, i, end, user, holes_ok)
    if error != KernReturn.SUCCESS:
        return error
    first = i = vm_map_clip_start(vm, map_, i, start)
    wakeup = False
    while i < len(map_.entries) and map_.entries[i].start < end:
        vm_map_clip_end(vm, map_, i, end)
        entry = map_.entries[i]
        if not user or entry.eflags & MAP_ENTRY_USER_WIRED:
            _unwire_entry(vm, map_, entry)
            if user:
                entry.eflags &= ~MAP_ENTRY_USER_WIRED
        wakeup |= bool(entry.eflags & MAP_ENTRY_NEEDS_WAKEUP)
        if not entry.eflags & MAP_ENTRY_IN_TRANSITION:
            entry.eflags &= ~MAP_ENTRY_NEEDS_WAKEUP
        i += 1
    i = first  # only now: an entry must not be joined with one whose wiring has yet to come off
    while i < len(map_.entries) and map_.entries[i].start < end:
        i = vm_map_simplify_entry(vm, map_, i) + 1
    if wakeup:
        vm.ctx.wakeup(map_.channel)
    return KernReturn.SUCCESS


def _check_unwire(map_: VmMap, i: int, end: int, user: bool, holes_ok: bool) -> KernReturn:
    """Whether no entry from index `i` to `end` is missing, and for the system whether it wired each."""
    for j in range(i, len(map_.entries)):
        entry = map_.entries[j]
        if not holes_ok and entry.end < end and (j + 1 == len(map_.entries) or map_.entries[j + 1].start > entry.end):
            return KernReturn.INVALID_ADDRESS
        wiring = entry.wiring_op != 0 and not entry.eflags & MAP_ENTRY_WIRE_SKIPPED
        if not user and entry.system_wired_count - wiring <= 0:
            return KernReturn.INVALID_ARGUMENT
        if entry.end >= end:
            break
    return KernReturn.SUCCESS


def _unwire_entry(vm: Machine, map_: VmMap, entry: VmMapEntry) -> None:
    """Take one wiring off an entry; with the last one its pages become pageable."""
    if entry.wired_count == 1:
        vm_fault_unwire(vm, map_, entry, entry.end)
    entry.wired_count -= 1


def vm_map_entry_unwire(vm: Machine, map_: VmMap, entry: VmMapEntry) -> None:
    """vm_map_entry_unwire: an entry that goes away is wired no more, however often it was."""
    vm_fault_unwire(vm, map_, entry, entry.end)
    entry.wired_count = 0
