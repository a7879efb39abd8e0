"""Shapes of JSON values: each reads a value strictly, fills in defaults and names the field that is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

Reader = Callable[[Any, str], Any]
"""Takes a value and the path of its field; returns the value as the drivers use it."""

REQUIRED: Any = object()
"""Stands for the default of a field that must be there."""

INT_MIN, INT_MAX = -(1 << 31), (1 << 31) - 1
_HEX = re.compile(r"0x(?:0|[1-9a-f][0-9a-f]{0,15})")


class ShapeError(Exception):
    """A value does not have its shape.

    Attributes:
        field: Path of the field, for example ``given.processes[0].flags``.
        problem: What it holds and what it should hold.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


def shown(value: Any) -> str:
    """A value in one short line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _expect(condition: bool, path: str, value: Any, expected: str) -> None:
    if not condition:
        raise ShapeError(path, f"{shown(value)} found, {expected} expected")


def integer(low: int = INT_MIN, high: int = INT_MAX) -> Reader:
    """An integer of a range; without bounds, a C int."""

    def read(value: Any, path: str) -> Any:
        _expect(type(value) is int and low <= value <= high, path, value, f"an integer from {low} to {high}")
        return value

    return read


def flag(value: Any, path: str) -> Any:
    """A truth value."""
    _expect(type(value) is bool, path, value, "true or false")
    return value


def text(value: Any, path: str) -> Any:
    """A string that is not empty."""
    _expect(isinstance(value, str) and value != "", path, value, "a string that is not empty")
    return value


def word(value: Any, path: str) -> Any:
    """A 64-bit number as a hex string; read as an int."""
    matches = isinstance(value, str) and _HEX.fullmatch(value) is not None
    _expect(matches, path, value, 'a hex string such as "0x1000", lower case, no leading zeros')
    return int(value, 16)


def choice(*names: str) -> Reader:
    """One of some names."""

    def read(value: Any, path: str) -> Any:
        _expect(isinstance(value, str) and value in names, path, value, f"one of {', '.join(names)}")
        return value

    return read


def letters(alphabet: str) -> Reader:
    """A string of letters of an alphabet."""

    def read(value: Any, path: str) -> Any:
        _expect(isinstance(value, str) and set(value) <= set(alphabet), path, value, f"letters of {alphabet!r}")
        return value

    return read


def nullable(reader: Reader) -> Reader:
    """Null, or a value of another shape."""
    return lambda value, path: None if value is None else reader(value, path)


def listed(reader: Reader) -> Reader:
    """A list of values of one shape."""

    def read(value: Any, path: str) -> Any:
        _expect(isinstance(value, list), path, value, "a list")
        return [reader(entry, f"{path}[{index}]") for index, entry in enumerate(value)]

    return read


def table(reader: Reader, key: Reader = text) -> Reader:
    """An object whose keys are names or numbers."""

    def read(value: Any, path: str) -> Any:
        _expect(isinstance(value, dict), path, value, "an object")
        return {key(name, path): reader(entry, f"{path}.{name}") for name, entry in value.items()}

    return read


def number_key(low: int) -> Reader:
    """The key of a table that is a decimal number in quotes; read as an int."""

    def read(value: Any, path: str) -> Any:
        _expect(value.isascii() and value.isdigit() and int(value) >= low, path, value, f"a number from {low} as key")
        return int(value)

    return read


def record(fields: Mapping[str, tuple[Reader, Any]]) -> Reader:
    """An object with known keys: of each its shape and its default (`REQUIRED`: it must be there)."""

    def read(value: Any, path: str) -> Any:
        _expect(isinstance(value, dict), path, value, "an object")
        for name in value:
            if name not in fields:
                raise ShapeError(_join(path, name), f"unknown key; {_known(name, fields)}")
        for name, (_, default) in fields.items():
            if default is REQUIRED and name not in value:
                raise ShapeError(_join(path, name), "missing")
        return {
            name: reader(value[name], _join(path, name)) if name in value else fresh(default)
            for name, (reader, default) in fields.items()
        }

    return read


def variant(tag: str, shapes: Mapping[str, Reader]) -> Reader:
    """An object whose other keys depend on one of its keys."""

    def read(value: Any, path: str) -> Any:
        _expect(isinstance(value, dict), path, value, "an object")
        if tag not in value:
            raise ShapeError(_join(path, tag), "missing")
        kind = choice(*sorted(shapes))(value[tag], _join(path, tag))
        rest = {name: entry for name, entry in value.items() if name != tag}
        return {tag: kind, **shapes[kind](rest, path)}

    return read


def fresh(default: Any) -> Any:
    """A default that nobody else holds."""
    if isinstance(default, dict):
        return dict(default)
    return list(default) if isinstance(default, list) else default


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _known(name: str, fields: Sequence[str] | Mapping[str, Any]) -> str:
    nearest = get_close_matches(name, list(fields), n=1)
    return f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(fields)}"
