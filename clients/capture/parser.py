"""Compiled parser of lackey's text: collapses accesses to runs while the text streams by."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from clients.trace import COUNT_MAX, KIND_EXEC, KIND_LOAD, KIND_STORE, KINDS_SHIFT, PAGE_SHIFT, REFS_SHIFT, VPN_SHIFT

NEED_TEXT = 0
"""All complete lines are done."""
OTHER_LINE = 1
"""The line at the returned position is not an access."""
OUTPUT_FULL = 2
"""The output array may not hold another line's records."""

STATE_WORDS = 6
"""Open run (vpn, kinds, refs, instrs), then total references and total instructions."""


def new_state() -> npt.NDArray[np.int64]:
    """Return the state of a stream before its first line."""
    state = np.zeros(STATE_WORDS, np.int64)
    state[0] = -1
    return state


@numba.njit("int64(int64[::1], uint64[::1], int64)", cache=True)
def flush_run(state: npt.NDArray[np.int64], out: npt.NDArray[np.uint64], n: int) -> int:
    """Write the open run, if any, as record n; return the number of records."""
    if state[0] < 0:
        return n
    out[n] = np.uint64((state[0] << VPN_SHIFT) | (state[1] << KINDS_SHIFT) | (state[2] << REFS_SHIFT) | state[3])
    state[0] = -1
    return n + 1


@numba.njit("int64(int64[::1], uint64[::1], int64, int64, int64, int64, int64)", cache=True)
def _touch(
    state: npt.NDArray[np.int64], out: npt.NDArray[np.uint64], n: int, vpn: int, kinds: int, refs: int, instrs: int
) -> int:
    if state[0] != vpn or state[2] + refs > COUNT_MAX or state[3] + instrs > COUNT_MAX:
        n = flush_run(state, out, n)
        state[0] = vpn
        state[1] = 0
        state[2] = 0
        state[3] = 0
    state[1] |= kinds
    state[2] += refs
    state[3] += instrs
    return n


@numba.njit(
    "Tuple((int64, int64, int64))(Array(uint8, 1, 'C', readonly=True), int64, int64[::1], uint64[::1], int64)",
    cache=True,
)
def parse(
    text: npt.NDArray[np.uint8], pos: int, state: npt.NDArray[np.int64], out: npt.NDArray[np.uint64], n: int
) -> tuple[int, int, int]:
    """Parse access lines from text[pos:] into records out[n:].

    Lines are ``I  addr,size``, `` L addr,size``, `` S addr,size`` and `` M addr,size``, addr in hexadecimal. An
    access across a page boundary is one reference to its first page and touches the second.

    Returns:
        (position reached, records in out, NEED_TEXT | OTHER_LINE | OUTPUT_FULL).
    """
    end = len(text)
    limit = len(out) - 4
    while True:
        if end - pos < 4:
            return pos, n, NEED_TEXT
        if n >= limit:
            return pos, n, OUTPUT_FULL
        first = text[pos]
        kind = text[pos + 1]
        if first == 73 and kind == 32 and text[pos + 2] == 32:
            kinds = KIND_EXEC
            instrs = 1
        elif first == 32 and text[pos + 2] == 32 and (kind == 76 or kind == 83 or kind == 77):
            kinds = KIND_LOAD if kind == 76 else (KIND_STORE if kind == 83 else KIND_LOAD | KIND_STORE)
            instrs = 0
        else:
            return pos, n, OTHER_LINE
        i = pos + 3
        addr = 0
        while i < end and text[i] != 44:
            c = int(text[i])
            addr = (addr << 4) | (c - 48 if c < 58 else c - 87)
            i += 1
        i += 1
        size = 0
        while i < end and text[i] != 10:
            size = size * 10 + (int(text[i]) - 48)
            i += 1
        if i >= end:
            return pos, n, NEED_TEXT
        pos = i + 1
        vpn = addr >> PAGE_SHIFT
        n = _touch(state, out, n, vpn, kinds, 1, instrs)
        last = (addr + size - 1) >> PAGE_SHIFT
        if last != vpn:
            n = _touch(state, out, n, last, kinds, 0, 0)
        state[4] += 1
        state[5] += instrs
