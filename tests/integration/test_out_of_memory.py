"""Programs that want more than memory and swap hold: a process is killed, the rest goes on, the run ends."""

import pytest
from systems import start_system

from clients.run import Run
from clients.workload import load_workload

TEXT = """\
[machine]
ram = "4 MiB"
swap = "{swap}"
[[programs]]
name = "cron"
daemon = {{ call = "nanosleep", every = "1 s", wakeups = 5 }}
count = 3
[[programs]]
name = "big"
count = 2
[[programs.phases]]
pattern = "uniform"
memory = "6 MiB"
references = 400000
visit = 50
writes = 1.0
"""


@pytest.mark.parametrize("swap", ["0 B", "1 MiB", "5 MiB"])
def test_the_largest_is_killed_and_the_run_ends(tmp_path, swap):
    path = tmp_path / "oom.toml"
    path.write_text(TEXT.format(swap=swap))
    with start_system("local") as system:
        run = Run(system.kernel, load_workload(str(path)), check=True)
        run.boot()
        report = run.report(run.execute())
    assert (report["end"], report["end_detail"]) == ("complete", "")
    assert report["integrity"]["mismatches"] == 0
    assert report["identities"] == []
    killed = [row["name"] for row in report["processes"] if row["status"] == -9]
    assert killed
    assert set(killed) == {"big"}
