"""Machines with several processors: the same in both wirings, over checkpoints and over idle time; faster than one."""

import pytest
from systems import start_system

from clients.checkpoint import restore, take
from clients.checkpoint_file import CheckpointFile
from clients.run import Ending, Limit, Run
from clients.workload import load_workload
from services.scheduler import idle

MIXED = """\
[machine]
ram = "10 MiB"
swap = "64 MiB"
ncpu = {ncpu}
[machine.sysctls]
vm.swap_idle_enabled = 1
[[programs]]
name = "cron"
daemon = {{ call = "nanosleep", every = "11 s", wakeups = 4 }}
count = 4
[[programs]]
name = "big"
count = 4
[[programs.phases]]
pattern = "zipf"
memory = "1700 KiB"
references = 1500000
writes = 0.5
[[programs]]
trace = "pipeline"
start = "200 ms"
"""


def run(folder, ncpu, wiring="local"):
    path = folder / "mixed.toml"
    path.write_text(MIXED.format(ncpu=ncpu))
    with start_system(wiring) as system:
        machine = Run(system.kernel, load_workload(str(path)), check=wiring == "local")
        machine.boot()
        report = machine.report(machine.execute())
    assert (report["end"], report["end_detail"], report["identities"]) == ("complete", "", [])
    assert (report["integrity"]["mismatches"], report["counters_agree"]) == (0, True)
    assert len(report["cpu_busy_us"]) == ncpu
    return report


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    return {ncpu: run(folder, ncpu) for ncpu in (1, 2, 4)}


def last_big(report):
    """When the last of the programs that compute ended."""
    return max(row["end_us"] for row in report["processes"] if row["name"] == "big")


def test_programs_that_compute_end_earlier_on_more_processors(reports):
    assert last_big(reports[1]) > 1.3 * last_big(reports[2]) > 1.3 * last_big(reports[4])


def test_the_work_is_shared(reports):
    for ncpu, report in reports.items():
        assert min(report["cpu_busy_us"]) > 0.1 * max(report["cpu_busy_us"]), ncpu
        assert sum(report["cpu_busy_us"]) >= sum(row["cpu_us"] for row in report["processes"])
    assert reports[4]["references"] == reports[1]["references"]


def test_shoot_downs_are_counted_and_paid_for_with_several_processors(reports):
    assert reports[1]["tlb"] == {"shootdowns": 0, "ipis": 0, "spent_us": 0}
    assert 0 < reports[2]["tlb"]["ipis"] == reports[2]["tlb"]["shootdowns"]
    four = reports[4]["tlb"]
    assert four["shootdowns"] < four["ipis"] <= 3 * four["shootdowns"]
    assert four["spent_us"] == (1000 * four["shootdowns"] + 200 * four["ipis"]) // 1000


@pytest.mark.parametrize("ncpu", [2, 4])
def test_over_grpc_it_is_the_same(reports, tmp_path, ncpu):
    assert run(tmp_path, ncpu, "grpc")["event_hash"] == reports[ncpu]["event_hash"]


def test_a_checkpoint_goes_on_to_the_same_hash(reports, tmp_path):
    path = tmp_path / "mixed.toml"
    path.write_text(MIXED.format(ncpu=4))
    with start_system("local") as first, start_system("local") as second:
        machine = Run(first.kernel, load_workload(str(path)))
        machine.boot()
        assert machine.execute(limit=Limit(dispatches=200)) is Ending.PAUSED
        saved = take(machine).pack()
        again = restore(second.kernel, CheckpointFile.unpack(saved))
        assert again.report(again.execute())["event_hash"] == reports[4]["event_hash"]


def test_idle_scans_made_ahead_change_nothing(reports, tmp_path, monkeypatch):
    monkeypatch.setattr(idle, "_quiet_until", lambda k: k.s.now_us)
    assert run(tmp_path, 2)["event_hash"] == reports[2]["event_hash"]
