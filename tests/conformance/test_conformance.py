"""The cores answer every public case as the compiled C code did, in both wirings."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import pytest

from clients.conform import conform
from clients.conform.cases import read_cases
from clients.conform.families import FAMILIES
from clients.conform.runner import run_cases
from clients.exits import Exit
from clients.system import System

start_local = partial(System.local, allow_inject=True)
CASES = Path(__file__).parent


@pytest.mark.parametrize("family", FAMILIES)
def test_family_is_answered_as_by_the_c_code(system, family):
    cases = read_cases(CASES / f"{family}.jsonl")
    outcome = run_cases(system.kernel, cases)
    shown = "\n".join(map(str, outcome.mismatches[:20]))
    assert (outcome.passed, outcome.failed) == (len(cases), 0), shown


def write_cases(tmp_path: Path, family: str, count: int, change=lambda _: None) -> Path:
    path = tmp_path / f"{family}.jsonl"
    with (CASES / path.name).open() as source, path.open("w") as target:
        for line in list(source)[:count]:
            case = json.loads(line)
            change(case)
            target.write(json.dumps(case) + "\n")
    return path


def test_report_closes_with_the_sum(tmp_path):
    out = io.StringIO()
    paths = [write_cases(tmp_path, "H_stack_usage", 3), write_cases(tmp_path, "C_kernel_stacks", 2)]
    assert conform(paths, start_local, out=out) is Exit.OK
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["C_kernel_stacks 2/2", "H_stack_usage 3/3"]
    assert lines[2].startswith("5 cases in ")
    assert lines[3:] == ["5 passed, 0 failed"]


def test_a_wrong_answer_is_shown_and_fails(tmp_path):
    def expect_more(case):
        case["then"]["steps"][0]["max_kstack_used"] += 1

    out = io.StringIO()
    path = write_cases(tmp_path, "H_stack_usage", 1, expect_more)
    assert conform([path], start_local, out=out) is Exit.FAILED
    lines = out.getvalue().splitlines()
    note = "one sample"
    assert lines[0] == f"H-0001 step 1 (intr_prof_stack_use) max_kstack_used: expected 101, got 100  [{note}]"
    assert lines[1] == "H_stack_usage 0/1"
    assert lines[-1] == "0 passed, 1 failed"


def test_json_report_holds_every_mismatch(tmp_path):
    def lose_final(case):
        case["then"]["final"] = {}

    out = io.StringIO()
    assert (
        conform([write_cases(tmp_path, "H_stack_usage", 2, lose_final)], start_local, as_json=True, out=out)
        is Exit.FAILED
    )
    report = json.loads(out.getvalue())
    assert (report["passed"], report["failed"]) == (0, 2)
    assert report["families"] == {"H_stack_usage": {"passed": 0, "failed": 2}}
    first = report["mismatches"][0]
    assert (first["id"], first["step"], first["call"], first["field"]) == ("H-0001", 0, "final", "max_kstack_used")


def test_a_panic_that_is_not_expected_fails_and_the_next_case_runs(tmp_path):
    def expect_answer(case):
        if case["then"]["final"] == {"stopped": "panic"}:
            case["then"]["steps"][-1] = {"ok": False}

    path = tmp_path / "D_access_and_wiring.jsonl"
    lines = [json.loads(line) for line in (CASES / path.name).read_text().splitlines()]
    panics = [case for case in lines if case["then"]["final"] == {"stopped": "panic"}]
    expect_answer(panics[0])
    path.write_text("".join(json.dumps(case) + "\n" for case in [panics[0], lines[0]]))
    out = io.StringIO()
    assert conform([path], start_local, out=out) is Exit.FAILED
    assert "panic: expected '(absent)', got \"illegal ``rw'' argument" in out.getvalue()
    assert out.getvalue().endswith("1 passed, 1 failed\n")
