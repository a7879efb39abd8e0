"""Checkpoints looked at and compared: every value has a path, such as `physmem.core.rest.cnt.v_free_count`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_TEXT_MAX = 60
_MISSING = object()
_FIXED = (bytes, bytearray, np.ndarray)


def at_path(tree: Any, path: str) -> Any:
    """The value at a path; an empty one means all.

    Raises:
        KeyError: There is none; the text says where the path ends.
    """
    for name in path.split(".") if path else ():
        inner = dict(_inner(tree))
        if name not in inner:
            known = ", ".join(list(inner)[:12]) or "no more"
            raise KeyError(f"{path}: there is no {name!r}; there is {known}")
        tree = inner[name]
    return tree


def lines(tree: Any, path: str = "") -> Iterator[str]:
    """A line for each value below a path."""
    inner = list(_inner(tree))
    if not inner:
        yield f"{path} = {_told(tree)}"
    for name, value in inner:
        yield from lines(value, _below(path, name))


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """A line for each value that is not the same in two trees."""
    if type(old) is not type(new) or isinstance(old, _FIXED) or not (inner_old := dict(_inner(old))):
        if not _same(old, new):
            yield f"{path}: {_changed(old, new)}"
        return
    inner_new = dict(_inner(new))
    for name in dict.fromkeys([*inner_old, *inner_new]):
        yield from differences(inner_old.get(name, _MISSING), inner_new.get(name, _MISSING), _below(path, name))


def _inner(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a value that have names or places."""
    if isinstance(value, Mapping):
        yield from ((str(key), part) for key, part in value.items())
    elif isinstance(value, (list, tuple, deque)):
        yield from ((str(place), part) for place, part in enumerate(value))


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _same(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return False
    if isinstance(old, np.ndarray):
        return bool(old.dtype == new.dtype and np.array_equal(old, new))
    return bool(old == new)


def _changed(old: Any, new: Any) -> str:
    """How two values differ: for arrays and bytes of one size, where first and in how many places."""
    if isinstance(old, _FIXED) and type(old) is type(new) and len(old) == len(new):
        before, after = (
            value.reshape(-1) if isinstance(value, np.ndarray) else np.frombuffer(value, np.uint8)
            for value in (old, new)
        )
        if before.shape == after.shape:
            places = np.flatnonzero(before != after)
            first = places[0]
            return f"{len(places)} of {len(before)} differ, first at {first}: {before[first]} -> {after[first]}"
    return f"{_told(old)} -> {_told(new)}"


def _told(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    text = repr(value)
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 3] + "..."
