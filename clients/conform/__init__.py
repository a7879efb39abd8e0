"""The conformance runner: cases answered by the compiled C code, played on a kernel through its ports."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from clients.conform.cases import Malformed, find_files, read_cases
from clients.conform.runner import Outcome, run_cases
from clients.exits import Exit
from clients.system import System
from services.runtime.errors import ServiceLost

__all__ = ["Malformed", "conform"]


def conform(
    paths: Iterable[Path], start: Callable[[], System], as_json: bool = False, out: TextIO | None = None
) -> Exit:
    """Play the cases of files on a system of their own and print what came out.

    Args:
        paths: Files, or directories of .jsonl files.
        start: Makes the system to play on, which must accept scripted answers; it is closed at the end.
        as_json: Print one JSON object instead of text.
        out: Where to print; standard output by default.

    Returns:
        OK: all passed; FAILED: a case failed.

    Raises:
        Malformed: A file is not in the format; nothing was started.
        SystemFailed: A service ended in the middle.
    """
    cases = [case for path in find_files(paths) for case in read_cases(path)]
    with start() as system:
        begun = time.perf_counter()
        try:
            outcome = run_cases(system.kernel, cases)
        except ServiceLost as lost:
            raise system.explain(lost) from lost
        wiring, seconds = system.kernel.wiring, time.perf_counter() - begun
    report = _json_report if as_json else _text_report
    print(report(outcome, wiring, seconds), file=out or sys.stdout)
    return Exit.FAILED if outcome.failed else Exit.OK


def _json_report(outcome: Outcome, wiring: str, seconds: float) -> str:
    families = {name: {"passed": family.passed, "failed": family.failed} for name, family in outcome.families.items()}
    return json.dumps(
        {
            "wiring": wiring,
            "seconds": round(seconds, 3),
            "families": families,
            "mismatches": [mismatch.as_json() for mismatch in outcome.mismatches],
            "passed": outcome.passed,
            "failed": outcome.failed,
        }
    )


def _text_report(outcome: Outcome, wiring: str, seconds: float) -> str:
    lines = [str(mismatch) for mismatch in outcome.mismatches]
    lines += [f"{name} {family.passed}/{family.total}" for name, family in outcome.families.items()]
    total = sum(family.total for family in outcome.families.values())
    lines.append(f"{total} cases in {seconds:.1f} s, {wiring}")
    lines.append(f"{outcome.passed} passed, {outcome.failed} failed")
    return "\n".join(lines)
