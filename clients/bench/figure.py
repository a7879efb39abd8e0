"""One measured figure beside its baseline."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ROUNDS, CALLS = 25, 100
"""Rounds of so many calls of each kind in turn; the best round's median counts."""
WARM_UP = 200
"""Calls of each kind before them."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of speed or size, with what it is compared to in the same run."""

    name: str
    """What was measured."""
    unit: str
    """Unit of both values."""
    value: float
    """The figure."""
    baseline_name: str = ""
    """What it is compared to; empty: nothing."""
    baseline: float = 0.0
    """The baseline's figure."""
    at_least: float = 0.0
    """The ratio must not be below; 0: no such limit."""
    at_most: float = 0.0
    """The ratio, or without a baseline the value, must not be above; 0: no such limit."""
    note: str = ""
    """Circumstances: sizes, misses."""

    @property
    def ratio(self) -> float:
        """The value over the baseline's; 0 without a baseline."""
        return self.value / self.baseline if self.baseline else 0.0

    @property
    def judged(self) -> float:
        """What the limits are for: the ratio, or without a baseline the value."""
        return self.ratio if self.baseline_name else self.value

    @property
    def met(self) -> bool:
        """Whether the limits hold; true without any."""
        return self.judged >= self.at_least and (not self.at_most or self.judged <= self.at_most)

    def goal(self) -> str:
        """The limits in words."""
        if self.at_least and self.at_least == self.at_most:
            return f"exactly {self.at_least:g}"
        words = [f"at least {self.at_least:g}"] if self.at_least else []
        words += [f"at most {self.at_most:g}"] if self.at_most else []
        return ", ".join(words)


def best_s(run: Callable[[], object], times: int = 3) -> float:
    """Shortest wall time of several runs, in seconds."""
    return min(_timed_s(run) for _ in range(times))


def p50_s(run: Callable[[], object], times: int) -> float:
    """Median wall time of one call, in seconds."""
    samples = sorted(_timed_s(run, collect=False) for _ in range(times))
    return samples[len(samples) // 2]


def medians_us(runs: Sequence[Callable[[], object]], rounds: int = ROUNDS) -> list[float]:
    """Median wall time of a call of each in microseconds, in turns so that all see the same load of the host."""
    for run in runs:
        p50_s(run, WARM_UP)
    medians = [[p50_s(run, CALLS) * 1e6 for run in runs] for _ in range(rounds)]
    return [min(column) for column in zip(*medians, strict=True)]


def _timed_s(run: Callable[[], object], collect: bool = True) -> float:
    if collect:
        gc.collect()
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
