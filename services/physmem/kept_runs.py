"""Packed runs of references that processors issue more than once: sent to physmem once, then named.

They are what the processors read, no state of the machine: no checkpoint holds them, and nothing depends on whether
they are still there, since a caller who hears that they are not sends them again.
"""

from __future__ import annotations

import numpy as np

from hardware_sim.mmu import U64Array
from services.runtime.errors import Reason, Refused
from services.runtime.limits import KEPT_RUNS_BYTES


class KeptRuns:
    """Arrays of run records by name, of at most `bytes_max` bytes together; those not used for longest go first."""

    def __init__(self, bytes_max: int = KEPT_RUNS_BYTES) -> None:
        self._runs: dict[str, U64Array] = {}
        self._bytes, self._bytes_max = 0, bytes_max

    def keep(self, name: str, runs: bytes) -> None:
        """Keep runs; those of the same name go.

        Raises:
            Refused: They are no whole records, or too many.
        """
        if len(runs) % 8 or len(runs) > self._bytes_max:
            expected = f"whole uint64 records, at most {self._bytes_max} bytes"
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "runs", f"{len(runs)} bytes", expected)
        if name in self._runs:
            self._drop(name)
        self._runs[name] = np.frombuffer(runs, np.uint64)
        self._bytes += len(runs)
        while self._bytes > self._bytes_max:
            self._drop(next(iter(self._runs)))

    def part(self, name: str, start: int, end: int) -> U64Array:
        """The records from `start` up to `end`.

        Raises:
            Refused: Nothing is kept under the name, or it has no such records.
        """
        runs = self._runs.get(name)
        if runs is None:
            raise Refused(Reason.UNKNOWN_ID, "name", name, "kept runs; send them again")
        if not start <= end <= len(runs):
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "end", end, f"{start}, which is `start`, to {len(runs)}")
        self._runs[name] = self._runs.pop(name)  # the last to go
        return runs[start:end]

    def clear(self) -> None:
        """Forget everything."""
        self._runs.clear()
        self._bytes = 0

    def _drop(self, name: str) -> None:
        self._bytes -= self._runs.pop(name).nbytes
