"""Many entries of a page table at once: copies of a range, and neighbours that may be mapped in advance."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from hardware_sim.mmu import (
    FREE_COUNT,
    LEVELS,
    MMU_STATE,
    PG_A,
    PG_M,
    PG_MANAGED,
    PG_W,
    I64Array,
    Mmu,
    MmuState,
    U64Array,
    Word,
    enter,
    find_slot,
    leaf_table,
)

WINDOW_MAX = 62
"""Pages that one answer of `absent_entries` can tell of."""


@njit(types.void(types.int64, types.int64, types.uint64, MMU_STATE), cache=True)
def _enter(space: Word, vpn: Word, pte: Word, mmu: MmuState) -> None:
    """Set an entry that is absent."""
    enter(space, vpn, pte, mmu.tables, mmu.links, mmu.meta, mmu.pv_head, mmu.tlb, mmu.spaces, mmu.pool)


@njit(types.int64(types.int64, types.int64, types.int64, types.int64, MMU_STATE), cache=True)
def _copy_range(destination: Word, source: Word, vpn: Word, end: Word, mmu: MmuState) -> Word:
    """Copy entries up to `end`, or up to where the pool may hold too few tables; returns the page to go on at."""
    while vpn < end and mmu.pool[FREE_COUNT] >= LEVELS:
        table, level = leaf_table(mmu.tables, mmu.spaces[source, 0], vpn)
        if level > 0:
            vpn = ((vpn >> level) + 1) << level
            continue
        last = min(end, (vpn | 511) + 1)
        while vpn < last:
            pte = mmu.tables[(table << 9) | (vpn & 511)]
            if pte & np.uint64(PG_MANAGED):
                _enter(destination, vpn, pte & ~np.uint64(PG_W | PG_M | PG_A), mmu)
            vpn += 1
    return vpn


@njit(types.int64(types.int64, types.int64, types.int64, MMU_STATE), cache=True)
def _absent_entries(space: Word, vpn: Word, end: Word, mmu: MmuState) -> Word:
    """See absent_entries."""
    found = np.int64(0)
    for i in range(end - vpn):
        slot = find_slot(mmu.tables, mmu.spaces[space, 0], vpn + i)
        if slot != 0 and mmu.tables[slot] == 0:
            found |= np.int64(1) << i
    return found


@njit(types.int64(types.int64, types.int64[::1], types.uint64[::1], types.int64, MMU_STATE), cache=True)
def _enter_all(space: Word, vpns: I64Array, ptes: U64Array, at: Word, mmu: MmuState) -> Word:
    """Set entries from index `at` on while the pool surely holds enough tables; returns the index to go on at."""
    while at < len(vpns) and mmu.pool[FREE_COUNT] >= LEVELS:
        _enter(space, vpns[at], ptes[at], mmu)
        at += 1
    return at


def copy_range(mmu: Mmu, destination: int, source: int, start: int, end: int) -> None:
    """Give an address space the managed mappings of pages [start, end) of another one, neither used nor wired so far.

    Args:
        mmu: The page tables.
        destination: Address space that maps nothing there.
        source: The other address space; it stays as it is.
        start: First page.
        end: End, exclusive.
    """
    while start < end:
        mmu.reserve()
        start = _copy_range(destination, source, start, end, mmu.state)


def absent_entries(mmu: Mmu, space: int, start: int, end: int) -> int:
    """Which of the pages [start, end), WINDOW_MAX at most, are not mapped although their page table is there.

    Returns:
        Bit i stands for page start + i.
    """
    return int(_absent_entries(space, start, end, mmu.state))


def enter_all(mmu: Mmu, space: int, vpns: list[int], ptes: list[int]) -> None:
    """Set entries that are absent."""
    at, pages, entries = 0, np.array(vpns, np.int64), np.array(ptes, np.uint64)
    while at < len(pages):
        mmu.reserve()
        at = _enter_all(space, pages, entries, at, mmu.state)
