"""The compiled walk: a processor that issues packed run records through the MMU until one faults.

A run record is vpn << 27 | kinds << 24 | refs << 12 | instructions. Kinds: 1 load, 2 store, 4 exec; 0 is time in the
kernel, whose refs count system calls. A TLB tag has the same layout above bit 24, so that a hit is one comparison.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit, types

from hardware_sim.mmu import (
    PG_A,
    PG_M,
    PG_RW,
    PG_V,
    PG_X,
    TLB_HASH,
    TLB_SPACE_SHIFT,
    I64Array,
    Mmu,
    U64Array,
    Word,
    find_slot,
)
from hardware_sim.ram import Ram

LOAD, STORE, EXEC = 1, 2, 4
"""Kinds of access."""
_INT64_MAX = (1 << 63) - 1
WRITER_SHIFT = 40
"""A stamp's writer is vmspace << 40 | vpn."""


class WalkStop(IntEnum):
    """Why the walk ended."""

    END = 0
    """All records were executed."""
    BUDGET = 1
    """The next record begins at or behind the budget."""
    FAULT = 2
    """The next record needs access that its page does not give."""


class Walked(NamedTuple):
    """What a walk did."""

    next_record: int
    """First record that was not executed."""
    stop: int
    """WalkStop."""
    elapsed_us: int
    """Whole microseconds of the executed instructions, the phase from before included."""
    phase: int
    """Instructions beyond them."""
    references: int
    """Memory accesses executed."""
    kernel_calls: int
    """System calls executed."""
    tlb_misses: int
    """Records that walked the page tables."""
    torn: int
    """Of these with loads: how many found a page whose two version words differ."""
    fault_vpn: int
    """With FAULT: the page."""
    access: int
    """With FAULT: the kinds of access that the record needs."""


_WORDS = types.uint64[:, ::1]
_SIGNATURE = types.UniTuple(types.int64, 10)(  # type: ignore[no-untyped-call] # numba has no types
    types.Array(types.uint64, 1, "C", readonly=True), *[types.int64] * 6, types.uint64,
    types.uint64[::1], _WORDS, _WORDS, types.int64[::1], types.int64[::1],
)  # fmt: skip


@njit(_SIGNATURE, cache=True)
def _walk(
    runs: U64Array,
    i: Word,
    phase: Word,
    limit: Word,
    mips: Word,
    space: Word,
    root: Word,
    seed: Word,
    tables: U64Array,
    tlb: U64Array,
    words: U64Array,
    owner: I64Array,
    pindex: I64Array,
) -> tuple[Word, ...]:
    """See `walk`; `limit` is the budget in instructions, the phase included."""
    mask, last_word = np.uint64(len(tlb) - 1), words.shape[1] - 1
    space_tag = np.uint64(space) << np.uint64(TLB_SPACE_SHIFT)
    space_hash = np.uint64(space * TLB_HASH)
    space_writer = np.uint64(space) << np.uint64(WRITER_SHIFT)
    count = len(runs)
    refs: Word = np.uint64(0)
    calls: Word = np.uint64(0)
    total, misses, torn = phase, 0, 0
    stop, fault_vpn, access = np.int64(0), np.int64(0), np.int64(0)
    while i < count:
        if total >= limit:
            stop = np.int64(1)
            break
        record = runs[i]
        want = (record >> np.uint64(24)) | space_tag
        vpn = record >> np.uint64(27)
        kinds = want & np.uint64(7)
        if kinds == 0:
            calls += (record >> np.uint64(12)) & np.uint64(4095)
        else:
            entry = np.int64((vpn ^ space_hash) & mask)
            tag = tlb[entry, 0]
            if (tag ^ want) & ~(tag & np.uint64(7)):
                slot = find_slot(tables, root, np.int64(vpn))  # slot 0 holds no entry and allows nothing
                pte = tables[slot]
                allowed = (
                    (pte & np.uint64(PG_V)) * np.uint64(LOAD)
                    | ((pte & np.uint64(PG_RW)) // np.uint64(PG_RW)) * np.uint64(STORE)
                    | ((pte & np.uint64(PG_X)) // np.uint64(PG_X)) * np.uint64(EXEC)
                )
                if kinds & ~allowed:
                    stop, fault_vpn, access = np.int64(2), np.int64(vpn), np.int64(kinds)
                    break
                pte |= np.uint64(PG_A)
                if kinds & np.uint64(STORE):
                    pte |= np.uint64(PG_M)
                tables[slot] = pte
                if not pte & np.uint64(PG_M):
                    allowed &= np.uint64(LOAD | EXEC)  # the first store must come here to set PG_M
                frame = np.int64(pte >> np.uint64(12))
                tlb[entry, 0] = (want & ~np.uint64(7)) | allowed
                tlb[entry, 1] = np.uint64(frame)
                misses += 1
                if kinds & np.uint64(LOAD) and words[frame, 3] != words[frame, last_word]:
                    torn += 1
            refs += (record >> np.uint64(12)) & np.uint64(4095)
            if kinds & np.uint64(STORE):
                page = np.int64(tlb[entry, 1])
                version = words[page, 3] + np.uint64(1)
                words[page, 0] = seed
                words[page, 1] = np.uint64(owner[page])
                words[page, 2] = np.uint64(pindex[page])
                words[page, 3] = version
                words[page, 4] = space_writer | vpn
                words[page, last_word] = version
        total += np.int64(record & np.uint64(4095))
        i += 1
    return i, stop, total // mips, total % mips, np.int64(refs), np.int64(calls), misses, torn, fault_vpn, access


def walk(
    mmu: Mmu,
    ram: Ram,
    owner: I64Array,
    pindex: I64Array,
    space: int,
    runs: U64Array,
    start: int,
    budget_us: int,
    phase: int,
    mips: int,
    seed: int,
) -> Walked:
    """Issue records of `runs` from `start` on until the end, the budget or a fault.

    A record that faults is not executed: it takes no time and has no effect.

    Args:
        mmu: Page tables and TLB; accessed and modified bits are set.
        ram: Memory; a store record writes the page's stamp.
        owner: Object id of each frame, for the stamp.
        pindex: Index of each frame in its object, for the stamp.
        space: Address space of the thread.
        runs: Packed records.
        start: First record to execute.
        budget_us: The walk stops at the first record boundary at or behind it.
        phase: Instructions already executed of the first microsecond.
        mips: Instructions a microsecond.
        seed: Word 0 of the stamps.
    """
    limit = min(budget_us * mips, _INT64_MAX)
    state = mmu.state
    walked = _walk(
        runs, start, phase, limit, mips, space, mmu.root(space), seed,
        state.tables, state.tlb, ram.words, owner, pindex,
    )  # fmt: skip
    return Walked(*map(int, walked))  # numpy's integers when it is not compiled
