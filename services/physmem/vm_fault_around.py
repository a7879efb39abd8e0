"""What a page fault does for the pages around the faulting one (vm_fault.c)."""

from __future__ import annotations

import numpy as np

from services.physmem import page_loops as loops
from services.physmem.machine import Machine
from services.physmem.page_array import PG_DOOMED
from services.physmem.pmap import pmap_advise, pmap_enter_quick, pmap_is_prefaultable, vpn_of
from services.physmem.state import ObjectType, VmObject
from services.physmem.vm_map import VmMap, VmMapEntry

PFBAK = PFFOR = 4
"""Neighbours, in front and behind, that are mapped in advance where no pager was asked."""
VM_FAULT_DONTNEED_MIN = 1 << 20
"""Least bytes that a sequential reader leaves behind at once."""


def vm_fault_prefault(vm: Machine, map_: VmMap, entry: VmMapEntry, va: int, backward: int, forward: int) -> None:
    """vm_fault_prefault: map resident neighbours of a faulting page, so that they need no faults of their own.

    Outward from the page, alternately in front and behind. A neighbour without a page ends it; one that is mapped
    already, or whose page table is missing, is passed over.

    Args:
        vm: The machine.
        map_: The map.
        entry: Its entry that holds the page.
        va: The faulting address.
        backward: Pages in front, at most.
        forward: Pages behind, at most.
    """
    if map_.system_map:
        return
    vpn, start, last = vpn_of(vm, va), vpn_of(vm, entry.start), vpn_of(vm, entry.end - 1)
    first, end = max(vpn - backward, start), min(vpn + forward, last) + 1
    wanted = pmap_is_prefaultable(vm, map_.id, first, end)
    vpns: list[int] = []
    frames: list[int] = []
    distance = 0
    while wanted:
        distance += 1
        for at in (vpn - distance, vpn + distance):
            bit = 1 << at - first if first <= at < end else 0
            if not wanted & bit:
                continue
            wanted ^= bit
            m = _resident(vm, entry, at - start)
            if m is None:
                wanted = 0
            elif vm.pages.valid[m] == vm.bits_all:
                vpns.append(at)
                frames.append(m)
    if vpns:
        pmap_enter_quick(vm, map_.id, vpns, frames, entry.protection)


def _resident(vm: Machine, entry: VmMapEntry, at: int) -> int | None:
    """The page that an entry shows at a distance from its start, without asking a pager; None: there is none.

    A page that is freed as soon as its write ends is none: C sleeps for it before it takes it out of the object.
    """
    object_id, pindex = entry.object, (entry.offset >> vm.arch.page_shift) + at
    while object_id:
        obj = vm.objects[object_id]
        m = obj.resident.get(pindex)
        if m is not None:
            return None if vm.pages.flags[m] & PG_DOOMED else m
        if obj.type != ObjectType.DEFAULT:
            return None
        object_id, pindex = obj.backing, pindex + obj.backing_offset
    return None


def vm_fault_dontneed(vm: Machine, map_: VmMap, entry: VmMapEntry, first_object: VmObject, va: int, ahead: int) -> None:
    """vm_fault_dontneed: a sequential reader is about to leave a large cluster; the one before it may be reclaimed.

    The effect is that of madvise(MADV_DONTNEED). A cluster is as large as the smallest superpage, and at least
    VM_FAULT_DONTNEED_MIN.

    Args:
        vm: The machine.
        map_: The map.
        entry: Its entry that the reader reads.
        first_object: The entry's object; pages of those behind it are deactivated by the faults themselves.
        va: The faulting address.
        ahead: Pages that are read behind it.
    """
    shift = vm.arch.page_shift
    size = max(VM_FAULT_DONTNEED_MIN, vm.arch.superpage_size)
    end = va & -size
    if va - end < size - (1 + ahead << shift) or entry.start >= end:
        return
    start = max(entry.start, end - size)
    pmap_advise(vm, map_.id, vpn_of(vm, start), vpn_of(vm, end - 1) + 1)
    first = (entry.offset + start - entry.start) >> shift
    resident = first_object.resident
    frames = [resident[i] for i in range(first, first + ((end - start) >> shift)) if i in resident]
    r = loops.registers(vm)
    loops.deactivate_pages(np.array(frames, np.int64), r, vm.pages.np)
    loops.store_counts(vm, r)
