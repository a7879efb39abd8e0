"""The table of branches as text."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.fidelity.branch import Branch
from tests.fidelity.memory_branches import MEMORY
from tests.fidelity.swapping_branches import SWAPPING

BRANCHES: dict[str, tuple[Branch, ...]] = MEMORY | SWAPPING
"""Rows by C function, in the order of the file."""
DOCUMENT = Path(__file__).parents[2] / "docs/fidelity.md"
BEGIN, END = "## Branches\n", "\n## Deliberate deviations"
_INTRODUCTION = """
Every branch of the C file that decides something. "Cases" are the public cases that get there here, counted by family
with the first of each: they were traced by `python -m tests.fidelity`, which writes this table and whose `--check`, a
step of `./run-tests`, fails if it is out of date. A branch without a case names a test that gets there, traced too.
"""


def all_branches() -> list[Branch]:
    """All rows."""
    return [branch for rows in BRANCHES.values() for branch in rows]


def section(found: dict[Branch, dict[str, None]], functions: dict[str, tuple[str, str]]) -> str:
    """The section of the document.

    Args:
        found: Whatever reached each branch.
        functions: Lines and rpc of each C function, as the table of functions has them.
    """
    parts = [BEGIN, _INTRODUCTION]
    for name, rows in BRANCHES.items():
        lines, rpc = functions[name]
        parts.append(f"\n### {name} ({lines}): {rpc}\n\n")
        parts.append("| lines | rule | where | cases | tests |\n| --- | --- | --- | --- | --- |\n")
        parts += [_row(branch, list(found.get(branch, {}))) for branch in rows]
    return "".join(parts)


def _row(branch: Branch, found: list[str]) -> str:
    places = dict.fromkeys(f"`{spot.file}` `{spot.function}`" for spot in branch.spots)
    tests = ", ".join("`{}` `{}`".format(*test.split("::")) for test in branch.tests)
    cells = (branch.lines, branch.rule, ", ".join(places), _cases(found), tests)
    return "| " + " | ".join(cells) + " |\n"


def _cases(found: list[str]) -> str:
    """Cases by family: how many, and the first."""
    ids = sorted(label for label in found if re.fullmatch(r"[A-H]-\d+", label))
    counts = Counter(case[0] for case in ids)
    firsts = {case[0]: case for case in reversed(ids)}
    return ", ".join(f"{family} {count} ({firsts[family]})" for family, count in sorted(counts.items()))
