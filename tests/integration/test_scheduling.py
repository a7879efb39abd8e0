"""What a workload says of scheduling: classes of rtprio(2), RLIMIT_RSS."""

import pytest
from systems import start_system

from clients.run import Run
from clients.workload import load_workload

CLASSES = """\
[machine]
ram = "8 MiB"
swap = "32 MiB"
[machine.sysctls]
vm.swap_idle_enabled = 1
[[programs]]
name = "limited"
rss_limit = "256 KiB"
[[programs.phases]]
pattern = "loop"
memory = "2 MiB"
references = 2000000
think = "9500 ms"
burst = 400000
[[programs]]
name = "rt"
rtprio = { class = "realtime", priority = 3 }
daemon = { call = "nanosleep", every = "14 s", wakeups = 1 }
[[programs]]
name = "plain"
daemon = { call = "nanosleep", every = "14 s", wakeups = 1 }
[[programs]]
name = "background"
rtprio = { class = "idle" }
[[programs.phases]]
pattern = "zipf"
memory = "64 KiB"
references = 20000000
[[programs]]
name = "foreground"
[[programs.phases]]
pattern = "zipf"
memory = "64 KiB"
references = 20000000
"""


def run(folder, text, wiring="local"):
    path = folder / "scheduling.toml"
    path.write_text(text)
    with start_system(wiring) as system:
        machine = Run(system.kernel, load_workload(str(path)), check=True)
        machine.boot()
        report = machine.report(machine.execute())
    assert (report["end"], report["end_detail"], report["identities"]) == ("complete", "", [])
    assert report["integrity"]["mismatches"] == 0
    return report


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return run(tmp_path_factory.mktemp("classes"), CLASSES)


def test_a_realtime_process_is_not_swapped_out_though_it_sleeps_as_long(classes):
    swaps = {row["name"]: row["swaps"] for row in classes["processes"]}
    assert swaps["plain"] > swaps["rt"] == 0


def test_an_idle_class_process_ends_after_one_that_computes_as_much(classes):
    ended = {row["name"]: row["end_us"] for row in classes["processes"]}
    assert ended["foreground"] < ended["background"]


def test_pages_above_the_limit_are_taken_once_a_second_and_faulted_in_again(classes, tmp_path):
    faults = {row["name"]: row["minor_faults"] for row in classes["processes"]}
    unlimited = run(tmp_path, CLASSES.replace('rss_limit = "256 KiB"\n', ""))
    without = {row["name"]: row["minor_faults"] for row in unlimited["processes"]}
    assert faults["limited"] > without["limited"] * 5 // 4
    assert faults["foreground"] == without["foreground"]


def test_the_same_in_both_wirings(classes, tmp_path):
    assert run(tmp_path, CLASSES, "grpc")["event_hash"] == classes["event_hash"]
