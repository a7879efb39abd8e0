"""The clock: C integers, and the kernel's wrapping `ticks` out of virtual microseconds."""

from __future__ import annotations

INT_MAX = 2**31 - 1
"""Largest C int."""
INT_MIN = -(2**31)
"""Smallest C int."""
US_PER_SECOND = 1_000_000
"""Virtual microseconds in a second."""


def c_int(value: int) -> int:
    """The C int with the low 32 bits of `value`."""
    return ((value + 2**31) & 0xFFFFFFFF) - 2**31


def c_uint(value: int) -> int:
    """The C u_int with the low 32 bits of `value`."""
    return value & 0xFFFFFFFF


def c_div(dividend: int, divisor: int) -> int:
    """Division of C ints: toward zero."""
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def initial_ticks(hz: int) -> int:
    """`ticks` at boot (initclocks): ten minutes before the C int wraps."""
    return c_int(INT_MAX - hz * 600)


def ticks_at(start_ticks: int, hz: int, now_us: int) -> int:
    """`ticks`, a wrapping C int, at virtual time `now_us`."""
    return ((start_ticks + now_us * hz // US_PER_SECOND + 2**31) & 0xFFFFFFFF) - 2**31
