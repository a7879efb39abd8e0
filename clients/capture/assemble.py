"""Puts the streams of a recording together: task numbers, complete layouts, totals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clients.capture.decode import Stream
from clients.capture.layout import STACK_ZONE, Coverage, FileTable, with_heap_and_stack
from clients.capture.threads import split_threads
from clients.trace import (
    OP_DTYPE,
    PAGE_SHIFT,
    Header,
    Image,
    Op,
    Ops,
    Region,
    Runs,
    TaskInfo,
    TaskTrace,
    Totals,
    Trace,
    run_kinds,
    run_vpn,
)

Rows = list[tuple[int, int, int, int, int, int]]


def assemble(streams: list[Stream], files: FileTable, command: tuple[str, ...], remake: str, truncated: bool) -> Trace:
    """Build the trace of a recording; streams[0] is the command's own process."""
    parents = {child: s.pid for s in streams for child in s.children}
    order = _creation_order(streams)
    index = {s.pid: i for i, s in enumerate(order)}
    runs = [s.runs() for s in order]
    pages = _touched_pages(runs)
    layouts = _layouts(order, pages)
    covers: dict[int, Coverage] = {}
    tasks: list[TaskTrace] = []
    for i, stream in enumerate(order):
        images = layouts[i]
        rows = _renumber(stream.ops, index)
        cover = covers.pop(i, None) or Coverage(pages)
        if stream.root:
            cover.exec(images[0].regions)
        ops = _complete(rows, runs[i], cover, images[1:] if stream.root else images, covers)
        info = TaskInfo(
            index=i,
            parent=index.get(parents.get(stream.pid, -1), -1),
            name=images[-1].name if images else tasks[index[parents[stream.pid]]].info.name,
            regions=images[0].regions if stream.root else (),
            execs=tuple(images[1:] if stream.root else images),
        )
        tasks.append(TaskTrace(info, runs[i], ops))
    threads: list[TaskTrace] = []
    for i, task in enumerate(tasks):
        tasks[i], *more = split_threads(task, len(order) + len(threads))
        threads += more
    tasks += threads
    totals = Totals(
        references=sum(s.references for s in order),
        records=sum(len(r) for r in runs),
        instructions=sum(s.instructions for s in order),
        operations=sum(len(t.ops) for t in tasks),
    )
    header = Header(command, remake, truncated, tuple(t.info for t in tasks), tuple(files.files), totals)
    return Trace(header, tuple(tasks))


def _creation_order(streams: list[Stream]) -> list[Stream]:
    """Order parents before children; a stream whose fork was not recorded is left out."""
    by_pid = {s.pid: s for s in streams}
    order = [streams[0]]
    for stream in order:
        order.extend(by_pid[child] for child in stream.children if child in by_pid and by_pid[child] is not streams[0])
    return order


def _touched_pages(runs: list[Runs]) -> npt.NDArray[np.int64]:
    return np.unique(np.concatenate([np.unique(run_vpn(r[run_kinds(r) != 0])) for r in runs]))


def _layouts(order: list[Stream], pages: npt.NDArray[np.int64]) -> list[list[Image]]:
    """Complete every image's layout: each stack reaches down to the lowest stack page of the whole recording."""
    in_stack = pages[(pages >= STACK_ZONE[0] >> PAGE_SHIFT) & (pages < STACK_ZONE[1] >> PAGE_SHIFT)]
    low = int(in_stack[0]) if len(in_stack) else STACK_ZONE[1] >> PAGE_SHIFT
    out = []
    for stream in order:
        images = []
        for i, layout in enumerate(stream.layouts):
            mapped = [(a, b) for life, op, a, b in _lives(stream) if life == i and op == Op.MMAP]
            regions: tuple[Region, ...] = with_heap_and_stack(layout.regions, layout.brk_vpn, low, mapped)
            images.append(Image(layout.name, regions))
        out.append(images)
    return out


def _lives(stream: Stream) -> list[tuple[int, int, int, int]]:
    """Tag each operation with the number of the image that did it (-1: the forked parent's): (life, op, a, b)."""
    life = 0 if stream.root else -1
    out = []
    for _, op, a, b, _, _ in stream.ops:
        if op == Op.EXEC:
            life += 1
        out.append((life, op, a, b))
    return out


def _renumber(ops: Rows, index: dict[int, int]) -> Rows:
    """Replace pids by task indices; drop a fork whose child left no stream."""
    out = []
    for pos, op, a, b, c, d in ops:
        if op == Op.FORK:
            if a not in index:
                continue
            a = index[a]
        elif op == Op.WAIT:
            a = index.get(a, -1)
        out.append((pos, op, a, b, c, d))
    return out


def _complete(rows: Rows, runs: Runs, cover: Coverage, execs: list[Image], covers: dict[int, Coverage]) -> Ops:
    """Insert the mappings without which a reference would be outside every region, and note each child's map."""
    out: Rows = []
    done = 0
    for row in [*rows, (len(runs), -1, 0, 0, 0, 0)]:
        pos, op, a, b, c, _ = row
        if pos > done:
            out.extend((done, *extra) for extra in cover.missing(runs[done:pos]))
            done = pos
        if op == Op.EXEC:
            cover.exec(execs[a].regions)
        elif op == Op.FORK:
            covers[a] = cover.fork()
        elif op >= 0:
            cover.apply(op, a, b, c)
        if op >= 0:
            out.append(row)
    return np.array(out, OP_DTYPE)
