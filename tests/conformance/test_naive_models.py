"""The naive models give every answer that the C code gave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from naive import MODELS, answer

CASES = Path(__file__).parent


@pytest.mark.parametrize("family", sorted(MODELS))
def test_model_answers_as_the_c_code(family):
    lines = (CASES / f"{family}.jsonl").read_text().splitlines()
    cases = [json.loads(line) for line in lines]
    wrong = [(case["id"], answer(case), case["then"]) for case in cases if answer(case) != case["then"]]
    assert len(cases) == 220
    assert wrong == []
