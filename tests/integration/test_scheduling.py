"""What a workload says of scheduling: classes of rtprio(2), RLIMIT_RSS, SIGSTOP and SIGCONT."""

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


STOPPED = """\
[machine]
ram = "6 MiB"
swap = "32 MiB"
ncpu = {ncpu}
[machine.sysctls]
vm.swap_idle_enabled = 1
[[programs]]
name = "editor"
stop = "500 ms"
continue = "15 s"
[[programs.phases]]
pattern = "uniform"
memory = "1 MiB"
references = 4000000
think = "100 ms"
burst = 400000
call = "select"
[[programs]]
name = "cron"
daemon = {{ call = "nanosleep", every = "5 s", wakeups = 4 }}
"""


@pytest.mark.parametrize("ncpu", [1, 2])
def test_a_stopped_program_goes_out_whole_and_comes_back_when_it_is_continued(tmp_path, ncpu):
    text = STOPPED.format(ncpu=ncpu)
    report = run(tmp_path, text)
    editor = next(row for row in report["processes"] if row["name"] == "editor")
    assert editor["swaps"] == 1
    assert editor["end_us"] > 15_000_000
    assert run(tmp_path, text, "grpc")["event_hash"] == report["event_hash"]
    never = run(tmp_path, text.replace('stop = "500 ms"\n', ""))
    editor = next(row for row in never["processes"] if row["name"] == "editor")
    assert (editor["swaps"], editor["end_us"] < 4_000_000) == (0, True)


def test_a_program_that_nobody_continues_ends_the_run_with_a_reason(tmp_path):
    path = tmp_path / "stopped.toml"
    path.write_text(STOPPED.format(ncpu=1).replace('continue = "15 s"\n', ""))
    with start_system("local") as system:
        machine = Run(system.kernel, load_workload(str(path)))
        machine.boot()
        report = machine.report(machine.execute())
    assert report["end"] == "deadlock"
    assert "editor (pid 100) is stopped" in report["end_detail"]


WATCHED = """\
[machine]
ram = "8 MiB"
swap = "32 MiB"
[machine.sysctls]
vm.swap_idle_enabled = 1
[[programs]]
name = "cron"
count = 5
daemon = { call = "nanosleep", every = "100 s", wakeups = 1 }
[[programs]]
name = "watcher"
daemon = { call = "procstat", every = "20 s", wakeups = 4 }
"""


def test_looking_at_all_processes_brings_in_who_would_stay_out(tmp_path):
    watched = run(tmp_path, WATCHED)
    alone = run(tmp_path, WATCHED.replace("procstat", "nanosleep"))
    once, often = (
        [row["swaps"] for row in report["processes"] if row["name"] == "cron"] for report in (alone, watched)
    )
    assert min(often) >= max(once) + 2
    assert run(tmp_path, WATCHED, "grpc")["event_hash"] == watched["event_hash"]
