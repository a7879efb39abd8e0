"""docs/fidelity.md names functions, lines, rpcs and tests that exist, and every function of the C file.

That its tests ran, and that cases and tests reach its branches, is checked by `python -m tests.fidelity --check`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from services.kstack.stack_use import intr_prof_stack_use
from services.kstack.state import State
from services.ports.kstack import KstackPort, StackSample
from services.ports.physmem import PhysmemPort
from services.ports.scheduler import SchedulerPort
from services.runtime.context import Context
from services.runtime.errors import KernelPanic, kassert
from services.runtime.events import Kind
from tests.fidelity.__main__ import unreached
from tests.fidelity.branch import Spot, at
from tests.fidelity.memory_branches import USE
from tests.fidelity.ran import missing_tests, named_tests
from tests.fidelity.reach import NoSuchLine, Reach, lines_of
from tests.fidelity.statements import RANGES, numbers
from tests.fidelity.table import BRANCHES, all_branches
from tests.mutation.changes import CHANGES

ROOT = Path(__file__).parents[2]
LAST_LINE = 1095
FIRST_LINES = re.compile(r"(?<![-\w])\d+")
"""First lines of ranges: the last may be a brace."""
C_FUNCTIONS = {
    "kernacc", "useracc", "vslock", "vsunlock",
    "vm_imgact_hold_page", "vm_imgact_map_page", "vm_imgact_unmap_page", "vm_sync_icache",
    "vm_thread_new", "vm_thread_stack_dispose", "vm_thread_dispose", "vm_thread_stack_lowmem", "kstack_cache_init",
    "intr_prof_stack_use", "vm_thread_swapout", "vm_thread_swapin", "vm_forkproc", "vm_waitproc",
    "faultin", "swapper", "kick_proc0", "swapout_procs", "swapclear", "swapout",
}  # fmt: skip
PORTS = {"PhysmemService": PhysmemPort, "KstackService": KstackPort, "SchedulerService": SchedulerPort}


def places_of(row: list[str]) -> list[tuple[str, str]]:
    """(file, function) where a function lives here."""
    return re.findall(r"`([\w/]+\.py)` `(\w+)`", row[2])


def function_rows() -> list[list[str]]:
    """Cells of the table of functions."""
    text = (ROOT / "docs/fidelity.md").read_text().split("## Functions")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_c_function_has_one_row_in_order():
    names = [row[0] for row in function_rows()]
    assert set(names) == C_FUNCTIONS
    assert len(names) == len(C_FUNCTIONS)
    ranges = [tuple(map(int, row[1].split("-"))) for row in function_rows()]
    assert ranges == sorted(ranges)
    assert all(1 < first < last <= LAST_LINE for first, last in ranges)


def test_named_functions_exist():
    for row in function_rows():
        places = places_of(row)
        assert places, f"{row[0]} names no place"
        for path, function in places:
            assert function in functions_of(ROOT / path), f"{row[0]}: there is no {function} in {path}"


def test_named_rpcs_exist():
    for row in function_rows():
        for service, rpc in re.findall(r"(\w+Service)\.(\w+)", row[3]):
            method = re.sub(r"(?<!^)(?=[A-Z])", "_", rpc).lower()
            method = re.sub(r"_(\d)", r"\1", method)
            assert hasattr(PORTS[service], method), f"{row[0]}: there is no {service}.{rpc}"


def test_named_cases_and_tests_exist():
    families = {path.name[0] for path in (ROOT / "tests/conformance").glob("*.jsonl")}
    for row in function_rows():
        for letters in re.findall(r"\b((?:[A-H], )*[A-H]) (?:played|model)", row[4]):
            assert set(letters.split(", ")) <= families
        for path in re.findall(r"`(tests/[\w/]+\.py)`", row[4]):
            assert (ROOT / path).exists(), f"{row[0]}: there is no {path}"


def defects() -> list[list[str]]:
    """Cells of the table of defects."""
    text = (ROOT / "docs/fidelity.md").read_text().split("## Defects and races")[1].split("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]


def test_every_kept_defect_is_shown_by_a_test():
    assert len(defects()) >= 12
    for defect, lines, shown_by in defects():
        assert all(1 < int(line) <= LAST_LINE for line in re.findall(r"\d+", lines)), defect
        found = re.fullmatch(r"`([\w/]+\.py)` `(test_\w+)`", shown_by)
        assert found, f"no test shows: {defect}"
        assert found[2] in functions_of(ROOT / found[1]), f"there is no {found[2]} in {found[1]}"


def test_every_function_has_its_branches_in_order_and_within_its_lines():
    ranges = {row[0]: tuple(map(int, row[1].split("-"))) for row in function_rows()}
    assert list(BRANCHES) == [row[0] for row in function_rows()]
    for function, branches in BRANCHES.items():
        numbers = [[int(number) for number in re.findall(r"\d+", branch.lines)] for branch in branches]
        first, last = ranges[function]
        assert all(first <= number <= last for found in numbers for number in found), function
        assert all(found == sorted(found) for found in numbers), function


def test_lines_that_are_named_hold_code():
    code = set(map(str, numbers(RANGES)))
    places = {f"{function} {branch.lines}": branch.lines for function in BRANCHES for branch in BRANCHES[function]}
    places |= {change.name: change.c for change in CHANGES if ".c" not in change.c}
    places |= {defect: lines for defect, lines, _ in defects() if "comment" not in defect}
    wrong = {place: lines for place, lines in places.items() if not set(FIRST_LINES.findall(lines)) <= code}
    assert wrong == {}


def test_every_branch_lives_on_lines_that_exist_and_is_in_the_document():
    document = (ROOT / "docs/fidelity.md").read_text()
    for branch in all_branches():
        assert all(lines_of(spot) for spot in branch.spots)
        assert f"| {branch.lines} | {branch.rule} |" in document
        for test in branch.tests:
            path, name = test.split("::")
            assert name in functions_of(ROOT / path), test


def test_a_branch_is_reached_by_who_takes_it_and_by_nobody_else():
    user, kernel = (Spot(USE, "intr_prof_stack_use", "return", when) for when in ("sample.from_user", "False"))
    taken, never, panics = at("1", "taken", user), at("2", "never", kernel), at("3", "panics", user, panic="ouch")
    reach = Reach([taken, never, panics])
    with reach.watching("before"):
        intr_prof_stack_use(Context("kstack"), State(), StackSample(0x1000, 4, False, 0x1800))
    with reach.watching("user"):
        intr_prof_stack_use(Context("kstack"), State(), StackSample(from_user=True))
    intr_prof_stack_use(Context("kstack"), State(), StackSample(from_user=True))
    with reach.watching("panic"), pytest.raises(KernelPanic):
        kassert(False, "ouch: it hurts", "anybody")
    assert {branch.rule: list(found) for branch, found in reach.found.items()} == {
        "taken": ["user"],
        "panics": ["panic"],
    }
    assert unreached(reach, never) == ["nobody gets to 2: never"]
    for wrong in (Spot(USE, "intr_prof_stack_use", "no such line"), Spot(USE, "nobody", "return")):
        with pytest.raises(NoSuchLine):
            lines_of(wrong)


def test_events_name_a_line_of_their_function_or_none():
    ranges = {row[0]: tuple(map(int, row[1].split("-"))) for row in function_rows()}
    for kind in Kind:
        first, last = ranges.get(kind.function, (0, 0))
        assert first <= kind.line <= last, f"{kind.name} is said to be of {kind.function}, line {kind.line}"


def test_what_did_not_run_or_was_skipped_is_noticed(tmp_path):
    record = tmp_path / "ran"
    record.write_text("passed tests/a.py::test_one[x]\nskipped tests/a.py::test_two\npassed tests/b.py::test_three\n")
    document = "`tests/a.py` `test_one`, `tests/a.py` `test_two`, `tests/b.py`; `tests/c.py` `test_four`"
    named = named_tests(document)
    assert named == [
        ("tests/a.py", "test_one"),
        ("tests/a.py", "test_two"),
        ("tests/b.py", ""),
        ("tests/c.py", "test_four"),
    ]
    assert missing_tests(named, record) == [
        "tests/a.py::test_two did not pass: skipped",
        "tests/c.py::test_four did not pass: it did not run",
    ]
