"""Made-up programs that share a System V segment, in memory that is too small for it."""

import pytest
from systems import start_system

from clients.run import Run
from clients.workload import WorkloadError, load_workload
from services.runtime.events import Kind, unpack

WORKLOAD = """\
[machine]
ram = "3 MiB"
swap = "32 MiB"
[[programs]]
name = "worker"
count = 3
start_every = "200 ms"
[[programs.phases]]
pattern = "uniform"
memory = "4 MiB"
references = 60000
burst = 20000
think = "300 ms"
shm = 7
[[programs.phases]]
pattern = "scan"
memory = "256 KiB"
references = 10000
"""


def run(folder, wiring="local"):
    path = folder / "shared.toml"
    path.write_text(WORKLOAD)
    with start_system(wiring) as system:
        machine = Run(system.kernel, load_workload(str(path)), check=True)
        machine.boot()
        report = machine.report(machine.execute())
        told = unpack(system.kernel.physmem.events(0, 1 << 16).records)
    assert (report["end"], report["identities"], report["integrity"]["mismatches"]) == ("complete", [], 0)
    return report, told


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return run(tmp_path_factory.mktemp("shared"))


def test_one_segment_serves_all_and_is_paged(shared):
    report, told = shared
    made = [event for event in told if event.kind == Kind.SHMAT]
    assert [(event.a, event.c) for event in made] == [(1, 0)] * 3
    assert len({event.subject for event in made}) == 3
    assert len([event for event in told if event.kind == Kind.SHMDT]) == 3
    assert report["counters"]["vm.stats.vm.v_swappgsin"] > 0


def test_both_wirings_agree(tmp_path, shared):
    assert run(tmp_path, "process")[0]["event_hash"] == shared[0]["event_hash"]


def test_all_that_name_a_segment_give_it_one_size(tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text(WORKLOAD.replace('memory = "256 KiB"', 'memory = "256 KiB"\nshm = 7'))
    with pytest.raises(WorkloadError, match="segment 7 has 64 pages; expected 1024"):
        load_workload(str(path))
