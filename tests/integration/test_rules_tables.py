"""docs/rules names functions and tests that exist; a rule without them says why it is not here."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/rules").glob("*.md"))
PLACE = re.compile(r"`((?:services|hardware_sim)/[\w/]+\.py)` `(\w+)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)`(?: `(test_\w+)`)?")
ABSENT = "not here: "


def rows(page: Path) -> list[list[str]]:
    """Cells of all rows: reference, rule, where, test."""
    lines = [line for line in page.read_text().splitlines() if re.match(r"\| \d", line)]
    return [[cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")] for line in lines]


@cache
def names_of(path: Path) -> frozenset[str]:
    """Functions and classes of a module."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds))


def problem_of(row: list[str]) -> str:
    """What is wrong with a row; empty: nothing."""
    if len(row) != 4:
        return f"{len(row)} cells"
    _, _, where, test = row
    if where.startswith(ABSENT):
        return "it has a test although it is not here" if test or len(where) < len(ABSENT) + 10 else ""
    places, tests = PLACE.findall(where), TEST.findall(test)
    if not places or not tests:
        return "neither a place and a test, nor a reason"
    for path, name in [*places, *tests]:
        if not (ROOT / path).exists() or (name and name not in names_of(ROOT / path)):
            return f"there is no {path} {name}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_rule_lives_somewhere_and_is_tested_or_says_why_not(page):
    found = rows(page)
    assert len(found) > 20
    assert {f"{row[0]}, {row[1]}": problem for row in found if (problem := problem_of(row))} == {}


def test_what_is_wrong_with_a_row_is_noticed():
    place, test = "`services/physmem/vm_page.py` `vm_page_alloc`", "`tests/unit/physmem/test_vm_page.py`"
    assert problem_of(["1", "rule", place, test]) == ""
    assert problem_of(["1", "rule", place, test + " `test_nothing`"]).endswith("test_nothing")
    assert problem_of(["1", "rule", place.replace("alloc", "allot"), test]).endswith("vm_page_allot")
    assert problem_of(["1", "rule", place, ""]) == "neither a place and a test, nor a reason"
    assert problem_of(["1", "rule", ABSENT + "why", ""]) != ""
    assert problem_of(["1", "rule", ABSENT + "nobody needs it", ""]) == ""
    assert problem_of(["1", "rule"]) == "2 cells"
