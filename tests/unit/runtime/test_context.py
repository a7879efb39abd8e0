"""Context, environment and event log: what every core sees of the world."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ports.common import Answers, IoStart, Upcalls
from services.runtime.context import Context
from services.runtime.env import Env
from services.runtime.errors import Refused
from services.runtime.events import RECORD, EventLog, Kind, unpack


def test_counters_are_c_unsigned_ints():
    ctx = Context("physmem")
    ctx.count("a")
    ctx.count("a", -2)
    ctx.count("b", 5)
    assert ctx.counter_values().names == ["a", "b"]
    assert ctx.counter_values().values == [0xFFFFFFFF, 5]


def test_up_calls_are_taken_once_and_absorbed_in_order():
    ctx = Context("physmem")
    ctx.wakeup("a")
    ctx.io_started(3, 40)
    ctx.upcalls.absorb(Upcalls([IoStart(4, 50)], ["b"], True, 2, 1))
    ctx.upcalls.absorb(Upcalls(swap_request=1, oom=2))
    assert ctx.take_upcalls() == Upcalls([IoStart(3, 40), IoStart(4, 50)], ["a", "b"], True, 3, 3)
    assert not ctx.upcalls
    assert ctx.take_upcalls() == Upcalls()


def test_a_boot_forgets_everything_but_who_may_inject_and_what_was_published():
    ctx = Context("physmem", inject_permitted=True, sequence=9)
    ctx.count("a")
    ctx.event(Kind.LOWMEM, 1)
    ctx.wakeup("a")
    ctx.seen["pager"], ctx.boot_ids["pager"], ctx.stopped = 3, 4, "panic"
    ctx.reboot(hz=100, ticks=-5, allow_inject=True)
    assert (ctx.hz, ctx.ticks, ctx.now_us, ctx.log.count) == (100, -5, 0, 0)
    assert (ctx.counters, ctx.seen, ctx.boot_ids, ctx.stopped) == ({}, {}, {}, "")
    assert not ctx.upcalls
    assert ctx.env.allow_inject
    assert ctx.sequence == 9
    ctx.inject_permitted = False
    ctx.reboot(hz=100, ticks=-5, allow_inject=True)
    assert not ctx.env.allow_inject


def test_counters_of_a_service_that_is_not_bound_cannot_be_read():
    with pytest.raises(LookupError, match="no port of physmem"):
        Context("scheduler").read_counters("physmem", ["a"])


def asked(script, times):
    env = Env(allow_inject=True)
    env.inject([script])
    return [env.ask("q", lambda: -1) for _ in range(times)]


def test_state_answers_without_a_script_and_behind_it():
    assert Env().ask("q", lambda: 7) == 7
    assert asked(Answers("q", [1, 0]), 4) == [1, 0, -1, -1]
    assert asked(Answers("q", [1, 0], 5, True), 4) == [1, 0, 5, 5]
    assert asked(Answers("q", [1, 0], 0, False, True), 5) == [1, 0, 1, 0, 1]
    assert asked(Answers("q", [], 0, False, True), 2) == [-1, -1]
    assert asked(Answers("other", [1]), 1) == [-1]


def test_a_script_replaces_the_earlier_one_and_needs_permission():
    env = Env(allow_inject=True)
    env.inject([Answers("q", [1, 2])])
    assert env.ask("q", lambda: -1) == 1
    env.inject([Answers("q", [9])])
    assert [env.ask("q", lambda: -1) for _ in range(2)] == [9, -1]
    with pytest.raises(Refused, match="injection_refused"):
        Env().inject([Answers("q", [1])])
    assert env.preempt("any point") is None


integers = st.integers(-(2**63), 2**64 - 1)


@given(st.lists(st.tuples(st.integers(0, 2**40), st.sampled_from(Kind), integers, integers), max_size=20))
def test_events_are_chained_record_by_record(events):
    log, head = EventLog("kstack"), hashlib.blake2b(b"kstack", digest_size=32).digest()
    for now_us, kind, subject, a in events:
        log.add(now_us, kind, subject, a, outcome=-1)
    first, records = log.since(0, 100)
    assert (first, len(records), log.count) == (0, len(events) * RECORD.size, len(events))
    for i in range(len(events)):
        head = hashlib.blake2b(head + records[i * RECORD.size :][: RECORD.size], digest_size=32).digest()
    assert log.head == head
    for i, (event, (now_us, kind, subject, a)) in enumerate(zip(unpack(records), events, strict=True)):
        assert (event.time_us, event.sequence, event.kind, event.line) == (now_us, i, kind, kind.line)
        assert (event.subject - subject) % 2**64 == (event.a - a) % 2**64 == 0
        assert event.outcome == -1


def test_when_the_chain_is_flushed_changes_nothing():
    often, once = EventLog("pager"), EventLog("pager")
    for i in range(10):
        often.add(i, Kind.SWAP_READ, i)
        often.flush()
        once.add(i, Kind.SWAP_READ, i)
    once.flush()
    assert often.head == once.head
    other = EventLog("kstack")
    assert other.head != EventLog("pager").head


def test_the_oldest_events_go_and_the_count_stays():
    log = EventLog("pager", keep=100)
    for i in range(1000):
        log.add(i, Kind.SWAP_READ, i)
        if i % 10 == 0:
            log.flush()
    first, records = log.since(0, 10_000)
    assert 100 <= len(records) // RECORD.size <= 126
    assert first + len(records) // RECORD.size == log.count == 1000
    assert [event.subject for event in unpack(records)] == list(range(first, 1000))
    assert log.since(995, 2)[0] == 995
    assert [event.subject for event in unpack(log.since(995, 2)[1])] == [995, 996]
    assert log.since(1000, 5) == (1000, b"")


def test_kinds_name_their_function_and_fields():
    assert Kind.SWAPOUT_DONE.function == "swapout_procs"
    assert len({int(kind) for kind in Kind}) == len(Kind)
    for kind in Kind:
        assert 1 <= len(kind.fields) <= 5
        assert 0 <= kind.line <= 1100
