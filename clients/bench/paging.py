"""The swap path: pages through the pager's core, out and in, beside plain writes and reads of the same file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from clients.bench.figure import Figure, best_s
from services.compose import pager_alone
from services.ports.pager import ObjectKind, PagerBoot, PagerPort, PutRun, SwapDisk, VmPager
from services.runtime.context import Context

PAGE = 4096
CLUSTER = 32
"""Pages of a cluster: two of the kernel's writes, which lie behind one another, and one read."""
CLUSTERS = 512
"""Clusters of a round: 64 MiB, all with contents of their own, as memory that goes out has."""
BATCH = 8
"""Clusters of a request; a reader asks for each cluster and fetches what is due at once."""
ROUNDS = 7
_FIRST_BLOCK = 2
"""The first block that is not kept for a label."""
_GOAL = 0.7


def paging() -> list[Figure]:
    """Pages a second out to swap and in again, with every check that the pager makes, over raw pwritev and preadv."""
    with TemporaryDirectory(prefix="vmglue-bench-") as directory:
        return list(_paging(Path(directory) / "swap"))


def _paging(path: Path) -> Iterator[Figure]:
    pages, ctx, random = CLUSTER * CLUSTERS, Context("pager"), np.random.default_rng(1)
    data = [random.bytes(BATCH * CLUSTER * PAGE) for _ in range(CLUSTERS // BATCH)]
    with pager_alone(ctx, path) as core:
        core.boot(PagerBoot(swap_devices=[SwapDisk(pages + CLUSTER)], page_count=pages * 4))
        file = os.open(path, os.O_RDWR)
        times: dict[str, list[float]] = {"out": [], "in": [], "raw out": [], "raw in": []}
        runs = {"raw out": lambda: _raw_out(file, data), "raw in": lambda: _raw_in(file)}
        runs |= {"out": lambda: _out(core, ctx, data), "in": lambda: _in(core, ctx)}
        try:
            for name in [*runs] * ROUNDS:
                if name == "out":
                    core.dealloc([1])
                times[name].append(best_s(runs[name], 1))
        finally:
            os.close(file)
    best = {name: min(samples) for name, samples in times.items()}
    both, raw = best["out"] + best["in"], best["raw out"] + best["raw in"]
    note = f"{pages:,} pages, {BATCH} clusters of {CLUSTER} in a request; the same file"
    baseline = "raw pwritev and preadv"
    yield Figure("swap path, out and in", "pages/s", 2 * pages / both, baseline, 2 * pages / raw, _GOAL, note=note)
    yield Figure("swap path, out", "pages/s", pages / best["out"], "raw pwritev", pages / best["raw out"], note=note)
    yield Figure("swap path, in", "pages/s", pages / best["in"], "raw preadv", pages / best["raw in"], note=note)


def _raw_out(file: int, data: list[bytes]) -> None:
    size, offset = CLUSTER * PAGE, _FIRST_BLOCK * PAGE
    for batch in data:
        view = memoryview(batch)
        for at in range(0, len(batch), size):
            os.pwritev(file, [view[at : at + size]], offset + at)
        offset += len(batch)


def _raw_in(file: int) -> None:
    buffer = bytearray(CLUSTER * PAGE)
    for i in range(CLUSTERS):
        os.preadv(file, [buffer], (_FIRST_BLOCK + i * CLUSTER) * PAGE)


def _out(core: PagerPort, ctx: Context, data: list[bytes]) -> None:
    for i, batch in enumerate(data):
        runs = [PutRun(1, (i * BATCH + j) * CLUSTER, CLUSTER) for j in range(BATCH)]
        answers = core.put_pages_start(runs, batch, False).runs
        chunks = [chunk for answer in answers for chunk in answer.chunks]
        ctx.now_us = chunks[-1].due_us
        core.put_pages_finish([chunk.io for chunk in chunks])


def _in(core: PagerPort, ctx: Context) -> None:
    for i in range(CLUSTERS // BATCH):
        firsts = [(i * BATCH + j) * CLUSTER for j in range(BATCH)]
        started = [core.get_pages_start(1, ObjectKind.SWAP, 0, first, 0, CLUSTER - 1, False) for first in firsts]
        ctx.now_us = started[-1].due_us
        reads = core.get_pages_finish([start.io for start in started]).reads
        assert all(read.status is VmPager.OK for read in reads)
