"""Idle time: the page daemon's scans of it are made together, and nobody can tell."""

import pytest
from systems import start_system

from clients import orchestrator
from clients.run import Limit, Run
from clients.workload import load_workload
from services.scheduler import idle

OFFICE = """\
[machine]
ram = "8 MiB"
swap = "32 MiB"
[machine.sysctls]
vm.swap_idle_enabled = {enabled}
[[programs]]
name = "cron"
daemon = {{ call = "nanosleep", every = "47 s", wakeups = 4 }}
count = 6
start_every = "3 s"
[[programs]]
name = "syslogd"
daemon = {{ call = "select", every = "61 s", wakeups = 3 }}
[[programs]]
name = "big"
start = "100 s"
[[programs.phases]]
pattern = "scan"
memory = "8 MiB"
references = 40000
visit = 10
think = "30 s"
burst = 20000
"""


def run(folder, wiring="local", enabled=1):
    path = folder / "office.toml"
    path.write_text(OFFICE.format(enabled=enabled))
    with start_system(wiring) as system:
        office = Run(system.kernel, load_workload(str(path)))
        office.boot()
        report = office.report(office.execute())
        assert system.kernel.scheduler.check().violations == []
    assert report["complete"]
    assert report["integrity"]["mismatches"] == 0
    return report


@pytest.mark.parametrize("enabled", [0, 1])
def test_scans_made_ahead_change_nothing(tmp_path, monkeypatch, enabled):
    ahead = run(tmp_path, enabled=enabled)
    monkeypatch.setattr(idle, "_quiet_until", lambda k: k.s.now_us)
    alone = run(tmp_path, enabled=enabled)
    assert ahead["event_hash"] == alone["event_hash"]
    assert (ahead["swapouts"] > 6) == bool(enabled)


def test_the_bound_of_idle_time_changes_nothing(tmp_path, monkeypatch):
    far = run(tmp_path)
    monkeypatch.setattr(orchestrator, "_IDLE_LIMIT_US", 345_678)
    near = run(tmp_path)
    assert far["event_hash"] == near["event_hash"]
    assert far["rpcs"] < near["rpcs"]


def test_over_grpc_it_is_the_same(tmp_path):
    assert run(tmp_path)["event_hash"] == run(tmp_path, "grpc")["event_hash"]


def test_an_idle_hour_takes_few_calls():
    with start_system("local") as system:
        office = Run(system.kernel, load_workload("idle"))
        office.boot()
        office.execute(limit=Limit(until_us=600_000_000))
        calls, scans = [], system.kernel.physmem.counters
        calls.append((system.kernel.calls(), _pd(scans)))
        office.execute(limit=Limit(until_us=4_200_000_000))
        calls.append((system.kernel.calls(), _pd(scans)))
        report = office.report(office.ending())
    assert calls[1][0] - calls[0][0] < 1500
    assert report["swapouts"] > 100
    syslogd = next(row for row in report["swappability"] if row["name"] == "syslogd")
    assert (syslogd["swappable"], syslogd["swapped"]) == (0, 0)


def _pd(counters):
    values = counters()
    return dict(zip(values.names, values.values, strict=True))["vm.stats.vm.v_pdpages"]
