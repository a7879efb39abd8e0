"""The mutations fit the code, the table shows them all, and what their runner concludes is right."""

import os
import signal
import sys
import threading
import time
from collections import Counter

import pytest

from clients.exits import Exit
from clients.signals import Interrupted, Interrupts
from tests.mutation import isolated, outcomes
from tests.mutation.__main__ import CHANGES, main, write_table
from tests.mutation.change import Change
from tests.mutation.copies import ROOT, unfit
from tests.mutation.isolated import Ran, run_tests
from tests.mutation.outcomes import KILLED, SURVIVED, UNFIT, Outcome, judge, rows_of, verdicts

RENEW = "python -m tests.mutation --only NAME --table docs/mutations.md"
ADAPT = "adapt its text in tests/mutation/changes to the code as it is now"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_every_change_fits_the_code(change):
    assert unfit(ROOT, change) == "", ADAPT


def test_names_are_unique_and_rules_are_told():
    assert [name for name, count in Counter(change.name for change in CHANGES).items() if count > 1] == []
    assert all(change.rule and change.c and change.tests and change.old != change.new for change in CHANGES)


def test_the_table_shows_that_every_change_is_noticed():
    rows = rows_of((ROOT / "docs/mutations.md").read_text())
    assert list(rows) == [change.name for change in CHANGES], RENEW
    assert set(verdicts(rows)) == {KILLED}


CHANGE = Change("one", "core.py", "a = 1", "a = 2", "f 1", "a | b", ("unit/test_it.py",))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = 1\n", ""),
        ("a = 3\n", "its old text is found 0 times in core.py, expected once"),
        ("a = 1\na = 1\n", "its old text is found 2 times in core.py, expected once"),
        ("(a = 1\n", "what it makes of core.py is no Python"),
        (None, "there is no core.py"),
    ],
)
def test_a_change_that_does_not_fit_says_why(tmp_path, text, why):
    (tmp_path / "tests/unit").mkdir(parents=True)
    (tmp_path / "tests/unit/test_it.py").touch()
    if text is not None:
        (tmp_path / "core.py").write_text(text)
    assert unfit(tmp_path, CHANGE).startswith(why)
    assert bool(unfit(tmp_path, CHANGE)) == bool(why)


def test_a_change_without_its_tests_does_not_fit(tmp_path):
    (tmp_path / "core.py").write_text("a = 1\n")
    assert unfit(tmp_path, CHANGE) == "there is no tests/unit/test_it.py"


SUMMARY = "FAILED tests/unit/test_it.py::test_a[resumes the scan] - AssertionError: 1\n"
CASE = "A-0012 step 1 (swapout_procs)\nFAILED tests/conformance/test_conformance.py::test_f[local-A] - AssertionError\n"
RUNNING = "tests/unit/test_it.py::test_a PASSED [ 10%]\ntests/unit/test_it.py::test_b[x y] "


@pytest.mark.parametrize(
    ("ran", "verdict", "by"),
    [
        (Ran(0, "1 passed"), SURVIVED, ""),
        (Ran(1, SUMMARY), KILLED, "unit/test_it.py::test_a[resumes the scan]"),
        (Ran(1, CASE), KILLED, "case A-0012"),
        (Ran(None, RUNNING), KILLED, "no end of unit/test_it.py::test_b[x y]"),
        (Ran(-signal.SIGSEGV, RUNNING), KILLED, "SIGSEGV of unit/test_it.py::test_b[x y]"),
        (Ran(2, "ERROR collecting\nno module x"), UNFIT, "pytest ended with 2: ['no module x']"),
        (Ran(5, ""), UNFIT, "pytest ended with 5: []"),
    ],
)
def test_verdicts(ran, verdict, by):
    assert judge(ran) == (verdict, by)


def test_a_row_is_made_anew_and_the_others_stay(tmp_path, monkeypatch):
    file = tmp_path / "table.md"
    other = Change("two", "core.py", "b = 1", "b = 2", "g 2", "rule", ("unit",))
    monkeypatch.setattr("tests.mutation.__main__.CHANGES", (CHANGE, other))
    write_table(file, [Outcome(CHANGE, SURVIVED, ""), Outcome(other, KILLED, "unit/test_it.py::test_a")])
    write_table(file, [Outcome(CHANGE, KILLED, "case A-0001")])
    rows = rows_of(file.read_text())
    assert rows == {
        "one": "| one | killed | `case A-0001` | `core.py` | f 1 | a \\| b |",
        "two": "| two | killed | `unit/test_it.py::test_a` | `core.py` | g 2 | rule |",
    }
    assert "**2 killed, 0 survived**" in file.read_text()
    assert outcomes.summary([KILLED, SURVIVED, UNFIT]) == "1 killed, 1 survived, 1 did not apply"


def interrupt(when):
    """Send Ctrl-C to this process once a file is there."""
    while not when.exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(sys.platform != "linux", reason="mutations are run on Linux")
def test_tests_that_do_not_end_are_stopped_and_a_signal_ends_them_at_once(tmp_path):
    (tmp_path / "test_hang.py").write_text("def test_hang():\n    while True:\n        pass\n")
    (tmp_path / "test_sleep.py").write_text(
        "import os, pathlib, time\n\ndef test_sleep():\n    pathlib.Path('pid.new').write_text(str(os.getpid()))\n"
        "    os.replace('pid.new', 'pid')\n    time.sleep(600)\n"
    )
    with Interrupts() as stop:
        ran = run_tests(tmp_path, ["test_hang.py"], stop, cpu_seconds=2)
        assert judge(ran) == (KILLED, "no end of test_hang.py::test_hang")
        threading.Thread(target=interrupt, args=(tmp_path / "pid",), daemon=True).start()
        with pytest.raises(Interrupted) as interrupted:
            run_tests(tmp_path, ["test_sleep.py"], stop)
    assert interrupted.value.exit == Exit.INTERRUPTED
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_command_line(capsys):
    assert main(["--list", "--only", "threshold1-strict"]) == Exit.OK
    assert capsys.readouterr().out.startswith("threshold1-strict ")
    for wrong in (["--only", "nothing"], ["--jobs", "0"]):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == Exit.BAD_INPUT
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"Tests that a change keeps from ending are stopped after {isolated.CPU_SECONDS_MAX} s" in " ".join(
        capsys.readouterr().out.split()
    )
