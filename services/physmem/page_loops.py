"""Loops over many pages, compiled: the page daemon's scans, freeing, and checks of queues.

Each loop works on a register file (int64[REGISTERS]) that its caller fills and reads back. The compiled code of
hardware_sim.mmu is part of these loops' cached code: touch this file when that one changes.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from hardware_sim.mmu import (
    MMU_STATE,
    OP_CLEAR_ACCESSED,
    OP_QUERY,
    OP_REMOVE,
    PG_A,
    PG_M,
    MmuState,
    Word,
    frame_in_space,
    frame_op,
)
from services.physmem.page_array import (
    ACT_ADVANCE,
    ACT_DECLINE,
    ACT_INIT,
    ACT_MAX,
    PG_MARKER,
    PG_WINATCFLS,
    PGA_REFERENCED,
    PGA_WRITEABLE,
    PQ_ACTIVE,
    PQ_INACTIVE,
    PQ_NONE,
    VPB_UNBUSIED,
    PageFields,
)
from services.physmem.state import Vm

I32Array = NDArray[np.int32]
I64Array = NDArray[np.int64]
U8Array = NDArray[np.uint8]

NEXT, MAXSCAN, SHORTAGE, ADDL, SCANNED, INACTIVE, ACTIVE, FREE, PAGE, HEAD, BITS_ALL = range(11)
"""Registers: page to look at next, pages that may still be looked at, pages still wanted, addl_page_shortage, pages
looked at, lengths of the queues, free pages, page of an escape, head of the inactive queue (the active one's follows),
VM_PAGE_BITS_ALL."""
REGISTERS = 11


def registers(vm: Vm, maxscan: int = 0, shortage: int = 0) -> I64Array:
    """A register file that holds the state of memory."""
    r = np.zeros(REGISTERS, np.int64)
    r[MAXSCAN], r[SHORTAGE] = maxscan, shortage
    r[HEAD], r[BITS_ALL] = vm.pages.head(PQ_INACTIVE), vm.bits_all
    load_counts(vm, r)
    return r


def load_counts(vm: Vm, r: I64Array) -> None:
    """What was counted outside of the loops reaches the registers."""
    r[INACTIVE], r[ACTIVE], r[FREE] = vm.cnt.v_inactive_count, vm.cnt.v_active_count, vm.cnt.v_free_count


def store_counts(vm: Vm, r: I64Array) -> None:
    """What a loop counted reaches vm_cnt."""
    cnt = vm.cnt
    cnt.v_inactive_count, cnt.v_active_count, cnt.v_free_count = int(r[INACTIVE]), int(r[ACTIVE]), int(r[FREE])


class Escape(IntEnum):
    """Why the inactive scan came back."""

    DONE = 0
    """The queue's end, the limit, or no more pages are wanted."""
    FREE = 1
    """The page of the escape holds nothing: free it."""
    CACHE = 2
    """It is clean and unmapped: cache it."""
    LAUNDER = 3
    """It is dirty and may be written."""


_FREE, _CACHE, _LAUNDER = int(Escape.FREE), int(Escape.CACHE), int(Escape.LAUNDER)

_PAGE_FIELDS = types.NamedTuple(  # type: ignore[no-untyped-call] # numba has no types
    (
        types.int64[::1],
        types.int64[::1],
        types.uint16[::1],
        types.uint8[::1],
        types.uint8[::1],
        types.uint8[::1],
        types.uint8[::1],
        types.uint32[::1],
        types.uint16[::1],
        types.uint32[::1],
        types.uint16[::1],
        types.uint16[::1],
        types.int32[::1],
        types.int32[::1],
    ),
    PageFields,
)
_REGS = types.int64[::1]
_REFERENCED = types.uint8[::1]


@njit(types.void(types.int64, _PAGE_FIELDS), cache=True)
def _unlink(m: Word, pages: PageFields) -> None:
    """Take a queued page off its queue."""
    prev, after = pages.qprev[m], pages.qnext[m]
    pages.qnext[prev], pages.qprev[after] = after, prev


@njit(types.void(types.int64, types.int64, _PAGE_FIELDS), cache=True)
def _to_tail(m: Word, head: Word, pages: PageFields) -> None:
    """Move a queued page to the tail of a queue."""
    _unlink(m, pages)
    last = pages.qprev[head]
    pages.qnext[last], pages.qprev[head] = m, m
    pages.qprev[m], pages.qnext[m] = last, head


@njit(types.void(types.int64, _REGS, _PAGE_FIELDS), cache=True)
def _activate(m: Word, r: I64Array, pages: PageFields) -> None:
    """vm_page_activate of a page that is on a queue."""
    count: Word = pages.act_count[m]
    pages.act_count[m] = max(count, ACT_INIT)
    if pages.queue[m] == PQ_INACTIVE:
        _to_tail(m, r[HEAD] + PQ_ACTIVE, pages)
        pages.queue[m] = PQ_ACTIVE
        r[INACTIVE] -= 1
        r[ACTIVE] += 1


@njit(types.void(types.int64, _REGS, _PAGE_FIELDS), cache=True)
def _deactivate(m: Word, r: I64Array, pages: PageFields) -> None:
    """vm_page_deactivate of a page that is on the active queue."""
    pages.flags[m] &= ~np.uint16(PG_WINATCFLS)
    _to_tail(m, r[HEAD] + PQ_INACTIVE, pages)
    pages.queue[m] = PQ_INACTIVE
    r[ACTIVE] -= 1
    r[INACTIVE] += 1


@njit(types.void(types.int64, types.int64, _PAGE_FIELDS, MMU_STATE), cache=True)
def _remove_all(m: Word, bits_all: Word, pages: PageFields, mmu: MmuState) -> None:
    """pmap_remove_all."""
    seen, _ = frame_op(m, OP_REMOVE, mmu)
    if seen & np.uint64(PG_M):
        pages.dirty[m] = bits_all
    if seen & np.uint64(PG_A):
        pages.aflags[m] |= np.uint8(PGA_REFERENCED)
    pages.aflags[m] &= ~np.uint8(PGA_WRITEABLE)


@njit(types.int64(types.int64, types.int64, _PAGE_FIELDS, MMU_STATE), cache=True)
def _act_delta(m: Word, mapped: Word, pages: PageFields, mmu: MmuState) -> Word:
    """How often the page was referenced since it was looked at last; forgets it."""
    delta = 0
    if pages.aflags[m] & PGA_REFERENCED:
        pages.aflags[m] &= ~np.uint8(PGA_REFERENCED)
        delta = 1
    if mapped:
        delta += frame_op(m, OP_CLEAR_ACCESSED, mmu)[1]
    return delta


@njit(types.int64(types.int64, types.int64, _REGS, _PAGE_FIELDS, MMU_STATE, _REFERENCED), cache=True)
def _inactive_page(pass_: Word, maxlaunder: Word, r: I64Array, pages: PageFields, mmu: MmuState, ref: U8Array) -> Word:
    """Steps a to h of the inactive scan for the page in PAGE; an escape, or DONE to go on with the next one."""
    m = r[PAGE]
    if pages.busy_lock[m] != VPB_UNBUSIED:
        r[ADDL] += 1
        return 0
    referenced = ref[pages.object[m]]
    delta = _act_delta(m, referenced, pages, mmu)
    if delta:
        if referenced:
            _activate(m, r, pages)
            pages.act_count[m] = (pages.act_count[m] + delta + ACT_ADVANCE) & 0xFF
        else:
            _to_tail(m, r[HEAD] + PQ_INACTIVE, pages)
        return 0
    if pages.hold_count[m]:
        r[ADDL] += 1
        return 0
    if pages.dirty[m] != r[BITS_ALL] and frame_op(m, OP_QUERY, mmu)[0] & np.uint64(PG_M):
        pages.dirty[m] = r[BITS_ALL]
    if pages.dirty[m] == 0 and referenced:
        _remove_all(m, r[BITS_ALL], pages, mmu)
    if pages.valid[m] == 0:
        return _FREE
    if pages.dirty[m] == 0:
        return _CACHE
    if pages.flags[m] & PG_WINATCFLS == 0 and pass_ < 2:
        pages.flags[m] |= np.uint16(PG_WINATCFLS)
        _to_tail(m, r[HEAD] + PQ_INACTIVE, pages)
        return 0
    return _LAUNDER if maxlaunder > 0 else 0


@njit(types.int64(types.int64, types.int64, _REGS, _PAGE_FIELDS, MMU_STATE, _REFERENCED), cache=True)
def inactive_scan(pass_: Word, maxlaunder: Word, r: I64Array, pages: PageFields, mmu: MmuState, ref: U8Array) -> Word:
    """Look at inactive pages from NEXT on; comes back with an Escape whose page is in PAGE."""
    head = r[HEAD] + PQ_INACTIVE
    while r[NEXT] != head and r[MAXSCAN] > 0 and r[SHORTAGE] > 0:
        m = r[NEXT]
        r[NEXT] = pages.qnext[m]
        if pages.flags[m] & PG_MARKER:
            continue
        r[MAXSCAN] -= 1
        r[SCANNED] += 1
        r[PAGE] = m
        escape = _inactive_page(pass_, maxlaunder, r, pages, mmu, ref)
        if escape:
            return escape
    return 0


@njit(types.int64(_REGS, _PAGE_FIELDS, MMU_STATE, _REFERENCED), cache=True)
def active_scan(r: I64Array, pages: PageFields, mmu: MmuState, ref: U8Array) -> Word:
    """Age active pages from the queue's head on; returns how many were deactivated."""
    head = r[HEAD] + PQ_ACTIVE
    deactivated = 0
    m = np.int64(pages.qnext[head])
    while m != head and r[MAXSCAN] > 0 and r[SHORTAGE] > 0:
        after = np.int64(pages.qnext[m])
        r[MAXSCAN] -= 1
        r[SCANNED] += 1
        delta = _act_delta(m, ref[pages.object[m]], pages, mmu)
        count: Word = np.int64(pages.act_count[m])
        count = min(count + ACT_ADVANCE + delta, ACT_MAX) if delta else count - min(count, ACT_DECLINE)
        pages.act_count[m] = count
        if count == 0:
            _deactivate(m, r, pages)
            r[SHORTAGE] -= 1
            deactivated += 1
        else:
            _to_tail(m, head, pages)
        m = after
    return deactivated


@njit(types.void(types.int64, types.int64, _REGS, _PAGE_FIELDS, MMU_STATE), cache=True)
def _deactivate_page(m: Word, shared: Word, r: I64Array, pages: PageFields, mmu: MmuState) -> None:
    """One page of vm_pageout_object_deactivate_pages."""
    delta = frame_op(m, OP_CLEAR_ACCESSED, mmu)[1]
    if pages.aflags[m] & PGA_REFERENCED:
        delta = max(delta, 1)
        pages.aflags[m] &= ~np.uint8(PGA_REFERENCED)
    if pages.queue[m] == PQ_INACTIVE:
        if delta:
            _activate(m, r, pages)
            pages.act_count[m] = (pages.act_count[m] + delta) & 0xFF
        else:
            _remove_all(m, r[BITS_ALL], pages, mmu)
        return
    if delta:
        _activate(m, r, pages)
        if pages.act_count[m] < ACT_MAX - ACT_ADVANCE:
            pages.act_count[m] += ACT_ADVANCE
        _to_tail(m, r[HEAD] + PQ_ACTIVE, pages)
        return
    count: Word = np.int64(pages.act_count[m])
    pages.act_count[m] = count - min(count, ACT_DECLINE)
    if pages.act_count[m] == 0 and not shared:
        _remove_all(m, r[BITS_ALL], pages, mmu)
        _deactivate(m, r, pages)
    else:
        _to_tail(m, r[HEAD] + PQ_ACTIVE, pages)


@njit(types.void(_REGS, types.int64, types.int64, types.int64, _REGS, _PAGE_FIELDS, MMU_STATE), cache=True)
def object_deactivate(
    frames: I64Array, space: Word, desired: Word, shared: Word, r: I64Array, pages: PageFields, mmu: MmuState
) -> None:
    """Deactivate an object's pages that an address space maps, until it maps `desired` pages at most."""
    for i in range(len(frames)):
        m = frames[i]
        if mmu.spaces[space, 1] <= desired:
            return
        if pages.busy_lock[m] != VPB_UNBUSIED:
            continue
        r[SCANNED] += 1
        if pages.wire_count[m] or pages.hold_count[m] or not frame_in_space(m, space, mmu):
            continue
        if pages.queue[m] <= PQ_ACTIVE:
            _deactivate_page(m, shared, r, pages, mmu)


@njit(types.void(_REGS, _REGS, _PAGE_FIELDS), cache=True)
def deactivate_pages(frames: I64Array, r: I64Array, pages: PageFields) -> None:
    """vm_page_deactivate of those of an object's pages that are valid, not busy and active."""
    for i in range(len(frames)):
        m = frames[i]
        if pages.valid[m] == r[BITS_ALL] and pages.busy_lock[m] == VPB_UNBUSIED and pages.queue[m] == PQ_ACTIVE:
            _deactivate(m, r, pages)


@njit(types.int64(_REGS, _REGS, types.int32[::1], _PAGE_FIELDS, MMU_STATE), cache=True)
def free_pages(frames: I64Array, r: I64Array, free: I32Array, pages: PageFields, mmu: MmuState) -> Word:
    """vm_page_free of pages that left their object; those that are wired, held or busy are moved to the front.

    Returns:
        How many were not freed: they are the first of `frames` now, unmapped but otherwise as they were.
    """
    kept = 0
    for i in range(len(frames)):
        m = frames[i]
        _remove_all(m, r[BITS_ALL], pages, mmu)
        if pages.wire_count[m] or pages.hold_count[m] or pages.busy_lock[m] != VPB_UNBUSIED:
            frames[kept] = m
            kept += 1
            continue
        if pages.queue[m] != PQ_NONE:
            _unlink(m, pages)
            r[INACTIVE + pages.queue[m]] -= 1
            pages.queue[m] = PQ_NONE
        pages.object[m], pages.pindex[m] = 0, 0
        pages.flags[m], pages.aflags[m], pages.oflags[m], pages.act_count[m] = 0, 0, 0, 0
        pages.valid[m], pages.dirty[m] = 0, 0
        free[r[FREE]] = m
        r[FREE] += 1
    return kept


@njit(types.int64(types.int64, _PAGE_FIELDS), cache=True)
def queue_length(head: Word, pages: PageFields) -> Word:
    """Nodes of a queue behind its head, or -1 if its links are broken."""
    length, node = 0, np.int64(head)
    while length <= len(pages.qnext):
        after = np.int64(pages.qnext[node])
        if pages.qprev[after] != node:
            return -1
        if after == head:
            return length
        length += 1
        node = after
    return -1
