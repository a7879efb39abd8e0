"""Checkpoints of the pager: a block that was freed while it is read still gives its contents."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_sim.disk import BLOCK_SIZE
from services.pager.core import PagerCore
from services.ports.pager import ObjectKind, PageRange, PagerBoot, PutRun, SwapDisk, VmPager
from services.runtime.context import Context
from services.runtime.errors import Reason, Refused

PAGES = 20


@pytest.fixture
def pagers(tmp_path):
    """Two pagers, the second with a swap file of its own."""
    made = [PagerCore(Context("pager")), PagerCore(Context("pager"), tmp_path / "swap")]
    made[0].boot(PagerBoot(swap_devices=[SwapDisk(600)], page_count=1000, seed=3))
    yield made
    for pager in made:
        pager.close()


def data(pages, start=0):
    words = np.arange(start, start + pages * BLOCK_SIZE // 8, dtype=np.uint64)
    return words.tobytes()


def moved(source, target):
    whole = source.checkpoint_save(0)
    assert len(whole.data) == whole.size
    target.checkpoint_load(0, whole.size, whole.data)
    target.checkpoint_commit()
    return target


def settle(pager, due_us):
    pager._ctx.now_us = max(pager._ctx.now_us, due_us)


def test_pages_in_swap_come_back_and_the_rest_goes_on_alike(pagers):
    first, second = pagers
    file = first.vnode_open("data", 9).file
    started = first.put_pages_start([PutRun(5, 0, PAGES), PutRun(6, 2, 3, file)], data(PAGES + 3), sync=False)
    chunks = [chunk for answer in started.runs for chunk in answer.chunks]
    moved(first, second)
    for pager in pagers:
        settle(pager, max(chunk.due_us for chunk in chunks))
        assert set(pager.put_pages_finish([chunk.io for chunk in chunks]).statuses) == {VmPager.OK}
    assert first.peek(5, list(range(PAGES))) == second.peek(5, list(range(PAGES)))
    reads = [pager.get_pages_start(6, ObjectKind.VNODE, file, 2, 0, 2, False) for pager in pagers]
    settle(first, reads[0].due_us)
    settle(second, reads[1].due_us)
    contents = [pager.get_pages_finish([reads[0].io]).reads[0].data for pager in pagers]
    assert contents == [data(PAGES + 3)[PAGES * BLOCK_SIZE :]] * 2
    again = [pager.put_pages_start([PutRun(6, 3, 7)], data(7, 99), sync=True) for pager in pagers]
    assert again[0] == again[1]
    assert first.digest() == second.digest()
    assert second.check().violations == []
    assert first.counters() == second.counters()


def test_a_block_that_was_freed_while_it_is_read_still_gives_its_contents(pagers):
    first, second = pagers
    started = first.put_pages_start([PutRun(5, 0, 4)], data(4), sync=True)
    (chunk,) = started.runs[0].chunks
    settle(first, chunk.due_us)
    first.put_pages_finish([chunk.io])
    read = first.get_pages_start(5, ObjectKind.SWAP, 0, 1, 0, 2, wired=False)
    first.page_unswapped([PageRange(5, 0, 4)])
    moved(first, second)
    settle(second, read.due_us)
    (found,) = second.get_pages_finish([read.io]).reads
    assert (found.status, found.data) == (VmPager.OK, data(4)[BLOCK_SIZE : BLOCK_SIZE * (1 + read.count)])


def test_a_host_that_refuses_the_swap_file_is_told(pagers, tmp_path):
    first, second = pagers
    (tmp_path / "swap").write_bytes(b"something else")
    whole = first.checkpoint_save(0)
    second.checkpoint_load(0, whole.size, whole.data)
    with pytest.raises(Refused) as refused:
        second.checkpoint_commit()
    assert refused.value.reason is Reason.FIELD_OUT_OF_RANGE
    assert not second._ctx.booted
    assert (tmp_path / "swap").read_bytes() == b"something else"
