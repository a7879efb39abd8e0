"""Measurements: ratios and goals, the processor that drives physmem alone, and what a wrong name gets."""

import json

import numpy as np
import pytest

from clients.bench import FIGURES, Figure, main
from clients.bench.processor import Processor, boot, memory_records
from clients.exits import BadInput
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
        assert processor.faults >= pages
        assert kernel.physmem.check().violations == []
        assert kernel.pager.check().violations == []
    finally:
        kernel.close()
