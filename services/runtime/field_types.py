"""Values against the annotations of their fields: what a snapshot brings must be what the program would have written.

`check` knows the types of which the cores' states are made: numbers, text, containers, arrays, enumerations, and
classes with annotated fields. Of an array the annotation tells the type of its elements; it has one dimension, or as
many as an int in `Annotated` says. An int of a port's width holds what the width can. A class may have a method
`misfit`, which answers in what its fields contradict each other; it is asked when the types of everything are right.
"""

from __future__ import annotations

import types
import typing
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np

from services.runtime.snapshot import SnapshotError, form_of

_WIDTHS = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "uint32": (0, (1 << 32) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint64": (0, (1 << 64) - 1),
}
"""What the widths of the ports hold."""
_SHOWN = 60
_PLAIN: dict[type, tuple[type, ...]] = {
    bool: (bool, np.bool_),
    int: (int, np.integer),
    float: (float, np.floating, int, np.integer),
    str: (str,),
    bytes: (bytes,),
    bytearray: (bytearray,),
    type(None): (type(None),),
}
"""What a field of a plain type may hold; an int is a float, an enumeration of ints an int, a truth value no number."""


class Misfit(SnapshotError):
    """A value that its field cannot hold.

    Attributes:
        path: Where it is: fields, keys and positions from the root.
        value: The value, shortened.
        expected: What would be right.
    """

    def __init__(self, path: str, value: object, expected: str) -> None:
        shown = f"{value!r:.{_SHOWN}}"
        super().__init__(f"{path}: {shown} is refused; expected {expected}")
        self.path, self.value, self.expected = path, shown, expected


@dataclass(frozen=True, slots=True)
class FieldsOf:
    """Mark of a `dict[str, Any]`, in `Annotated`: each key is a field of the class, its value one for that field."""

    cls: type
    """The class."""


def check(value: Any, hint: Any, path: str) -> None:
    """Compare a value, and whatever it holds, with an annotation.

    Args:
        value: The value.
        hint: The annotation.
        path: What the value is called.

    Raises:
        Misfit: It does not fit.
        TypeError: The annotation is of a kind that no state has.
    """
    checker = _Checker()
    checker.check(value, hint, path)
    for found, where in checker.objects():
        misfit: Callable[[], str] | None = getattr(found, "misfit", None)
        if misfit is not None and (problem := misfit()):
            raise Misfit(where, found, problem)


class _Checker:
    """One check: an object that occurs twice is looked at once."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], tuple[Any, str]] = {}
        self._hints: dict[type, dict[str, Any]] = {}

    def _hints_of(self, cls: type) -> dict[str, Any]:
        if cls not in self._hints:
            self._hints[cls] = typing.get_type_hints(cls, include_extras=True)
        return self._hints[cls]

    def objects(self) -> Iterator[tuple[Any, str]]:
        """Objects with fields that were checked, and where they were found first."""
        yield from self._seen.values()

    def check(self, value: Any, hint: Any, path: str) -> None:
        """Compare a value with an annotation."""
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if hint is Any:
            return
        if origin is typing.Annotated:
            self._annotated(value, args[0], args[1], path)
        elif origin in (typing.Union, types.UnionType):
            self._one_of(value, args, path)
        elif origin is np.ndarray:
            _array(value, hint, 1, path)
        elif origin in (list, deque, tuple, dict, Mapping):
            self._container(value, dict if origin is Mapping else origin, args, path)
        elif hint in _PLAIN or hint is None:
            _of_type(value, hint or type(None), path)
        elif isinstance(hint, type):
            self._object(value, hint, path)
        else:
            raise TypeError(f"{path}: no state is annotated with {hint!r}")

    def _annotated(self, value: Any, hint: Any, mark: Any, path: str) -> None:
        if isinstance(mark, FieldsOf):
            _of_type(value, dict, path)
            hints = self._hints_of(mark.cls)
            for name, part in value.items():
                if name not in hints:
                    raise Misfit(path, name, f"fields of {mark.cls.__name__}")
                self.check(part, hints[name], f"{path}.{name}")
        elif typing.get_origin(hint) is np.ndarray:
            _array(value, hint, mark, path)
        else:
            self.check(value, hint, path)
            if mark in _WIDTHS and not _WIDTHS[mark][0] <= value <= _WIDTHS[mark][1]:
                raise Misfit(path, value, mark)

    def _one_of(self, value: Any, hints: tuple[Any, ...], path: str) -> None:
        """A union: the one that the value's class names, if there is one, tells what is wrong inside."""
        for hint in hints:
            if type(value) is (typing.get_origin(hint) or hint):
                return self.check(value, hint, path)
        for hint in hints:
            try:
                return self.check(value, hint, path)
            except Misfit:
                continue
        raise Misfit(path, value, " or ".join(_name(hint) for hint in hints))

    def _container(self, value: Any, cls: type, args: tuple[Any, ...], path: str) -> None:
        _exactly(value, cls, path)
        if cls is dict:
            self._all(value.keys(), args[0], lambda key: f"key of {path}[{key!r}]", list(value))
            self._all(value.values(), args[1], lambda key: f"{path}[{key!r}]", list(value))
        elif cls is tuple and args[-1] is not Ellipsis:
            if len(value) != len(args):
                raise Misfit(path, value, f"{len(args)} values")
            for number, (part, hint) in enumerate(zip(value, args, strict=True)):
                self.check(part, hint, f"{path}[{number}]")
        else:
            self._all(value, args[0], lambda number: f"{path}[{number}]", range(len(value)))

    def _all(self, values: Any, hint: Any, name: Callable[[Any], str], keys: Any) -> None:
        """Each of many values; plain ones are compared by the set of their types."""
        if hint in (int, str, bytes) and set(map(type, values)) <= {hint}:
            return
        for key, part in zip(keys, values, strict=True):
            self.check(part, hint, name(key))

    def _object(self, value: Any, cls: type, path: str) -> None:
        """An enumeration, a path, a number of numpy's, or an object with fields."""
        if issubclass(cls, Enum | PurePath | np.generic):
            if not isinstance(value, PurePath if issubclass(cls, PurePath) else cls):  # paths are read as base names
                raise Misfit(path, value, _name(cls))
            return
        form = form_of(cls)
        if form is None:
            raise TypeError(f"{path}: no state holds a {_name(cls)}")
        _exactly(value, cls, path)
        if (id(value), id(cls)) in self._seen:
            return
        self._seen[id(value), id(cls)] = value, path
        hints = self._hints_of(cls)
        for name in form.fields:
            if name not in hints:
                raise TypeError(f"{cls.__name__}.{name} is not annotated")
            self.check(getattr(value, name), hints[name], f"{path}.{name}")


def _exactly(value: Any, cls: type, path: str) -> None:
    """A value of this class, and of no other that is derived from it."""
    if type(value) is not cls:
        raise Misfit(path, value, _name(cls))


def _of_type(value: Any, hint: type, path: str) -> None:
    """A plain value; a truth value is no number."""
    if not isinstance(value, _PLAIN.get(hint, (hint,))) or (hint is not bool and isinstance(value, bool)):
        raise Misfit(path, value, _name(hint))


def _array(value: Any, hint: Any, rank: int, path: str) -> None:
    """An array of the annotated elements and dimensions."""
    (element,) = typing.get_args(typing.get_args(hint)[1])
    if not isinstance(value, np.ndarray) or value.dtype != np.dtype(element) or value.ndim != rank:
        raise Misfit(path, value, f"an array of {np.dtype(element).name} with {rank} dimension{'s' * (rank != 1)}")


def _name(hint: Any) -> str:
    return "nothing" if hint in (None, type(None)) else getattr(hint, "__name__", str(hint))
