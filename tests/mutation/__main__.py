"""Breaks the four cores on purpose and shows that tests notice: ``python -m tests.mutation --help``."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutation import memory_changes, scheduler_changes
from tests.mutation.change import Change
from tests.mutation.isolated import SECONDS_MAX, run_tests

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("services", "hardware_sim", "clients", "protos", "tests", "pyproject.toml")
CHANGES = (*scheduler_changes.CHANGES, *memory_changes.CHANGES)
CASES = "tests/conformance/test_conformance.py::test_family_is_answered_as_by_the_c_code[local-{}]"
_FAILED = re.compile(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", re.MULTILINE)
_CASE = re.compile(r"\b([A-H]-\d{4}) step")
_EXAMPLES = """examples:
  python -m tests.mutation --jobs 2 --table docs/mutations.md    all of them, and write the table
  python -m tests.mutation --only threshold1-strict              one, to see what notices it"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change.

    Attributes:
        change: The change.
        verdict: "killed", "survived" or "not applicable".
        by: The test, and the first case, that noticed it; else why it could not be tried.
        seconds: How long its tests took.
    """

    change: Change
    verdict: str
    by: str
    seconds: float


def targets(tree: Path, change: Change) -> list[str]:
    """What pytest is asked to run for a change."""
    families = {path.name[0]: path.stem for path in (tree / "tests/conformance").glob("*.jsonl")}
    return [CASES.format(families[test]) if test in families else f"tests/{test}" for test in change.tests]


def copy_tree(tree: Path, folder: Path) -> None:
    """Copy what the tests need, with times, so that compiled loops that did not change are not compiled again."""
    for name in COPIED:
        source = tree / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy2(source, folder / name)


def unfit(tree: Path, change: Change) -> str:
    """Why a change does not fit the code; empty: it does."""
    text = (tree / change.file).read_text()
    found = text.count(change.old)
    if found != 1:
        return f"its old text is found {found} times in {change.file}"
    try:
        compile(text.replace(change.old, change.new), change.file, "exec")
    except SyntaxError as error:
        return f"it is no Python: {error}"
    return ""


def attempt(tree: Path, change: Change) -> Outcome:
    """Make a change in a copy of its own and run its tests."""
    began = time.monotonic()
    why = unfit(tree, change)
    if why:
        return Outcome(change, "not applicable", why, 0)
    with tempfile.TemporaryDirectory(prefix="vmglue-mutation-") as name:
        folder = Path(name)
        copy_tree(tree, folder)
        file = folder / change.file
        file.write_text(file.read_text().replace(change.old, change.new))
        verdict, by = judge(*run_tests(folder, targets(tree, change)))
    return Outcome(change, verdict, by, time.monotonic() - began)


def judge(code: int | None, output: str) -> tuple[str, str]:
    """Verdict and reason from pytest's exit code and output."""
    if code is None:
        return "killed", f"tests did not end in {SECONDS_MAX} s"
    if code == 0:
        return "survived", ""
    failed = _FAILED.search(output)
    if code != 1 or failed is None:
        return "not applicable", f"pytest ended with {code}: {output.strip().splitlines()[-1:]}"
    case = _CASE.search(output)
    return "killed", f"{failed[1]} ({case[1]})" if case and "conformance" in failed[1] else failed[1]


def baseline(tree: Path, changes: Sequence[Change]) -> str:
    """Run the tests of all changes without a change; what fails, empty if nothing does."""
    code, output = run_tests(tree, list(dict.fromkeys(test for change in changes for test in targets(tree, change))))
    return "" if code == 0 else output[-2000:] or f"they did not end in {SECONDS_MAX} s"


def table(outcomes: Sequence[Outcome]) -> str:
    """The result as Markdown."""
    lines = [
        "# Mutations",
        "",
        "Small changes that were made to the four cores on purpose, one at a time in a copy of the tree, and the",
        "first test that noticed each. Lines are those of `vm_glue.c` unless another file is named; a conformance",
        "case stands in parentheses. Made by `.venv/bin/python -m tests.mutation --jobs 2 --table docs/mutations.md`.",
        "",
        f"**{summary(outcomes)}**",
        "",
        "| change | where | C | rule that it breaks | result | noticed by |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for outcome in outcomes:
        change, by = outcome.change, f"`{outcome.by}`" if outcome.verdict == "killed" else outcome.by
        row = (change.name, f"`{change.file.removeprefix('services/')}`", change.c, change.rule, outcome.verdict, by)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
    return "\n".join([*lines, ""])


def summary(outcomes: Sequence[Outcome]) -> str:
    """The closing line."""
    verdicts = [outcome.verdict for outcome in outcomes]
    unfitting = verdicts.count("not applicable")
    more = f", {unfitting} not applicable" if unfitting else ""
    return f"{verdicts.count('killed')} killed, {verdicts.count('survived')} survived{more}"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation",
        description="Make small changes to the cores, each in a temporary copy, and show which test notices it. Ends "
        "with 1 if one survived or does not fit the code any more.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAME", action="append", help="this change alone; may be given again")
    parser.add_argument("--jobs", type=int, default=1, help="changes tried at the same time (default 1)")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the result as Markdown")
    parser.add_argument("--list", action="store_true", help="print the names and rules, and run nothing")
    options = parser.parse_args(argv)
    unknown = set(options.only or ()) - {change.name for change in CHANGES}
    if unknown:
        parser.error(f"no change is called {', '.join(sorted(unknown))}; --list prints the names")
    if options.table and options.only:
        parser.error("--table wants all changes; leave --only out")
    if options.jobs < 1:
        parser.error(f"--jobs is {options.jobs}; expected 1 or more")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Try the changes; the exit code."""
    options = arguments(argv)
    changes = [change for change in CHANGES if not options.only or change.name in options.only]
    if options.list:
        for change in changes:
            print(f"{change.name:32} {change.c}: {change.rule}")
        return 0
    with tempfile.TemporaryDirectory(prefix="vmglue-mutation-") as name:
        tree = Path(name)  # all copies are of this one, so that nobody's work in the repository disturbs the result
        copy_tree(ROOT, tree)
        with ThreadPoolExecutor(1) as beside:
            unchanged = beside.submit(baseline, tree, changes)
            outcomes = attempt_all(tree, changes, options.jobs)
            broken = unchanged.result()
    if broken:
        print(f"{broken}\nthe tests fail without any change: nothing can be concluded", file=sys.stderr)
        return 1
    if options.table:
        options.table.write_text(table(outcomes))
    print(summary(outcomes))
    return 0 if all(outcome.verdict == "killed" for outcome in outcomes) else 1


def attempt_all(tree: Path, changes: Sequence[Change], jobs: int) -> list[Outcome]:
    """Try changes, `jobs` at a time, and print each result when it is there."""
    printing, done = threading.Lock(), 0

    def tried(change: Change) -> Outcome:
        nonlocal done
        outcome = attempt(tree, change)
        with printing:
            done += 1
            place = f"[{done}/{len(changes)}]"
            print(f"{place:9} {outcome.verdict:8} {change.name}  {outcome.by}  {outcome.seconds:.1f} s", flush=True)
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(tried, changes))


if __name__ == "__main__":
    sys.exit(main())
