"""Small made traces and workloads for the tests of what runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clients.trace import (
    KIND_EXEC,
    KIND_LOAD,
    KIND_STORE,
    OP_DTYPE,
    File,
    Header,
    Op,
    Region,
    TaskInfo,
    TaskTrace,
    Totals,
    Trace,
    pack_run,
)

TEXT, DATA, STACK = 0x400, 0x10000, 0x7FFFF000
PAGES = 1060
"""More than fit into the made machine's 1,024 pages of RAM."""


def make_trace(path: Path, rounds: int = 2, sleep_us: int = 2_000) -> Path:
    """A process that reads and writes PAGES pages again and again, and sleeps between."""
    runs, ops = [], []
    for number in range(rounds):
        for page in range(PAGES):
            runs.append(pack_run(TEXT + page % 4, KIND_EXEC, 40, 40))
            runs.append(pack_run(DATA + page, KIND_STORE if (page + number) % 3 else KIND_LOAD, 9, 9))
        ops.append((len(runs), Op.SLEEP, sleep_us, 35, STACK << 12, 0))
    ops.append((len(runs), Op.EXIT, 0, 0, 0, 0))
    regions = (
        Region(TEXT, 4, 5, "image", file=0),
        Region(DATA, PAGES, 3, "anon"),
        Region(STACK, 8, 3, "stack"),
    )
    info = TaskInfo(0, -1, "made", regions)
    task = TaskTrace(info, np.array(runs, np.uint64), np.array(ops, OP_DTYPE))
    references = rounds * PAGES * 49
    totals = Totals(references, len(runs), references, len(ops))
    Trace(Header(("made",), "", False, (info,), (File(0, "made", 4),), totals), (task,)).save(path)
    return path


def make_workload(
    directory: Path, rounds: int = 2, count: int = 2, ram: str = "4 MiB", extra: str = "", repeat: int = 1
) -> Path:
    """A workload of `count` such processes in too little memory."""
    make_trace(directory / "made.vmtrace", rounds)
    path = directory / "made.toml"
    path.write_text(
        f'name = "made"\n[machine]\nram = "{ram}"\nswap = "64 MiB"\nseed = 3\n{extra}\n'
        f'[[programs]]\ntrace = "made.vmtrace"\ncount = {count}\nstart_every = "1 ms"\nrepeat = {repeat}\n'
    )
    return path
