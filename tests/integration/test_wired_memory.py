"""A made-up program that wires its memory with mlock(2) while others need all there is."""

import pytest
from systems import start_system

from clients.run import Run
from clients.workload import load_workload
from services.runtime.events import Kind, unpack

WORKLOAD = """\
[machine]
ram = "4 MiB"
swap = "32 MiB"
[[programs]]
name = "database"
memlock_limit = "LIMIT"
[[programs.phases]]
pattern = "scan"
memory = "512 KiB"
references = 100000
think = "500 ms"
burst = 20000
mlock = "256 KiB"
[[programs]]
name = "hungry"
count = 2
[[programs.phases]]
pattern = "loop"
memory = "4 MiB"
references = 200000
"""


def run(folder, limit, wiring="local"):
    path = folder / "wired.toml"
    path.write_text(WORKLOAD.replace("LIMIT", limit))
    with start_system(wiring) as system:
        machine = Run(system.kernel, load_workload(str(path)), check=True)
        machine.boot()
        report = machine.report(machine.execute())
        told = unpack(system.kernel.physmem.events(0, 1 << 16).records)
    assert (report["end"], report["identities"], report["integrity"]["mismatches"]) == ("complete", [], 0)
    return report, [event for event in told if event.kind in (Kind.MLOCK, Kind.MUNLOCK)]


@pytest.fixture(scope="module")
def wired(tmp_path_factory):
    return run(tmp_path_factory.mktemp("wired"), "256 KiB")


def test_wired_pages_stay(wired):
    report, told = wired
    assert [(event.kind, event.b, event.c) for event in told] == [
        (Kind.MLOCK, 64 * 4096, 0),
        (Kind.MUNLOCK, 64 * 4096, 0),
    ]
    assert report["counters"]["vm.stats.vm.v_swappgsout"] > 1000


def test_beyond_the_limit_nothing_is_wired_and_the_program_goes_on(tmp_path, wired):
    report, told = run(tmp_path, "252 KiB")
    assert [(event.kind, event.c) for event in told] == [(Kind.MLOCK, 12), (Kind.MUNLOCK, 0)]
    majors = {p["name"]: p["major_faults"] for p in report["processes"]}
    kept = {p["name"]: p["major_faults"] for p in wired[0]["processes"]}
    assert kept["database"] < majors["database"]


def test_both_wirings_agree(tmp_path, wired):
    assert run(tmp_path, "256 KiB", "process")[0]["event_hash"] == wired[0]["event_hash"]
