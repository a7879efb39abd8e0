"""Traces of others: lackey's text, lines of `hex-address R|W`, and libCacheSim's oracleGeneral, in and out.

What comes in becomes one process without system calls, whose pages are one mapping. What goes out is the memory
references of a trace's processes, one after the other, page by page: an object is a page.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clients.trace import (
    COUNT_MAX,
    KIND_EXEC,
    KIND_LOAD,
    KIND_STORE,
    KINDS_SHIFT,
    OP_DTYPE,
    PAGE_SHIFT,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    REFS_SHIFT,
    VPN_SHIFT,
    Header,
    Op,
    Region,
    Runs,
    TaskInfo,
    TaskTrace,
    Totals,
    Trace,
    TraceError,
    run_kinds,
    run_vpn,
)

ORACLE = np.dtype([("time", "<u4"), ("object", "<u8"), ("size", "<u4"), ("next", "<i8")])
"""A record of oracleGeneral: time in seconds, id of the object, its size, position of its next access or -1."""
assert ORACLE.itemsize == 24
INSTRUCTIONS_PER_SECOND = 100_000_000
"""Of the times in oracleGeneral: `cpu.mips` of a workload that does not say."""
VPN_LIMIT = 1 << 35
"""Pages of the user's half of an amd64 address space."""

_KINDS = {"I": KIND_EXEC, "L": KIND_LOAD, "S": KIND_STORE, "M": KIND_LOAD | KIND_STORE}
_LETTERS = {"R": KIND_LOAD, "W": KIND_STORE}
_HOLE_PAGES = 256
"""Pages between two touched ones that still lie in one mapping."""


class Format(Enum):
    """Formats of others."""

    LACKEY = "lackey"
    """`I  04000000,3`, ` L 1ffeffe7e,1`: lackey's --trace-mem=yes; lines of valgrind itself are left out."""
    LINES = "lines"
    """`7fffe7ff R`: an address in hexadecimal and R or W."""
    ORACLE = "oracle"
    """libCacheSim's oracleGeneral: binary, 24 bytes an access."""


def import_trace(path: Path, form: Format) -> Trace:
    """Read a trace of others.

    Raises:
        TraceError: It cannot be read; the text has line and field, or the number of the record.
    """
    try:
        pages, kinds = _read_oracle(path) if form is Format.ORACLE else _read_text(path, form)
    except (OSError, UnicodeDecodeError) as err:
        raise TraceError(f"{path}: cannot be read: {err}") from None
    if not len(pages):
        raise TraceError(f"{path}: no references in it; expected {form.value}")
    return _one_process(path.stem[:19], pages, kinds)


def export_trace(trace: Trace, path: Path, form: Format) -> int:
    """Write a trace for others; the number of accesses written.

    Args:
        trace: What to write; a run record is one access of its page.
        path: File to write.
        form: Format.
    """
    runs = np.concatenate([task.runs for task in trace.tasks])
    instructions = np.cumsum((runs & np.uint64(COUNT_MAX)).astype(np.int64))
    memory = run_kinds(runs) != 0
    pages, kinds = run_vpn(runs)[memory], run_kinds(runs)[memory]
    if form is Format.ORACLE:
        _write_oracle(path, pages, instructions[memory] // INSTRUCTIONS_PER_SECOND)
    else:
        with path.open("w", encoding="ascii") as file:
            file.writelines(_lines(pages, kinds, form))
    return len(pages)


def _read_text(path: Path, form: Format) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    pages: list[int] = []
    kinds: list[int] = []
    parse = _lackey_line if form is Format.LACKEY else _plain_line
    with path.open(encoding="ascii") as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or line.startswith(("==", "#")):
                continue
            try:
                page, kind = parse(line)
            except ValueError as err:
                raise TraceError(f"{path}:{number}: {err}") from None
            pages.append(page)
            kinds.append(kind)
    return np.array(pages, np.int64), np.array(kinds, np.int64)


def _lackey_line(line: str) -> tuple[int, int]:
    kind, _, rest = line.strip().partition(" ")
    address, comma, size = rest.strip().partition(",")
    if kind not in _KINDS:
        raise ValueError(f"kind {kind!r}: expected one of {', '.join(_KINDS)}")
    if not comma or not size.isdecimal():
        raise ValueError(f"size {size!r}: expected ADDRESS,BYTES")
    return _page(address), _KINDS[kind]


def _plain_line(line: str) -> tuple[int, int]:
    address, _, letter = line.strip().partition(" ")
    letter = letter.strip()
    if letter.upper() not in _LETTERS:
        raise ValueError(f"kind {letter!r}: expected R or W behind the address")
    return _page(address), _LETTERS[letter.upper()]


def _page(address: str) -> int:
    try:
        page = int(address, 16) >> PAGE_SHIFT
    except ValueError:
        raise ValueError(f"address {address!r}: expected a hexadecimal number") from None
    if not 0 < page < VPN_LIMIT:
        raise ValueError(f"address {address!r}: expected one of 0x1000 to {(VPN_LIMIT << PAGE_SHIFT) - 1:#x}")
    return page


def _read_oracle(path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    size = path.stat().st_size
    if size % ORACLE.itemsize:
        raise TraceError(f"{path}: {size} bytes are not whole records of {ORACLE.itemsize}")
    pages = np.fromfile(path, ORACLE)["object"]
    wrong = np.flatnonzero((pages == 0) | (pages >= VPN_LIMIT))
    if len(wrong):
        raise TraceError(
            f"{path}: record {wrong[0]}: object {pages[wrong[0]]}: expected a page number from 1 to {VPN_LIMIT - 1}"
        )
    return pages.astype(np.int64), np.full(len(pages), KIND_LOAD, np.int64)


def _write_oracle(path: Path, pages: npt.NDArray[np.int64], seconds: npt.NDArray[np.int64]) -> None:
    records = np.empty(len(pages), ORACLE)
    records["time"], records["object"], records["size"] = seconds, pages, 1
    records["next"] = _next_access(pages)
    records.tofile(path)


def _next_access(pages: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Position of the next access to the same page, counted from 1 as libCacheSim's reader counts; -1: none."""
    order = np.argsort(pages, kind="stable")
    following = np.full(len(pages), -1, np.int64)
    same = pages[order][1:] == pages[order][:-1]
    following[order[:-1][same]] = order[1:][same] + 1
    return following


def _lines(pages: npt.NDArray[np.int64], kinds: npt.NDArray[np.int64], form: Format) -> Iterator[str]:
    names = {kind: letter for letter, kind in _KINDS.items()}
    for page, kind in zip(pages.tolist(), kinds.tolist(), strict=True):
        address = page << PAGE_SHIFT
        if form is Format.LINES:
            yield f"{address:x} {'W' if kind & KIND_STORE else 'R'}\n"
        else:
            letter = names.get(kind, "M" if kind & KIND_STORE else "L")
            yield f"I  {address:08x},1\n" if letter == "I" else f" {letter} {address:08x},1\n"


def _one_process(name: str, pages: npt.NDArray[np.int64], kinds: npt.NDArray[np.int64]) -> Trace:
    """A process that makes these accesses: successive ones to one page are one record."""
    first = np.flatnonzero(np.concatenate(([True], pages[1:] != pages[:-1])))
    refs = np.diff(np.append(first, len(pages)))
    cut = np.repeat(first, -(-refs // COUNT_MAX))
    part = np.arange(len(cut)) - np.searchsorted(cut, cut)
    left = np.repeat(refs, -(-refs // COUNT_MAX)) - part * COUNT_MAX
    counts = np.minimum(left, COUNT_MAX)
    joined = np.repeat(np.bitwise_or.reduceat(kinds, first), -(-refs // COUNT_MAX))
    runs: Runs = (pages[cut] << VPN_SHIFT | joined << KINDS_SHIFT | counts << REFS_SHIFT | counts).astype(np.uint64)
    ops = np.array([(len(runs), Op.EXIT, 0, 0, 0, 0)], OP_DTYPE)
    info = TaskInfo(0, -1, name, _mappings(np.unique(pages)))
    totals = Totals(len(pages), len(runs), int(counts.sum()), 1)
    return Trace(Header((name,), "", False, (info,), (), totals), (TaskTrace(info, runs, ops),))


def _mappings(pages: npt.NDArray[np.int64]) -> tuple[Region, ...]:
    """Mappings over all touched pages, with the small holes between them."""
    starts = np.flatnonzero(np.concatenate(([True], np.diff(pages) > _HOLE_PAGES)))
    ends = np.append(starts[1:], len(pages)) - 1
    prot = PROT_READ | PROT_WRITE | PROT_EXEC
    return tuple(
        Region(int(pages[a]), int(pages[b] - pages[a]) + 1, prot, "anon") for a, b in zip(starts, ends, strict=True)
    )
