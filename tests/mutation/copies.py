"""Copies of the tree in which changes are made, so that the tree itself never holds one."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.mutation.change import Change

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("services", "hardware_sim", "clients", "protos", "tests", "pyproject.toml")
_CASES = "tests/conformance/test_conformance.py::test_family_is_answered_as_by_the_c_code[local-{}]"


def copy_tree(tree: Path, folder: Path) -> None:
    """Copy what the tests need, with times, so that compiled loops that did not change are not compiled again."""
    for name in COPIED:
        source = tree / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy2(source, folder / name)


def unfit(tree: Path, change: Change) -> str:
    """Why a change does not fit the code any more; empty: it does."""
    file = tree / change.file
    if not file.is_file():
        return f"there is no {change.file}"
    text = file.read_text()
    found = text.count(change.old)
    if found != 1:
        return f"its old text is found {found} times in {change.file}, expected once"
    try:
        compile(text.replace(change.old, change.new), change.file, "exec")
    except SyntaxError as error:
        return f"what it makes of {change.file} is no Python: {error}"
    missing = [test for test in targets(tree, change) if not (tree / test.split("::")[0]).exists()]
    return f"there is no {', '.join(missing)}" if missing else ""


def apply(tree: Path, change: Change, folder: Path) -> None:
    """Make a copy of the tree with the change."""
    copy_tree(tree, folder)
    file = folder / change.file
    file.write_text(file.read_text().replace(change.old, change.new))


def targets(tree: Path, change: Change) -> list[str]:
    """What pytest is asked to run for a change."""
    families = {path.name[0]: path.stem for path in (tree / "tests/conformance").glob("*.jsonl")}
    return [_CASES.format(families[test]) if test in families else f"tests/{test}" for test in change.tests]
