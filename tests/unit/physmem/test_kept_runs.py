"""Runs that are sent once and then named."""

import pytest
from map_side import FIRST, LOAD, STORE, MapSide, record, runs

from services.physmem.kept_runs import KeptRuns
from services.ports.common import Stop
from services.ports.physmem import PhysmemBoot
from services.runtime.errors import Reason, Refused

_BUDGET_US = 1 << 40


def refusal(call, *arguments):
    with pytest.raises(Refused) as refused:
        call(*arguments)
    return refused.value.reason, refused.value.field


def test_kept_runs_do_what_sent_ones_do():
    packed = runs(*(record(FIRST + at % 4, STORE if at % 3 else LOAD) for at in range(20)))
    answers, digests = [], []
    for kept in (False, True):
        side = MapSide()
        space = side.space(4)
        if kept:
            sent = runs(record(FIRST, STORE)) + packed
            answers.append(side.core.access_kept(space, "a", sent, 1, 21, _BUDGET_US, 0, 0))
        else:
            answers.append(side.core.access(space, packed, 0, _BUDGET_US, 0, 0))
        digests.append(side.core.digest())
    assert answers[0] == answers[1]
    assert (answers[1].outcome.stop, answers[1].outcome.next_record) == (Stop.END, 20)
    assert digests[0] == digests[1]


def test_only_the_part_is_issued():
    side = MapSide()
    space = side.space(4)
    sent = runs(*(record(FIRST + at, STORE) for at in range(4)))
    for packed, vpn in ((sent, FIRST), (b"", FIRST + 1), (b"", FIRST + 2)):
        start = vpn - FIRST
        outcome = side.core.access_kept(space, "a", packed, start, start + 1, _BUDGET_US, 0, 0).outcome
        assert (outcome.next_record, outcome.minor) == (1, 1)
    assert side.core.vmspace_info([space]).spaces[0].resident == 3


def test_what_is_kept_is_no_state_of_the_machine():
    side = MapSide()
    space = side.space(4)
    before = side.core.digest()
    side.core.access_kept(space, "a", runs(record(FIRST, LOAD)), 0, 0, 1, 0, 0)
    assert side.core.digest() == before
    side.core.boot(PhysmemBoot(ram_pages=1024, seed=7))
    space = side.space(4)
    assert refusal(side.core.access_kept, space, "a", b"", 0, 1, 1, 0, 0) == (Reason.UNKNOWN_ID, "name")


def test_parts_that_are_not_there_are_refused():
    kept = KeptRuns()
    kept.keep("a", bytes(24))
    assert refusal(kept.part, "b", 0, 0) == (Reason.UNKNOWN_ID, "name")
    assert refusal(kept.part, "a", 0, 4) == (Reason.FIELD_OUT_OF_RANGE, "end")
    assert refusal(kept.part, "a", 2, 1) == (Reason.FIELD_OUT_OF_RANGE, "end")
    assert refusal(kept.keep, "c", bytes(7)) == (Reason.FIELD_OUT_OF_RANGE, "runs")
    assert len(kept.part("a", 1, 3)) == 2


def test_what_was_not_used_for_longest_goes_for_others():
    kept = KeptRuns(bytes_max=64)
    for name in "abcd":
        kept.keep(name, bytes(16))
    kept.part("a", 0, 1)
    kept.keep("c", bytes(32))  # in the place of what had its name: b goes for it
    assert refusal(kept.part, "b", 0, 1) == (Reason.UNKNOWN_ID, "name")
    assert [len(kept.part(name, 0, length)) for name, length in (("a", 2), ("d", 2), ("c", 4))] == [2, 2, 4]
    assert refusal(kept.keep, "e", bytes(72)) == (Reason.FIELD_OUT_OF_RANGE, "runs")
