"""A report as `build_report` makes it, computed from a few formulas, for the tests of what shows reports."""

from __future__ import annotations

import math
from typing import Any


def sample_report() -> dict[str, Any]:
    """A run of twelve processes on 16 MiB."""
    times = [i * 41_000 for i in range(120)]
    wired = [700 + (i > 20) * 60 for i in range(120)]
    free = [max(40, round(2600 * math.exp(-i / 14)) + round(40 * math.sin(i / 2.5)) + 60) for i in range(120)]
    active = [round((4096 - w - f) * 0.55) for w, f in zip(wired, free, strict=True)]
    inactive = [4096 - w - f - a for w, f, a in zip(wired, free, active, strict=True)]
    swapped = [0 if i < 30 or i > 100 else min(5, (i - 30) // 8) for i in range(120)]
    return {
        "workload": "tiny",
        "kernel": "head-r284275",
        "seed": 1,
        "preempt_seed": 0,
        "wiring": "grpc",
        "complete": True,
        "event_hash": "5e" * 32,
        "virtual_seconds": 4.919,
        "wall_seconds": 2.113,
        "references": 5_812_334,
        "run_records": 2_411_002,
        "references_per_second": 2_750_749,
        "dispatches": 1_183,
        "rpcs": 3_012,
        "faults": {"minor": 8_412, "major": 391, "cow": 1_202, "zero_fill": 5_011},
        "swapouts": 9,
        "swapins": 8,
        "pageouts": 2_114,
        "pageins": 1_018,
        "kstacks": {"peak": 21, "cache_hits": 6, "cache_misses": 17, "lowmem_drains": 2},
        "integrity": {"pages_checked": 11_204, "mismatches": 0, "first": [], "torn": 0},
        "cpu_busy_us": [3_902_113],
        "tlb": {"shootdowns": 12, "ipis": 30, "spent_us": 18},
        "latency_us": {
            "wakeup_resident": {"count": 511, "p50": 12, "p99": 9_800, "max": 41_000},
            "wakeup_swapped": {"count": 8, "p50": 18_200, "p99": 88_000, "max": 88_000},
            "major_fault": {"count": 391, "p50": 6_100, "p99": 24_800, "max": 61_300},
        },
        "identities": [],
        "profile": [
            {"what": "physmem.access", "calls": 1_183, "seconds": 1.25},
            {"what": "orchestrator", "calls": 0, "seconds": 0.5},
        ],
        "wall_split": [{"part": "walk", "seconds": 0.5, "share": 60.0}, {"part": "RPC", "seconds": 0.3, "share": 40.0}],
        "processor_seconds": {"physmem": 1.1},
        "recovery": {
            "begun_us": 400_000,
            "ended_us": 2_000_000,
            "last_back_us": 1_560_000,
            "back": 3,
            "normal_latency_us": 2_070,
            "normal_us": 880_000,
            "slow": 5,
        },
        "swappability": [
            {"name": "python3", "count": 3, "swappable": 3, "swapped": 2, "swappable_sleep_us": 9, "sleep_us": 12},
            {"name": "sort", "count": 3, "swappable": 0, "swapped": 0, "swappable_sleep_us": 0, "sleep_us": 0},
        ],
        "processes": [
            {
                "pid": 20 + i,
                "ppid": 1,
                "flags": 0x4000000,
                "name": ("sort", "python3", "sh", "seq")[i % 4],
                "minor_faults": 500 + 31 * i,
                "major_faults": 7 * i,
                "swaps": int(i % 3 == 0),
                "cpu_us": 80_000 + 13_000 * i,
                "sleep_us": 400_000 * (i % 4),
                "swappable_us": 300_000 * (i % 4),
                "start_us": 120_000 * i,
                "end_us": -1 if i == 11 else 1_800_000 + 250_000 * i,
                "status": -11 if i == 7 else 0,
            }
            for i in range(12)
        ],
        "services": [
            {
                "name": name,
                "pid": 4_000 + i,
                "address": f"unix:/tmp/vmglue-a1/{name}.sock",
                "pss_bytes": (40 + 9 * i) << 20,
            }
            for i, name in enumerate(("pager", "physmem", "kstack", "scheduler"))
        ],
        "counters": {
            "vm.stats.vm.v_free_min": 133,
            "vm.stats.vm.v_free_reserved": 66,
            "vm.stats.vm.v_free_target": 440,
            "vm.stats.vm.v_page_count": 4_096,
        },
        "counters_agree": True,
        "counters_differ": {},
        "samples": {
            "t_us": times,
            "free": [n - n // 5 for n in free],
            "cached": [n // 5 for n in free],
            "active": active,
            "inactive": inactive,
            "wired": wired,
            "swap_used": [min(1800, max(0, (i - 18) * 30)) for i in range(120)],
            "in_memory": [12 - n for n in swapped],
            "swapped": swapped,
        },
        "checks": 0,
    }
