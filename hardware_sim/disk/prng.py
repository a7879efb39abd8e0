"""Pseudo-random numbers whose state is a plain integer, so that a checkpoint can write it down."""

from __future__ import annotations

_MASK64 = 0xFFFFFFFFFFFFFFFF


def splitmix64(state: int) -> tuple[int, int]:
    """One step of the splitmix64 generator (Steele, Lea, Flood 2014).

    Returns:
        The next state and a pseudo-random uint64.
    """
    state = (state + 0x9E3779B97F4A7C15) & _MASK64
    mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK64
    return state, mixed ^ (mixed >> 31)
