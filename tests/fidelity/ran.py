"""Tests that documents name, and whether they ran."""

from __future__ import annotations

import re
from pathlib import Path

_NAMED = re.compile(r"`(tests/[\w/]+\.py)`(?: `(test_\w+)`)?")


def named_tests(document: str) -> list[tuple[str, str]]:
    """(file, test) of each test that a document names; the test is empty where it names the whole file."""
    return sorted(set(_NAMED.findall(document)))


def missing_tests(named: list[tuple[str, str]], record: Path) -> list[str]:
    """Sentences about named tests that did not pass.

    Args:
        named: The tests.
        record: Lines `outcome node`, as the conftest writes them.
    """
    outcomes: dict[str, set[str]] = {}
    for line in record.read_text().splitlines():
        outcome, _, node = line.partition(" ")
        name = node.split("[")[0]
        for key in (name, name.split("::")[0]):
            outcomes.setdefault(key, set()).add(outcome)
    return [
        f"{'::'.join(filter(None, test))} did not pass: {', '.join(sorted(found)) or 'it did not run'}"
        for test in named
        if (found := outcomes.get("::".join(filter(None, test)), set())) != {"passed"}
    ]
