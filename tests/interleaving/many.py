"""Many runs, in several processes, and what they went through."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from clients.system import System
from services.runtime.preemption import Act
from tests.interleaving.machine import Broken, Seen, run

_PART = 25
"""Seeds that a worker gets at a time."""


@dataclass
class Total:
    """What all runs went through, and which of them broke."""

    runs: int = 0
    seen: Seen = field(default_factory=Seen)
    broken: list[str] = field(default_factory=list)

    def add(self, other: Total) -> None:
        """Count other runs, too."""
        self.runs += other.runs
        self.broken += other.broken
        self.seen.acts += other.seen.acts
        self.seen.swapouts += other.seen.swapouts
        self.seen.swapins += other.seen.swapins
        self.seen.busy += other.seen.busy


def part(seeds: Sequence[int]) -> Total:
    """Run some seeds one after the other on one system."""
    total = Total()
    with System.local() as system:
        for seed in seeds:
            try:
                total.add(Total(1, run(system.kernel, seed)))
            except Broken as broken:
                total.add(Total(1, broken=[str(broken)]))
    return total


def run_all(seeds: range, jobs: int) -> Iterator[Total]:
    """Run all seeds in several processes; answers after each part."""
    parts = [seeds[at : at + _PART] for at in range(0, len(seeds), _PART)]
    if jobs == 1:
        yield from map(part, parts)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(part, parts)


def summary(total: Total, seconds: float) -> str:
    """What happened, by point and act."""
    seen, points = total.seen, Counter[tuple[str, int]]()
    for (service, line, _), times in seen.acts.items():
        points[service, line] += times
    acts = Counter[str]()
    for (_, _, act), times in seen.acts.items():
        acts[Act(act).name] += times
    lines = [f"{service:10} line {line:4}  {times:8}" for (service, line), times in sorted(points.items())]
    lines += [f"{name:15}  {times:13}" for name, times in sorted(acts.items())]
    lines += [
        f"{total.runs} interleavings, {sum(points.values())} preemptions, {seen.swapouts} processes out and "
        f"{seen.swapins} in, {seen.busy} swap-outs given up (EBUSY), {seconds:.0f} s: {len(total.broken)} broken"
    ]
    return "\n".join(lines)
