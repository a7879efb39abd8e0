"""The bitmap allocator against a list of booleans that is searched leaf by leaf."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.pager.blist import BLIST_MAX_ALLOC, SWAPBLK_NONE, Blist
from services.runtime.errors import KernelPanic


class NaiveBlist:
    """subr_blist.c without its tree: first fit inside leaves of 32, lowest leaf first."""

    def __init__(self, blocks):
        self.free_blocks = [False] * blocks

    def alloc(self, count):
        for leaf in range(0, len(self.free_blocks), 32):
            for first in range(leaf, leaf + 32 - count + 1):
                run = self.free_blocks[first : first + count]
                if len(run) == count and all(run):
                    self.free_blocks[first : first + count] = [False] * count
                    return first
        return SWAPBLK_NONE

    def free(self, block, count):
        self.free_blocks[block : block + count] = [True] * count


requests = st.lists(st.tuples(st.integers(1, BLIST_MAX_ALLOC), st.integers(0, 10**6)), max_size=120)


@settings(max_examples=80, deadline=None)
@given(blocks=st.integers(3, 1500), requests=requests)
def test_same_answers_as_a_plain_search(blocks, requests):
    blist, naive = Blist(blocks), NaiveBlist(blocks)
    for allocator in (blist, naive):
        allocator.free(2, blocks - 2)
    taken = []
    for count, choice in requests:
        if choice % 3 == 0 and taken:
            block, size = taken.pop(choice % len(taken))
            keep = choice % size
            for allocator in (blist, naive):
                allocator.free(block + keep, size - keep)
            if keep:
                taken.append((block, keep))
        else:
            block = naive.alloc(count)
            assert blist.alloc(count) == block
            if block != SWAPBLK_NONE:
                taken.append((block, count))
    assert blist.is_free().tolist() == naive.free_blocks
    assert blist.free_count == sum(naive.free_blocks)


def test_every_block_is_given_out_once():
    blist = Blist(20_000)
    blist.free(2, 19_998)
    given_out = [blist.alloc(1) for _ in range(19_998)]
    assert given_out == list(range(2, 20_000))
    assert blist.alloc(1) == SWAPBLK_NONE
    blist.free(12_345, 1)
    assert (blist.alloc(2), blist.alloc(1)) == (SWAPBLK_NONE, 12_345)


def test_what_the_c_panics_about():
    blist = Blist(64)
    blist.free(2, 62)
    with pytest.raises(KernelPanic, match="allocation too large"):
        blist.alloc(33)
    with pytest.raises(KernelPanic, match="freeing free block"):
        blist.free(40, 1)
