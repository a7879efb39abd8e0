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

from services.runtime.process import growth_limited, memory_left

SCHEMA_VERSION = 1
"""Version of the columns and of the header; a reader refuses any other."""
METADATA_KEY = b"vmglue_trace"
"""Key of the JSON header in the Parquet schema's metadata."""
COLUMNS = {"task": pa.uint16(), "runs": pa.large_binary(), "op": pa.uint8()} | dict.fromkeys("abcd", pa.int64())
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
    """What a row does behind its runs. Addresses are in 4 KiB page numbers unless said otherwise."""

    NONE = 0
    """Nothing: the runs go on in the next row, or the task ends without an exit."""
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
    THR_NEW = 11
    """A thread of the same process: a = its task index, b = 1 if it is its turn now."""
    THR_EXIT = 12
    """The thread ends: a = task index of the thread whose turn it is now. Its task's last row."""
    THR_JOIN = 13
    """A wait for the end of a thread: a = its task index."""
    THR_TURN = 14
    """A wait for the thread's turn: a = task index of the thread that has it first, 0 for the process' first thread."""


_OF_THREADS = (Op.THR_NEW, Op.THR_EXIT, Op.THR_JOIN, Op.THR_TURN)
_OP_COLUMNS = ("op", "a", "b", "c", "d")
_ROW_DTYPE = np.dtype([("task", "<u2"), ("op", "u1"), ("a", "<i8"), ("b", "<i8"), ("c", "<i8"), ("d", "<i8")])
OP_DTYPE = np.dtype([("pos", "<i8"), ("op", "u1"), ("a", "<i8"), ("b", "<i8"), ("c", "<i8"), ("d", "<i8")])
"""One operation; ``pos`` runs of its task come before it."""

ROW_RUNS_MAX = 1 << 24
"""Most runs of one row: a longer stretch without an operation is cut."""
_RUN_BYTES = 8
_COMPRESSION_LEVEL = 15
"""Of zstd: a fifth smaller than level 6, and still quicker than the recording itself."""
_PAGE_BYTES = 1 << 30
"""One page a column: zstd then sees all runs at once."""
_DECODING, _OTHERS_BYTES = 4, 512 << 20
"""Memory that may be taken while a file is decoded: so many times what it holds, and what other threads may need."""

pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own takes a gibibyte in advance, which no limit could then deny

Runs = npt.NDArray[np.uint64]
Ops = npt.NDArray[np.void]


class TraceError(Exception):
    """A trace file that cannot be read; the text is one line that names the file and says what is wrong."""


class TraceTooLarge(TraceError):
    """A trace that holds more than there is memory for, whatever the size of its file."""


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
    """Run records."""
    instructions: int
    """Instructions of the program (fetches), without the kernel's."""
    operations: int
    """Operations."""


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


@dataclass(frozen=True, slots=True, eq=False)
class TaskTrace:
    """One process: its description and its rows as arrays; equal to itself alone."""

    info: TaskInfo
    """The header's entry."""
    runs: Runs
    """Packed records, in order."""
    ops: Ops
    """Operations (OP_DTYPE), in order."""

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
            TraceTooLarge: it holds more than a third of the memory that is left.
            TraceError: the file is missing, is not a trace, or has another schema version.
        """
        with _opened(Path(path)) as file:
            header = _parse_header(Path(path), file.schema_arrow.metadata or {})
            _check_columns(Path(path), file.schema_arrow)
            with _bounded(Path(path), file):
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
    table = pa.table(_columns(tasks), pa.schema(COLUMNS)).replace_schema_metadata(
        {METADATA_KEY: json.dumps(asdict(header), separators=(",", ":")).encode()}
    )
    partial = path.with_name(path.name + ".part")
    try:
        pq.write_table(
            table,
            partial,
            compression="zstd",
            compression_level=_COMPRESSION_LEVEL,
            use_dictionary=False,
            data_page_size=_PAGE_BYTES,
            write_statistics=False,
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _columns(tasks: tuple[TaskTrace, ...]) -> dict[str, pa.Array | npt.NDArray[Any]]:
    """The file's columns: a row for each operation, with the runs before it; long stretches are cut."""
    rows, bounds, base = [np.empty(0, _ROW_DTYPE)], [np.zeros(1, np.int64)], 0
    for task in tasks:
        cuts = np.arange(ROW_RUNS_MAX, len(task.runs) + 1, ROW_RUNS_MAX)
        places = np.searchsorted(task.ops["pos"], cuts, side="right")
        ops = np.insert(task.ops, places, _cut_rows(cuts))
        if len(task.runs) > (ops["pos"][-1] if len(ops) else 0):
            ops = np.append(ops, _cut_rows(np.array([len(task.runs)])))
        own = np.empty(len(ops), _ROW_DTYPE)
        own["task"] = task.info.index
        for name in _OP_COLUMNS:
            own[name] = ops[name]
        rows.append(own)
        bounds.append(base + ops["pos"])
        base += len(task.runs)
    table = np.concatenate(rows)
    offsets = np.concatenate(bounds) * _RUN_BYTES
    data = np.concatenate([np.empty(0, np.uint64), *(task.runs for task in tasks)])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    runs = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(table), buffers)
    return {"runs": runs} | {name: np.ascontiguousarray(table[name]) for name in ("task", *_OP_COLUMNS)}


def _cut_rows(positions: npt.NDArray[np.int64]) -> Ops:
    """Rows without an operation, behind so many runs of their task."""
    rows = np.zeros(len(positions), OP_DTYPE)
    rows["pos"] = positions
    return rows


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """An open file, whose damage is told as a TraceError; what decoding needed goes back to the host at the end."""
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException) as err:
        raise TraceError(f"{path}: cannot be read as a trace: {_first_line(err)}") from None
    finally:
        pa.default_memory_pool().release_unused()


@contextmanager
def _bounded(path: Path, file: pq.ParquetFile) -> Iterator[None]:
    """Refuse a trace that claims too much, and one that turns out to hold more than it claims.

    What is small in a file can be any size in memory, so the host is asked to deny it.

    Raises:
        TraceTooLarge: The trace is one of the two.
    """
    claimed = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
    limit = memory_left() // 3
    if claimed > limit:
        raise TraceTooLarge(f"{path}: holds {claimed} bytes, and the memory that is left permits {limit}")
    try:
        with growth_limited(_DECODING * claimed + _OTHERS_BYTES):
            yield
    except MemoryError:
        raise TraceTooLarge(f"{path}: holds more than the {claimed} bytes that it claims") from None


def _check_columns(path: Path, schema: pa.Schema) -> None:
    for name, expected in COLUMNS.items():
        found = schema.field(name).type if name in schema.names else None
        if found != expected and not (name == "runs" and found == pa.binary()):
            raise TraceError(f"{path}: column {name!r} is {found or 'missing'}, expected {expected}")


def _read_tasks(path: Path, file: pq.ParquetFile, infos: tuple[TaskInfo, ...]) -> tuple[TaskTrace, ...]:
    """Give each task its runs and operations; the runs are views of the file's one buffer."""
    table = file.read(columns=list(COLUMNS), use_threads=False)  # threads would count as memory
    columns = {name: table.column(name).to_numpy() for name in ("task", *_OP_COLUMNS)}
    runs, ends = _unpacked(path, table.column("runs"))
    bounds = np.searchsorted(columns["task"], np.arange(len(infos) + 1))
    if bounds[-1] != len(ends) or np.any(columns["task"][1:] < columns["task"][:-1]):
        raise TraceError(f"{path}: rows are not sorted by task, or belong to a task that the header lacks")
    starts = np.concatenate(([0], ends))[bounds]
    tasks = []
    for info, first, last in zip(infos, bounds[:-1], bounds[1:], strict=True):
        ops = np.empty(last - first, OP_DTYPE)
        ops["pos"] = ends[first:last] - starts[info.index]
        for name in _OP_COLUMNS:
            ops[name] = columns[name][first:last]
        own = runs[starts[info.index] : starts[info.index + 1]]
        tasks.append(TaskTrace(info, own, ops[ops["op"] != Op.NONE]))
    return tuple(tasks)


def _unpacked(path: Path, column: pa.ChunkedArray) -> tuple[Runs, npt.NDArray[np.int64]]:
    """All rows' runs as one array, and how many there are up to the end of each row."""
    cells = column.cast(pa.large_binary()).combine_chunks()
    if cells.null_count or not len(cells):
        raise TraceError(f"{path}: no rows, or a row without runs")
    _, offset_buffer, data = cells.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[cells.offset : cells.offset + len(cells) + 1]
    if np.any(offsets % _RUN_BYTES):
        raise TraceError(f"{path}: the runs of a row are not whole records of {_RUN_BYTES} bytes")
    runs: Runs = np.frombuffer(data if data is not None else b"", np.uint64)
    return runs[offsets[0] // _RUN_BYTES : offsets[-1] // _RUN_BYTES], (offsets[1:] - offsets[0]) // _RUN_BYTES


def _check_operations(path: Path, header: Header, tasks: tuple[TaskTrace, ...]) -> None:
    """Refuse operations that point outside the header."""
    for task in tasks:
        ops = task.ops
        mapped_file = (ops["op"] == Op.MMAP) & (ops["c"] & MAP_FILE != 0)
        limits = (
            ("kind of operation", ops["op"], len(Op)),
            ("FORK's task", ops["a"][ops["op"] == Op.FORK], len(tasks)),
            (
                "a thread's task",
                ops["a"][np.isin(ops["op"], _OF_THREADS)],
                len(tasks),
            ),
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
