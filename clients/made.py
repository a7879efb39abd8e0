"""Made-up programs: phases of page visits and pauses, written down as the trace that a capture would have left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
import numpy.typing as npt

from clients.trace import (
    COUNT_MAX,
    KIND_EXEC,
    KIND_LOAD,
    KIND_STORE,
    KINDS_SHIFT,
    OP_DTYPE,
    PAGE_SHIFT,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    REFS_SHIFT,
    VPN_SHIFT,
    File,
    Header,
    Op,
    Region,
    Runs,
    TaskInfo,
    TaskTrace,
    Totals,
    Trace,
)
from clients.workload_model import CALLS, SWAPOFF, SWAPON, Phase
from services.scheduler import syscalls

TEXT_VPN, TEXT_PAGES = 0x400, 16
"""Where the program's image lies."""
MEMORY_VPN = 0x10000
"""First page of the memory that its phases visit."""
SHM_VPN = 0x1000000
"""First page of the System V segment that a phase works on."""
STACK_VPN, STACK_PAGES = 0x1FFEF00, 4
"""Its stack, where valgrind puts a captured program's."""
ROUNDS = 8
"""loop: how often a window is gone round."""
VISITS_PER_FETCH = 16
"""Visits between two records of instruction fetches."""
INSTRUCTIONS_PER_REFERENCE = 3

_TIMESPEC = (STACK_VPN + STACK_PAGES - 1) << PAGE_SHIFT
_GOLDEN = 0x9E3779B97F4A7C15
_STORES, _PAGES = 1, 2
"""Streams of pseudo-random numbers of one phase."""

Pages = npt.NDArray[np.int64]


def made_trace(name: str, phases: Sequence[Phase]) -> Trace:
    """The trace of a made-up program; the same for the same arguments.

    Args:
        name: Name of the program, and of its image file.
        phases: What it does, in order.
    """
    file = File(0, f"made:{name}", TEXT_PAGES)
    program = _Made([np.empty(0, np.uint64)], [])
    threads: list[_Made] = []
    for number, phase in enumerate(phases):
        program.enter(phase)
        for burst, (pause_us, part) in enumerate(_bursts(number, phase)):
            if pause_us:
                program.add(Op.SLEEP, pause_us, CALLS[phase.call], _TIMESPEC)
            if burst == 0:
                _swap_calls(program, phase)
            if phase.threads == 1:
                program.runs.append(part)
            else:
                first = 1 + len(threads)
                threads += [_Made([own], []) for own in np.array_split(part, phase.threads)]
                for op in (Op.THR_NEW, Op.THR_JOIN):
                    for index in range(first, 1 + len(threads)):
                        program.add(op, index)
        program.leave(phase)
    program.add(Op.EXIT)
    for thread in threads:
        thread.add(Op.THR_EXIT)
    layout = _layout(max((phase.pages for phase in phases if not phase.shm), default=1))
    tasks = (
        program.task(TaskInfo(0, -1, name, layout)),
        *(thread.task(TaskInfo(index, 0, name, ())) for index, thread in enumerate(threads, 1)),
    )
    return Trace(Header((name,), "", False, tuple(task.info for task in tasks), (file,), _totals(tasks)), tasks)


@dataclass(slots=True)
class _Made:
    """A task in the making: pieces of its records, and its operations."""

    runs: list[Runs]
    ops: list[tuple[int, int, int, int, int, int]]

    def add(self, op: Op, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> None:
        """An operation behind the records so far."""
        self.ops.append((sum(map(len, self.runs)), op, a, b, c, d))

    def memory_call(self, number: int, vpn: int, pages: int, key: int = -1) -> None:
        """A system call about a range of memory, or about the System V segment of a key."""
        self.add(Op.SYSCALL, number, key, vpn << PAGE_SHIFT, pages << PAGE_SHIFT)

    def enter(self, phase: Phase) -> None:
        """Attach the phase's segment, and wire what it wants wired."""
        if phase.shm:
            self.memory_call(syscalls.SHMGET, 0, phase.pages, phase.shm)
            self.memory_call(syscalls.SHMAT, SHM_VPN, phase.pages, phase.shm)
        if phase.mlock:
            self.memory_call(syscalls.MLOCK, _memory_of(phase), phase.mlock)

    def leave(self, phase: Phase) -> None:
        """Undo what `enter` did."""
        if phase.mlock:
            self.memory_call(syscalls.MUNLOCK, _memory_of(phase), phase.mlock)
        if phase.shm:
            self.memory_call(syscalls.SHMDT, SHM_VPN, phase.pages)

    def task(self, info: TaskInfo) -> TaskTrace:
        """The task, complete."""
        return TaskTrace(info, np.concatenate(self.runs), np.array(self.ops, OP_DTYPE))


def _swap_calls(program: _Made, phase: Phase) -> None:
    """What the phase changes about swap."""
    for call, device in ((SWAPOFF, phase.swapoff), (SWAPON, phase.swapon)):
        if device >= 0:
            program.add(Op.SYSCALL, call, -1, device)


def _memory_of(phase: Phase) -> int:
    """First page of what a phase works on."""
    return SHM_VPN if phase.shm else MEMORY_VPN


def _layout(pages: int) -> tuple[Region, ...]:
    return (
        Region(TEXT_VPN, TEXT_PAGES, PROT_READ | PROT_EXEC, "image", 0, 0),
        Region(MEMORY_VPN, pages, PROT_READ | PROT_WRITE, "anon"),
        Region(STACK_VPN, STACK_PAGES, PROT_READ | PROT_WRITE, "stack"),
    )


def _totals(tasks: Sequence[TaskTrace]) -> Totals:
    runs = np.concatenate([task.runs for task in tasks])
    references = int((runs >> np.uint64(REFS_SHIFT) & np.uint64(COUNT_MAX)).sum())
    operations = sum(len(task.ops) for task in tasks)
    return Totals(references, len(runs), int((runs & np.uint64(COUNT_MAX)).sum()), operations)


def _bursts(number: int, phase: Phase) -> Iterator[tuple[int, Runs]]:
    """A phase as pauses and the records behind each."""
    visits = -(-phase.references // phase.visit)
    runs = _records(number, phase, visits)
    step = max(1, phase.burst // phase.visit) if phase.burst else visits
    step += step // VISITS_PER_FETCH  # records of fetches stand between the visits
    for start in range(0, len(runs), step):
        yield phase.think_us, runs[start : start + step]


def _records(number: int, phase: Phase, visits: int) -> Runs:
    """Run records of a phase: the visits, and a fetch of instructions in front of every sixteenth."""
    pages = _memory_of(phase) + visited_pages(phase, visits, seed=number * 4 + _PAGES)
    stores = _uniform(visits, number * 4 + _STORES) < phase.writes
    kinds = np.where(stores, KIND_LOAD | KIND_STORE, KIND_LOAD)
    refs = np.full(visits, phase.visit, np.int64)
    fetches = np.arange(0, visits, VISITS_PER_FETCH)
    text = TEXT_VPN + np.arange(len(fetches)) * 7 % TEXT_PAGES
    pages, kinds = np.insert(pages, fetches, text), np.insert(kinds, fetches, KIND_EXEC)
    refs = np.insert(refs, fetches, phase.visit)
    instructions = np.minimum(refs * INSTRUCTIONS_PER_REFERENCE, COUNT_MAX)
    runs: Runs = (pages << VPN_SHIFT | kinds << KINDS_SHIFT | refs << REFS_SHIFT | instructions).astype(np.uint64)
    return runs


def visited_pages(phase: Phase, visits: int, seed: int) -> Pages:
    """Page of each visit, from 0.

    Args:
        phase: Pattern and memory.
        visits: How many.
        seed: Of the random patterns.
    """
    order = np.arange(visits, dtype=np.int64)
    if phase.pattern == "scan":
        return order % phase.pages
    if phase.pattern == "loop":
        window = min(phase.window or max(1, phase.pages // 8), phase.pages)
        return (order // (window * ROUNDS) * window + order % window) % phase.pages
    if phase.pattern == "uniform":
        return (_uniform(visits, seed) * phase.pages).astype(np.int64)
    return _zipf(phase, visits, seed)


def _zipf(phase: Phase, visits: int, seed: int) -> Pages:
    """Ranks by the inverse of their distribution; popular pages are spread over the memory."""
    weights = np.rint(np.arange(1, phase.pages + 1, dtype=np.float64) ** -phase.alpha * 2.0**32)
    bounds = np.cumsum(np.maximum(weights, 1).astype(np.int64))
    draws = (_uniform(visits, seed) * float(bounds[-1])).astype(np.int64)
    stride = next(n for n in range(max(1, phase.pages * 5 // 8), 2 * phase.pages + 1) if gcd(n, phase.pages) == 1)
    ranks = np.searchsorted(bounds, draws, side="right").astype(np.int64)
    spread: Pages = ranks * stride % phase.pages
    return spread


def _uniform(count: int, seed: int) -> npt.NDArray[np.float64]:
    """Pseudo-random numbers of [0, 1): splitmix64 of a counter."""
    with np.errstate(over="ignore"):
        mixed = (np.arange(1, count + 1, dtype=np.uint64) + (np.uint64(seed) << np.uint64(40))) * np.uint64(_GOLDEN)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
