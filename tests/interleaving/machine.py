"""A small machine with too little memory whose programs fork, exec, wire, sleep and end; and one run of it by seed."""

from __future__ import annotations

import atexit
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from clients.kernel import Kernel
from clients.orchestrator import Orchestrator
from clients.trace import (
    KIND_EXEC,
    KIND_LOAD,
    KIND_STORE,
    OP_DTYPE,
    File,
    Header,
    Image,
    Op,
    Region,
    TaskInfo,
    TaskTrace,
    Totals,
    Trace,
    pack_run,
)
from clients.workload import Machine, Program, Workload
from clients.workload_model import plain_swap
from services.ports.scheduler import DispatchKind
from services.runtime.errors import KernelPanic, Refused
from services.runtime.events import Event, Kind, unpack
from services.runtime.preemption import Act
from services.scheduler.proc_flags import P_SWAPPINGOUT

COMMAND = ".venv/bin/python -m tests.interleaving --seed {}"
"""Shows the run of one seed again."""
TEXT, DATA, STACK = 0x400, 0x10000, 0x7FFFF000
DATA_PAGES = 24
PAGES = 185
"""Pages of memory: the kernel's own, and half of what the programs write."""
DISPATCHES_MAX = 20_000
CHECK_EVERY = 16
"""The invariants are asked for after every so many slices, and at the end."""
_NANOSLEEP, _ACCEPT, _SYSINFO = 35, 43, 99


class Broken(AssertionError):
    """A run in which something does not hold; the text names the seed and the command that shows it again."""

    def __init__(self, seed: int, why: str) -> None:
        super().__init__(f"seed {seed}: {why}\nagain: {COMMAND.format(seed)}")


@dataclass
class Seen:
    """What a run went through.

    Attributes:
        acts: How often what happened at which point: (service, line of vm_glue.c, Act).
        swapouts: Processes swapped out.
        swapins: Processes brought back.
        busy: swapout() returned EBUSY.
        end: How it ended.
    """

    acts: Counter[tuple[str, int, Act]] = field(default_factory=Counter)
    swapouts: int = 0
    swapins: int = 0
    busy: int = 0
    end: DispatchKind = DispatchKind.FINISHED


class _Script:
    """Records and operations of a task, one after the other."""

    def __init__(self) -> None:
        self._runs: list[int] = []
        self._ops: list[tuple[int, ...]] = []

    def touch(self, first: int, count: int, kind: int) -> _Script:
        """References to pages of the data, with text between."""
        for page in range(first, first + count):
            self._runs += [pack_run(TEXT + page % 3, KIND_EXEC, 50, 50), pack_run(DATA + page, kind, 20, 20)]
        return self

    def op(self, op: Op, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> _Script:
        """A kernel entry."""
        self._ops.append((len(self._runs), op, a, b, c, d))
        return self

    def task(self, info: TaskInfo) -> TaskTrace:
        """The task."""
        return TaskTrace(info, np.array(self._runs, np.uint64), np.array(self._ops, OP_DTYPE))


def trace() -> Trace:
    """A program that fills its memory, wires some, sleeps, forks a child that writes, sleeps and executes, and ends."""
    regions = (Region(TEXT, 4, 5, "image", file=0), Region(DATA, DATA_PAGES, 3, "anon"), Region(STACK, 4, 3, "stack"))
    parent = _Script().touch(0, DATA_PAGES, KIND_STORE).op(Op.SYSCALL, _SYSINFO, -1, DATA << 12, 9 << 12)
    parent.op(Op.SLEEP, 2_600_000, _NANOSLEEP, STACK << 12).touch(0, DATA_PAGES, KIND_LOAD)
    parent.op(Op.FORK, 1).touch(5, 10, KIND_STORE).op(Op.FORK, 2, 1).op(Op.WAIT, 1)
    parent.op(Op.SYSCALL, _SYSINFO, -1, DATA + 4 << 12, 16 << 12).op(Op.SYSCALL, _ACCEPT, 2_300_000)
    parent.touch(0, DATA_PAGES, KIND_STORE).op(Op.WAIT, -1).op(Op.EXIT)
    child = _Script().touch(8, 12, KIND_STORE).op(Op.SLEEP, 2_400_000, _NANOSLEEP, STACK << 12)
    child.touch(0, 16, KIND_LOAD).op(Op.EXEC, 0).touch(0, 6, KIND_STORE).op(Op.EXIT, 3 << 8)
    borrower = _Script().touch(0, 3, KIND_STORE).op(Op.EXEC, 0).touch(0, 4, KIND_STORE).op(Op.EXIT)
    again = (Image("again", regions),)
    infos = (
        TaskInfo(0, -1, "parent", regions),
        TaskInfo(1, 0, "child", (), again),
        TaskInfo(2, 0, "borrower", (), again),
    )
    tasks = tuple(script.task(info) for script, info in zip((parent, child, borrower), infos, strict=True))
    records = sum(len(task.runs) for task in tasks)
    totals = Totals(0, records, 0, sum(len(task.ops) for task in tasks))
    return Trace(Header(("made",), "", False, infos, (File(0, "image", 4),), totals), tasks)


@cache
def trace_file() -> Path:
    """The program as a file, which lives as long as this process."""
    folder = TemporaryDirectory(prefix="vmglue-interleaving-")
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "program.vmtrace"
    trace().save(path)
    return path


def workload(seed: int) -> Workload:
    """Some instances of the program; what varies beside the preemption points follows from the seed as well."""
    sysctls = {"vm.swap_idle_threshold1": seed % 3, "vm.swap_idle_enabled": seed // 3 % 2, "vm.lowmem_period": 1}
    sysctls |= {"vm.swap_idle_threshold2": 1, "vm.kstack_cache_size": (2, 9, 128)[seed // 6 % 3]}
    machine = Machine(ram=PAGES << 12, swap=plain_swap(8 << 20), seed=seed, preempt_seed=seed, sysctls=sysctls)
    programs = Program(trace_file(), "parent", count=3)
    return Workload("interleaving", machine, (programs,))


def boot(kernel: Kernel, seed: int) -> Orchestrator:
    """The machine of a seed, in front of its first slice."""
    orchestrator = Orchestrator(kernel, workload(seed))
    orchestrator.boot()
    return orchestrator


def run(kernel: Kernel, seed: int) -> Seen:
    """Run the machine of a seed from boot to end.

    Raises:
        Broken: An invariant does not hold, a page is not what was written, or the machine panics or does not end.
    """
    try:
        orchestrator = boot(kernel, seed)
        while orchestrator.step():
            if orchestrator.tally.dispatches % CHECK_EVERY == 0:
                _check(kernel, seed)
            if orchestrator.tally.dispatches > DISPATCHES_MAX:
                raise Broken(seed, f"no end after {DISPATCHES_MAX} slices")
    except KernelPanic as panic:
        raise Broken(seed, f"panic: {panic} ({panic.function}:{panic.line})") from panic
    except (AssertionError, LookupError, Refused) as defect:
        if isinstance(defect, Broken):
            raise
        raise Broken(seed, f"{type(defect).__name__}: {defect}") from defect
    _check(kernel, seed)
    if orchestrator.dispatch.kind is DispatchKind.DEADLOCK:
        raise Broken(seed, f"deadlock: {orchestrator.dispatch.reason}")
    if orchestrator.shadow.mismatch_count or orchestrator.tally.torn:
        raise Broken(seed, f"pages are not what was written: {orchestrator.shadow.mismatches[:3]}")
    return _seen(kernel, orchestrator)


def _check(kernel: Kernel, seed: int) -> None:
    for name, port in kernel.ports().items():
        violations = port.check().violations
        if violations:
            raise Broken(seed, f"{name}: {violations[0]} (of {len(violations)})")
    for p in kernel.scheduler.proc_states().procs:
        if p.flags & P_SWAPPINGOUT:
            raise Broken(seed, f"pid {p.pid} is on its way out, and nobody takes it there: swapout() does not sleep")


def _seen(kernel: Kernel, orchestrator: Orchestrator) -> Seen:
    stats = kernel.scheduler.stats()
    seen = Seen(swapouts=stats.swapouts, swapins=stats.swapins, end=orchestrator.dispatch.kind)
    for name, event in events(kernel):
        if event.kind == Kind.PREEMPT:
            seen.acts[name, event.subject, Act(event.outcome)] += 1
        seen.busy += event.kind == Kind.SWAPOUT_BUSY
    return seen


def events(kernel: Kernel) -> Iterator[tuple[str, Event]]:
    """All events of all services, with the service's name."""
    for name, port in kernel.ports().items():
        for event in unpack(port.events(0, 1 << 20).records):
            yield name, event
