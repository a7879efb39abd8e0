"""Who reaches a branch: a tracer that watches the lines of the table while cases and tests run."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from services.runtime.errors import KernelPanic
from tests.fidelity.branch import Branch, Spot

ROOT = Path(__file__).parents[2]
_Watched = dict[int, list[tuple[Branch, CodeType | None]]]


class NoSuchLine(Exception):
    """A row of the table names a line that is not there."""


def lines_of(spot: Spot) -> list[int]:
    """Numbers of the lines that a spot means.

    Raises:
        NoSuchLine: There are none.
    """
    text = (ROOT / spot.file).read_text()
    source = text.splitlines()
    found = [
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name == spot.function
        for number in range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)
        if source[number - 1].strip().startswith(spot.anchor)
    ]
    if not found:
        raise NoSuchLine(f"{spot.file}: no line of {spot.function} begins with {spot.anchor!r}")
    return found


class Reach:
    """Watches branches.

    Attributes:
        label: What runs now: a case or a test.
        found: Whatever reached a branch, in order and once each.
    """

    def __init__(self, branches: list[Branch]) -> None:
        """Look every line up.

        Raises:
            NoSuchLine: One is not there.
        """
        self.label = ""
        self.found: dict[Branch, dict[str, None]] = defaultdict(dict)
        self._panics = [branch for branch in branches if branch.panic]
        self._watched: dict[tuple[str, str], _Watched] = defaultdict(lambda: defaultdict(list))
        for branch in branches:
            for spot in branch.spots:
                when = compile(spot.when, f"when of {branch.lines}", "eval") if spot.when else None
                watched = self._watched[str(ROOT / spot.file), spot.function]
                for line in lines_of(spot):
                    if not branch.panic:
                        watched[line].append((branch, when))

    @contextmanager
    def watching(self, label: str) -> Iterator[None]:
        """Trace what runs inside."""
        self.label = label
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)

    def _call(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        code = frame.f_code
        if code is KernelPanic.__init__.__code__:
            text = frame.f_locals["text"]
            for branch in self._panics:
                if text.startswith(branch.panic):
                    self.found[branch][self.label] = None
            return None
        watched = self._watched.get((code.co_filename, code.co_name))
        if watched is None:
            return None

        def line(frame: FrameType, event: str, _arg: Any) -> Any:
            if event == "line" and frame.f_lineno in watched:
                for branch, when in watched[frame.f_lineno]:
                    if when is None or eval(when, frame.f_globals, frame.f_locals):  # an expression of our own table
                        self.found[branch][self.label] = None
            return line

        return line
