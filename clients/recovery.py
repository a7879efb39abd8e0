"""How a machine gets over a load that was too much: when everybody is back, and when wakeups are quick again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ports.scheduler import ProcessRow, SchedulerStats

SLOWER = 2
"""Wakeups are normal up to so many times the 99th percentile from before the load."""
NORMAL_US_MIN = 1000
"""Wakeups up to this latency are normal whatever came before, in microseconds."""

Samples = NDArray[np.int64]


def recovery(stats: SchedulerStats, rows: Sequence[ProcessRow], names: Collection[str]) -> dict[str, int] | None:
    """What followed the end of the load.

    Args:
        stats: Latencies of wakeups, and when each ended.
        rows: All processes.
        names: Names of the processes that were the load.

    Returns:
        None without a load, or while it goes on. Else, in virtual microseconds: `begun_us` and `ended_us` of the load;
        from its end, `last_back_us` until the last thread that woke while swapped out ran again, and `normal_us` until
        the last wakeup that took longer than `normal_latency_us`; and how many wakeups of either kind there were.
    """
    load = [row for row in rows if row.name in names]
    if not load or any(row.end_us < 0 for row in load):
        return None
    begun, ended = min(row.start_us for row in load), max(row.end_us for row in load)
    at, latency, swapped = _wakeups(stats)
    before = latency[at < begun]
    limit = max(SLOWER * int(np.percentile(before, 99, method="higher")) if len(before) else 0, NORMAL_US_MIN)
    back, slow = (at >= ended) & swapped, (at >= ended) & (latency > limit)
    return {
        "begun_us": begun,
        "ended_us": ended,
        "last_back_us": _last(at[back], ended),
        "back": int(np.count_nonzero(back)),
        "normal_latency_us": limit,
        "normal_us": _last(at[slow], ended),
        "slow": int(np.count_nonzero(slow)),
    }


def _wakeups(stats: SchedulerStats) -> tuple[Samples, Samples, NDArray[np.bool_]]:
    """When each wakeup's thread was on the processor, its latency, and whether it had been swapped out."""
    resident, swapped = np.frombuffer(stats.wakeup_resident, np.int64), np.frombuffer(stats.wakeup_swapped, np.int64)
    times = stats.wakeup_resident_at + stats.wakeup_swapped_at
    out = np.repeat(np.array([False, True]), (len(resident), len(swapped)))
    return np.frombuffer(times, np.int64), np.concatenate([resident, swapped]), out


def _last(times: Samples, ended: int) -> int:
    return int(times.max()) - ended if len(times) else 0


def swappability(rows: Sequence[ProcessRow]) -> list[dict[str, Any]]:
    """By name of process: how many there were, how many could be swapped out, how many were, and how long they slept.

    A process could be swapped out if it ever slept where it may be: at PSOCK or above.
    """
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        group = groups.setdefault(
            row.name,
            {"name": row.name, "count": 0, "swappable": 0, "swapped": 0, "swappable_sleep_us": 0, "sleep_us": 0},
        )
        group["count"] += 1
        group["swappable"] += row.swappable_us > 0
        group["swapped"] += row.swaps > 0
        group["swappable_sleep_us"] += row.swappable_us
        group["sleep_us"] += row.sleep_us
    return sorted(groups.values(), key=lambda group: str(group["name"]))
