"""Swap metadata: which block holds which page (swp_pager_meta_* of swap_pager.c).

Like in C a metadata block stands for 32 consecutive pages of one object, is found by (object, pindex & ~31), and goes
away with its last entry. The entries lie in flat arrays; an entry is an int32 of global block numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.pager.blist import SWAPBLK_NONE

SWAP_META_PAGES = 32
"""Entries of a metadata block."""

Blocks = NDArray[np.int32]
_NOTHING: dict[int, int] = {}
_NO_BLOCKS: Blocks = np.empty(0, np.int32)


class SwapMeta:
    """Swap metadata of all objects.

    Attributes:
        limit: Metadata blocks that the zone gives out at most.
        in_use: Those in use.
        objects: For every OBJT_SWAP object the slots of its metadata blocks, by pindex / 32.
    """

    limit: int
    in_use: int
    objects: dict[int, dict[int, int]]
    _free: list[int]
    _entries: Blocks
    _counts: bytearray
    CHECKPOINTED = ("limit", "in_use", "objects", "_free", "_entries", "_counts")
    """What a checkpoint holds."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self.objects = {}
        self._free = []
        self._entries = np.empty(0, np.int32)
        self._counts = bytearray()
        self.bind()

    def bind(self) -> None:
        """Make the scalar view anew, after the array was replaced."""
        self._cells = self._entries.data  # plain ints out of the array, faster than its scalars

    def misfit(self) -> str:
        """What contradicts itself; empty: nothing."""
        slots = len(self._counts)
        if len(self._entries) != slots * SWAP_META_PAGES:
            return f"{SWAP_META_PAGES} entries for each of {slots} metadata blocks"
        used = [slot for index in self.objects.values() for slot in index.values()]
        if not all(0 <= slot < slots for slot in (*used, *self._free)):
            return f"metadata blocks below {slots}"
        return ""

    def convert(self, obj: int) -> bool:
        """Make an object OBJT_SWAP; True if it was OBJT_DEFAULT."""
        if obj in self.objects:
            return False
        self.objects[obj] = {}
        return True

    def lookup(self, obj: int, pindex: int) -> int:
        """swp_pager_meta_ctl(…, 0): the page's block or SWAPBLK_NONE."""
        slot = self.objects.get(obj, _NOTHING).get(pindex // SWAP_META_PAGES)
        return SWAPBLK_NONE if slot is None else self._cells[slot * SWAP_META_PAGES + pindex % SWAP_META_PAGES]

    def contiguous(self, obj: int, pindex: int, behind: int, ahead: int) -> tuple[int, int]:
        """How many pages in front of and behind a page in swap have exactly adjacent blocks, up to the limits."""
        block = self.lookup(obj, pindex)
        before, after = 0, self._follows(obj, pindex + 1, block + 1, ahead)
        while before < min(behind, pindex) and self.lookup(obj, pindex - before - 1) == block - before - 1:
            before += 1
        return before, after

    def has_room(self, obj: int, first: int, count: int) -> bool:
        """Whether the zone can give the metadata blocks that building `count` pages takes."""
        index = self.objects.get(obj, _NOTHING)
        low, high = first // SWAP_META_PAGES, (first + count - 1) // SWAP_META_PAGES
        missing = high - low + 1
        if self.in_use + missing > self.limit:
            missing = sum(chunk not in index for chunk in range(low, high + 1))
        return self.in_use + missing <= self.limit

    def build(self, obj: int, first: int, blocks: Blocks) -> Blocks:
        """swp_pager_meta_build for consecutive pages: assign blocks.

        Args:
            obj: Object id; it becomes OBJT_SWAP.
            first: First pindex.
            blocks: One block a page.

        Returns:
            Blocks that the pages had before; the caller frees them.
        """
        self.convert(obj)
        old = []
        for chunk, start, stop, done in _parts(first, len(blocks)):
            slot = self._slot(obj, chunk)
            at = slice(slot * SWAP_META_PAGES + start, slot * SWAP_META_PAGES + stop)
            if self._counts[slot] and max(self._cells[at]) >= 0:
                taken = self._entries[at]
                old.append(taken := taken[taken >= 0])
                self._counts[slot] -= len(taken)
            self._counts[slot] += stop - start
            self._entries[at] = blocks[done : done + stop - start]
        return _joined(old) if old else _NO_BLOCKS

    def free(self, obj: int, first: int, count: int) -> Blocks:
        """swp_pager_meta_free: forget consecutive pages; returns the blocks that they had."""
        index = self.objects.get(obj, _NOTHING)
        low, high = first // SWAP_META_PAGES, (first + count - 1) // SWAP_META_PAGES
        if high - low < len(index):
            chunks = [chunk for chunk in range(low, high + 1) if chunk in index]
        else:
            chunks = sorted(chunk for chunk in index if low <= chunk <= high)
        return _joined([self._take(obj, chunk, *_clip(chunk, first, count)) for chunk in chunks])

    def free_all(self, obj: int) -> Blocks:
        """swp_pager_meta_free_all: forget an object, which becomes OBJT_DEFAULT; returns the blocks that it had."""
        freed = [self._take(obj, chunk, 0, SWAP_META_PAGES) for chunk in list(self.objects.get(obj, _NOTHING))]
        self.objects.pop(obj, None)
        return _joined(freed)

    def copy(self, source: int, destination: int, offset: int, size: int, destroysource: bool) -> Blocks:
        """swap_pager_copy: hand over the pages that the destination lacks, and forget the source's.

        Args:
            source: The object that has them.
            destination: The object that gets them.
            offset: Page of the source that is page 0 of the destination.
            size: Pages of the destination.
            destroysource: Forget the source altogether; else only the pages of the range.

        Returns:
            Blocks that nobody has any more; the caller frees them.
        """
        for chunk in sorted(self.objects.get(source, _NOTHING)):
            start, stop = _clip(chunk, offset, size)
            self._hand_over(source, destination, chunk, start, stop, offset)
        return self.free_all(source) if destroysource else self.free(source, offset, size)

    def pages_on(self, first: int, end: int, obj: int, pindex: int, limit: int) -> list[tuple[int, int]]:
        """Pages whose blocks lie in a range, from one page on in order of (object, pindex), at most `limit`."""
        found: list[tuple[int, int]] = []
        for at in sorted(at for at in self.objects if at >= obj):
            least = pindex if at == obj else 0
            for chunk in sorted(chunk for chunk in self.objects[at] if chunk >= least // SWAP_META_PAGES):
                row = self._row(self.objects[at][chunk])
                pages = np.flatnonzero((row >= first) & (row < end)) + chunk * SWAP_META_PAGES
                found += [(at, page) for page in pages.tolist() if page >= least]
                if len(found) >= limit:
                    return found[:limit]
        return found

    def entries(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Object, pindex and block of every page in swap, ordered by object and pindex."""
        rows = sorted((obj, chunk, slot) for obj, index in self.objects.items() for chunk, slot in index.items())
        if not rows:
            empty = np.empty(0, np.int64)
            return empty, empty, empty
        objects, chunks, slots = np.array(rows, np.int64).T
        blocks = self._entries.reshape(-1, SWAP_META_PAGES)[slots].astype(np.int64)
        row, column = np.nonzero(blocks >= 0)
        return objects[row], chunks[row] * SWAP_META_PAGES + column, blocks[row, column]

    def violations(self) -> list[str]:
        """What is wrong with the metadata's own books."""
        slots = [slot for index in self.objects.values() for slot in index.values()]
        found = []
        if len(set(slots)) != len(slots) or len(slots) != self.in_use:
            found.append(f"{len(slots)} swap metadata blocks are indexed, {self.in_use} are in use")
        held = (self._entries.reshape(-1, SWAP_META_PAGES)[slots] >= 0).sum(axis=1)
        found += [
            f"swap metadata block {slot} counts {self._counts[slot]} pages and has {pages}"
            for slot, pages in zip(slots, held.tolist(), strict=True)
            if self._counts[slot] != pages or not pages
        ]
        return found

    def _hand_over(self, source: int, destination: int, chunk: int, start: int, stop: int, offset: int) -> None:
        """Move entries of one of the source's metadata blocks to the pages of the destination that have none."""
        slot = self.objects[source][chunk]
        for to_chunk, first, end, done in _parts(chunk * SWAP_META_PAGES + start - offset, stop - start):
            at = slice(start + done, start + done + end - first)
            if not (self._row(slot)[at] >= 0).any():
                continue
            self.convert(destination)
            to_slot = self._slot(destination, to_chunk)  # may move the arrays: views are taken afterwards
            mine, theirs = self._row(slot)[at], self._row(to_slot)[first:end]
            moves = (mine >= 0) & (theirs < 0)
            theirs[moves] = mine[moves]
            mine[moves] = SWAPBLK_NONE
            self._counts[to_slot] += int(moves.sum())
            self._counts[slot] -= int(moves.sum())

    def _follows(self, obj: int, pindex: int, block: int, limit: int) -> int:
        """How many pages from `pindex` on, at most `limit`, have the blocks from `block` on."""
        index = self.objects.get(obj, _NOTHING)
        for chunk, start, stop, done in _parts(pindex, limit):
            if (slot := index.get(chunk)) is None:
                return done
            entries = self._cells[slot * SWAP_META_PAGES + start : slot * SWAP_META_PAGES + stop].tolist()
            if entries != list(range(block + done, block + done + stop - start)):
                return next(at for at, entry in enumerate(entries, done) if entry != block + at)
        return limit

    def _row(self, slot: int) -> Blocks:
        return self._entries[slot * SWAP_META_PAGES : (slot + 1) * SWAP_META_PAGES]

    def _slot(self, obj: int, chunk: int) -> int:
        """The metadata block of an object's 32 pages, made if it is missing."""
        index = self.objects[obj]
        slot = index.get(chunk)
        if slot is None:
            if not self._free:
                self._grow()
            slot = index[chunk] = self._free.pop()
            self.in_use += 1
        return slot

    def _take(self, obj: int, chunk: int, start: int, stop: int) -> Blocks:
        """Forget a part of a metadata block, and the block with its last entry; returns the blocks of the pages."""
        slot = self.objects[obj][chunk]
        entries = self._row(slot)[start:stop]
        taken = entries[entries >= 0]
        entries[:] = SWAPBLK_NONE
        self._counts[slot] -= len(taken)
        if not self._counts[slot]:
            del self.objects[obj][chunk]
            self._free.append(slot)
            self.in_use -= 1
        return taken

    def _grow(self) -> None:
        """Double the arrays; the lowest new slot is taken first."""
        old = len(self._counts)
        new = max(256, 2 * old)
        entries = np.full(new * SWAP_META_PAGES, SWAPBLK_NONE, np.int32)
        entries[: len(self._entries)] = self._entries
        self._entries = entries
        self.bind()
        self._counts.extend(bytes(new - old))
        self._free.extend(range(new - 1, old - 1, -1))


def _parts(first: int, count: int) -> list[tuple[int, int, int, int]]:
    """Cut consecutive pages at metadata blocks: (pindex / 32, first entry, end of the entries, pages before)."""
    parts, done = [], 0
    while done < count:
        chunk, start = divmod(first + done, SWAP_META_PAGES)
        stop = min(SWAP_META_PAGES, start + count - done)
        parts.append((chunk, start, stop, done))
        done += stop - start
    return parts


def _clip(chunk: int, first: int, count: int) -> tuple[int, int]:
    """Entries of a metadata block that lie in a range of pages: first and end, which is not above first for none."""
    base = chunk * SWAP_META_PAGES
    return max(first - base, 0), min(first + count - base, SWAP_META_PAGES)


def _joined(parts: list[Blocks]) -> Blocks:
    return np.concatenate(parts) if parts else np.empty(0, np.int32)
