"""The report of a run: figures of the services, of Redis and of the orchestrator, side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from clients.identities import P_SYSTEM, violated
from clients.kernel import Kernel
from clients.orchestrator import Orchestrator
from clients.recovery import recovery, swappability
from clients.workload_model import Machine
from services.ports.scheduler import ProcessRow, SchedulerStats

_METER = "vm.stats.vm."
_QUEUES = {
    "free": "v_free_count",
    "cached": "v_cache_count",
    "active": "v_active_count",
    "inactive": "v_inactive_count",
    "wired": "v_wire_count",
}
_SAMPLED = [_METER + name for name in (*_QUEUES.values(), "v_vm_faults", "v_io_faults")]
SERIES = ("t_us", *_QUEUES, "swap_used", "in_memory", "swapped")
"""Series that are sampled during a run."""


class Ending(Enum):
    """Why a report was made."""

    COMPLETE = "complete"
    """Every program has ended."""
    PAUSED = "paused"
    """The run can go on."""
    INTERRUPTED = "interrupted"
    """The user ended it."""
    DEADLOCK = "deadlock"
    """Processes are left that nothing can ever wake."""
    PANIC = "panic"
    """The C code panicked."""
    INVARIANT = "invariant"
    """`--check` found the state inconsistent."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Where the machine is: pages by queue, swap, processes."""

    t_us: int = 0
    """Virtual time, in microseconds."""
    free: int = 0
    """Free pages."""
    cached: int = 0
    """Cached pages: as good as free, and counted with them against the thresholds."""
    active: int = 0
    """Pages on the active queue."""
    inactive: int = 0
    """Pages on the inactive queue."""
    wired: int = 0
    """Wired pages."""
    swap_used: int = 0
    """Pages of swap in use."""
    in_memory: int = 0
    """Living processes in memory."""
    swapped: int = 0
    """Living processes that are swapped out."""
    swapouts: int = 0
    """Whole processes swapped out so far."""
    swapins: int = 0
    """Whole processes swapped in so far."""
    minor: int = 0
    """Faults without the pager so far."""
    major: int = 0
    """Faults with a pager read so far."""


def take_sample(kernel: Kernel, now_us: int) -> Sample:
    """Ask board and services where the machine is; changes nothing in it."""
    counters = kernel.board.read(_SAMPLED) or counters_of(kernel, "physmem")
    status, table = kernel.pager.swap_status(), kernel.scheduler.processes()
    major = counters.get(_METER + "v_io_faults", 0)
    swapouts = sum(row.swaps for row in table.processes)
    return Sample(
        t_us=now_us,
        **{queue: counters.get(_METER + name, 0) for queue, name in _QUEUES.items()},
        swap_used=status.used,
        in_memory=table.running,
        swapped=table.swapped,
        swapouts=swapouts,
        swapins=swapouts - table.swapped,
        minor=counters.get(_METER + "v_vm_faults", 0) - major,
        major=major,
    )


@dataclass(slots=True)
class Samples:
    """Time series of a run; thinned by two whenever they exceed `limit`."""

    limit: int = 512
    series: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in SERIES})
    last: Sample = field(default_factory=Sample)
    """The newest sample, kept in the series or not."""
    _stride: int = 1
    _seen: int = 0

    def add(self, sample: Sample) -> None:
        """Take a sample into the series, or leave it out if they are thinned."""
        self.last = sample
        if self._seen % self._stride == 0:
            self._append(sample)
            if len(self.series["t_us"]) > self.limit:
                self.series = {name: kept[::2] for name, kept in self.series.items()}
                self._stride *= 2
        self._seen += 1

    def close(self, sample: Sample) -> None:
        """The last sample of a run; always kept, so that the series reach its end."""
        self.last = sample
        times = self.series["t_us"]
        if not times or times[-1] < sample.t_us:
            self._append(sample)

    def _append(self, sample: Sample) -> None:
        values = asdict(sample)
        for name in SERIES:
            self.series[name].append(values[name])


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


def build_report(
    run: Orchestrator, samples: Samples, wall_seconds: float, ending: Ending, detail: str = ""
) -> dict[str, Any]:
    """Collect the report (docs/report.md) from the services, Redis and the orchestrator.

    Args:
        run: The orchestrator, after its last step.
        samples: Series taken on the way.
        wall_seconds: Time that the run took, start-up not included.
        ending: Why it ended.
        detail: One sentence about it.
    """
    kernel, machine = run.kernel, run.workload.machine
    merged = {name: value for service in kernel.ports() for name, value in counters_of(kernel, service).items()}
    stats, rows = kernel.scheduler.stats(), kernel.scheduler.processes().processes
    return {
        "workload": run.workload.name,
        "kernel": machine.kernel_version,
        "seed": machine.seed,
        "preempt_seed": machine.preempt_seed,
        "wiring": kernel.wiring,
        "complete": ending is Ending.COMPLETE,
        "end": ending.value,
        "end_detail": detail,
        "event_hash": event_hash(kernel),
        "virtual_seconds": stats.now_us / 1e6,
        "wall_seconds": round(wall_seconds, 3),
        **_tally(run, wall_seconds),
        **_paging(merged, stats),
        "cpu_busy_us": stats.cpu_busy_us,
        "tlb": _shootdowns(merged, machine),
        "latency_us": _latencies(stats),
        "recovery": recovery(stats, rows, {program.name for program in run.workload.programs if program.pressure}),
        "swappability": swappability([row for row in rows if row.flags & P_SYSTEM == 0]),
        "processes": [_process(row) for row in rows],
        "services": kernel.service_rows(),
        **_counters(kernel, merged),
        "profile": [],
        "wall_split": [],
        "processor_seconds": {},
        "identities": violated(merged, rows, stats),
        "samples": samples.series,
    }


def _tally(run: Orchestrator, wall_seconds: float) -> dict[str, Any]:
    """What the orchestrator counted and compared by itself."""
    tally, shadow = run.tally, run.shadow
    return {
        "references": tally.references,
        "run_records": tally.run_records,
        "references_per_second": round(tally.references / wall_seconds) if wall_seconds > 0 else 0,
        "dispatches": tally.dispatches,
        "rpcs": run.kernel.calls(),
        "checks": tally.checks,
        "integrity": {
            "pages_checked": shadow.pages_checked,
            "mismatches": shadow.mismatch_count,
            "first": [str(mismatch) for mismatch in shadow.mismatches],
            "torn": tally.torn,
        },
    }


def _shootdowns(merged: Mapping[str, int], machine: Machine) -> dict[str, int]:
    """TLB shoot-downs, processors interrupted, and the time of those who asked for them."""
    shootdowns, ipis = merged.get("vmglue.tlb.shootdowns", 0), merged.get("vmglue.tlb.ipis", 0)
    spent_us = (shootdowns * machine.shootdown_ns + ipis * machine.ipi_ns) // 1000
    return {"shootdowns": shootdowns, "ipis": ipis, "spent_us": spent_us}


def _counters(kernel: Kernel, own: Mapping[str, int]) -> dict[str, Any]:
    """The shared counters, and where they differ from the services' own."""
    shared = kernel.board.read(sorted(own)) or {}
    differ = {name: [shared.get(name), value] for name, value in own.items() if shared.get(name) != value}
    return {"counters": dict(sorted(shared.items())), "counters_agree": not differ, "counters_differ": differ}


def _paging(counters: Mapping[str, int], stats: SchedulerStats) -> dict[str, Any]:
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
    return {name: _quantiles(getattr(stats, name)) for name in ("wakeup_resident", "wakeup_swapped", "major_fault")}


def _quantiles(samples: bytes) -> dict[str, int]:
    values = np.frombuffer(samples, np.int64)
    if not len(values):
        return {"count": 0, "p50": 0, "p99": 0, "max": 0}
    p50, p99 = np.percentile(values, (50, 99), method="higher")
    return {"count": len(values), "p50": int(p50), "p99": int(p99), "max": int(values.max())}


def _process(row: ProcessRow) -> dict[str, Any]:
    names = (
        "pid", "ppid", "name", "flags", "minor_faults", "major_faults", "swaps",
        "cpu_us", "sleep_us", "swappable_us", "start_us", "end_us", "status",
    )  # fmt: skip
    return {name: getattr(row, name) for name in names}
