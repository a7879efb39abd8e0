"""Captured programs with more memory: every page becomes several, visited in turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clients.trace import (
    KINDS_SHIFT,
    MAP_FILE,
    PAGE_SHIFT,
    VPN_SHIFT,
    File,
    Header,
    Image,
    Op,
    Ops,
    Region,
    Runs,
    TaskInfo,
    TaskTrace,
    Trace,
)

STRETCH = 4096
"""Successive run records that go to the same of a page's copies; the next so many go to the next one."""
_OFFSET_MASK = 0xFFFFFFFF


def scaled(trace: Trace, factor: int) -> Trace:
    """A trace whose address space and files are `factor` times as large.

    Page p becomes pages p * factor and following; stretches of STRETCH records use one of them after the other.
    References, instructions and operations stay what they are.
    """
    if factor == 1:
        return trace
    header = trace.header
    tasks = tuple(
        TaskTrace(_task(task.info, factor), _runs(task.runs, factor), _ops(task.ops, factor)) for task in trace.tasks
    )
    files = tuple(File(file.id, f"{file.name}*{factor}", file.pages * factor) for file in header.files)
    changed: Header = replace(header, tasks=tuple(task.info for task in tasks), files=files)
    return Trace(changed, tasks)


def _task(info: TaskInfo, factor: int) -> TaskInfo:
    execs = tuple(Image(image.name, _regions(image.regions, factor)) for image in info.execs)
    return replace(info, regions=_regions(info.regions, factor), execs=execs)


def _regions(regions: tuple[Region, ...], factor: int) -> tuple[Region, ...]:
    return tuple(
        replace(
            region,
            start_vpn=region.start_vpn * factor,
            npages=region.npages * factor,
            offset_pages=region.offset_pages * factor,
        )
        for region in regions
    )


def _runs(runs: Runs, factor: int) -> Runs:
    low = runs & np.uint64((1 << VPN_SHIFT) - 1)
    copy = np.arange(len(runs), dtype=np.uint64) // np.uint64(STRETCH) % np.uint64(factor)
    pages = (runs >> np.uint64(VPN_SHIFT)) * np.uint64(factor) + copy
    memory = runs >> np.uint64(KINDS_SHIFT) & np.uint64(7) != 0
    return np.where(memory, pages << np.uint64(VPN_SHIFT) | low, runs)


def _ops(ops: Ops, factor: int) -> Ops:
    """Operations on the larger address space: pages, page counts, offsets in files, addresses of buffers."""
    out = ops.copy()
    kind = ops["op"]
    ranges = np.isin(kind, (Op.MMAP, Op.MUNMAP, Op.MPROTECT))
    out["a"][ranges | (kind == Op.BRK)] *= factor
    out["b"][ranges] *= factor
    files = (kind == Op.MMAP) & (ops["c"] & MAP_FILE != 0)
    out["d"][files] = ops["d"][files] & ~_OFFSET_MASK | (ops["d"][files] & _OFFSET_MASK) * factor
    calls = np.isin(kind, (Op.SYSCALL, Op.SLEEP))
    page, rest = ops["c"][calls] >> PAGE_SHIFT, ops["c"][calls] & ((1 << PAGE_SHIFT) - 1)
    out["c"][calls] = page * factor << PAGE_SHIFT | rest
    return out
