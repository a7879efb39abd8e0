"""Address-space layouts: from /proc/PID/maps at start, completed so that every reference is mapped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clients.trace import (
    MAP_ANON,
    MAP_OTHER,
    MAP_PRIVATE,
    PAGE_SHIFT,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    File,
    Op,
    Region,
    Runs,
    run_kinds,
    run_vpn,
)

TOOL_ARENA = (0x10_0000_0000, 0x1F_F000_0000)
"""Valgrind's own heap, in the client's address space."""
STACK_ZONE = (0x1F_F000_0000, 0x20_0000_0000)
"""Where valgrind puts the client's stack."""
UNMAPPED = -1


@dataclass(slots=True)
class FileTable:
    """Files that were mapped, numbered in order of appearance."""

    files: list[File] = field(default_factory=list)
    """Rows of the header."""
    _ids: dict[str, int] = field(default_factory=dict)

    def id_of(self, path: str) -> int:
        """Return the id of a file, adding it with its size; basenames alone are kept."""
        if path not in self._ids:
            try:
                size = Path(path).stat().st_size
            except OSError:
                size = 0
            self._ids[path] = len(self.files)
            self.files.append(File(len(self.files), Path(path).name or "unknown", max(1, pages_of(size))))
        return self._ids[path]


def pages_of(length: int) -> int:
    """Return the pages that a length in bytes takes."""
    return (length + (1 << PAGE_SHIFT) - 1) >> PAGE_SHIFT


def parse_maps(text: str, files: FileTable) -> list[Region]:
    """Turn the text of /proc/PID/maps under valgrind into the client's regions."""
    regions: list[Region] = []
    tool_end = -1
    for line in text.splitlines():
        fields = line.split(None, 5)
        start, end = (int(x, 16) for x in fields[0].split("-"))
        path = fields[5] if len(fields) > 5 else ""
        if "/lackey-" in path or (start == tool_end and not path):
            tool_end = end
            continue
        if TOOL_ARENA[0] <= start < TOOL_ARENA[1] or start >= STACK_ZONE[1] or path.startswith("["):
            continue
        regions.append(_region(start, end, fields[1], int(fields[2], 16), path, files))
    return regions


def _region(start: int, end: int, perms: str, offset: int, path: str, files: FileTable) -> Region:
    prot = PROT_READ * (perms[0] == "r") | PROT_WRITE * (perms[1] == "w") | PROT_EXEC * (perms[2] == "x")
    vpn, pages = start >> PAGE_SHIFT, (end - start) >> PAGE_SHIFT
    if path.startswith("/"):
        return Region(vpn, pages, prot, "image", files.id_of(path), offset >> PAGE_SHIFT)
    return Region(vpn, pages, prot, "stack" if STACK_ZONE[0] <= start < STACK_ZONE[1] else "anon")


def with_heap_and_stack(
    regions: Iterable[Region], brk_vpn: int, stack_low: int, mapped: list[tuple[int, int]]
) -> tuple[Region, ...]:
    """Give a layout its heap and stack, and drop what the program itself mapped before the layout was read.

    Args:
        regions: what parse_maps saw.
        brk_vpn: first page of the heap, or -1.
        stack_low: lowest stack page that is ever referenced.
        mapped: (first page, pages) of the mmap calls that followed.
    """
    kept = []
    for region in regions:
        end = region.start_vpn + region.npages
        if region.kind == "stack":
            low = min(stack_low, region.start_vpn)
            kept.append(Region(low, end - low, region.prot, "stack"))
        elif region.start_vpn != brk_vpn and not any(
            start <= region.start_vpn and end <= start + pages for start, pages in mapped
        ):
            kept.append(region)
    if brk_vpn >= 0:
        kept.append(Region(brk_vpn, 1, PROT_READ | PROT_WRITE, "brk"))
    return tuple(sorted(kept, key=lambda r: r.start_vpn))


class Coverage:
    """Protection of every page that a trace ever touches, as one task's map stands at one time."""

    def __init__(self, pages: npt.NDArray[np.int64]) -> None:
        """Start with nothing mapped; pages are sorted and unique."""
        self.pages = pages
        self.prot = np.full(len(pages), UNMAPPED, np.int64)
        self.brk_start = self.brk_end = 0

    def fork(self) -> Coverage:
        """Return a child's copy."""
        child = Coverage(self.pages)
        child.prot = self.prot.copy()
        child.brk_start, child.brk_end = self.brk_start, self.brk_end
        return child

    def exec(self, regions: tuple[Region, ...]) -> None:
        """Replace everything by a new image's layout."""
        self.prot[:] = UNMAPPED
        self.brk_start = self.brk_end = 0
        for region in regions:
            self._set(region.start_vpn, region.npages, region.prot)
            if region.kind == "brk":
                self.brk_start, self.brk_end = region.start_vpn, region.start_vpn + region.npages

    def apply(self, op: int, a: int, b: int, c: int) -> None:
        """Apply an operation that changes the map."""
        if op == Op.MMAP:
            self._set(a, b, c & 7)
        elif op == Op.MUNMAP:
            self._set(a, b, UNMAPPED)
        elif op == Op.MPROTECT:
            piece = self._slice(a, b)
            self.prot[piece] = np.where(self.prot[piece] == UNMAPPED, UNMAPPED, c)
        elif op == Op.BRK:
            if a > self.brk_end:
                self._set(self.brk_end, a - self.brk_end, PROT_READ | PROT_WRITE)
            else:
                self._set(a, self.brk_end - a, UNMAPPED)
            self.brk_end = a

    def missing(self, runs: Runs) -> list[tuple[int, int, int, int, int]]:
        """Return the MMAP and MPROTECT rows (op, a, b, c, d) without which the runs would not be allowed."""
        kinds = run_kinds(runs)
        used = kinds != 0
        where = np.searchsorted(self.pages, run_vpn(runs[used]))
        need = np.zeros(len(self.pages), np.int64)
        for bit in (PROT_READ, PROT_WRITE, PROT_EXEC):
            need[where[(kinds[used] & bit) != 0]] |= bit
        lacking = need & ~np.where(self.prot == UNMAPPED, 0, self.prot)
        rows = []
        for op, mask in (
            (Op.MMAP, (need != 0) & (self.prot == UNMAPPED)),
            (Op.MPROTECT, (lacking != 0) & (self.prot != UNMAPPED)),
        ):
            wanted = np.where(self.prot == UNMAPPED, PROT_READ | PROT_WRITE, self.prot) | need
            for start, count, prot in _ranges(self.pages[mask], wanted[mask]):
                flags = MAP_ANON | MAP_PRIVATE | MAP_OTHER if op == Op.MMAP else 0
                rows.append((int(op), start, count, prot | flags, 0))
                self._set(start, count, prot)
        return rows

    def _slice(self, start: int, count: int) -> slice:
        low, high = np.searchsorted(self.pages, (start, start + count))
        return slice(int(low), int(high))

    def _set(self, start: int, count: int, prot: int) -> None:
        self.prot[self._slice(start, count)] = prot


def _ranges(pages: npt.NDArray[np.int64], prots: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Join neighbouring pages of one protection: (first page, pages, prot)."""
    if not len(pages):
        return []
    cuts = np.flatnonzero((np.diff(pages) != 1) | (np.diff(prots) != 0)) + 1
    starts = np.concatenate(([0], cuts))
    counts = np.diff(np.concatenate((starts, [len(pages)])))
    return [(int(pages[s]), int(n), int(prots[s])) for s, n in zip(starts, counts, strict=True)]
