"""Writes the table of branches in docs/fidelity.md, or checks it: ``python -m tests.fidelity --help``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.conform.cases import read_cases
from clients.conform.families import FAMILIES
from clients.conform.runner import play
from clients.system import System
from tests.fidelity.branch import Branch
from tests.fidelity.ran import missing_tests, named_tests
from tests.fidelity.reach import ROOT, NoSuchLine, Reach
from tests.fidelity.table import BEGIN, DOCUMENT, END, all_branches, section


class _Watch:
    """Plugin of pytest: watches the test proper, not what stands around it."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Trace the test under its name."""
        with self._reach.watching(item.nodeid.split("[")[0]):
            return (yield)


def play_cases(reach: Reach) -> int:
    """Play all public cases in the local wiring; how many there were."""
    cases = [case for family in FAMILIES for case in read_cases(ROOT / f"tests/conformance/{family}.jsonl")]
    with System.local(allow_inject=True) as system:
        for case in cases:
            with reach.watching(case.id):
                play(system.kernel, case)
    return len(cases)


def run_tests(reach: Reach, tests: list[str]) -> bool:
    """Run tests in this process, watched; False: one failed."""
    return (
        pytest.main(["-q", "-p", "no:cacheprovider", "-k", "not grpc", *tests], [_Watch(reach)]) == pytest.ExitCode.OK
    )


def unreached(reach: Reach, branch: Branch) -> list[str]:
    """Sentences about a branch that nobody, or not each of its tests, gets to."""
    found = reach.found.get(branch, {})
    problems = [f"{test} does not get to {branch.lines}: {branch.rule}" for test in branch.tests if test not in found]
    if not found:
        problems.append(f"nobody gets to {branch.lines}: {branch.rule}")
    return problems


def functions_of(document: str) -> dict[str, tuple[str, str]]:
    """Lines and rpc of each C function, from the table of functions."""
    text = document.split("## Functions")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return {row[0]: (row[1], row[3]) for row in rows[2:]}


def main(arguments: list[str]) -> int:
    """Exit code: 0 as it should be, 1 not."""
    parser = argparse.ArgumentParser(prog="python -m tests.fidelity", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; end with 1 if the document is out of date"
    )
    parser.add_argument(
        "--ran", type=Path, help="what passed before, a test a line: every test that is named must be in it"
    )
    options = parser.parse_args(arguments)
    try:
        reach = Reach(all_branches())
    except NoSuchLine as problem:
        print(f"fidelity: {problem}", file=sys.stderr)
        return 1
    cases = play_cases(reach)
    passed = run_tests(reach, sorted({test for branch in all_branches() for test in branch.tests}))
    problems = [problem for branch in all_branches() for problem in unreached(reach, branch)]
    document = DOCUMENT.read_text()
    before, _, rest = document.partition(BEGIN)
    after = END + (rest or document).partition(END)[2]
    made = re.sub(END + ".*", "", before, flags=re.DOTALL) + section(reach.found, functions_of(document)) + after
    if not options.check:
        DOCUMENT.write_text(made)
    elif made != document:
        problems.append("docs/fidelity.md is out of date; python -m tests.fidelity writes it")
    if options.ran is not None:
        problems += missing_tests(named_tests(made), options.ran)
    for problem in problems:
        print(f"fidelity: {problem}", file=sys.stderr)
    named = len(named_tests(made))
    print(f"fidelity: {len(all_branches())} branches, {cases} cases, {named} named tests or files of tests")
    return 0 if passed and not problems else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
