"""Preemption points: off, on, nested, restored; and some interleavings of a whole machine."""

from __future__ import annotations

from collections import Counter

import pytest

from clients.system import System
from services.kstack.state import State
from services.runtime.checkpoint import Checkpoint
from services.runtime.context import Context
from services.runtime.events import Kind, unpack
from services.runtime.preemption import DEPTH_MAX, Act, Choice, PreemptStream, arm, line_of
from services.runtime.snapshot import Registry
from tests.interleaving import machine
from tests.interleaving.__main__ import main
from tests.interleaving.many import part, summary

POINT = "swapout:1079"


def armed(seed=3, nested=False):
    """A context whose points note what happened."""
    ctx, happened = Context("kstack"), []

    def act():
        happened.append(len(happened))
        if nested:
            for _ in range(4):
                ctx.env.preempt(POINT)
        return 5

    stream = PreemptStream.seeded(seed, "kstack")
    arm(ctx, stream, lambda _point, _stream: [Choice(Act.HOLD, act)])
    return ctx, stream, happened


def test_without_a_seed_nothing_is_drawn():
    ctx, stream, happened = armed(seed=0)
    for _ in range(100):
        ctx.env.preempt(POINT)
    assert (happened, stream, ctx.env.preempts) == ([], PreemptStream(), False)


def test_a_seed_decides_what_happens_and_every_act_is_an_event():
    ctx, stream, happened = armed()
    for _ in range(1000):
        ctx.env.preempt(POINT)
    assert 400 < len(happened) < 600
    assert stream.points == 1000
    events = unpack(ctx.log.since(0, 10_000)[1])
    assert len(events) == len(happened)
    assert {(event.kind, event.subject, event.a, event.b, event.outcome) for event in events} == {
        (Kind.PREEMPT, 1079, 5, 0, Act.HOLD)
    }
    again, _, _ = armed()
    for _ in range(1000):
        again.env.preempt(POINT)
    ctx.log.flush()
    again.log.flush()
    assert again.log.head == ctx.log.head


def test_services_have_streams_of_their_own():
    streams = [PreemptStream.seeded(7, service) for service in ("scheduler", "kstack", "physmem")]
    assert len({stream.below(1 << 60) for stream in streams}) == 3


def test_who_preempts_is_preempted_but_not_without_end():
    ctx, _, happened = armed(nested=True)
    for _ in range(200):
        ctx.env.preempt(POINT)
    depths = Counter(event.b for event in unpack(ctx.log.since(0, 10_000)[1]))
    assert set(depths) == set(range(DEPTH_MAX))
    assert sum(depths.values()) == len(happened)


def test_a_panic_in_an_act_leaves_the_depth_as_it_was():
    ctx = Context("kstack")
    stream = PreemptStream.seeded(1, "kstack")

    def fails():
        raise ZeroDivisionError

    arm(ctx, stream, lambda _point, _stream: [Choice(Act.SCAN, fails)])
    for _ in range(20):
        try:
            ctx.env.preempt(POINT)
        except ZeroDivisionError:
            assert ctx.env.preempt.depth == 0
            break
    else:
        pytest.fail("nothing happened at twenty points")


def test_nothing_possible_is_nothing_done():
    ctx = Context("kstack")
    arm(ctx, PreemptStream.seeded(1, "kstack"), lambda _point, _stream: [])
    for _ in range(20):
        ctx.env.preempt(POINT)
    assert ctx.log.count == 0


def test_a_restored_core_keeps_its_points():
    ctx, stream, happened = armed()
    checkpoint = Checkpoint(ctx, Registry(State), lambda: State(preempt=stream), lambda _: None)
    image = checkpoint.save(0).data
    checkpoint.load(0, len(image), image)
    checkpoint.commit()
    assert ctx.env.preempts
    for _ in range(20):
        ctx.env.preempt(POINT)
    assert happened


def test_a_point_names_its_line():
    assert line_of("vm_thread_stack_lowmem:471") == 471


def test_some_interleavings_of_a_machine():
    total = part(range(3, 11))
    assert (total.runs, total.broken) == (8, [])
    assert total.seen.swapouts == total.seen.swapins > 8
    lines = {line for _, line, _ in total.seen.acts}
    assert {350, 406, 563, 710, 793, 900, 988, 1075, 1079} <= lines
    assert "8 interleavings" in summary(total, 1.0)


def test_a_broken_one_names_its_seed_and_the_command(monkeypatch, capsys):
    def broken(_kernel, seed):
        raise machine.Broken(seed, "pages are lost")

    monkeypatch.setattr("tests.interleaving.many.run", broken)
    assert main(["--from", "41", "--count", "1", "--jobs", "1"]) == 1
    told = capsys.readouterr()
    assert "seed 41: pages are lost" in told.err
    assert ".venv/bin/python -m tests.interleaving --seed 41" in told.err
    assert "1 broken" in told.out


def test_one_seed_is_shown_with_every_event(capsys):
    assert main(["--seed", "4"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert sum(" preempt " in line for line in shown) > 20
    assert any("swapout" in line for line in shown)


def test_a_violation_breaks_a_run(monkeypatch):
    with System.local() as system:
        monkeypatch.setattr("services.scheduler.core.check_state", lambda _: (["a thread is nowhere"], 1))
        with pytest.raises(machine.Broken, match="seed 5: scheduler: a thread is nowhere"):
            machine.run(system.kernel, 5)
