"""Unmapping of address ranges: vm_map_delete (vm_map.c)."""

from __future__ import annotations

from services.physmem import pmap
from services.physmem.machine import Machine
from services.physmem.state import OBJ_NOSPLIT, OBJ_ONEMAPPING, VmObject
from services.physmem.swap_reserve import swap_release
from services.physmem.vm_map import (
    MAP_ENTRY_IN_TRANSITION,
    MAP_ENTRY_NEEDS_WAKEUP,
    VmMap,
    vm_map_clip_end,
    vm_map_clip_start,
    vm_map_wait,
)
from services.physmem.vm_map_wire import vm_map_entry_unwire
from services.physmem.vm_object import vm_object_collapse, vm_object_deallocate, vm_object_page_remove
from services.ports.common import Suspension
from services.runtime.errors import kassert


def vm_map_delete(vm: Machine, map_: VmMap, start: int, end: int) -> Suspension | None:
    """vm_map_delete: unmap a range; waits for entries in transition and, in user maps, for system wirings to end.

    What lies in front of the entry that it waits for is unmapped already; to resume, call it again.
    """
    map_.lock()
    start, end = map_.range_check(start, end)
    i = map_.first_from(start)
    if i < len(map_.entries):
        i = vm_map_clip_start(vm, map_, i, start)
    while i < len(map_.entries) and map_.entries[i].start < end:
        entry = map_.entries[i]
        if entry.eflags & MAP_ENTRY_IN_TRANSITION or (entry.system_wired_count and not map_.system_map):
            entry.eflags |= MAP_ENTRY_NEEDS_WAKEUP
            return vm_map_wait(map_)
        vm_map_clip_end(vm, map_, i, end)
        if entry.wired_count:
            vm_map_entry_unwire(vm, map_, entry)
        vm_map_entry_delete(vm, map_, i)
    return None


def vm_map_entry_delete(vm: Machine, map_: VmMap, i: int) -> None:
    """vm_map_entry_delete: remove an unwired entry, its mappings, and its pages if nobody else can reach them."""
    entry = map_.unlink(i)
    if entry.charged:
        swap_release(vm, entry.size)
    if entry.object == 0:
        return
    shift = vm.arch.page_shift
    first, npages = entry.offset >> shift, (entry.end - entry.start) >> shift
    pmap.pmap_remove(vm, map_.id, pmap.vpn_of(vm, entry.start), pmap.vpn_of(vm, entry.end - 1) + 1)
    obj = vm.objects[entry.object]
    if obj.ref_count != 1 and obj.flags & (OBJ_NOSPLIT | OBJ_ONEMAPPING) == OBJ_ONEMAPPING:
        vm_object_collapse(vm, obj)
        vm_object_page_remove(vm, obj, first, first + npages)
        if first + npages >= obj.size > first:
            _cut(vm, obj, first)
    vm_object_deallocate(vm, obj)


def _cut(vm: Machine, obj: VmObject, size: int) -> None:
    """Nobody can reach the pages of an object from `size` on any more: it ends there, and so does its charge."""
    if obj.charged:
        gone = (obj.size - size) << vm.arch.page_shift
        kassert(obj.charge >= gone, f"object {obj.id} is charged for less than it has", "vm_map_entry_delete")
        swap_release(vm, gone)
        obj.charge -= gone
    obj.size = size
