"""When the instances of a program start."""

from __future__ import annotations

from math import log

from clients.workload_model import Program
from hardware_sim.disk import splitmix64


def starts(program: Program, seed: int, stream: int) -> list[int]:
    """Virtual time of each instance's start, in microseconds, before the scheduler perturbs it.

    Args:
        program: Its first start, and how instances follow one another.
        seed: The machine's.
        stream: Number of the program: each has its own pseudo-random numbers.
    """
    if program.arrivals == "regular":
        return [program.start_us + number * program.start_every_us for number in range(program.count)]
    state, _ = splitmix64(seed ^ (stream + 1) << 32)
    times, now = [], program.start_us
    for _ in range(program.count):
        times.append(now)
        state, draw = splitmix64(state)
        now += round(-log(((draw >> 11) + 1) * 2.0**-53) * program.start_every_us)
    return times
