"""Breaks the four cores on purpose and shows that tests notice: ``python -m tests.mutation --help``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console

from clients.exits import Exit
from clients.signals import Interrupted, Interrupts
from tests.mutation.change import Change
from tests.mutation.changes import CHANGES
from tests.mutation.copies import ROOT, apply, copy_tree, targets, unfit
from tests.mutation.isolated import CPU_SECONDS_MAX, run_tests
from tests.mutation.outcomes import KILLED, UNFIT, Outcome, judge, rows_of, summary, table

_EXAMPLES = """examples:
  python -m tests.mutation --jobs 2 --table docs/mutations.md    all of them, and write the table
  python -m tests.mutation --only threshold1-strict              one, to see what notices it
  python -m tests.mutation --only threshold1-strict --table docs/mutations.md
                                                                 one, and renew its row
  python -m tests.mutation --list                                the names and the rules that they break

exit codes: 0 all were noticed; 1 one was not, or does not fit the code any more, or the tests fail without any;
2 the command is wrong; 130 Ctrl-C."""


def baseline(tree: Path, changes: Sequence[Change], stop: Interrupts) -> str:
    """Run the tests of all changes without a change; what fails, empty if nothing does."""
    tests = list(dict.fromkeys(test for change in changes for test in targets(tree, change)))
    ran = run_tests(tree, tests, stop, cpu_seconds=5 * CPU_SECONDS_MAX)
    return "" if ran.code == 0 else ran.output[-2000:] or "they did not end"


def attempt(tree: Path, change: Change, stop: Interrupts) -> Outcome:
    """Make a change in a copy of its own and run its tests."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vmglue-mutation-") as name:
        apply(tree, change, Path(name))
        ran = run_tests(Path(name), targets(tree, change), stop)
    return Outcome(change, *judge(ran), time.monotonic() - began)


def attempts(
    tree: Path, changes: Sequence[Change], jobs: int, stop: Interrupts, begun: Callable[[Change], None]
) -> Iterator[Outcome]:
    """Try changes, `jobs` at a time; each outcome when it is there.

    Raises:
        Interrupted: A signal asked for the end; nothing runs any more.
    """

    def one(change: Change) -> Outcome:
        stop.check()
        begun(change)
        return attempt(tree, change, stop)

    with ThreadPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(one, change) for change in changes]):
            yield future.result()


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation",
        description=f"Make {len(CHANGES)} small changes to the cores, one at a time in a temporary copy, and show "
        f"which test notices each. Tests that a change keeps from ending are stopped after {CPU_SECONDS_MAX} s of "
        "processor time, and have noticed it.",
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
        return Exit.OK
    try:
        with Interrupts() as stop:
            outcomes = try_all(changes, options.jobs, stop)
    except Interrupted as interrupted:
        print("interrupted; the copies are removed and nothing is written", file=sys.stderr)
        return interrupted.exit
    if outcomes is None:
        return Exit.FAILED
    if options.table:
        write_table(options.table, outcomes)
    print(summary([outcome.verdict for outcome in outcomes]))
    return Exit.OK if all(outcome.verdict == KILLED for outcome in outcomes) else Exit.FAILED


def try_all(changes: Sequence[Change], jobs: int, stop: Interrupts) -> list[Outcome] | None:
    """Try changes and print each result when it is there; None: the tests fail without any change.

    All copies are made of one, so that nobody's work in the repository disturbs the result.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="vmglue-mutation-") as name, console.status("") as status:
        tree = Path(name)
        copy_tree(ROOT, tree)
        reasons = {change: unfit(tree, change) for change in changes}
        outcomes = [Outcome(change, UNFIT, why) for change, why in reasons.items() if why]
        for outcome in outcomes:
            console.print(f"{outcome.change.name} {UNFIT}: {outcome.by}")
        fitting = [change for change in changes if not reasons[change]]
        status.update("the tests without any change")
        broken = baseline(tree, fitting, stop)
        if broken:
            print(f"{broken}\nthe tests fail without any change: nothing can be concluded", file=sys.stderr)
            return None
        for outcome in attempts(tree, fitting, jobs, stop, lambda change: status.update(f"trying {change.name}")):
            outcomes.append(outcome)
            place = f"[{len(outcomes)}/{len(changes)}]"
            console.print(f"{place:9} {outcome.verdict:8} {outcome.change.name}  {outcome.by}  {outcome.seconds:.1f} s")
    return outcomes


def write_table(file: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the table; rows of changes that were not tried now stay as they are."""
    rows = rows_of(file.read_text()) if file.exists() else {}
    rows |= {outcome.change.name: outcome.row() for outcome in outcomes}
    file.write_text(table({change.name: rows[change.name] for change in CHANGES if change.name in rows}))


if __name__ == "__main__":
    sys.exit(main())
