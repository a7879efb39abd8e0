"""The open trace format: what programs did to memory and to the kernel, as a Parquet file.

docs/trace-format.md describes the file for other readers and writers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION = 1
"""Version of the columns and of the header; a reader refuses any other."""
METADATA_KEY = b"vmglue_trace"
"""Key of the JSON header in the Parquet schema's metadata."""
COLUMNS = {"task": pa.uint16(), "op": pa.uint8(), "run": pa.uint64()} | dict.fromkeys("abcd", pa.int64())
"""Columns and their types."""
PAGE_SHIFT = 12
"""Traces are recorded on 4 KiB pages."""

VPN_SHIFT = 27
KINDS_SHIFT = 24
REFS_SHIFT = 12
VPN_MAX = (1 << 36) - 1
COUNT_MAX = 4095
"""Most references and most instructions that one record can hold."""

KIND_LOAD = 1
KIND_STORE = 2
KIND_EXEC = 4

PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4
MAP_ANON = 0x100
"""Flag of ``c`` of an MMAP row: no file behind it."""
MAP_PRIVATE = 0x200
"""Flag of ``c`` of an MMAP row: copy-on-write."""
MAP_SHARED = 0x400
"""Flag of ``c`` of an MMAP row: stores are shared."""
MAP_FILE = 0x800
"""Flag of ``c`` of an MMAP row: ``d`` names a file."""
MAP_OTHER = 0x1000
"""Flag of ``c`` of an MMAP row: added by capture to cover references outside every known region."""


class Op(IntEnum):
    """What one row is. Addresses are in 4 KiB page numbers unless said otherwise."""

    RUN = 0
    """References to one page, or in-kernel time: see ``run``."""
    SYSCALL = 1
    """A system call that sleeps or wires: a = Linux x86-64 number, b = sleep in us or -1, c = address, d = length."""
    MMAP = 2
    """a = first page, b = pages, c = prot | MAP_* flags, d = file id << 32 | page offset. Replaces what was there."""
    MUNMAP = 3
    """a = first page, b = pages."""
    MPROTECT = 4
    """a = first page, b = pages, c = prot."""
    BRK = 5
    """a = page after the heap's last one."""
    FORK = 6
    """a = child's task index, b = 1 if the parent shares its memory and waits (vfork)."""
    EXEC = 7
    """a = index into the task's execs: the new image's layout."""
    EXIT = 8
    """a = exit status as in wait(2): code << 8 | signal. The task's last row."""
    WAIT = 9
    """wait4(2) that may sleep: a = task index of the child reaped, or -1 for any."""
    SLEEP = 10
    """A timed sleep: a = length in us, b = Linux x86-64 number of the call, c = address of its argument."""


OP_DTYPE = np.dtype([("pos", "<i8"), ("op", "u1"), ("a", "<i8"), ("b", "<i8"), ("c", "<i8"), ("d", "<i8")])
"""One operation; ``pos`` runs of its task come before it."""

_COMPRESSION_LEVEL = 15
"""Of zstd: a fifth smaller than level 6, and still quicker than the recording itself."""
_PAGE_BYTES = 1 << 30
"""One page a column: records in whole bytes on one long page compress twice as well as a dictionary's packed bits."""

_BATCH_ROWS = 1 << 17
"""Rows decoded at a time."""

Runs = npt.NDArray[np.uint64]
Ops = npt.NDArray[np.void]


class TraceError(Exception):
    """A trace file that cannot be read; the text is one line that names the file and says what is wrong."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an address space when an image starts."""

    start_vpn: int
    """First page."""
    npages: int
    """Pages."""
    prot: int
    """PROT_READ 1 | PROT_WRITE 2 | PROT_EXEC 4."""
    kind: str
    """image, anon, stack, brk, vdso or other."""
    file: int = -1
    """File id of an image region, else -1."""
    offset_pages: int = 0
    """Offset of the region in the file, in pages."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that was mapped."""

    id: int
    """Position in the header's list."""
    name: str
    """Basename."""
    pages: int
    """Size in pages, rounded up."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that a task started by exec."""

    name: str
    """Basename of the program."""
    regions: tuple[Region, ...]
    """Layout when its first instruction ran."""


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A process of the trace, as the header describes it."""

    index: int
    """Value of the column ``task``."""
    parent: int
    """Task that forked it, or -1."""
    name: str
    """Basename of the program it ended as."""
    regions: tuple[Region, ...]
    """Layout at its start; empty for a forked task, which inherits its parent's."""
    execs: tuple[Image, ...] = ()
    """Images started later, in order."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all tasks."""

    references: int
    """Original accesses; an instruction fetch is one, a modify is one."""
    records: int
    """RUN rows."""
    instructions: int
    """Instructions of the program (fetches), without the kernel's."""
    operations: int
    """Rows that are not RUN."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the schema's metadata says."""

    command: tuple[str, ...]
    """Command that was recorded, paths cut to basenames."""
    remake: str
    """Shell line that records it again."""
    truncated: bool
    """The recording stopped at its limit before the program ended."""
    tasks: tuple[TaskInfo, ...]
    """Processes, in order of creation."""
    files: tuple[File, ...]
    """Mapped files."""
    totals: Totals
    """Sums over all tasks."""
    schema_version: int = SCHEMA_VERSION
    """Version of this format."""


@dataclass(frozen=True, slots=True)
class TaskTrace:
    """One process: its description and its rows as arrays."""

    info: TaskInfo
    """The header's entry."""
    runs: Runs
    """Packed records of all RUN rows, in order."""
    ops: Ops
    """All other rows (OP_DTYPE), in order."""

    def segments(self) -> Iterator[tuple[Runs, np.void | None]]:
        """Yield the runs up to each operation with that operation; the last pair may have no operation."""
        done = 0
        for row in self.ops:
            yield self.runs[done : int(row["pos"])], row
            done = int(row["pos"])
        if done < len(self.runs):
            yield self.runs[done:], None


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace in memory."""

    header: Header
    """Description."""
    tasks: tuple[TaskTrace, ...] = field(repr=False)
    """Processes; the position is the task index."""

    @classmethod
    def open(cls, path: Path | str) -> Trace:
        """Read a trace file.

        Raises:
            TraceError: the file is missing, is not a trace, or has another schema version.
        """
        with _opened(Path(path)) as file:
            header = _parse_header(Path(path), file.schema_arrow.metadata or {})
            _check_columns(Path(path), file.schema_arrow)
            tasks = _read_tasks(Path(path), file, header.tasks)
        _check_operations(Path(path), header, tasks)
        return cls(header, tasks)

    def save(self, path: Path | str) -> None:
        """Write the trace as Parquet; the file appears only when it is complete."""
        write_trace(Path(path), self.header, self.tasks)


def read_header(path: Path | str) -> Header:
    """Read only the description of a trace file."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException) as err:
        raise TraceError(f"{path}: cannot be read as a trace: {_first_line(err)}") from None
    return _parse_header(Path(path), metadata)


def pack_run(vpn: int, kinds: int, refs: int, instrs: int) -> int:
    """Pack one record; refs and instrs at most COUNT_MAX."""
    return vpn << VPN_SHIFT | kinds << KINDS_SHIFT | refs << REFS_SHIFT | instrs


def run_vpn(runs: Runs) -> npt.NDArray[np.int64]:
    """Page number of each record."""
    return (runs >> np.uint64(VPN_SHIFT)).astype(np.int64)


def run_kinds(runs: Runs) -> npt.NDArray[np.int64]:
    """Kinds of each record: 1 load, 2 store, 4 exec; 0: in-kernel time, no page."""
    return ((runs >> np.uint64(KINDS_SHIFT)) & np.uint64(7)).astype(np.int64)


def run_refs(runs: Runs) -> npt.NDArray[np.int64]:
    """Original references of each record; for in-kernel time the number of system calls."""
    return ((runs >> np.uint64(REFS_SHIFT)) & np.uint64(COUNT_MAX)).astype(np.int64)


def run_instrs(runs: Runs) -> npt.NDArray[np.int64]:
    """Instructions of each record."""
    return (runs & np.uint64(COUNT_MAX)).astype(np.int64)


def write_trace(path: Path, header: Header, tasks: tuple[TaskTrace, ...]) -> None:
    """Write a trace file through a temporary name beside it."""
    table = pa.table(_columns(tasks)).replace_schema_metadata(
        {METADATA_KEY: json.dumps(asdict(header), separators=(",", ":")).encode()}
    )
    partial = path.with_name(path.name + ".part")
    try:
        pq.write_table(
            table,
            partial,
            compression="zstd",
            compression_level=_COMPRESSION_LEVEL,
            use_dictionary=["op", "task", "a", "b", "c", "d"],
            data_page_size=_PAGE_BYTES,
            write_statistics=False,
            row_group_size=16 << 20,
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _columns(tasks: tuple[TaskTrace, ...]) -> dict[str, npt.NDArray[Any]]:
    """Interleave every task's runs and operations into the file's columns."""
    total = sum(len(t.runs) + len(t.ops) for t in tasks)
    out: dict[str, npt.NDArray[Any]] = {
        "task": np.zeros(total, np.uint16),
        "op": np.zeros(total, np.uint8),
        "run": np.zeros(total, np.uint64),
    }
    out.update({name: np.zeros(total, np.int64) for name in "abcd"})
    base = 0
    for task in tasks:
        count = len(task.runs) + len(task.ops)
        rows = task.ops["pos"] + np.arange(len(task.ops)) + base
        is_run = np.ones(count, np.bool_)
        is_run[rows - base] = False
        out["task"][base : base + count] = task.info.index
        out["run"][base : base + count][is_run] = task.runs
        for name in ("op", "a", "b", "c", "d"):
            out[name][rows] = task.ops[name]
        base += count
    return out


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """An open file, whose damage is told as a TraceError; the decoder's memory goes back to the host."""
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException) as err:
        raise TraceError(f"{path}: cannot be read as a trace: {_first_line(err)}") from None
    finally:
        pa.default_memory_pool().release_unused()


def _check_columns(path: Path, schema: pa.Schema) -> None:
    for name, expected in COLUMNS.items():
        found = schema.field(name).type if name in schema.names else None
        if found != expected:
            raise TraceError(f"{path}: column {name!r} is {found or 'missing'}, expected {expected}")


def _read_tasks(path: Path, file: pq.ParquetFile, infos: tuple[TaskInfo, ...]) -> tuple[TaskTrace, ...]:
    """Split the rows into each task's runs and operations, a batch at a time: most rows are runs alone."""
    runs, ops = np.empty(file.metadata.num_rows, np.uint64), [np.empty(0, OP_DTYPE)]
    run_counts, op_counts = np.zeros(len(infos), np.int64), np.zeros(len(infos), np.int64)
    done, last_task = 0, 0
    for batch in file.iter_batches(_BATCH_ROWS, columns=list(COLUMNS)):
        column = {name: batch.column(name).to_numpy() for name in COLUMNS}
        task, is_run = column["task"], column["op"] == Op.RUN
        if task[0] < last_task or np.any(task[1:] < task[:-1]) or task[-1] >= len(infos):
            raise TraceError(f"{path}: rows are not sorted by task, or belong to a task that the header lacks")
        last_task = task[-1]
        rows = np.flatnonzero(~is_run)
        ops.append(_operations(column, rows, done))
        op_counts += np.bincount(task[rows], minlength=len(infos))
        run_counts += np.bincount(task, minlength=len(infos)) - np.bincount(task[rows], minlength=len(infos))
        count = len(task) - len(rows)
        runs[done : done + count] = column["run"][is_run] if len(rows) else column["run"]
        done += count
    return _split(infos, runs, run_counts, np.concatenate(ops), op_counts)


def _operations(column: dict[str, npt.NDArray[Any]], rows: npt.NDArray[np.int64], runs_before: int) -> Ops:
    """Operations of a batch; ``pos`` counts from the file's first run."""
    ops = np.empty(len(rows), OP_DTYPE)
    ops["pos"] = runs_before + rows - np.arange(len(rows))
    for name in ("op", "a", "b", "c", "d"):
        ops[name] = column[name][rows]
    return ops


def _split(
    infos: tuple[TaskInfo, ...],
    runs: Runs,
    run_counts: npt.NDArray[np.int64],
    ops: Ops,
    op_counts: npt.NDArray[np.int64],
) -> tuple[TaskTrace, ...]:
    """Give each task its part of the runs and operations, both sorted by task."""
    tasks, run, op = [], 0, 0
    for info, run_count, op_count in zip(infos, run_counts.tolist(), op_counts.tolist(), strict=True):
        own = ops[op : op + op_count]
        own["pos"] -= run
        tasks.append(TaskTrace(info, runs[run : run + run_count], own))
        run, op = run + run_count, op + op_count
    return tuple(tasks)


def _check_operations(path: Path, header: Header, tasks: tuple[TaskTrace, ...]) -> None:
    """Refuse operations that point outside the header."""
    for task in tasks:
        ops = task.ops
        mapped_file = (ops["op"] == Op.MMAP) & (ops["c"] & MAP_FILE != 0)
        limits = (
            ("kind of operation", ops["op"], len(Op)),
            ("FORK's task", ops["a"][ops["op"] == Op.FORK], len(tasks)),
            ("EXEC's image", ops["a"][ops["op"] == Op.EXEC], len(task.info.execs)),
            ("MMAP's file", ops["d"][mapped_file] >> 32, len(header.files)),
        )
        for what, values, limit in limits:
            if np.any((values < 0) | (values >= limit)):
                raise TraceError(f"{path}: task {task.info.index}: {what} is out of range (0 to {limit - 1})")


def _parse_header(path: Path, metadata: dict[bytes, bytes]) -> Header:
    if METADATA_KEY not in metadata:
        raise TraceError(f"{path}: is Parquet but not a vmglue trace (no {METADATA_KEY.decode()} in its metadata)")
    try:
        raw = json.loads(metadata[METADATA_KEY])
        version = raw["schema_version"]
        if version != SCHEMA_VERSION:
            raise TraceError(f"{path}: trace schema version {version}, this program reads {SCHEMA_VERSION}")
        return Header(
            command=tuple(raw["command"]),
            remake=raw["remake"],
            truncated=raw["truncated"],
            tasks=tuple(_parse_task(t) for t in raw["tasks"]),
            files=tuple(File(**f) for f in raw["files"]),
            totals=Totals(**raw["totals"]),
        )
    except (KeyError, TypeError, ValueError) as err:
        raise TraceError(f"{path}: damaged header: {type(err).__name__} {_first_line(err)}") from None


def _parse_task(raw: dict[str, Any]) -> TaskInfo:
    return TaskInfo(
        index=raw["index"],
        parent=raw["parent"],
        name=raw["name"],
        regions=_parse_regions(raw["regions"]),
        execs=tuple(Image(e["name"], _parse_regions(e["regions"])) for e in raw["execs"]),
    )


def _parse_regions(raw: list[dict[str, Any]]) -> tuple[Region, ...]:
    return tuple(Region(**r) for r in raw)


def _first_line(err: Exception) -> str:
    return str(err).splitlines()[0] if str(err) else type(err).__name__
