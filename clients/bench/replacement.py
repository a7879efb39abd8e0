"""A second, independent check: the machine's misses under plain FIFO and Clock against libCacheSim's, which must agree.

The machine is reduced to one address space of anonymous memory whose mappings never change. Everything else is as ever:
page tables with accessed and modified bits, faults, queues, laundering, swap.
"""

from __future__ import annotations

import numpy as np

from clients.bench.cachesim import CacheSim, Policy, cachesim, clock_of_hardware, fifo
from clients.bench.figure import Figure
from clients.bench.processor import Processor, boot, memory_records
from clients.kernel import Kernel, local_kernel
from clients.trace import VPN_SHIFT, Runs, Trace
from clients.workload import TRACES
from services.ports.common import Region, Setting
from services.ports.physmem import Replacement

PROGRAMS = ("gzip", "sort", "perl", "python")
"""Captured programs that are compared."""
SHARES = (0.5, 0.75)
"""Memory for so much of a program's pages."""
POLICIES: dict[Replacement, Policy] = {Replacement.FIFO: fifo, Replacement.CLOCK: clock_of_hardware}
"""libCacheSim's counterpart of each policy."""
_SPARE_PAGES = 128
"""Pages that stay free, well above all thresholds: v_free_target."""
_RWX = 7


def replacement() -> list[Figure]:
    """All programs, policies and sizes."""
    return [figure for name in PROGRAMS for figure in compare(name)]


def compare(name: str) -> list[Figure]:
    """One captured program under every policy and at every size."""
    memory = memory_records(Trace.open(TRACES / f"{name}.vmtrace"))
    pages = len(np.unique(memory >> np.uint64(VPN_SHIFT)))
    sizes = [int(pages * share) for share in SHARES]
    kernel = local_kernel()
    try:
        with cachesim(memory) as simulator:
            return [_figure(name, kernel, memory, simulator, policy, size) for policy in POLICIES for size in sizes]
    finally:
        kernel.close()


def misses(kernel: Kernel, memory: Runs, policy: Replacement, pages: int) -> int:
    """Play records on a machine that has memory for `pages` of them; first touches and page-ins."""
    boot(kernel, pages + _SPARE_PAGES, replacement=policy)
    kernel.physmem.sysctl_set(Setting("vm.v_free_target", _SPARE_PAGES))
    processor = Processor.start(kernel)
    processor.map(_anonymous(memory))
    processor.play_records(memory)
    values = kernel.physmem.counters()
    counters = dict(zip(values.names, values.values, strict=True))
    return counters["vm.stats.vm.v_zfod"] + counters["vm.stats.vm.v_io_faults"]


def _anonymous(memory: Runs) -> list[Region]:
    """Mappings of all pages that the records touch."""
    vpns = np.unique(memory >> np.uint64(VPN_SHIFT))
    ranges = np.split(vpns, np.flatnonzero(np.diff(vpns) != 1) + 1)
    return [Region(start_vpn=int(pages[0]), npages=len(pages), prot=_RWX) for pages in ranges]


def _figure(name: str, kernel: Kernel, memory: Runs, simulator: CacheSim, policy: Replacement, pages: int) -> Figure:
    word = policy.name.capitalize() if policy is Replacement.CLOCK else policy.name
    return Figure(
        f"{name}, {word}, {pages:,} pages", "misses", misses(kernel, memory, policy, pages),
        f"libCacheSim {word}", simulator.misses(POLICIES[policy], pages),
        at_least=1, at_most=1, note=f"{len(memory):,} records",
    )  # fmt: skip
