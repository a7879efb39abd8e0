"""`tiny` from boot to report, in both wirings: the same hash, nothing lost, figures that add up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from systems import WIRINGS, start_system

from clients.run import Ending, Run
from clients.system import System, SystemConfig
from clients.workload import load_workload, override
from services.runtime.errors import ServiceLost


def boot_tiny(system: System, seed: int | None = None, check: bool = False) -> Run:
    """A run of `tiny` in front of its first slice."""
    run = Run(system.kernel, override(load_workload("tiny"), seed=seed), check)
    run.boot()
    return run


def run_tiny(system: System, seed: int | None = None, check: bool = False) -> dict[str, Any]:
    """Boot, run to the end, report."""
    run = boot_tiny(system, seed, check)
    return run.report(run.execute())


@pytest.fixture(scope="module", params=WIRINGS)
def reports(request):
    """Two runs of one seed and one of another, the second on services that have run before."""
    with start_system(request.param) as system:
        runs = {"first": run_tiny(system), "second": run_tiny(system), "other": run_tiny(system, seed=4711)}
        yield runs


@pytest.fixture(scope="module")
def checked():
    """A run that verifies all invariants after every batch."""
    with start_system("local") as system:
        yield run_tiny(system, check=True)


def test_same_seed_same_hash(reports):
    assert len(reports["first"]["event_hash"]) == 64
    assert reports["first"]["event_hash"] == reports["second"]["event_hash"]


def test_other_seed_other_hash(reports):
    assert reports["other"]["event_hash"] != reports["first"]["event_hash"]


def test_both_wirings_have_one_hash(reports, checked):
    assert reports["first"]["event_hash"] == checked["event_hash"]


def test_all_invariants_hold_after_every_batch(checked):
    assert (checked["end"], checked["end_detail"]) == ("complete", "")
    assert checked["checks"] >= checked["dispatches"] > 0


def test_every_page_was_verified(reports):
    integrity = reports["first"]["integrity"]
    assert integrity["pages_checked"] > 1000
    assert (integrity["mismatches"], integrity["first"], integrity["torn"]) == (0, [], 0)


def test_counters_agree_with_their_owners(reports):
    report = reports["first"]
    assert report["counters_differ"] == {}
    assert report["counters_agree"]
    assert report["counters"]["vm.stats.vm.v_swappgsout"] == report["pageouts"]


def test_tiny_is_what_it_promises(reports):
    report = reports["first"]
    assert report["references"] >= 5_000_000
    assert len(report["processes"]) >= 12
    assert report["pageouts"] > 0
    assert report["pageins"] > 0
    assert report["swapouts"] > 0
    assert report["swapins"] > 0
    assert report["latency_us"]["wakeup_swapped"]["count"] > 0


def test_figures_add_up(reports):
    report = reports["first"]
    processes = report["processes"]
    assert sum(row["swaps"] for row in processes) == report["swapouts"]
    assert sum(row["major_faults"] for row in processes) == report["faults"]["major"]
    ended = [row for row in processes if row["end_us"] >= 0]
    assert len(ended) >= 12
    assert all(row["start_us"] <= row["end_us"] <= report["virtual_seconds"] * 1e6 for row in ended)
    assert sum(row["cpu_us"] for row in processes) <= report["virtual_seconds"] * 1e6


def test_report_has_the_documented_shape(reports):
    report = reports["first"]
    assert {name: set(report[name]) for name in ("faults", "integrity", "kstacks", "latency_us")} == {
        "faults": {"minor", "major", "cow", "zero_fill"},
        "integrity": {"pages_checked", "mismatches", "first", "torn"},
        "kstacks": {"peak", "cache_hits", "cache_misses", "lowmem_drains"},
        "latency_us": {"wakeup_resident", "wakeup_swapped", "major_fault"},
    }
    assert all({"p50", "p99", "max"} <= set(figures) for figures in report["latency_us"].values())
    assert [row["name"] for row in report["services"]] == ["pager", "physmem", "kstack", "scheduler"]
    assert all(row["pss_bytes"] >= 0 for row in report["services"])
    assert isinstance(report["virtual_seconds"], float)
    assert isinstance(report["wall_seconds"], float)


def test_report_has_the_documented_keys(reports):
    page = (Path(__file__).parents[2] / "docs/report.md").read_text()
    table = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    documented = {key for cell in table for key in re.findall(r"`(\w+)`", cell)}
    assert documented == set(reports["first"])


def test_a_service_that_dies_in_mid_run_is_named():
    with System.start(SystemConfig()) as system:
        run = boot_tiny(system)
        run.execute(stop=lambda: run.orchestrator.tally.dispatches >= 20)
        system.processes["kstack"].process.kill()
        with pytest.raises(ServiceLost) as lost:
            run.execute()
        assert "kstack" in str(system.explain(lost.value))


def test_services_may_be_booted_again_after_an_early_end(reports):
    with start_system("local") as system:
        run = boot_tiny(system)
        ending = run.execute(stop=lambda: run.orchestrator.tally.dispatches >= 20)
        partial = run.report(ending)
        assert ending is Ending.INTERRUPTED
        assert partial["integrity"]["mismatches"] == 0
        assert run_tiny(system)["event_hash"] == reports["first"]["event_hash"]
