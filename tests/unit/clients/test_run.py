import json
import os
import subprocess
import sys

import numba
import pytest
from made_trace import PAGES, make_workload

from clients.event_file import EventRecorder, read_events
from clients.orchestrator import sysctl_set, sysctls
from clients.report import SERIES, Ending
from clients.run import Limit, Run, describe_panic
from clients.system import System
from clients.workload import WorkloadError, load_workload, override
from services.runtime.errors import KernelPanic, Refused, ServiceLost


@pytest.fixture
def system():
    with System.local() as started:
        yield started


@pytest.fixture
def made(tmp_path):
    return load_workload(str(make_workload(tmp_path)))


def booted(system, workload, **options) -> Run:
    run = Run(system.kernel, workload, **options)
    run.boot()
    return run


def event_hash(workload, **options) -> str:
    with System.local() as system:
        run = booted(system, workload, **options)
        return run.report(run.execute())["event_hash"]


def test_a_run_ends_with_a_report_that_adds_up(system, made):
    run = booted(system, made)
    ending = run.execute()
    report = run.report(ending)
    assert ending is Ending.COMPLETE
    assert report["complete"]
    assert report["end"] == "complete"
    assert report["references"] == 2 * 2 * PAGES * 49
    assert report["integrity"]["mismatches"] == 0
    assert report["integrity"]["pages_checked"] >= 2 * PAGES
    assert report["counters_agree"]
    assert report["pageouts"] > 0, "the memory is too small for one of them"
    assert len(report["processes"]) >= 2
    assert {len(report["samples"][name]) for name in SERIES} == {len(report["samples"]["t_us"])}
    assert report["samples"]["t_us"][-1] == report["virtual_seconds"] * 1e6
    json.dumps(report)


def test_same_seed_same_hash_and_another_seed_another(made):
    first = event_hash(made)
    assert event_hash(made) == first
    assert event_hash(override(made, seed=4)) != first


def test_compiled_and_interpreted_loops_give_one_hash(made, tmp_path):
    other = {**os.environ, "NUMBA_DISABLE_JIT": str(int(not numba.config.DISABLE_JIT))}
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "clients", "run", str(tmp_path / "made.toml")]
    options = ["--wiring", "local", "--quiet", "--report", str(report)]
    subprocess.run([*command, *options], env=other, check=True, timeout=200)
    assert json.loads(report.read_text())["event_hash"] == event_hash(made)


def test_sampling_checking_and_pausing_change_no_result(system, made, monkeypatch):
    monkeypatch.setattr("clients.run.SAMPLE_INTERVAL_S", 0)
    monkeypatch.setattr("clients.run.SAMPLE_SHARE", 0)
    run = booted(system, made, check=True)
    pauses = 0
    while (ending := run.execute(limit=Limit(dispatches=run.orchestrator.tally.dispatches + 7))) is Ending.PAUSED:
        run.report(ending)
        pauses += 1
    assert pauses > 2
    assert run.orchestrator.tally.checks == run.orchestrator.tally.dispatches
    assert run.report(ending)["event_hash"] == event_hash(made)


def test_a_run_pauses_at_a_virtual_time(system, made):
    run = booted(system, made)
    assert run.execute(limit=Limit(until_us=5_000)) is Ending.PAUSED
    assert run.progress().now_us >= 5_000
    assert run.execute() is Ending.COMPLETE


def test_stop_ends_a_run_with_a_partial_report(system, made):
    run = booted(system, made)
    asked = iter(range(100))
    ending = run.execute(stop=lambda: next(asked) == 5)
    report = run.report(ending)
    assert ending is Ending.INTERRUPTED
    assert not report["complete"]
    assert report["dispatches"] <= 5
    assert report["integrity"]["mismatches"] == 0


def test_progress_tells_time_references_and_pages(system, made, monkeypatch):
    monkeypatch.setattr("clients.run.SAMPLE_INTERVAL_S", 0)
    monkeypatch.setattr("clients.run.SAMPLE_SHARE", 0)
    told = []
    booted(system, made).execute(progress=told.append)
    assert len(told) > 5
    assert [p.now_us for p in told] == sorted(p.now_us for p in told)
    assert [p.references for p in told] == sorted(p.references for p in told)
    assert all(p.sample.free + p.sample.active + p.sample.inactive + p.sample.wired <= 1024 for p in told)
    assert any(p.sample.swap_used for p in told)


def test_a_panic_ends_the_run_with_text_function_and_line(system, made):
    run = booted(system, made)
    run.execute(limit=Limit(dispatches=3))

    def panic(*_):
        raise KernelPanic("vm_thread_swapin: cannot get kstack", "vm_thread_swapin", 600)

    system.kernel.physmem.access_kept = panic
    ending = run.execute()
    report = run.report(ending)
    assert ending is Ending.PANIC
    assert report["end_detail"] == "panic: vm_thread_swapin: cannot get kstack (vm_thread_swapin, vm_glue.c:600)"
    assert run.panic is not None


def test_a_violated_invariant_is_named(system, made):
    run = booted(system, made, check=True)
    original = system.kernel.physmem.check

    def broken():
        answer = original()
        answer.violations.append("frame 7 has two owners")
        return answer

    system.kernel.physmem.check = broken
    assert run.execute() is Ending.INVARIANT
    assert "physmem, after dispatch 1" in run.detail
    assert "frame 7 has two owners" in run.detail


def test_a_lost_service_is_not_a_report(system, made):
    run = booted(system, made)

    def lost(*_):
        raise ServiceLost("pager", "connection refused")

    system.kernel.physmem.access_kept = lost
    with pytest.raises(ServiceLost):
        run.execute()


def test_wrong_contents_of_a_page_are_a_mismatch(system, made):
    run = booted(system, made)
    original = system.kernel.physmem.vmspace_stamps

    def damaged(vmspace):
        stamps = original(vmspace)
        words = bytearray(stamps.words)
        words[3 * 8] ^= 1
        stamps.words = bytes(words)
        return stamps

    system.kernel.physmem.vmspace_stamps = damaged
    report = run.report(run.execute())
    assert report["integrity"]["mismatches"] >= 1
    assert "expected" in report["integrity"]["first"][0]


def test_events_are_recorded_on_the_way(system, made, tmp_path):
    with EventRecorder(tmp_path / "events", {}) as recorder:
        run = booted(system, made, recorder=recorder)
        run.report(run.execute())
    recorded = list(read_events(tmp_path / "events"))
    digests = {name: port.digest().event_count for name, port in system.kernel.ports().items()}
    assert len(recorded) == sum(digests.values())
    assert {event.service for event in recorded} == {name for name, count in digests.items() if count}


def test_unknown_sysctl_of_a_workload_is_named_with_its_line(system, tmp_path):
    path = make_workload(tmp_path, extra="[machine.sysctls]\nvm.swap_enabledd = 0")
    with pytest.raises(WorkloadError) as caught:
        booted(system, load_workload(str(path)))
    assert "made.toml:7" in str(caught.value)
    assert "vm.swap_enabled" in str(caught.value)


def test_sysctls_are_set_at_their_owner(system, made):
    booted(system, override(made, sysctls=["vm.swap_enabled=0"]))
    assert sysctls(system.kernel)["vm.swap_enabled"][0] == 0
    with pytest.raises(Refused, match=r"vm\.kstack_cache_size"):
        sysctl_set(system.kernel, "vm.kstack_cache_sizes", 1)


def test_panic_beside_vm_glue_has_no_line():
    assert describe_panic(KernelPanic("oops", "vm_fault")) == "panic: oops (vm_fault, beside vm_glue.c)"
