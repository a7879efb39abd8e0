"""The shipped workloads do what they are for."""

import pytest
from systems import start_system

from clients.run import Run
from clients.workload import load_workload


def run(name):
    with start_system("local") as system:
        shipped = Run(system.kernel, load_workload(name))
        shipped.boot()
        report = shipped.report(shipped.execute())
    assert (report["end"], report["identities"], report["counters_agree"]) == ("complete", [], True)
    assert (report["integrity"]["mismatches"], report["integrity"]["torn"]) == (0, 0)
    assert all(row["status"] == 0 for row in report["processes"])
    return report, {row["name"]: row for row in report["swappability"]}


@pytest.fixture(scope="module")
def desk():
    return run("desk")


def test_desk_is_real_programs_beside_daemons(desk):
    report, groups = desk
    assert report["references"] >= 50_000_000
    assert sum(groups[name]["count"] for name in ("cron", "httpd", "ntpd", "syslogd")) >= 40
    assert {"python", "sort", "find", "gzip", "sqlite", "perl", "cc1", "awk", "xz"} <= set(groups)
    assert report["pageouts"] > 1000
    assert report["kstacks"]["cache_hits"] > 50, "programs have threads, whose stacks come from the cache"


def test_desk_swaps_out_whole_processes_where_they_may_be(desk):
    report, groups = desk
    assert report["swapouts"] == report["swapins"] > 30
    for name in ("cron", "httpd", "ntpd"):
        assert groups[name]["swappable"] == groups[name]["count"]
        assert groups[name]["swapped"] > 0
    assert (groups["syslogd"]["swappable"], groups["syslogd"]["swapped"]) == (0, 0)
    assert groups["syslogd"]["sleep_us"] > 0


def test_storm_is_followed_by_a_recovery():
    report, groups = run("storm")
    recovery = report["recovery"]
    assert recovery["ended_us"] > recovery["begun_us"] >= 10_000_000
    assert recovery["back"] > 0
    assert 0 < recovery["last_back_us"] < 30_000_000
    assert report["faults"]["major"] > 1000
    assert report["swapouts"] == report["swapins"] > 10
    assert groups["syslogd"]["swapped"] == 0
