"""Compares what a case expects with what was answered, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from clients.conform.cases import Case
from clients.conform.families import Json

ABSENT = "(absent)"
"""Stands for a field that is not there."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One field that is not as expected.

    Attributes:
        id: Case.
        note: What the case is about; may be empty.
        step: Number of the call, from 1; 0: the final state.
        call: Name of the call, or ``final``.
        field: Path of the field within the result; empty: the whole result.
        expected: Its expected value.
        got: Its value.
    """

    id: str
    note: str
    step: int
    call: str
    field: str
    expected: Any
    got: Any

    def __str__(self) -> str:
        where = f"step {self.step} ({self.call})" if self.step else "final"
        note = f"  [{self.note}]" if self.note else ""
        field = f" {self.field}" if self.field else ""
        return f"{self.id} {where}{field}: expected {self.expected!r}, got {self.got!r}{note}"

    def as_json(self) -> Json:
        """The mismatch as a JSON object."""
        return asdict(self)


def mismatches(case: Case, steps: list[Json], final: Json) -> list[Mismatch]:
    """All fields in which an answer differs from a case's `then`."""
    found: list[Mismatch] = []
    for number in range(max(len(case.steps), len(steps))):
        expected = case.steps[number] if number < len(case.steps) else ABSENT
        got = steps[number] if number < len(steps) else ABSENT
        call = case.when[number]["call"] if number < len(case.when) else "final"
        found += (
            Mismatch(case.id, case.note, number + 1, call, *difference) for difference in differences(expected, got)
        )
    found += (Mismatch(case.id, case.note, 0, "final", *difference) for difference in differences(case.final, final))
    return found


def differences(expected: Any, got: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, expected and found value of every leaf that differs; JSON's true is not 1."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in [*expected, *(key for key in got if key not in expected)]:
            at = f"{path}.{key}" if path else key
            yield from differences(expected.get(key, ABSENT), got.get(key, ABSENT), at)
    elif isinstance(expected, list) and isinstance(got, list):
        for index in range(max(len(expected), len(got))):
            wanted = expected[index] if index < len(expected) else ABSENT
            found = got[index] if index < len(got) else ABSENT
            yield from differences(wanted, found, f"{path}[{index}]")
    elif type(expected) is not type(got) or expected != got:
        yield path, expected, got
