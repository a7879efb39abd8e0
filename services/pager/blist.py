"""The bitmap allocator of swap space: the answers of sys/kern/subr_blist.c.

The radix tree of the C (leaves of 32 blocks, fan-out 16, in every node an upper bound of the longest free run below
it) is kept level by level in flat arrays, which a checkpoint writes as they are. The C's remaining free count per
inner node only serves to skip the initialisation of wholly free subtrees; leaving it out changes no answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import kassert

SWAPBLK_NONE = -1
"""No block (0x80000000 and above in C)."""
BLIST_MAX_ALLOC = 32
"""Longest run of one allocation: BLIST_BMAP_RADIX."""
_RADIX = 32
_FANOUT = 16


class Blist:
    """Free blocks of one device, first fit from the lowest leaf that has a long enough run.

    Attributes:
        blocks: Blocks that the bitmap covers.
        free_count: Free ones (bl_free).
        bitmap: One uint32 a leaf, a set bit is a free block.
    """

    blocks: int
    free_count: int
    bitmap: NDArray[np.uint32]
    _hints: list[bytearray]
    CHECKPOINTED = ("blocks", "free_count", "bitmap", "_hints")
    """What a checkpoint holds."""

    def __init__(self, blocks: int) -> None:
        """Create a bitmap with every block allocated (blist_create)."""
        leaves = max(1, -(-blocks // _RADIX))
        self.blocks = blocks
        self.free_count = 0
        self.bitmap = np.zeros(leaves, np.uint32)
        self.bind()
        self._hints = [bytearray(leaves)]
        while len(self._hints[-1]) > 1:
            self._hints.append(bytearray(-(-len(self._hints[-1]) // _FANOUT)))

    def bind(self) -> None:
        """Make the scalar view anew, after the array was replaced."""
        self._words = self.bitmap.data  # plain ints out of the array, four times as fast as its scalars

    def misfit(self) -> str:
        """What contradicts itself; empty: nothing."""
        wanted = Blist(self.blocks)
        lengths = [[len(level) for level in each._hints] for each in (self, wanted)]
        if len(self.bitmap) != len(wanted.bitmap) or lengths[0] != lengths[1]:
            return f"a bitmap of {self.blocks} blocks"
        return ""

    def alloc(self, count: int) -> int:
        """blist_alloc: the first of `count` adjacent free blocks, which never cross a leaf, or SWAPBLK_NONE.

        Raises:
            KernelPanic: More than BLIST_MAX_ALLOC blocks.
        """
        kassert(0 < count <= BLIST_MAX_ALLOC, "blist_alloc: allocation too large", "blst_meta_alloc")
        while (leaf := self._candidate(count)) >= 0:
            word = self._words[leaf]
            first = _first_run(word, count)
            if first >= 0:
                self._words[leaf] = word & ~(((1 << count) - 1) << first)
                self.free_count -= count
                return leaf * _RADIX + first
            self._lower(leaf, count - 1)
        return SWAPBLK_NONE

    def free(self, block: int, count: int) -> None:
        """blist_free: give back adjacent blocks.

        Raises:
            KernelPanic: One of them is free already.
        """
        end = block + count
        self.free_count += count
        while block < end:
            leaf, first = divmod(block, _RADIX)
            run = min(_RADIX - first, end - block)
            mask = ((1 << run) - 1) << first
            word = self._words[leaf]
            kassert(not word & mask, "blst_radix_free: freeing free block", "blst_leaf_free")
            self._words[leaf] = word | mask
            self._raise(leaf)
            block += run

    def is_free(self) -> NDArray[np.bool_]:
        """Whether each block is free."""
        bits = np.unpackbits(self.bitmap.view(np.uint8), bitorder="little")
        return bits[: self.blocks].astype(np.bool_)

    def _candidate(self, count: int) -> int:
        """Lowest leaf whose hint promises a run of `count`, or -1; hints only ever promise too much."""
        if self._hints[-1][0] < count:
            return -1
        node = 0
        for level in range(len(self._hints) - 2, -1, -1):
            hints = self._hints[level]
            node *= _FANOUT
            while hints[node] < count:
                node += 1
        return node

    def _lower(self, leaf: int, hint: int) -> None:
        """A leaf turned out to have no run longer than `hint`; every node above is the largest hint of its children."""
        self._hints[0][leaf] = hint
        for below, above in zip(self._hints, self._hints[1:], strict=False):
            leaf //= _FANOUT
            longest = max(below[leaf * _FANOUT : (leaf + 1) * _FANOUT])
            if longest == above[leaf]:
                return
            above[leaf] = longest

    def _raise(self, leaf: int) -> None:
        """A leaf got free blocks: like in C it promises a whole leaf until an allocation finds out."""
        for hints in self._hints:
            if hints[leaf] == _RADIX:
                return
            hints[leaf] = _RADIX
            leaf //= _FANOUT


def _first_run(word: int, count: int) -> int:
    """Position of the lowest run of `count` set bits, or -1."""
    lowest, run = (word & -word).bit_length() - 1, (1 << count) - 1
    if lowest >= 0 and word >> lowest & run == run:
        return lowest
    runs, length = word, 1
    while length < count and runs:
        step = min(length, count - length)
        runs &= runs >> step
        length += step
    return (runs & -runs).bit_length() - 1
