"""Workloads at random: everything that a workload can say, put together from a seed.

`vmglue run random:SEED` runs one, `vmglue workloads random:SEED` prints it, and `python -m clients.random_workload
FIRST COUNT` runs many with all checks on and prints the command that repeats each failure.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from clients.workload_model import CALLS, CLASSES, PATTERNS, Workload
from clients.workload_reader import read_workload
from hardware_sim.disk import KINDS, splitmix64
from services.runtime.errors import KernelPanic

UNREADABLE = ("vm_thread_swapin: cannot get kstack for proc:", "swap_pager_force_pagein: read from swap failed")
"""How the panics of a failed read begin: of a kernel stack (vm_glue.c:594), and of any page during swapoff."""
PREFIX = "random:"
"""What stands before the seed in a workload's name."""


_SWAP_STREAM = 0x73776170
"""Sets the draws of the swap devices apart from the others'."""
_MORE_STREAM = 0x6D6F7265
"""The same for the draws of processors, classes and limits."""
_TOLD_EVERY = 25
"""Seeds between two lines of progress."""


class _Draws:
    """Explicit pseudo-random choices."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        self._state, draw = splitmix64(self._state)
        return draw % limit

    def between(self, low: int, high: int) -> int:
        """A number from low to high."""
        return low + self.below(high - low + 1)

    def of(self, values: Sequence[str]) -> str:
        """One of some values."""
        return values[self.below(len(values))]

    def chance(self, percent: int) -> bool:
        """True so many times out of a hundred."""
        return self.below(100) < percent


def random_workload(seed: int) -> Workload:
    """The workload of a seed."""
    return read_workload(Path(f"{PREFIX}{seed}"), random_text(seed))


def random_text(seed: int) -> str:
    """Its TOML text, which any workload's file may hold."""
    return "\n".join(_lines(_Draws(seed), seed)) + "\n"


def _lines(draw: _Draws, seed: int) -> Iterator[str]:
    yield f'name = "random-{seed}"'
    yield "[machine]"
    yield f'ram = "{draw.between(512, 2048) * 4} KiB"'
    swap_draw = _Draws(seed ^ _SWAP_STREAM)
    swap, devices = _swap(swap_draw, (0, 2, 8, 64)[draw.below(4)] if draw.chance(30) else 64)
    yield f"swap = {swap}"
    yield f"seed = {draw.below(1 << 32)}"
    yield f"hz = {(100, 1000)[draw.below(2)]}"
    more = _Draws(seed ^ _MORE_STREAM)
    yield f"ncpu = {more.between(2, 8) if more.chance(30) else 1}"
    yield f"preempt_seed = {draw.between(1, 1 << 32) if draw.chance(30) else 0}"
    yield f"kernel.stack_swap = {'false' if draw.chance(15) else 'true'}"
    yield "[machine.sysctls]"
    yield f"vm.overcommit = {(1, 5)[swap_draw.below(2)] if swap_draw.chance(15) else 0}"
    yield f"vm.swap_idle_enabled = {draw.below(2)}"
    yield f"vm.swap_idle_threshold1 = {draw.between(0, 3)}"
    yield f"vm.swap_idle_threshold2 = {draw.between(0, 8)}"
    for number in range(draw.between(2, 6)):
        yield "[[programs]]"
        yield from _rights(more)
        yield from _program(draw, number)
    if devices > 1 and swap_draw.chance(60):
        yield from _administrator(swap_draw, devices)


def _administrator(draw: _Draws, devices: int) -> Iterator[str]:
    """A program that takes devices away and brings them back."""
    yield "[[programs]]"
    yield 'name = "admin"'
    for _ in range(draw.between(1, 4)):
        yield "[[programs.phases]]"
        yield f'pattern = "scan"\nmemory = "4 KiB"\nreferences = 8\nthink = "{draw.below(6000)} ms"'
        yield f"{draw.of(('swapon', 'swapoff', 'swapoff'))} = {draw.below(devices)}"


def _swap(draw: _Draws, mib: int) -> tuple[str, int]:
    """A size, or for a third of the seeds up to three devices that make about as much, half of them with faults.

    Returns:
        The value in TOML, and how many devices it has.
    """
    if not mib or not draw.chance(35):
        return f'"{mib} MiB"', 1
    count, faulty = draw.between(1, 3), draw.chance(50)
    return f"[{', '.join(_device(draw, mib * 1024 // count // 4, faulty) for _ in range(count))}]", count


def _device(draw: _Draws, pages: int, faulty: bool) -> str:
    faults = f"seed = {draw.below(1 << 32)}, write = {draw.below(20_000)}, latency = {draw.below(20_000)}"
    faults += f', stall = "{draw.between(1, 300)} ms", full = {draw.below(100_000)}'
    faults += f", read = {draw.below(2_000) if draw.chance(50) else 0}"
    device = f'kind = "{draw.of(tuple(KINDS))}", size = "{pages * 4} KiB"'
    return f"{{ {device}{f', faults = {{ {faults} }}' if faulty else ''} }}"


def _rights(draw: _Draws) -> Iterator[str]:
    """A class for a fifth of the programs, limits, and a time during which they are stopped."""
    if draw.chance(20):
        yield f'rtprio = {{ class = "{draw.of(tuple(CLASSES))}", priority = {draw.between(0, 31)} }}'
    if draw.chance(15):
        yield f'rss_limit = "{draw.between(4, 400) * 4} KiB"'
    if draw.chance(15):
        yield f'memlock_limit = "{draw.between(1, 64) * 4} KiB"'
    if draw.chance(15):
        stop = draw.below(5000)
        yield f'stop = "{stop} ms"'
        yield f'continue = "{stop + draw.below(15_000)} ms"'


def _program(draw: _Draws, number: int) -> Iterator[str]:
    yield f'start = "{draw.below(4000)} ms"'
    yield f'start_every = "{draw.between(1, 400)} ms"'
    yield f'arrivals = "{draw.of(("regular", "poisson"))}"'
    yield f"nice = {draw.between(-20, 20)}"
    kind = draw.below(10)
    if kind < 4:
        yield f'name = "daemon{number}"'
        yield f"count = {draw.between(1, 6)}"
        yield (
            f'daemon = {{ call = "{draw.of(tuple(CALLS))}", every = "{draw.between(200, 6000)} ms", '
            f'wakeups = {draw.between(1, 5)}, memory = "{draw.between(4, 64) * 4} KiB", '
            f"threads = {_threads(draw)} }}"
        )
    elif kind < 9:
        yield f'name = "made{number}"'
        yield f"count = {draw.between(1, 3)}"
        yield f"repeat = {draw.between(1, 2)}"
        yield f'think = "{draw.below(900)} ms"'
        for _ in range(draw.between(1, 2)):
            yield from _phase(draw)
    else:
        yield f'trace = "{draw.of(("daemon", "find"))}"'
        yield f"memory_scale = {draw.between(1, 2)}"


def _threads(draw: _Draws) -> int:
    return draw.between(2, 6) if draw.chance(25) else 1


_SEGMENTS = (16, 120, 700)
"""Sizes of System V segments, in pages."""


def _phase(draw: _Draws) -> Iterator[str]:
    yield "[[programs.phases]]"
    yield f'pattern = "{draw.of(PATTERNS)}"'
    shared = draw.chance(15)
    pages = _SEGMENTS[draw.below(len(_SEGMENTS))] if shared else draw.between(1, 900)
    yield f'memory = "{pages * 4} KiB"'
    if shared:
        yield f"shm = {pages}"  # the key is the size: all that name a segment give it one
    if draw.chance(15):
        yield f'mlock = "{draw.between(1, pages) * 4} KiB"'
    yield f"references = {draw.between(1, 300_000)}"
    yield f"visit = {draw.between(50, 400)}"
    yield f"writes = 0.{draw.below(10)}"
    yield f"burst = {draw.between(20_000, 200_000)}"
    yield f'think = "{draw.below(3000)} ms"'
    yield f'call = "{draw.of(tuple(CALLS))}"'
    yield f"threads = {_threads(draw)}"


def failure(seed: int) -> str:
    """What is wrong with the run of a seed under all checks, in this process; empty: nothing."""
    from clients.report import Ending
    from clients.run import Run
    from clients.system import System

    with System.local() as system:
        run = Run(system.kernel, random_workload(seed), check=True)
        run.boot()
        ending = run.execute()
        report = run.report(ending)
    ended = ending is Ending.COMPLETE or _unreadable(run.workload, run.panic)
    wrong = [] if ended else [f"{ending.value}: {run.detail}"]
    wrong += report["integrity"]["first"] + report["identities"]
    wrong += [f"{name} on the board and its owner's: {pair}" for name, pair in report["counters_differ"].items()]
    return "; ".join(wrong)


def _unreadable(workload: Workload, panic: KernelPanic | None) -> bool:
    """The machine has a device whose reads may fail, and panicked as C does when one fails that it relies on."""
    may = any(device.faults.read_per_million for device in workload.machine.swap)
    return may and panic is not None and panic.text.startswith(UNREADABLE)


def main(first: int, count: int) -> int:
    """Run `count` seeds from `first` on; the number of failures, at most 1, is the exit code."""
    begun, failures = time.monotonic(), 0
    for seed in range(first, first + count):
        if (seed - first) % _TOLD_EVERY == 0:
            print(f"seed {seed}, {failures} failures so far", file=sys.stderr, flush=True)
        wrong = failure(seed)
        if wrong:
            failures += 1
            print(f"seed {seed}: {wrong}\n  vmglue run {PREFIX}{seed} --wiring local --check", flush=True)
    print(f"{count} random workloads, {failures} failures, {time.monotonic() - begun:.0f} s")
    return min(failures, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m clients.random_workload",
        description="Run random workloads with all checks on; a failure prints the command that repeats it.",
        epilog="example: python -m clients.random_workload 0 500",
    )
    parser.add_argument("first", type=int, help="first seed")
    parser.add_argument("count", type=int, help="number of seeds")
    arguments = parser.parse_args()
    sys.exit(main(arguments.first, arguments.count))
