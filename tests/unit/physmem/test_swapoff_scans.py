"""swapoff on a pager that does not give all of its pages away: another scan, and in the end the panic."""

import pytest
from map_side import MapSide

from services.ports.common import Status
from services.ports.pager import SwapErrno, SwapoffEnd, SwappedPages
from services.runtime.errors import KernelPanic


@pytest.fixture
def side():
    """A machine whose pager has one device, on which `left` blocks are in use that no page has."""
    side = MapSide()
    side.pager.left = 7
    side.pager.swapoff_begin = lambda *_: SwapErrno()
    side.pager.swapoff_pages = lambda *_: SwappedPages()
    side.pager.swapoff_end = lambda *_: SwapoffEnd(side.pager.left)
    return side


def test_it_looks_again_after_a_twentieth_of_a_second(side):
    answer = side.core.swapoff(2, 0)
    assert (answer.status, answer.suspension.wmesg) == (Status.SUSPENDED, "swpoff")
    assert (answer.suspension.channel, answer.suspension.timeout_ticks) == ("swpoff:2", 50)
    (told,) = side.core.suspended().operations
    assert (told.function, told.subject[:13]) == ("swap_pager_swapoff", "swap device 2")
    side.pager.left = 0
    answer = side.core.swapoff(2, answer.suspension.op)
    assert (answer.status, answer.error) == (Status.DONE, 0)


def test_blocks_that_nobody_has_panic_after_a_hundred_scans(side):
    op = side.core.swapoff(0, 0).suspension.op
    for _ in range(99):
        assert side.core.swapoff(0, op).status is Status.SUSPENDED
    with pytest.raises(KernelPanic, match="swapoff: failed to locate 7 swap blocks"):
        side.core.swapoff(0, op)
