"""The report of a run: figures of the services, of Redis and of the orchestrator, side by side."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clients.kernel import Kernel
from clients.orchestrator import Orchestrator
from services.ports.scheduler import ProcessRow, SchedulerStats

_METER = "vm.stats.vm."
SERIES = ("t_us", "free", "active", "inactive", "wired", "swap_used", "in_memory", "swapped")
"""Series that are sampled during a run."""


@dataclass(slots=True)
class Samples:
    """Time series of a run; thinned by two whenever they exceed `limit`."""

    limit: int = 512
    series: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in SERIES})
    _stride: int = 1
    _seen: int = 0

    def take(self, kernel: Kernel, now_us: int) -> None:
        """Sample pages, swap and processes now."""
        self._seen += 1
        if self._seen % self._stride:
            return
        counters = counters_of(kernel, "physmem")
        status, table = kernel.pager.swap_status(), kernel.scheduler.processes()
        pages = (counters.get(f"{_METER}v_{name}_count", 0) for name in ("free", "active", "inactive", "wire"))
        for name, value in zip(SERIES, (now_us, *pages, status.used, table.running, table.swapped), strict=True):
            self.series[name].append(value)
        if len(self.series["t_us"]) > self.limit:
            self.series = {name: values[::2] for name, values in self.series.items()}
            self._stride *= 2


def counters_of(kernel: Kernel, service: str) -> dict[str, int]:
    """A service's own counters."""
    values = kernel.ports()[service].counters()
    return dict(zip(values.names, values.values, strict=True))


def event_hash(kernel: Kernel) -> str:
    """The four services' event chains and final states as one hash, in a fixed order."""
    total = hashlib.blake2b(digest_size=32)
    for name, port in sorted(kernel.ports().items()):
        digest = port.digest()
        total.update(name.encode() + digest.events + digest.event_count.to_bytes(8, "little") + digest.state)
    return total.hexdigest()


def build_report(run: Orchestrator, samples: Samples, wall_seconds: float, complete: bool) -> dict[str, Any]:
    """Collect the report (docs/report.md) from the services, Redis and the orchestrator."""
    kernel, workload = run.kernel, run.workload
    own = {service: counters_of(kernel, service) for service in kernel.ports()}
    merged = {name: value for counters in own.values() for name, value in counters.items()}
    shared = kernel.board.read(sorted(merged)) or {}
    differ = {name: [shared.get(name), value] for name, value in merged.items() if shared.get(name) != value}
    stats = kernel.scheduler.stats()
    return {
        "workload": workload.name,
        "kernel": workload.machine.kernel_version,
        "seed": workload.machine.seed,
        "wiring": kernel.wiring,
        "complete": complete,
        "event_hash": event_hash(kernel),
        "virtual_seconds": stats.now_us / 1e6,
        "wall_seconds": round(wall_seconds, 3),
        "references": run.tally.references,
        "run_records": run.tally.run_records,
        "references_per_second": round(run.tally.references / wall_seconds) if wall_seconds > 0 else 0,
        "dispatches": run.tally.dispatches,
        "rpcs": kernel.calls(),
        **_paging(merged, stats),
        "integrity": {
            "pages_checked": run.shadow.pages_checked,
            "mismatches": run.shadow.mismatch_count,
            "first": [str(mismatch) for mismatch in run.shadow.mismatches],
            "torn": run.tally.torn,
        },
        "latency_us": _latencies(stats),
        "processes": [_process(row) for row in kernel.scheduler.processes().processes],
        "services": kernel.service_rows(),
        "counters": dict(sorted(shared.items())),
        "counters_agree": not differ,
        "counters_differ": differ,
        "samples": samples.series,
        "checks": run.tally.checks,
    }


def _paging(counters: dict[str, int], stats: SchedulerStats) -> dict[str, Any]:
    get = counters.get
    major = get(_METER + "v_io_faults", 0)
    return {
        "faults": {
            "minor": get(_METER + "v_vm_faults", 0) - major,
            "major": major,
            "cow": get(_METER + "v_cow_faults", 0),
            "zero_fill": get(_METER + "v_zfod", 0),
        },
        "swapouts": stats.swapouts,
        "swapins": stats.swapins,
        "pageouts": get(_METER + "v_swappgsout", 0),
        "pageins": get(_METER + "v_swappgsin", 0),
        "kstacks": {
            name: get(f"vmglue.kstack.{name}", 0) for name in ("peak", "cache_hits", "cache_misses", "lowmem_drains")
        },
    }


def _latencies(stats: SchedulerStats) -> dict[str, dict[str, int]]:
    return {
        name: _quantiles(getattr(stats, name)) for name in ("wakeup_resident", "wakeup_swapped", "major_fault")
    }


def _quantiles(samples: bytes) -> dict[str, int]:
    values = np.frombuffer(samples, np.int64)
    if not len(values):
        return {"count": 0, "p50": 0, "p99": 0, "max": 0}
    p50, p99 = np.percentile(values, (50, 99), method="higher")
    return {"count": len(values), "p50": int(p50), "p99": int(p99), "max": int(values.max())}


def _process(row: ProcessRow) -> dict[str, Any]:
    names = (
        "pid", "ppid", "name", "minor_faults", "major_faults", "swaps",
        "cpu_us", "sleep_us", "start_us", "end_us", "status",
    )  # fmt: skip
    return {name: getattr(row, name) for name in names}
