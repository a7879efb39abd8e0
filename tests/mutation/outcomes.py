"""What became of changes, and the table of it."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.mutation.change import Change
from tests.mutation.isolated import Ran

KILLED, SURVIVED, UNFIT = "killed", "survived", "does not apply"
_FAILED = re.compile(r"^(?:FAILED|ERROR) (?:tests/)?(.+?)(?: - .*)?$", re.MULTILINE)
_STARTED = re.compile(r"^(?:tests/)?(\S+\.py::.+?)(?: (?:(?:PASSED|FAILED|ERROR).*)?)?$", re.MULTILINE)
_CASE = re.compile(r"\b([A-H]-\d{4}) step")
_ROW = re.compile(rf"^\| (\S+) \| ({KILLED}|{SURVIVED}|{UNFIT}) \| .*$", re.MULTILINE)
_HEAD = """# Mutations

Small changes that were made to the four cores on purpose, one at a time in a copy of the tree, and the first test that
noticed each. Lines are those of `vm_glue.c` unless another file is named; a case is one of `tests/conformance`. Made by
`.venv/bin/python -m tests.mutation --jobs 2 --table docs/mutations.md`; with `--only NAME` a row is made anew.

**{summary}**

| change | result | noticed by | where | C | rule that it breaks |
| --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change.

    Attributes:
        change: The change.
        verdict: KILLED, SURVIVED or UNFIT.
        by: The test or the case that noticed it; else why it could not be tried.
        seconds: How long its tests took.
    """

    change: Change
    verdict: str
    by: str
    seconds: float = 0

    def row(self) -> str:
        """A row of the table."""
        change, by = self.change, f"`{self.by}`" if self.verdict == KILLED else self.by
        where = f"`{change.file.removeprefix('services/')}`"
        cells = (change.name, self.verdict, by, where, change.c, change.rule)
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def judge(ran: Ran) -> tuple[str, str]:
    """Verdict and reason from how the tests of a change ended."""
    if ran.code == 0:
        return SURVIVED, ""
    if ran.code is None or ran.code < 0:
        end = "no end" if ran.code is None else signal.Signals(-ran.code).name
        running = _STARTED.findall(ran.output)
        return KILLED, f"{end} of {running[-1] if running else 'pytest'}"
    failed = _FAILED.search(ran.output)
    if ran.code != 1 or failed is None:
        return UNFIT, f"pytest ended with {ran.code}: {ran.output.strip().splitlines()[-1:]}"
    case = _CASE.search(ran.output)
    return KILLED, f"case {case[1]}" if case and failed[1].startswith("conformance/") else failed[1]


def table(rows: Mapping[str, str]) -> str:
    """The result as Markdown, from the rows by name."""
    return _HEAD.format(summary=summary(verdicts(rows))) + "".join(f"{row}\n" for row in rows.values())


def rows_of(text: str) -> dict[str, str]:
    """The rows of a table by the names of their changes."""
    return {match[1]: match[0] for match in _ROW.finditer(text)}


def verdicts(rows: Mapping[str, str]) -> list[str]:
    """The verdict of each row."""
    return [match[2] for row in rows.values() if (match := _ROW.match(row))]


def summary(results: Sequence[str]) -> str:
    """The closing line, from verdicts."""
    unfitting = results.count(UNFIT)
    more = f", {unfitting} did not apply" if unfitting else ""
    return f"{results.count(KILLED)} killed, {results.count(SURVIVED)} survived{more}"
