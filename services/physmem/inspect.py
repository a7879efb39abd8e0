"""Views of the state that change nothing: stack pages, wired ranges, stamps, figures of address spaces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.physmem.machine import Machine
from services.physmem.page_array import PQ_ACTIVE, PQ_INACTIVE
from services.physmem.page_busy import vm_page_xbusied
from services.physmem.pmap import pmap_extract, vpn_of
from services.physmem.state import VmObject
from services.physmem.vm_map import MAP_ENTRY_USER_WIRED, VmMap, VmMapEntry
from services.physmem.vmspace import vmspace_resident_count
from services.ports.physmem import (
    FilePages,
    ImageMapping,
    ObjectPages,
    PageQueue,
    PageState,
    PageValid,
    SpaceInfo,
    StackPages,
    Stamps,
    WiredRange,
)
from services.runtime.errors import Reason, Refused

_QUEUE_LETTERS = {PQ_INACTIVE: "I", PQ_ACTIVE: "A"}
_QUEUES = {PQ_INACTIVE: PageQueue.INACTIVE, PQ_ACTIVE: PageQueue.ACTIVE}
_WIRED_SHOWN_MAX = 9
SWAP_META_PAGES = 32
"""Pages of one block of the pager's swap metadata."""
_STAMP_WORDS = 6


def object_pages(vm: Machine, stack: StackPages) -> ObjectPages:
    """State of a stack's pages, one character a page; see the port for the letters."""
    shown = ObjectPages(obj=stack.obj)
    obj = vm.objects.get(stack.obj)
    if obj is None:
        return shown
    shown.exists = True
    frames = [obj.resident.get(i) for i in range(stack.pages)]
    pages = vm.pages
    shown.valid = _letters(frames, lambda m: "V" if pages.valid[m] == vm.bits_all else "P" if pages.valid[m] else "I")
    shown.dirty = _letters(frames, lambda m: "D" if pages.dirty[m] else ".")
    shown.wired = _letters(frames, lambda m: str(min(pages.wire_count[m], _WIRED_SHOWN_MAX)))
    shown.queue = _letters(frames, lambda m: _QUEUE_LETTERS.get(pages.queue[m], "N"))
    shown.busy = _letters(frames, lambda m: "X" if vm_page_xbusied(vm, m) else ".")
    if stack.ks:
        shown.mapped = _mapped(vm, stack, frames)
    return shown


def _letters(frames: list[int | None], letter: Callable[[int], str]) -> str:
    return "".join("-" if m is None else letter(m) for m in frames)


def _mapped(vm: Machine, stack: StackPages, frames: list[int | None]) -> str:
    """What the stack's addresses map: the object's page, another one, nothing."""
    first = vpn_of(vm, stack.ks)
    mapped = [pmap_extract(vm, 0, first + i) for i in range(stack.pages)]
    return "".join(
        "." if there is None else "M" if there == m else "S" for there, m in zip(mapped, frames, strict=True)
    )


def image_pages(vm: Machine, file: str) -> FilePages:
    """Resident pages of a file's object, by index.

    Raises:
        Refused: No such file was opened.
    """
    if file not in vm.files:
        raise Refused(Reason.UNKNOWN_ID, "files", file, "a file that was opened")
    obj = vm.objects[vm.files[file]]
    return FilePages(file, [_page_state(vm, obj, pindex) for pindex in sorted(obj.resident)])


def _page_state(vm: Machine, obj: VmObject, pindex: int) -> PageState:
    m, pages = obj.resident[pindex], vm.pages
    return PageState(
        pindex,
        PageValid.ALL if pages.valid[m] == vm.bits_all else PageValid.PARTIAL if pages.valid[m] else PageValid.NONE,
        pages.dirty[m] != 0,
        pages.wire_count[m],
        pages.hold_count[m],
        _QUEUES.get(pages.queue[m], PageQueue.NONE),
        vm_page_xbusied(vm, m),
        obj.replaced.get(pindex, 0),
    )


def image_mappings(vm: Machine) -> list[ImageMapping]:
    """Live mappings of image pages, by id; a page that was freed meanwhile keeps its index while it is held."""
    return [ImageMapping(mapping, vm.pages.pindex[sf.frame]) for mapping, sf in sorted(vm.sf_bufs.items())]


def wired_ranges(map_: VmMap) -> list[WiredRange]:
    """Wired parts of a map in address order, neighbours that are wired alike joined."""
    ranges: list[WiredRange] = []
    for entry in map_.entries:
        if entry.wired_count == 0:
            continue
        count, user = entry.system_wired_count, bool(entry.eflags & MAP_ENTRY_USER_WIRED)
        last = ranges[-1] if ranges else None
        if last and (last.end, last.count, last.user) == (entry.start, count, user):
            last.end = entry.end
        else:
            ranges.append(WiredRange(entry.start, entry.end, count, user))
    return ranges


def space_info(vm: Machine, vmspace: int) -> SpaceInfo:
    """Figures of an address space."""
    space = vm.space(vmspace)
    map_ = space.map
    return SpaceInfo(
        vmspace=vmspace,
        refcnt=space.refcnt,
        resident=vmspace_resident_count(vm, map_),
        entries=len(map_.entries),
        swap_count=sum(_swap_count(vm, entry) for entry in map_.entries if entry.object),
        size_pages=sum(entry.end - entry.start for entry in map_.entries) >> vm.arch.page_shift,
        timestamp=map_.timestamp,
    )


def _swap_count(vm: Machine, entry: VmMapEntry) -> int:
    """An entry's share of vmspace_swap_count: its part of the metadata blocks of its object, 32 pages each, plus 1."""
    obj = vm.objects[entry.object]
    blocks = len({pindex // SWAP_META_PAGES for pindex in obj.swapped})
    pages = (entry.end - entry.start) >> vm.arch.page_shift
    return blocks * SWAP_META_PAGES * pages // max(obj.size, 1) + 1 if blocks else 0


def vmspace_stamps(vm: Machine, map_: VmMap) -> Stamps:
    """Stamps of all anonymous pages of an address space, resident or in swap, in address order."""
    vpns: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    words: list[NDArray[np.uint64]] = [np.zeros((0, _STAMP_WORDS), np.uint64)]
    for entry in map_.entries:
        if entry.object:
            _entry_stamps(vm, entry, vpns, words)
    return Stamps(np.concatenate(vpns).astype(np.uint64).tobytes(), np.concatenate(words).tobytes())


def _entry_stamps(
    vm: Machine, entry: VmMapEntry, vpns: list[NDArray[np.int64]], words: list[NDArray[np.uint64]]
) -> None:
    """Stamps of one entry's pages: of each the foremost copy along the shadow chain."""
    count = (entry.end - entry.start) >> vm.arch.page_shift
    stamps = np.zeros((count, _STAMP_WORDS), np.uint64)
    found = np.zeros(count, np.bool_)
    obj: VmObject | None = vm.objects[entry.object]
    first = entry.offset >> vm.arch.page_shift
    while obj is not None and obj.anonymous:
        _object_stamps(vm, obj, first, stamps, found)
        first += obj.backing_offset
        obj = vm.objects.get(obj.backing)
    vpns.append(np.flatnonzero(found) + vpn_of(vm, entry.start))
    words.append(stamps[found])


def _object_stamps(
    vm: Machine, obj: VmObject, first: int, stamps: NDArray[np.uint64], found: NDArray[np.bool_]
) -> None:
    """Fill in what is still missing from one object, whose page `first` belongs to row 0."""
    for kept in (obj.resident, obj.cached):
        here = [(p - first, m) for p, m in kept.items() if 0 <= p - first < len(found) and not found[p - first]]
        here = [(row, m) for row, m in here if vm.pages.valid[m] == vm.bits_all]
        rows = [row for row, _ in here]
        stamps[rows] = vm.ram.stamps([m for _, m in here])
        found[rows] = True
    rows = sorted(p - first for p in obj.swapped if 0 <= p - first < len(found) and not found[p - first])
    if rows:
        peeked = vm.pager.peek(obj.id, [row + first for row in rows])
        assert all(peeked.present), f"the pager lost pages of object {obj.id}"
        stamps[rows] = np.frombuffer(peeked.stamps, np.uint64).reshape(-1, _STAMP_WORDS)
        found[rows] = True
