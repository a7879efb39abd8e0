"""Sizes and durations as people write them: "24 MiB", "1.5 s"."""

from __future__ import annotations

import re
from decimal import Decimal

SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
"""Bytes of each unit of size."""
DURATIONS = {"us": 1, "ms": 1_000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000}
"""Microseconds of each unit of time."""

_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


def parse_size(text: object) -> int:
    """Bytes of a size such as "24 MiB".

    Raises:
        ValueError: It is not a size; the text says what is expected.
    """
    return _parse(text, SIZES, 'a size such as "24 MiB"')


def parse_duration(text: object) -> int:
    """Microseconds of a duration such as "1.5 s".

    Raises:
        ValueError: It is not a duration; the text says what is expected.
    """
    return _parse(text, DURATIONS, 'a duration such as "1.5 s"')


def format_size(size: int) -> str:
    """A size in the largest unit that divides it."""
    unit = max((u for u in SIZES if size % SIZES[u] == 0), key=SIZES.__getitem__)
    return f"{size // SIZES[unit]} {unit}" if size else "0 B"


def _parse(text: object, units: dict[str, int], expected: str) -> int:
    found = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[2] not in units:
        raise ValueError(f"expected {expected} ({', '.join(units)})")
    value = Decimal(found[1]) * units[found[2]]
    if value != int(value):
        raise ValueError(f"expected {expected}, a whole number of {next(iter(units))}")
    return int(value)
