"""Where the wall time of a run goes: the calls that the orchestrator waits for, and what all processes do in them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from clients.kernel import SERVICES, Kernel
from services.runtime.errors import ServiceFault, ServiceLost

PARTS = ("walk", "faults", "RPC", "Redis", "scheduler", "orchestrator")
"""Parts of a run's wall time: together they are all of it, since one process at a time has work."""
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Profile:
    """Times every call that is made through a kernel's ports from now on.

    Attributes:
        calls: Number and wall seconds by (service, method).
        parts: Wall seconds between `begin` and `end`, by part.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.calls: dict[tuple[str, str], list[float]] = {}
        self.parts = dict.fromkeys(PARTS, 0.0)
        self._kernel, self._begun = kernel, dict.fromkeys(PARTS, 0.0)
        self._cpu_s = self._processors()
        for name, port in kernel.ports().items():
            setattr(kernel, name, _TimedPort(name, port, self.calls))

    def begin(self) -> None:
        """The run begins, or goes on.

        Raises:
            ServiceLost: A service does not answer.
        """
        self._begun = self._totals()

    def end(self) -> None:
        """The run pauses or ends; where a service was lost nobody knows what it did since `begin`."""
        with suppress(ServiceLost, ServiceFault):
            totals = self._totals()
            for part, before in self._begun.items():
                self.parts[part] += max(totals[part] - before, 0.0)

    def split(self) -> list[dict[str, Any]]:
        """A row for each part: `part`, `seconds`, and `share` in per cent; the shares add up to 100."""
        wall_s = sum(self.parts.values())
        if not wall_s:
            return []
        tenths = {part: round(1000 * seconds / wall_s) for part, seconds in self.parts.items()}
        tenths[max(tenths, key=lambda part: tenths[part])] += 1000 - sum(tenths.values())
        return [
            {"part": part, "seconds": round(seconds, 3), "share": tenths[part] / 10}
            for part, seconds in self.parts.items()
        ]

    def rows(self, wall_s: float) -> list[dict[str, Any]]:
        """A row for each method, longest first, then the orchestrator's own time.

        Args:
            wall_s: Wall time of the run.
        """
        rows: list[dict[str, Any]] = [
            {"what": f"{service}.{method}", "calls": int(calls), "seconds": round(seconds, 3)}
            for (service, method), (calls, seconds) in self.calls.items()
        ]
        rows.sort(key=lambda row: -float(row["seconds"]))
        waited = sum(seconds for _, seconds in self.calls.values())
        return [*rows, {"what": "orchestrator", "calls": 0, "seconds": round(max(wall_s - waited, 0), 3)}]

    def processor_s(self) -> dict[str, float]:
        """Processor time of each service's process since the start; empty if they have none of their own."""
        now = self._processors()
        return {name: round(now[name] - before, 2) for name, before in self._cpu_s.items() if name in now}

    def _totals(self) -> dict[str, float]:
        """What each part has come to, from some start on that is always the same.

        What a caller waits for and no core and no publication takes is the call itself: arguments, messages, the way.
        """
        now_s, waited_s, times = time.perf_counter(), self._kernel.ctx.wall.below_s, self._kernel.wall_times()
        own = {name: wall.core_s - wall.below_s for name, wall in times.items()}
        published_s, walked_s = sum(wall.board_s for wall in times.values()), times["physmem"].walk_s
        return {
            "walk": walked_s,
            "faults": own["physmem"] + own["pager"] - walked_s,
            "RPC": waited_s - sum(own.values()) - published_s,
            "Redis": published_s,
            "scheduler": own["scheduler"] + own["kstack"],
            "orchestrator": now_s - waited_s,
        }

    def _processors(self) -> dict[str, float]:
        rows = {row["name"]: row["pid"] for row in self._kernel.service_rows()}
        own = {name: pid for name, pid in rows.items() if name in SERVICES and pid not in (0, os.getpid())}
        return {name: _processor_s(pid) for name, pid in own.items()}


class _TimedPort:
    """A port whose calls are timed."""

    def __init__(self, service: str, port: Any, calls: dict[tuple[str, str], list[float]]) -> None:
        self._service, self._port, self._calls = service, port, calls

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = getattr(self._port, method)
        row = self._calls.setdefault((self._service, method), [0, 0.0])

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                row[0] += 1
                row[1] += time.perf_counter() - begun

        setattr(self, method, timed)
        return timed


def _processor_s(pid: int) -> float:
    """User and system time of a process of this host, in seconds; 0 if it cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
