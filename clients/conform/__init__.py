"""The conformance runner: cases answered by the compiled C code, played on a kernel through its ports."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TextIO

from clients.conform.cases import Case, Malformed, find_files, read_cases
from clients.conform.runner import Outcome, run_cases
from clients.kernel import Kernel

__all__ = ["Malformed", "conform"]

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2


def conform(
    paths: Iterable[Path], kernel: Callable[[], Kernel], as_json: bool = False, out: TextIO | None = None
) -> int:
    """Play the cases of files and print what came out.

    Args:
        paths: Files, or directories of .jsonl files.
        kernel: Makes the kernel to play on, started so that answers may be scripted; it is closed at the end.
        as_json: Print one JSON object instead of text.
        out: Where to print; standard output by default.

    Returns:
        0: all passed; 1: a case failed; 2: cases of a family without a driver were left out.

    Raises:
        Malformed: A file is not in the format; nothing was played.
        ServiceLost: A service cannot be reached any more.
    """
    cases = [case for path in find_files(paths) for case in read_cases(path)]
    with closing(kernel()) as machine:
        wiring, start = machine.wiring, time.perf_counter()
        outcome = run_cases(machine, cases)
    seconds = time.perf_counter() - start
    report = _json_report(outcome, wiring, seconds) if as_json else _text_report(outcome, cases, wiring, seconds)
    print(report, file=out or sys.stdout)
    if outcome.failed:
        return EXIT_FAILED
    return EXIT_BAD_INPUT if outcome.unsupported else EXIT_OK


def _json_report(outcome: Outcome, wiring: str, seconds: float) -> str:
    families = {
        name: {"passed": family.passed, "failed": family.failed, "unsupported": family.unsupported}
        for name, family in outcome.families.items()
    }
    return json.dumps(
        {
            "wiring": wiring,
            "seconds": round(seconds, 3),
            "families": families,
            "mismatches": [mismatch.as_json() for mismatch in outcome.mismatches],
            "passed": outcome.passed,
            "failed": outcome.failed,
            "unsupported": sum(outcome.unsupported.values()),
        }
    )


def _text_report(outcome: Outcome, cases: list[Case], wiring: str, seconds: float) -> str:
    lines = [str(mismatch) for mismatch in outcome.mismatches]
    for name, family in outcome.families.items():
        remark = " unsupported" if family.unsupported else ""
        lines.append(f"{name} {family.passed}/{family.total}{remark}")
    if outcome.unsupported:
        names = ", ".join(f"{name} ({count} cases)" for name, count in outcome.unsupported.items())
        lines.append(f"not played, for want of a driver: {names}")
    lines.append(f"{len(cases)} cases in {seconds:.1f} s, {wiring}")
    lines.append(f"{outcome.passed} passed, {outcome.failed} failed")
    return "\n".join(lines)
