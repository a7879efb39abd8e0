"""Plain FIFO and Clock on a machine reduced to one address space: who goes, what it held, what is refused."""

import pytest
from map_side import FIRST, LOAD, STORE, MapSide, record, runs

from services.ports.common import Setting
from services.ports.physmem import Replacement
from services.runtime.errors import Refused

SPARE = 60
"""Free pages that are never given out."""


def reduced(policy, room, pages, **config):
    """A machine with room for so many of an address space's pages."""
    side = MapSide(SPARE + room, replacement=policy, **config)
    side.core.sysctl_set(Setting("vm.v_free_target", SPARE))
    return side, side.space(pages)


def resident(side, vmspace):
    """Numbers of the mapped pages."""
    return [vpn - FIRST for vpn in range(FIRST, FIRST + 20) if side.vm.mmu.pte(vmspace, vpn)]


@pytest.mark.parametrize(("policy", "left"), [(Replacement.FIFO, [1, 2, 3]), (Replacement.CLOCK, [1, 2, 3])])
def test_the_oldest_goes_when_all_were_referenced(policy, left):
    side, space = reduced(policy, room=3, pages=8)
    side.run(space, runs(*(record(FIRST + i, LOAD) for i in (0, 1, 2, 0, 3))))
    assert resident(side, space) == left
    assert side.core.check().violations == []


@pytest.mark.parametrize(("policy", "left"), [(Replacement.FIFO, [2, 3, 4]), (Replacement.CLOCK, [1, 3, 4])])
def test_clock_spares_what_was_referenced_again(policy, left):
    side, space = reduced(policy, room=3, pages=8)
    order = (0, 1, 2, 3, 1, 4)
    side.run(space, runs(*(record(FIRST + i, LOAD) for i in order)))
    assert resident(side, space) == left


@pytest.mark.parametrize("policy", [Replacement.FIFO, Replacement.CLOCK])
def test_what_goes_comes_back_from_swap_one_page_at_a_time(policy):
    side, space = reduced(policy, room=4, pages=8)
    order = [*range(8), *range(8), *range(8)]
    side.run(space, runs(*(record(FIRST + i, STORE) for i in order)))
    cnt = side.vm.cnt
    assert (cnt.v_zfod, cnt.v_io_faults, cnt.v_pdwakeups) == (8, 16, 0)
    assert "swwrt" in side.sleeps
    assert len(resident(side, space)) == 4
    assert side.shadow.pages_checked == 16
    assert side.shadow.mismatches == []
    assert side.core.check().violations == []


def test_without_swap_memory_runs_short_as_on_any_machine():
    side, space = reduced(Replacement.FIFO, room=4, pages=80, swap_pages=0)
    outcome = side.access(space, runs(*(record(FIRST + i, STORE) for i in range(80)))).outcome
    assert outcome.next_record > 4
    assert side.settle().pagedaemon_wanted


def test_a_second_address_space_is_refused():
    side, space = reduced(Replacement.CLOCK, room=4, pages=4)
    before = side.core.digest()
    for another in (lambda: side.core.vmspace_alloc(0, 0), lambda: side.core.vmspace_fork(space)):
        with pytest.raises(Refused, match=r"replacement.*CLOCK.*more than one address space"):
            another()
    assert side.core.digest() == before
