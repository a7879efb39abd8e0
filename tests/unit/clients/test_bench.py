"""Measurements: ratios and goals, the processor that drives physmem alone, and what a wrong name gets."""

import json

import numpy as np
import pytest

from clients.bench import FIGURES, Figure, access, lifecycle, main, population, replacement, stacks, swapping
from clients.bench.processor import Processor, boot, memory_records
from clients.exits import BadInput, Exit
from clients.kernel import local_kernel
from clients.trace import Trace, run_vpn
from clients.workload import TRACES


@pytest.mark.parametrize(
    ("limits", "met", "goal"),
    [
        ({}, True, ""),
        ({"at_least": 2.0}, True, "at least 2"),
        ({"at_least": 2.1}, False, "at least 2.1"),
        ({"at_most": 2.0}, True, "at most 2"),
        ({"at_most": 1.9}, False, "at most 1.9"),
        ({"at_least": 2.0, "at_most": 2.0}, True, "exactly 2"),
        ({"at_least": 1.9, "at_most": 1.9}, False, "exactly 1.9"),
    ],
)
def test_a_ratio_is_judged(limits, met, goal):
    figure = Figure("f", "us", 6.0, "other", 3.0, **limits)
    assert (figure.ratio, figure.met, figure.goal()) == (2.0, met, goal)


def test_a_figure_without_a_baseline_is_judged_by_its_value():
    assert Figure("f", "s", 5.0, at_most=5).met
    assert not Figure("f", "s", 5.1, at_most=5).met
    assert Figure("f", "s", 5.0).ratio == 0


def test_a_wrong_name_is_told_with_the_nearest():
    with pytest.raises(BadInput, match="bench wlak: no such measurement; did you mean 'walk'"):
        main(["wlak"], as_json=False)


def test_figures_are_printed_as_json_or_as_a_table(monkeypatch, capsys):
    monkeypatch.setitem(FIGURES, "calls", lambda: [Figure("kernacc", "us p50", 3.0, "echo", 2.0, at_most=1.5)])
    assert main(["calls"], as_json=True) == 0
    (printed,) = json.loads(capsys.readouterr().out)
    assert (printed["name"], printed["ratio"], printed["met"]) == ("kernacc", 1.5, True)
    assert main(["calls"], as_json=False) == 0
    assert "at most 1.5: met" in capsys.readouterr().out


@pytest.mark.parametrize("as_json", [False, True])
def test_missed_goals_are_named_and_fail_the_command(monkeypatch, capsys, as_json):
    monkeypatch.setitem(FIGURES, "calls", lambda: [Figure("kernacc", "us", 3.2, "echo", 2.0, at_most=1.5)])
    monkeypatch.setitem(FIGURES, "ready", lambda: [Figure("start", "s", 4, at_most=5), Figure("up", "s", 7, at_most=5)])
    assert main(["calls", "ready"], as_json) == Exit.FAILED
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("goal")]
    assert told == ["goal missed: kernacc: 1.6, at most 1.5", "goal missed: up: 7, at most 5"]


def test_the_processor_plays_a_program_under_pressure():
    trace = Trace.open(TRACES / "daemon.vmtrace")
    kernel = local_kernel()
    try:
        boot(kernel, ram_pages=256)
        processor = Processor.start(kernel)
        processor.play(trace)
        counters = kernel.physmem.counters()
        figures = dict(zip(counters.names, counters.values, strict=True))
        pages = len(np.unique(run_vpn(memory_records(trace))))
        assert figures["vm.stats.vm.v_pdwakeups"] > 0
        assert 0 < processor.faults < pages, "a fault maps neighbours, too"
        assert kernel.physmem.check().violations == []
        assert kernel.pager.check().violations == []
    finally:
        kernel.close()


def test_the_plain_loops_decide_as_the_kernel():
    kernel = local_kernel(allow_inject=True)
    try:
        population.boot(kernel, 20 * population.THREADS)
        population.place_sleepers(kernel, 20)
        assert len(kernel.scheduler.swapout_procs(1).swapped_out) == 20
        assert kernel.scheduler.check().violations == []
        population.boot(kernel, 0, stack_swap=False)
        population.place_waiting(kernel, 20)
        population.let_choose(kernel, 3)
        chosen = kernel.scheduler.swapper([], 1, 1).swapped_in
    finally:
        kernel.close()
    plain = population.plain_procs(20, out=False)
    assert population.plain_swapout_procs(plain) == population.looks_of_plain_scan(20) == 230
    assert all(p.flag == 0 for p in plain)
    waiting = population.plain_procs(20, out=True)
    first = population.plain_choice(waiting)
    assert [1000 + waiting.index(first)] == chosen[:1] == [1000]
    assert len(chosen) == 3


def test_swapping_is_measured_at_every_size(monkeypatch):
    monkeypatch.setattr(swapping, "WIRINGS", {"local": swapping.WIRINGS["local"]})
    monkeypatch.setattr(swapping, "SIZES", (10, 30))
    monkeypatch.setattr(swapping, "CHOICES", 2)
    out, chosen = swapping.swapout(), swapping.swapper()
    assert [f.name for f in out] == [
        f"swapout_procs over {size} processes, local: all {what}" for size in (10, 30) for what in ("go", "stay")
    ]
    assert [f.name for f in chosen] == [f"swapper's choice among {size} processes, local" for size in (10, 30)]
    assert all(f.value > 0 and f.baseline > 0 for f in out + chosen)


@pytest.mark.parametrize("measured", [stacks, access])
def test_batches_are_compared_with_single_calls(monkeypatch, measured):
    monkeypatch.setattr(stacks, "STACKS", 40)
    kernel = local_kernel()
    try:
        figures = measured.figures("local", kernel)
    finally:
        kernel.close()
    assert len(figures) == {stacks: 3, access: 2}[measured]
    assert all(f.value > 0 and f.baseline > 0 and "local" in f.name for f in figures)


def test_lives_are_counted_by_their_events():
    kernel = local_kernel()
    try:
        figures = lifecycle.figures("local", kernel, children=20)
        assert kernel.scheduler.check().violations == []
    finally:
        kernel.close()
    assert [f.name for f in figures] == ["lives, local", "lives, local, by processor time"]
    assert [f.goal() for f in figures] == ["", "at least 50000"]
    for figure in figures:
        assert figure.value > 0
        assert figure.note.startswith("20 children, 100 at a time, 4 sleeps each; ")
    assert lifecycle.plain_lives(20) == 20 * (2 * lifecycle.SLEEPS + 1)


@pytest.mark.parametrize("program", ["gzip", "sort", "python"])
def test_plain_replacement_misses_exactly_as_libcachesim(program):
    figures = replacement.compare(program)
    assert len(figures) == 4
    assert {(f.name, f.value) for f in figures} == {(f.name, f.baseline) for f in figures}
    fifo, _, clock, _ = (f.value for f in figures)
    assert fifo != clock, "the policies tell nothing apart"
    assert all(f.met for f in figures)
