"""libCacheSim beside the machine: the same run records, replayed by its policies."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.trace import VPN_SHIFT, Runs

Policy = Callable[[int], Any]
"""Makes a cache of libCacheSim's for so many pages."""


def clock(pages: int) -> Any:
    """Clock as libCacheSim sets it up: the reference that brings a page in does not set its bit."""
    import libcachesim as lcs  # of the extra [bench], as in the others

    return lcs.Clock(cache_size=pages)


def clock_of_hardware(pages: int) -> Any:
    """Clock as a memory management unit makes it: the reference that brings a page in sets its bit."""
    import libcachesim as lcs

    return lcs.Clock(cache_size=pages, init_freq=1)


def fifo(pages: int) -> Any:
    """FIFO."""
    import libcachesim as lcs

    return lcs.FIFO(cache_size=pages)


@dataclass(frozen=True, slots=True)
class CacheSim:
    """libCacheSim over a file of page numbers."""

    path: Path
    """The file."""
    count: int
    """Its records."""

    def misses(self, policy: Policy, pages: int) -> int:
        """Replay the file with a cache of so many pages."""
        import libcachesim as lcs

        params = lcs.ReaderInitParam(ignore_obj_size=True)
        reader = lcs.TraceReader(str(self.path), lcs.TraceType.ORACLE_GENERAL_TRACE, params)
        missed: float = policy(pages).process_trace(reader)[0]
        return round(missed * self.count)


@contextmanager
def cachesim(memory: Runs) -> Iterator[CacheSim]:
    """Records that touch memory, as libCacheSim's own binary format (oracleGeneral), which it reads fastest."""
    rows = np.zeros(len(memory), np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")]))
    rows["id"], rows["size"], rows["next"] = memory >> np.uint64(VPN_SHIFT), 1, -1
    with tempfile.TemporaryDirectory(prefix="vmglue-bench-") as directory:
        path = Path(directory) / "pages.oracleGeneral"
        rows.tofile(path)
        yield CacheSim(path, len(memory))
