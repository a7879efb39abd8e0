"""Reads files of conformance cases, strictly: what is malformed is named by file, line and field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from clients.conform.families import FAMILIES, GIVEN, WHEN, Json
from clients.conform.references import check_names
from clients.conform.shape import REQUIRED, ShapeError, choice, listed, record, shown, text
from clients.exits import BadInput


class Malformed(BadInput):
    """A file is not in the format; the text is one line: file, line, field, what is wrong."""

    def __init__(self, path: Path, line: int, field: str, problem: str) -> None:
        where = f"{path}:{line}" if line else str(path)
        super().__init__(f"{where}: {field}: {problem}" if field else f"{where}: {problem}")
        self.path, self.line, self.field, self.problem = path, line, field, problem


@dataclass(frozen=True, slots=True)
class Case:
    """One case, its defaults filled in.

    Attributes:
        id: Name of the case.
        family: Family of C functions.
        note: What it is about; may be empty.
        given: The situation before the first call.
        when: The calls.
        steps: Expected result of each call.
        final: Expected state after the last call.
    """

    id: str
    family: str
    note: str
    given: Json
    when: list[Json]
    steps: list[Json]
    final: Json


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Case files behind paths: a directory stands for the .jsonl files in it.

    Raises:
        Malformed: A path does not exist, or there is no such file in a directory.
    """
    found: dict[Path, None] = {}
    for path in paths:
        files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not files or not files[0].exists():
            raise Malformed(path, 0, "", "no .jsonl file there" if path.is_dir() else "no such file")
        found.update(dict.fromkeys(files))
    return list(found)


def read_cases(path: Path) -> list[Case]:
    """The cases of one file.

    Raises:
        Malformed: The file cannot be read or is not in the format.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise Malformed(path, 0, "", error.strerror or str(error)) from error
    if not lines:
        raise Malformed(path, 1, "", "no case in the file")
    return list(_cases(path, lines))


def _cases(path: Path, lines: list[bytes]) -> Iterator[Case]:
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        try:
            case = read_case(_decode(line))
            if case.id in seen:
                raise ShapeError("id", f"{case.id} is used twice")
        except ShapeError as error:
            raise Malformed(path, number, error.field, error.problem) from error
        seen.add(case.id)
        yield case


def _decode(line: bytes) -> Any:
    """The JSON value of a line; numbers are integers and no key comes twice."""

    def refuse_number(found: str) -> NoReturn:
        raise ShapeError("line", f"{found} is not an integer")

    def once(pairs: list[tuple[str, Any]]) -> Json:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise ShapeError(key, "the key comes twice in one object")
        return dict(pairs)

    try:
        return json.loads(
            line.decode(), parse_float=refuse_number, parse_constant=refuse_number, object_pairs_hook=once
        )
    except UnicodeDecodeError as error:
        raise ShapeError("line", f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ShapeError("line", f"not JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise ShapeError("line", f"not JSON of this format: {error}") from error


def _anything(value: Any, path: str) -> Any:
    del path
    return value


def _object(value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise ShapeError(path, f"{shown(value)} found, an object expected")
    return value


_CASE = record(
    {
        "id": (text, REQUIRED),
        "family": (choice(*FAMILIES), REQUIRED),
        "functions": (listed(text), []),
        "note": (text, ""),
        "given": (_anything, REQUIRED),
        "when": (_anything, REQUIRED),
        "then": (record({"steps": (listed(_object), REQUIRED), "final": (_object, REQUIRED)}), REQUIRED),
    }
)


def read_case(value: Any) -> Case:
    """A case from its JSON value.

    Raises:
        ShapeError: It is not in the format.
    """
    case = _CASE(value, "")
    when = WHEN[case["family"]](case["when"], "when")
    steps, final = case["then"]["steps"], case["then"]["final"]
    stopped = bool(steps) and ("panic" in steps[-1] or "livelock" in steps[-1])
    if len(steps) != len(when) and not (stopped and len(steps) < len(when)):
        raise ShapeError("then.steps", f"{len(steps)} results for {len(when)} calls")
    given = GIVEN[case["family"]](case["given"], "given")
    check_names(case["family"], given, when)
    return Case(case["id"], case["family"], case["note"], given, when, steps, final)
