"""Time until ready, and memory: of a large machine's physmem, and of the system that runs `tiny`."""

from __future__ import annotations

import time

from clients.bench.figure import Figure
from clients.bench.processor import boot
from clients.kernel import Kernel
from clients.numba_cache import is_compiled
from clients.orchestrator import Orchestrator
from clients.system import System, SystemConfig
from clients.workload import load_workload

LARGE_PAGES = 1 << 22
"""A machine of 16 GiB."""
_MIB = 1 << 20


def large() -> list[Figure]:
    """A machine of 16 GiB: boot of its memory, and what physmem takes for it."""
    with System.start(SystemConfig()) as system:
        before = services_pss(system.kernel)["physmem"]
        begun = time.perf_counter()
        boot(system.kernel, LARGE_PAGES)
        seconds = time.perf_counter() - begun
        after = services_pss(system.kernel)["physmem"]
    note = f"{LARGE_PAGES:,} pages"
    return [
        Figure("16 GiB machine, boot of pager and physmem", "s", seconds, at_most=5, note=note),
        Figure(
            "16 GiB machine, physmem", "MB PSS", after / 1e6, "before boot", before / 1e6, note=note + "; limit 700 MB"
        ),
    ]


def ready() -> list[Figure]:
    """The system of `tiny`: from nothing to ready, its run, and the memory of all services at its end."""
    warm = is_compiled()
    begun = time.perf_counter()
    with System.start(SystemConfig()) as system:
        started_s = time.perf_counter() - begun
        run = Orchestrator(system.kernel, load_workload("tiny"))
        run.boot()
        booted_s = time.perf_counter() - begun
        run.run()
        ran_s = time.perf_counter() - begun - booted_s
        sizes = services_pss(system.kernel)
    cache = "Numba cache warm" if warm else "Numba cache cold"
    parts = ", ".join(f"{name} {size / _MIB:.0f}" for name, size in sizes.items())
    return [
        Figure(
            "tiny's system ready", "s", booted_s, at_most=5, note=f"services serve after {started_s:.1f} s; {cache}"
        ),
        Figure(
            "tiny over gRPC", "s", ran_s, note=f"{run.tally.dispatches:,} dispatches, {system.kernel.calls():,} calls"
        ),
        Figure("memory of the services after tiny", "MiB PSS", sum(sizes.values()) / _MIB, note=parts),
    ]


def services_pss(kernel: Kernel) -> dict[str, int]:
    """Proportional set size of each service, in bytes."""
    return {row["name"]: row["pss_bytes"] for row in kernel.service_rows()}
