"""The core gives every answer that the compiled C gave about kernel stacks."""

import json
from pathlib import Path

import pytest
from kstack_driver import KernelStacksDriver, StackUseDriver
from naive.words import play

CASES = Path(__file__).parents[2] / "conformance"


@pytest.mark.parametrize(
    ("family", "driver"),
    [
        ("C_kernel_stacks", KernelStacksDriver),
        ("H_stack_usage", StackUseDriver),
    ],
)
def test_answers_are_those_of_the_compiled_c(family, driver):
    cases = [json.loads(line) for line in (CASES / f"{family}.jsonl").read_text().splitlines()]
    answers = [(case, play(driver(case["given"]), case["when"])) for case in cases]
    wrong = [(case["id"], answer, case["then"]) for case, answer in answers if answer != case["then"]]
    assert len(cases) == 220
    assert wrong == []
