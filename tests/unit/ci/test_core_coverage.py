"""The gate on the coverage of the cores opens and closes where it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci/core_coverage.py"
CORES = ("pager", "physmem", "kstack", "scheduler")


def measured(lines, branches):
    """Coverage's figures of a file of 100 lines and 100 branches."""
    return {
        "summary": {
            "covered_lines": lines,
            "num_statements": 100,
            "covered_branches": branches,
            "num_branches": 100,
            "percent_covered": 12.5,
        },
        "missing_lines": [*range(100 - lines)],
        "missing_branches": [[7, -1]] * (100 - branches),
    }


def gate(tmp_path, files):
    report = tmp_path / "cores.json"
    report.write_text(json.dumps({"files": files}))
    done = subprocess.run([sys.executable, SCRIPT, report], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def all_cores(lines=95, branches=90):
    return {f"services/{core}/core.py": measured(lines, branches) for core in CORES}


def test_enough_is_enough_and_the_entry_points_do_not_count(tmp_path):
    code, out = gate(tmp_path, all_cores() | {"services/pager/__main__.py": measured(0, 0)})
    assert code == 0
    assert out.splitlines()[0] == "coverage of pager      95.0 % of   100 lines,  90.0 % of   100 branches"
    assert "TOO LOW" not in out


@pytest.mark.parametrize(("lines", "branches"), [(94, 100), (100, 89)])
def test_one_core_below_closes_it_and_what_is_missed_is_named(tmp_path, lines, branches):
    code, out = gate(tmp_path, all_cores(100, 100) | {"services/kstack/core.py": measured(lines, branches)})
    assert code == 1
    assert [line.split()[2] for line in out.splitlines() if line.endswith("TOO LOW")] == ["kstack"]
    assert f"services/kstack/core.py: {'0, 1' if lines < 100 else '7->-1'}" in out


def test_a_core_that_was_not_measured_closes_it(tmp_path):
    files = all_cores()
    del files["services/scheduler/core.py"]
    code, out = gate(tmp_path, files)
    assert code == 1
    assert "coverage of scheduler   0.0 %" in out
