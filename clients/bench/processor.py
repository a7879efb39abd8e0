"""A processor without a scheduler: it drives physmem alone through one captured program, faults and paging included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clients.kernel import Kernel
from clients.references import References
from clients.streams import Stream
from clients.trace import OP_DTYPE, Runs, TaskInfo, TaskTrace, Trace, run_kinds
from hardware_sim.clock import initial_ticks
from services.ports.common import Region, Stop
from services.ports.pager import PagerBoot, SwapDisk
from services.ports.physmem import MapOp, MapOpKind, PhysmemBoot, Replacement
from services.ports.scheduler import Trap, TrapOp

PAGE = 4096
HZ = 1000
MIPS = 100
_NO_BUDGET_US = 1 << 40
_PASSES_MAX = 64


def boot(
    kernel: Kernel,
    ram_pages: int,
    swap_pages: int = 1 << 16,
    seed: int = 1,
    replacement: Replacement = Replacement.FREEBSD,
) -> None:
    """Boot pager and physmem with a machine of `ram_pages`."""
    ticks = initial_ticks(HZ)
    kernel.ctx.reboot(HZ, ticks, allow_inject=False)
    kernel.pager.boot(PagerBoot([SwapDisk(swap_pages)], ram_pages, seed, HZ, ticks))
    kernel.physmem.boot(
        PhysmemBoot(ram_pages=ram_pages, seed=seed, mips=MIPS, hz=HZ, start_ticks=ticks, replacement=replacement)
    )


@dataclass(slots=True)
class Processor:
    """One address space on a booted machine, and the page daemon's work between its slices.

    Attributes:
        kernel: The services; scheduler and kstack are not called.
        space: The address space.
        batches: Calls of access so far.
        faults: Faults that were resolved.
    """

    kernel: Kernel
    space: int
    batches: int = 0
    faults: int = 0
    _phase: int = 0

    @classmethod
    def start(cls, kernel: Kernel) -> Processor:
        """With a new address space."""
        return cls(kernel, kernel.physmem.vmspace_alloc(0, 0).vmspace)

    def play(self, trace: Trace) -> None:
        """Execute the first task of a trace up to its exit, with its mappings."""
        stream, references = Stream(trace, trace.tasks[0]), References(self.kernel)
        self.map(stream.regions())
        while True:
            self._execute(references, stream.task, stream.record, stream.limit())
            stream.advance(stream.limit() - stream.record)
            trap = stream.trap()
            if trap.op is TrapOp.EXIT:
                return
            self._change(trap)

    def map(self, regions: list[Region]) -> None:
        """Enter mappings."""
        self._map_ops([_insertion(region) for region in regions])

    def play_records(self, runs: Runs) -> None:
        """Execute records; what they touch is mapped."""
        task = TaskTrace(TaskInfo(0, -1, "records", ()), runs, np.empty(0, OP_DTYPE))
        self._execute(References(self.kernel), task, 0, len(runs))

    def _execute(self, references: References, task: TaskTrace, done: int, end: int) -> None:
        """Execute records of a task from `done` on."""
        ctx, op = self.kernel.ctx, 0
        while done < end or op:
            answer = references.issue(self.space, task, done, end, _NO_BUDGET_US, self._phase, op)
            outcome, self.batches = answer.outcome, self.batches + 1
            done, self._phase, op = done + outcome.next_record, outcome.phase, 0
            self.faults += outcome.minor + outcome.major
            ctx.now_us += outcome.elapsed_us
            if outcome.stop is Stop.SIGNAL:
                raise RuntimeError(f"fault at {outcome.fault_va:#x}: KERN_ error {outcome.kern_error}")
            if outcome.suspension is not None:
                op = outcome.suspension.op
            self._serve()

    def _serve(self) -> None:
        """Complete device operations and let the page daemon work, until neither is wanted."""
        for scan in range(1, _PASSES_MAX):
            upcalls = self.kernel.ctx.take_upcalls()
            if upcalls.ios:
                self.kernel.ctx.now_us = max(self.kernel.ctx.now_us, *(io.due_us for io in upcalls.ios))
                due = sorted(upcalls.ios, key=lambda io: (io.due_us, io.io))
                self.kernel.physmem.complete_io([io.io for io in due])
            if upcalls.pagedaemon_wanted and self.kernel.physmem.pageout_wait_test().needed:
                self.kernel.physmem.pageout_begin(scan)
                self.kernel.physmem.pageout_scan(scan)
                self.kernel.ctx.upcalls.pagedaemon_wanted |= self.kernel.physmem.pageout_wait_test().needed
            if not self.kernel.ctx.upcalls:
                return
        raise RuntimeError(f"the page daemon frees no memory in {_PASSES_MAX} passes")

    def _change(self, trap: Trap) -> None:
        ops = [_insertion(region) for region in trap.regions]
        if trap.op is TrapOp.MUNMAP:
            ops = [MapOp(MapOpKind.REMOVE, trap.a * PAGE, trap.b * PAGE)]
        elif trap.op is TrapOp.MPROTECT:
            ops = [MapOp(MapOpKind.PROTECT, trap.a * PAGE, trap.b * PAGE, trap.c)]
        if ops:
            self._map_ops(ops)

    def _map_ops(self, ops: list[MapOp]) -> None:
        results = self.kernel.physmem.map_ops(self.space, ops, 0).results
        if any(results):
            raise RuntimeError(f"mappings refused: {[result.name for result in results]}")
        self._serve()


def memory_records(trace: Trace) -> Runs:
    """Records of a trace's first task that touch memory."""
    runs = trace.tasks[0].runs
    memory: Runs = runs[run_kinds(runs) != 0]
    return memory


def _insertion(region: Region) -> MapOp:
    return MapOp(
        MapOpKind.INSERT,
        region.start_vpn * PAGE,
        region.npages * PAGE,
        region.prot,
        region.file,
        region.offset_pages,
        region.file_pages,
        region.shared,
        replace=True,
    )
