"""Invariants of the map side, and its share of the state's digest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from services.physmem.machine import Machine
from services.physmem.ops import AccessOp, FaultOp, MapChangeOp, StackCreateOp, StackSwapinOp, WireOp
from services.physmem.vm_map import VmMap, VmMapEntry


def check_maps(vm: Machine) -> tuple[list[str], int]:
    """Compare maps, objects, kernel stacks and kernel address space with one another and with the page array.

    Returns:
        One sentence for each invariant that is violated, and how many entries, objects and wired pages were compared.
    """
    maps = [vm.kernel_map, *(space.map for space in vm.spaces.values())]
    found = [sentence for map_ in maps for sentence in _check_entries(vm, map_)]
    found += [*_check_references(vm, maps), *_check_wirings(vm, maps), *_check_swap_reserved(vm, maps)]
    found += _check_arena(vm)
    return found, sum(len(map_.entries) for map_ in maps) + len(vm.objects) + vm.cnt.v_wire_count


def _check_entries(vm: Machine, map_: VmMap) -> Iterator[str]:
    """Entries are sorted, aligned, apart, and refer to objects that live; nothing is in transition without reason."""
    end = 0
    if map_.starts != [entry.start for entry in map_.entries]:
        yield f"map {map_.id}: the index of starts is not that of the entries"
    for entry in map_.entries:
        if entry.start < end or entry.end <= entry.start or (entry.start | entry.end) & (vm.arch.page_size - 1):
            yield f"map {map_.id}: entry {entry.start:#x} to {entry.end:#x} is empty, not aligned or overlaps"
        if entry.object and entry.object not in vm.objects:
            yield f"map {map_.id}: entry {entry.start:#x} refers to object {entry.object}, which is gone"
        if entry.wired_count < 0:
            yield f"map {map_.id}: entry {entry.start:#x} has wired_count {entry.wired_count}"
        end = entry.end


def _faults(vm: Machine) -> Iterator[FaultOp]:
    """Faults that sleep."""
    for operation in vm.ops.values():
        fault = None
        if isinstance(operation, AccessOp | WireOp):
            fault = operation.fault
        elif isinstance(operation, MapChangeOp) and operation.wire:
            fault = operation.wire.fault
        if fault is not None:
            yield fault


def _check_references(vm: Machine, maps: list[VmMap]) -> Iterator[str]:
    """ref_count: one for each map entry, shadow, file, segment, kernel stack, and fault that sleeps for a read."""
    counted = Counter(entry.object for map_ in maps for entry in map_.entries if entry.object)
    counted.update(obj.backing for obj in vm.objects if obj.backing)
    counted.update(vm.files.values())
    counted.update(seg.object for seg in vm.shmsegs.values())
    counted.update(vm.stacks.keys())
    counted.update(fault.first_object for fault in _faults(vm) if fault.io)
    for obj in vm.objects:
        if obj.ref_count != counted[obj.id]:
            yield f"object {obj.id} has ref_count {obj.ref_count}, {counted[obj.id]} references were found"


def _check_wirings(vm: Machine, maps: list[VmMap]) -> Iterator[str]:
    """wire_count: one for each wired map entry over the page, and one for its kernel stack."""
    expected = np.zeros(vm.pages.count, np.int64)
    for map_ in maps:
        for entry in map_.entries:
            if entry.wired_count > 0:
                np.add.at(expected, _wired_frames(vm, map_, entry), 1)
    for object_id, stack in vm.stacks.items():
        if stack.resident:
            np.add.at(expected, list(vm.objects[object_id].resident.values()), 1)
    for operation in vm.ops.values():
        if isinstance(operation, StackCreateOp | StackSwapinOp):
            np.add.at(expected, np.array(operation.frames, np.int64), 1)
    owned = vm.pages.np.object[: vm.pages.count] != 0
    actual = vm.pages.np.wire_count[: vm.pages.count].astype(np.int64)
    for m in np.flatnonzero(owned & (actual != expected)):
        yield f"page {m} has wire_count {actual[m]}, {expected[m]} wirings were found"


def _wired_frames(vm: Machine, map_: VmMap, entry: VmMapEntry) -> list[int]:
    """Pages that an entry wires; of one that is being wired those that it has got so far."""
    shift, end = vm.arch.page_shift, entry.end
    if entry.wiring_op and entry.wired_count == 1:
        for operation in vm.ops.values():
            wire = operation.wire if isinstance(operation, MapChangeOp) else operation
            if isinstance(wire, WireOp) and wire.id == entry.wiring_op and wire.fault and wire.space == map_.id:
                end = wire.fault.va if entry.start <= wire.fault.va < entry.end else end
    first = entry.offset >> shift
    return [m for p in range(first, first + ((end - entry.start) >> shift)) if (m := _front(vm, entry.object, p)) >= 0]


def _front(vm: Machine, object_id: int, pindex: int) -> int:
    """The foremost resident page of an object and those behind it; -1: none."""
    while object_id:
        obj = vm.objects[object_id]
        if pindex in obj.resident:
            return obj.resident[pindex]
        object_id, pindex = obj.backing, pindex + obj.backing_offset
    return -1


def _check_swap_reserved(vm: Machine, maps: list[VmMap]) -> Iterator[str]:
    """vm.swap_reserved: what entries and objects are charged for."""
    entries = sum(entry.size for map_ in maps for entry in map_.entries if entry.charged)
    objects = sum(obj.charge for obj in vm.objects)
    if vm.swap_reserved != entries + objects:
        yield f"vm.swap_reserved is {vm.swap_reserved}, entries are charged {entries} and objects {objects} bytes"


def _check_arena(vm: Machine) -> Iterator[str]:
    """Kernel address space: allocated and free segments make up the spans; every stack has its own."""
    arena = vm.arena
    if sum(arena.busy.values()) != arena.in_use:
        yield f"kernel_arena: {arena.in_use} bytes in use, segments of {sum(arena.busy.values())} bytes are allocated"
    if sum(arena.busy.values()) + sum(arena.free.values()) != sum(arena.spans.values()):
        yield "kernel_arena: segments do not add up to the spans"
    guard = vm.kstack_guard_pages * vm.arch.page_size
    for object_id, stack in vm.stacks.items():
        if arena.busy.get(stack.ks - guard) != stack.pages * vm.arch.page_size + guard:
            yield f"stack object {object_id}: its address space is not allocated"


def digest_maps(vm: Machine) -> bytes:
    """Digest of maps, kernel address space, stacks, image mappings and what sleeps."""
    digest = hashlib.blake2b(digest_size=32)
    for map_ in [vm.kernel_map, *(space.map for space in vm.spaces.values())]:
        digest.update(repr(map_).encode())
    digest.update(repr([(space.map.id, space.refcnt) for space in vm.spaces.values()]).encode())
    digest.update(repr((vm.arena.spans, vm.arena.busy, vm.arena.free, vm.arena.orders)).encode())
    kept = (vm.swap_reserved, vm.stacks, vm.sf_bufs, vm.sf_pool, vm.files, vm.shmsegs, vm.ops, vm.reads)
    digest.update(repr(kept).encode())
    return digest.digest()
