"""Programs that store in a shared file under pressure: the page daemon writes the file back, in both wirings alike."""

from __future__ import annotations

import pytest
from systems import WIRINGS, start_system
from test_normal_path import DATA, STACK, TEXT, churn, task

from clients.run import Ending, Run
from clients.trace import (
    KIND_EXEC,
    KIND_LOAD,
    KIND_STORE,
    MAP_FILE,
    MAP_SHARED,
    File,
    Header,
    Op,
    Region,
    Totals,
    Trace,
    pack_run,
)
from clients.workload import load_workload

SHARED, PAGES = 0x40000, 300
"""Where the file is mapped, and its size in pages."""
READ_WRITE = 3


def each(kind, first=SHARED):
    return [pack_run(first + page, kind, 3, 3) for page in range(PAGES)]


def write_trace(path):
    """A parent and its child store in one file; both need more memory than there is in between, and read it again."""
    here = [pack_run(TEXT, KIND_EXEC, 4, 4)]
    work = [
        (each(KIND_STORE), Op.NONE, 0, 0, 0, 0),
        (churn() + each(KIND_LOAD) + each(KIND_STORE) + churn(KIND_LOAD), Op.NONE, 0, 0, 0, 0),
    ]
    parent = task(
        0,
        -1,
        [
            (here, Op.MMAP, SHARED, PAGES, READ_WRITE | MAP_SHARED | MAP_FILE, 1 << 32),
            (here, Op.FORK, 1, 0, 0, 0),
            *work,
            (each(KIND_LOAD), Op.WAIT, 1, 0, 0, 0),
            (here, Op.EXIT, 0, 0, 0, 0),
        ],
        (Region(TEXT, 4, 5, "image", file=0), Region(DATA, 1060, 3, "anon"), Region(STACK, 8, 3, "stack")),
    )
    child = task(1, 0, [*work, (here, Op.EXIT, 0, 0, 0, 0)])
    tasks = (parent, child)
    references = sum(int(run) >> 12 & 4095 for each_task in tasks for run in each_task.runs)
    runs, ops = (sum(len(getattr(each_task, name)) for each_task in tasks) for name in ("runs", "ops"))
    totals = Totals(references, runs, references, ops)
    files = (File(0, "made", 4), File(1, "data", PAGES))
    Trace(Header(("made",), "", False, tuple(each_task.info for each_task in tasks), files, totals), tasks).save(path)


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    directory = tmp_path_factory.mktemp("writeback")
    write_trace(directory / "writers.vmtrace")
    path = directory / "writers.toml"
    path.write_text(
        'name = "writers"\n[machine]\nram = "4 MiB"\nswap = "64 MiB"\n[[programs]]\ntrace = "writers.vmtrace"\n'
    )
    return load_workload(str(path))


def report(workload, wiring, check=False):
    with start_system(wiring) as system:
        run = Run(system.kernel, workload, check=check)
        run.boot()
        ending = run.execute()
        assert ending is Ending.COMPLETE, run.detail
        return run.report(ending)


@pytest.fixture(scope="module")
def checked(workload):
    return report(workload, "local", check=True)


def test_the_file_is_written_back_and_read_again(checked):
    counters = checked["counters"]
    assert counters["vm.stats.vm.v_vnodepgsout"] >= PAGES
    assert counters["vm.stats.vm.v_vnodepgsin"] >= PAGES
    assert counters["vm.stats.vm.v_vnodeout"] <= counters["vm.stats.vm.v_vnodepgsout"] // 2, "in clusters"
    assert (checked["integrity"]["mismatches"], checked["integrity"]["torn"]) == (0, 0)


@pytest.mark.parametrize("wiring", WIRINGS)
def test_both_wirings_write_it_back_alike(workload, checked, wiring):
    assert report(workload, wiring)["event_hash"] == checked["event_hash"]
