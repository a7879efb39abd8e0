"""The walk over a real program's references against libCacheSim's Clock on the same records."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from clients.bench.cachesim import cachesim, clock
from clients.bench.figure import Figure, best_s
from clients.bench.processor import MIPS, Processor, boot, memory_records
from clients.kernel import Kernel, local_kernel
from clients.streams import references
from clients.system import System, SystemConfig
from clients.trace import VPN_SHIFT, Runs, Trace
from clients.workload import TRACES
from hardware_sim.mmu import PG_A, PG_M, PG_RW, PG_V, PG_X, Mmu
from hardware_sim.ram import Ram
from hardware_sim.walk import walk as walk_loop

TRACE = TRACES / "python.vmtrace"
"""The program with the largest working set of those shipped: 1,370 pages."""
RAM_PAGES = 1280
"""Memory that it does not fit in."""
ROUNDS = 3
"""Repetitions of each measurement, in turn with its baseline; the best of each counts."""
CLOCK = "libCacheSim Clock, process_trace"


def walk() -> list[Figure]:
    """The program's whole life on physmem: misses, faults, laundering and mappings inside."""
    kernel = local_kernel()
    try:
        return [_compare_life("walk over a program's life", kernel, at_least=3)]
    finally:
        kernel.close()


def walk_grpc() -> list[Figure]:
    """The same life with physmem and pager in processes of their own."""
    with System.start(SystemConfig()) as system:
        return [_compare_life("walk through gRPC batches", system.kernel, at_least=1)]


def loop() -> list[Figure]:
    """The compiled loop alone: every page resident and mapped, no kernel behind it."""
    memory = memory_records(Trace.open(TRACE))
    hardware = _Hardware.holding(memory)
    with cachesim(memory) as simulator:
        replay = partial(simulator.misses, clock, RAM_PAGES)
        times = [(best_s(replay, 1), best_s(hardware.run, 1)) for _ in range(ROUNDS)]
    clock_s, loop_s = (min(column) for column in zip(*times, strict=True))
    count = references(memory)
    note = f"{len(memory):,} records of {len(hardware.vpns):,} pages"
    return [Figure("walk, loop alone", "references/s", count / loop_s, CLOCK, count / clock_s, at_least=10, note=note)]


def _compare_life(name: str, kernel: Kernel, at_least: float) -> Figure:
    trace = Trace.open(TRACE)
    memory = memory_records(trace)
    times = []
    with cachesim(memory) as simulator:
        replay = partial(simulator.misses, clock, RAM_PAGES)
        for _ in range(ROUNDS):
            clock_s = best_s(replay, 1)
            boot(kernel, RAM_PAGES)
            processor = Processor.start(kernel)
            times.append((clock_s, best_s(partial(processor.play, trace), 1)))
        misses = replay()
    clock_s, life_s = (min(column) for column in zip(*times, strict=True))
    counters = kernel.physmem.counters()
    reads = dict(zip(counters.names, counters.values, strict=True))["vm.stats.vm.v_io_faults"]
    note = (
        f"{RAM_PAGES:,} pages of memory; {processor.faults:,} faults, {reads:,} of them read from a device; "
        f"{misses:,} misses of Clock with as many pages"
    )
    count = references(memory)
    return Figure(name, "references/s", count / life_s, CLOCK, count / clock_s, at_least=at_least, note=note)


@dataclass(slots=True)
class _Hardware:
    """An MMU and memory that hold all pages of a program."""

    memory: Runs
    vpns: Runs
    mmu: Mmu
    ram: Ram

    @classmethod
    def holding(cls, memory: Runs) -> _Hardware:
        vpns = np.unique(memory >> np.uint64(VPN_SHIFT))
        mmu = Mmu(len(vpns) + 1)
        mmu.create(1)
        for frame, vpn in enumerate(vpns.tolist(), 1):
            mmu.enter(1, vpn, frame << 12 | PG_V | PG_RW | PG_X | PG_A | PG_M)
        return cls(memory, vpns, mmu, Ram(len(vpns) + 1))

    def run(self) -> None:
        """Execute all records."""
        owner = np.zeros(len(self.vpns) + 1, np.int64)
        walked = walk_loop(self.mmu, self.ram, owner, owner, 1, self.memory, 0, 1 << 40, 0, MIPS, 1)
        assert walked.next_record == len(self.memory)
