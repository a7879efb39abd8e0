"""C widths and what all naive models share."""

from __future__ import annotations

from typing import Any

PAGE_SIZE = 4096
WORD = 1 << 64

Json = dict[str, Any]
"""A JSON object of a case."""


class Panic(Exception):
    """panic() or a failed assertion; its text is the message."""


class Livelock(Exception):
    """A call that would never return; the processes that are retried for ever."""

    def __init__(self, processes: list[str]) -> None:
        super().__init__(f"retried for ever: {processes}")
        self.processes = processes


def c_int(value: int) -> int:
    """The C int with the low 32 bits of a value."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def divide(dividend: int, divisor: int) -> int:
    """C's signed division, toward zero."""
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def trunc_page(address: int) -> int:
    """trunc_page of a vm_offset_t."""
    return address % WORD // PAGE_SIZE * PAGE_SIZE


def round_page(address: int) -> int:
    """round_page of a vm_offset_t; it wraps."""
    return trunc_page(address + PAGE_SIZE - 1)


def play(model: Any, when: list[Json]) -> Json:
    """Make the calls of a case on a model: a method for each kind of call, and `final`."""
    steps: list[Json] = []
    for call in when:
        arguments = {key: value for key, value in call.items() if key != "call"}
        try:
            steps.append(getattr(model, call["call"])(**arguments))
        except Panic as panic:
            return {"steps": [*steps, {"panic": str(panic)}], "final": {"stopped": "panic"}}
        except Livelock as livelock:
            steps.append({"livelock": True, "processes": livelock.processes})
            return {"steps": steps, "final": {"stopped": "livelock"}}
    return {"steps": steps, "final": model.final()}
