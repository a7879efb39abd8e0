"""Every function of vm_glue.c does its part while programs run: none of them is there for its tests alone."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from systems import WIRINGS, start_system
from test_fidelity_table import function_rows, places_of

from clients.run import Ending, Run
from clients.trace import (
    KIND_EXEC,
    KIND_LOAD,
    KIND_STORE,
    OP_DTYPE,
    File,
    Header,
    Op,
    Region,
    TaskInfo,
    TaskTrace,
    Totals,
    Trace,
    pack_run,
)
from clients.workload import load_workload
from services.runtime.events import Kind, unpack

ROOT = Path(__file__).parents[2]
TEXT, DATA, STACK = 0x400, 0x10000, 0x7FFFF000
CHURN = 1060
"""Pages: more than the machine has."""
SECOND = 1_000_000
SYSINFO, NANOSLEEP, PTRACE = 99, 35, 101


def task(index, parent, rows, regions=()):
    """A task from its rows: (run records, operation, a, b, c, d)."""
    runs, ops = [], []
    for records, *op in rows:
        runs += records
        ops.append((len(runs), *op))
    info = TaskInfo(index, parent, "made", regions)
    return TaskTrace(info, np.array(runs, np.uint64), np.array(ops, OP_DTYPE))


def churn(kind=KIND_STORE):
    return [pack_run(DATA + page, kind, 9, 9) for page in range(CHURN)]


def family_trace(path):
    """Children that end at once, one that sleeps; the parent needs all memory, debugs it, and needs all again."""
    here = [pack_run(TEXT, KIND_EXEC, 4, 4)]
    parent = task(
        0,
        -1,
        [
            (here, Op.FORK, 4, 0, 0, 0),
            (here, Op.FORK, 1, 0, 0, 0),
            (here, Op.FORK, 2, 0, 0, 0),
            (here, Op.WAIT, 1, 0, 0, 0),
            (here, Op.WAIT, 2, 0, 0, 0),
            (here, Op.SYSCALL, SYSINFO, -1, STACK << 12, 112),
            (here, Op.SLEEP, 4 * SECOND, NANOSLEEP, STACK << 12, 0),
            (churn(), Op.FORK, 3, 0, 0, 0),
            (churn(KIND_LOAD), Op.SLEEP, 2 * SECOND, NANOSLEEP, STACK << 12, 0),
            (churn(), Op.SYSCALL, PTRACE, -1, TEXT << 12, 8),
            (here, Op.SLEEP, 15 * SECOND, NANOSLEEP, STACK << 12, 0),
            (churn() + churn(KIND_LOAD) + churn(), Op.WAIT, 4, 0, 0, 0),
            (here, Op.EXIT, 0, 0, 0, 0),
        ],
        (Region(TEXT, 4, 5, "image", file=0), Region(DATA, CHURN, 3, "anon"), Region(STACK, 8, 3, "stack")),
    )
    short = [task(index, 0, [(here, Op.EXIT, 0, 0, 0, 0)]) for index in (1, 2, 3)]
    sleeper = task(4, 0, [(here, Op.SLEEP, 30 * SECOND, NANOSLEEP, 0, 0), (here, Op.EXIT, 0, 0, 0, 0)])
    tasks = (parent, *short, sleeper)
    kinds = [int(run) >> 12 & 4095 for each in tasks for run in each.runs]
    totals = Totals(sum(kinds), len(kinds), sum(kinds), sum(len(each.ops) for each in tasks))
    header = Header(("made",), "", False, tuple(each.info for each in tasks), (File(0, "made", 4),), totals)
    Trace(header, tasks).save(path)


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    directory = tmp_path_factory.mktemp("family")
    family_trace(directory / "family.vmtrace")
    path = directory / "family.toml"
    path.write_text(
        'name = "family"\n[machine]\narch = "powerpc64"\nram = "4 MiB"\nswap = "64 MiB"\ncpu.mips = 1\n'
        '[[programs]]\ntrace = "family.vmtrace"\n'
    )
    return load_workload(str(path))


@pytest.fixture(scope="module")
def called(workload):
    """(file, function) of everything of the services that a run calls, from boot to report."""
    seen = set()
    services = str(ROOT / "services")

    def note(frame, event, _argument):
        if event == "call" and frame.f_code.co_filename.startswith(services):
            seen.add((str(Path(frame.f_code.co_filename).relative_to(ROOT)), frame.f_code.co_name))

    with start_system("local") as system:
        run = Run(system.kernel, workload, check=False)
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            run.boot()
            assert run.execute() is Ending.COMPLETE, run.detail
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return seen


@pytest.mark.parametrize("row", function_rows(), ids=lambda row: row[0])
def test_the_running_machine_calls_each_function(called, row):
    for place in places_of(row):
        assert place in called, f"{row[0]}: a run does not call {place[1]} of {place[0]}"


@pytest.mark.parametrize("wiring", WIRINGS)
def test_what_they_did_is_recorded_in_both_wirings(workload, wiring):
    with start_system(wiring) as system:
        run = Run(system.kernel, workload, check=True)
        run.boot()
        assert run.execute() is Ending.COMPLETE, run.detail
        events = [e for port in system.kernel.ports().values() for e in unpack(port.events(0, 1 << 20).records)]
    kinds = {event.kind for event in events}
    wanted = {
        Kind.KSTACK_NEW, Kind.KSTACK_CACHED, Kind.KSTACK_CACHE_HIT, Kind.KSTACK_DESTROYED, Kind.KSTACK_LOWMEM,
        Kind.KSTACK_SWAPOUT, Kind.KSTACK_SWAPIN, Kind.KSTACK_MAX_USED, Kind.PROC_FORK, Kind.PROC_REAPED, Kind.SWAPOUT,
        Kind.SWAPOUT_DONE, Kind.SWAPPER_PICK, Kind.SWAPPER_SLEEP, Kind.FAULTIN, Kind.FAULTIN_DONE, Kind.KICK_PROC0,
        Kind.VSLOCK, Kind.VSUNLOCK, Kind.IMGACT_MAP, Kind.IMGACT_UNMAP, Kind.ICACHE_SYNC,
    }  # fmt: skip
    assert {kind.name for kind in wanted if kind not in kinds} == set()
    (sync,) = [event for event in events if event.kind == Kind.ICACHE_SYNC]
    assert (sync.a, sync.b) == (TEXT << 12, 8)
