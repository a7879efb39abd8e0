"""Streams of references: where each simulated process stands in its captured task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from clients import trace as fmt
from clients.trace import Op, Runs, TaskTrace, Trace
from services.ports.common import Region
from services.ports.scheduler import Trap, TrapOp

THINK_CALL = 35
"""Linux number of nanosleep, in which a program pauses between two executions."""


def image_regions(trace: Trace, regions: Iterable[fmt.Region]) -> list[Region]:
    """A captured layout as mappings; adjacent equal ones are kept apart, as the kernel would see them."""
    files = trace.header.files
    return [
        Region(
            start_vpn=region.start_vpn,
            npages=region.npages,
            prot=region.prot,
            file=files[region.file].name if region.file >= 0 else "",
            offset_pages=region.offset_pages,
            file_pages=max(files[region.file].pages, region.offset_pages + region.npages) if region.file >= 0 else 0,
        )
        for region in regions
    ]


@dataclass(slots=True)
class StreamState:
    """Where a stream stands, for checkpoints: a Stream with numbers in place of trace and task."""

    trace: int
    """Position of its trace among those of the run."""
    task: int
    """Index of its task in the trace."""
    repeats_left: int
    children: dict[int, int]
    record: int
    operation: int
    brk: int
    think_us: int
    thinking: bool


@dataclass(slots=True)
class Stream:
    """One process' references: position in the records and operations of a captured task.

    Attributes:
        trace: Captured program.
        task: Its process within the trace.
        repeats_left: Executions of the whole task that are still to come after this one.
        children: Streams of forked children and of threads by task index, for WAIT.
        record: Next run record.
        operation: Next operation.
        brk: Page behind the data segment.
        think_us: Pause before the next execution of the whole task, in microseconds.
        thinking: That pause has begun.
    """

    trace: Trace
    task: TaskTrace
    repeats_left: int = 0
    children: dict[int, int] = field(default_factory=dict)
    record: int = 0
    operation: int = 0
    brk: int = -1
    think_us: int = 0
    thinking: bool = False

    def state(self, traces: Sequence[Trace]) -> StreamState:
        """Where it stands."""
        (trace,) = (number for number, trace in enumerate(traces) if trace is self.trace)
        return StreamState(
            trace, self.task.info.index, self.repeats_left, self.children, self.record, self.operation,
            self.brk, self.think_us, self.thinking,
        )  # fmt: skip

    @classmethod
    def restored(cls, state: StreamState, traces: Sequence[Trace]) -> Stream:
        """The stream that stood there.

        Raises:
            IndexError: The traces have no such place.
        """
        trace = traces[state.trace]
        task = trace.tasks[state.task]
        if not (0 <= state.record <= len(task.runs) and 0 <= state.operation <= len(task.ops)):
            raise IndexError(f"task {state.task} has no record {state.record} or no operation {state.operation}")
        return cls(
            trace, task, state.repeats_left, state.children, state.record, state.operation,
            state.brk, state.think_us, state.thinking,
        )  # fmt: skip

    def limit(self) -> int:
        """Index behind the last record before the next operation."""
        if self.operation < len(self.task.ops):
            return int(self.task.ops[self.operation]["pos"])
        return len(self.task.runs)

    def batch(self) -> Runs:
        """The records up to the next operation; empty right before it."""
        return self.task.runs[self.record : self.limit()]

    def advance(self, records: int) -> None:
        """Records were executed."""
        self.record += records

    def at_operation(self) -> bool:
        """All records before the next operation (or the end) were executed."""
        return self.record >= self.limit()

    def trap(self) -> Trap:
        """Take the next operation as the kernel entry that it is; the end of the records is an exit."""
        if self.operation >= len(self.task.ops):
            return self._exit(0)
        row = self.task.ops[self.operation]
        if row["op"] == Op.EXIT:
            return self._exit(int(row["a"]))
        self.operation += 1
        op, a, b, c, d = Op(int(row["op"])), int(row["a"]), int(row["b"]), int(row["c"]), int(row["d"])
        trap = Trap(op=TrapOp(int(op)), a=a, b=b, c=c, d=d)
        if op is Op.EXEC:
            image = self.task.info.execs[a]
            trap.name, trap.regions = image.name, self._image(image.regions)
        elif op is Op.MMAP:
            trap.regions = [self._mmap(a, b, c, d)]
        elif op is Op.BRK:
            trap.regions = self._grow(a)
        elif op is Op.WAIT:
            trap.a = self.children.get(a, -1)
        return trap

    def regions(self) -> list[Region]:
        """Mappings of the task's first image."""
        return self._image(self.task.info.regions)

    def child(self, task: int) -> Stream:
        """The stream of a forked child or of a thread; it inherits the data segment's end."""
        return Stream(self.trace, self.trace.tasks[task], brk=self.brk)

    def _exit(self, status: int) -> Trap:
        if self.repeats_left == 0:
            self.operation = len(self.task.ops)
            return Trap(op=TrapOp.EXIT, a=status)
        if self.think_us and not self.thinking:
            self.thinking = True
            return Trap(op=TrapOp.SLEEP, a=self.think_us, b=THINK_CALL)
        self.thinking = False
        self.repeats_left -= 1
        self.record = self.operation = 0
        return Trap(op=TrapOp.EXEC, name=self.task.info.name, regions=self.regions())

    def _image(self, regions: Iterable[fmt.Region]) -> list[Region]:
        regions = tuple(regions)
        self.brk = max((r.start_vpn + r.npages for r in regions if r.kind == "brk"), default=-1)
        return image_regions(self.trace, regions)

    def _mmap(self, start: int, pages: int, flags: int, source: int) -> Region:
        region = Region(start_vpn=start, npages=pages, prot=flags & 7, shared=bool(flags & fmt.MAP_SHARED))
        if flags & fmt.MAP_FILE:
            file = self.trace.header.files[source >> 32]
            region.file, region.offset_pages = file.name, source & 0xFFFFFFFF
            region.file_pages = max(file.pages, region.offset_pages + pages)
        return region

    def _grow(self, end: int) -> list[Region]:
        start, self.brk = self.brk, end
        if start < 0 or end <= start:
            return []
        return [Region(start_vpn=start, npages=end - start, prot=fmt.PROT_READ | fmt.PROT_WRITE)]


def references(runs: Runs) -> int:
    """Original memory accesses of run records; records of kernel time stand for none."""
    memory = (runs >> np.uint64(fmt.KINDS_SHIFT)) & np.uint64(7) != 0
    return int(fmt.run_refs(runs[memory]).sum())
