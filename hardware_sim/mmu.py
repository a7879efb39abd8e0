"""The MMU: four-level page tables, a TLB tagged by address space, and reverse mappings.

Tables hold 512 entries in the format of amd64. They live in a pool beside the simulated memory (a deviation: the kernel
keeps them in page frames). An entry's number in the pool, table * 512 + index, is its *slot*; the mappings of a frame
are a list threaded through slots. Addresses are page numbers of 36 bits: the canonical address without its sign.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

PG_V = 0x1
"""The entry is valid: it may be read."""
PG_RW = 0x2
"""It may be written."""
PG_A = 0x20
"""Accessed."""
PG_M = 0x40
"""Modified."""
PG_G = 0x100
"""Global: a kernel mapping."""
PG_W = 0x200
"""Wired."""
PG_MANAGED = 0x400
"""The mapping is on its frame's list."""
PG_X = 0x800
"""It may be executed (amd64 has the inverse, PG_NX, in bit 63)."""
PTE_FRAME_SHIFT = 12
"""The frame number stands above the flags."""

VPN_BITS = 36
SPACES_MAX = 1 << 24
"""Address spaces that a TLB tag and a page stamp can name."""

SPACE, BASE, PARENT, LIVE = 0, 1, 2, 3
"""Columns of `meta`: address space and first page of a table, slot that points to it (0: a root), valid entries."""
FREE_HEAD, FREE_COUNT, TO_TELL = 0, 1, 2
"""Elements of `pool`."""
INVALIDATIONS = 3
"""Column of `spaces`."""
LEVELS = 4
"""Levels of page tables: as many tables as one entry may need."""
TLB_ENTRIES = 1024
TLB_SPACE_SHIFT = 39
"""A TLB tag is space << 39 | vpn << 3 | kinds of access that are allowed without a walk."""
TLB_HASH = 0x9E37
"""Spreads the same page of several address spaces over the TLB."""

OP_REMOVE, OP_REMOVE_WRITE, OP_CLEAR_ACCESSED, OP_CLEAR_MODIFIED, OP_QUERY = range(5)
"""What `frame_op` does to every mapping of a frame."""
U64Array = NDArray[np.uint64]
I64Array = NDArray[np.int64]
I32Array = NDArray[np.int32]
Word = Any
"""A scalar of a compiled function: int64 or uint64, as its signature says."""


class MmuState(NamedTuple):
    """All state of an MMU; compiled functions take it whole."""

    tables: U64Array
    """Page table entries of all tables."""
    links: Annotated[I32Array, 2]
    """Next and previous mapping of the same frame, by slot."""
    meta: Annotated[I64Array, 2]
    """One row per table: see SPACE, BASE, PARENT, LIVE."""
    pv_head: I32Array
    """First mapping of each frame, 0: none."""
    tlb: Annotated[U64Array, 2]
    """Tag and frame of each entry of the direct-mapped TLB."""
    spaces: Annotated[I64Array, 2]
    """Root table (0: none), resident pages, wired pages and invalidations (see `invalidated`) of each address space."""
    pool: I64Array
    """Head of the list of free tables, their number, and whether there are invalidations to tell of."""


_FIELDS = (
    types.uint64[::1],
    types.int32[:, ::1],
    types.int64[:, ::1],
    types.int32[::1],
    types.uint64[:, ::1],
    types.int64[:, ::1],
    types.int64[::1],
)
MMU_STATE = types.NamedTuple(_FIELDS, MmuState)  # type: ignore[no-untyped-call] # numba has no types
"""Numba's type of MmuState."""
_PAIR = types.Tuple((types.uint64, types.int64))  # type: ignore[no-untyped-call] # numba has no types


@njit(types.int64(types.uint64[::1], types.int64, types.int64), cache=True, inline="always")
def find_slot(tables: U64Array, root: Word, vpn: Word) -> Word:
    """Slot of the entry of a page, or 0, which holds none, if a table is missing."""
    table = root
    for level in (27, 18, 9):
        entry = tables[(table << 9) | ((vpn >> level) & 511)]
        if entry == 0:
            return 0
        table = np.int64(entry >> np.uint64(12))
    return (table << 9) | (vpn & 511)


@njit(types.int64(types.int64, types.int64, MMU_STATE), cache=True)
def _find_or_build(space: Word, vpn: Word, mmu: MmuState) -> Word:
    """Slot of the entry of a page; missing tables are taken from the pool, which must hold enough."""
    table = mmu.spaces[space, 0]
    for level in (27, 18, 9):
        slot = (table << 9) | ((vpn >> level) & 511)
        if mmu.tables[slot] == 0:
            child = mmu.pool[FREE_HEAD]
            mmu.pool[FREE_HEAD] = mmu.meta[child, PARENT]
            mmu.pool[FREE_COUNT] -= 1
            mmu.meta[child, SPACE] = space
            mmu.meta[child, BASE] = (vpn >> level) << level
            mmu.meta[child, PARENT] = slot
            mmu.meta[child, LIVE] = 0
            mmu.meta[table, LIVE] += 1
            mmu.tables[slot] = (np.uint64(child) << np.uint64(12)) | np.uint64(PG_V)
        table = np.int64(mmu.tables[slot] >> np.uint64(12))
    return (table << 9) | (vpn & 511)


@njit(types.void(types.int64, types.int64, MMU_STATE), cache=True)
def _shoot_down(space: Word, vpn: Word, mmu: MmuState) -> None:
    """Drop a page from the TLB."""
    entry = (vpn ^ (space * TLB_HASH)) & (len(mmu.tlb) - 1)
    if mmu.tlb[entry, 0] >> np.uint64(3) == np.uint64((space << VPN_BITS) | vpn):
        mmu.tlb[entry, 0] = 0


@njit(types.void(types.int64, MMU_STATE), cache=True)
def _invalidate(space: Word, mmu: MmuState) -> None:
    """Count an invalidation that other processors must hear of."""
    mmu.spaces[space, INVALIDATIONS] += 1
    mmu.pool[TO_TELL] = 1


@njit(types.uint64(types.int64, MMU_STATE), cache=True)
def _clear_slot(slot: Word, mmu: MmuState) -> Word:
    """Make a valid entry invalid, keep the lists, counts and TLB right; the entry as it was. Tables stay."""
    pte = mmu.tables[slot]
    mmu.tables[slot] = 0
    table = slot >> 9
    space = mmu.meta[table, SPACE]
    mmu.meta[table, LIVE] -= 1
    if pte & np.uint64(PG_MANAGED):
        after, before = mmu.links[slot, 0], mmu.links[slot, 1]
        if before:
            mmu.links[before, 0] = after
        else:
            mmu.pv_head[np.int64(pte >> np.uint64(12))] = after
        if after:
            mmu.links[after, 1] = before
        mmu.spaces[space, 1] -= 1
    if pte & np.uint64(PG_W):
        mmu.spaces[space, 2] -= 1
    _shoot_down(space, mmu.meta[table, BASE] + (slot & 511), mmu)
    return pte


@njit(types.void(types.int64, MMU_STATE), cache=True)
def _free_empty(table: Word, mmu: MmuState) -> None:
    """Give an empty table back, and its parents that it leaves empty; roots stay."""
    while mmu.meta[table, LIVE] == 0 and mmu.meta[table, PARENT] != 0:
        slot = mmu.meta[table, PARENT]
        mmu.tables[slot] = 0
        mmu.meta[table, PARENT] = mmu.pool[FREE_HEAD]
        mmu.pool[FREE_HEAD] = table
        mmu.pool[FREE_COUNT] += 1
        table = slot >> 9
        mmu.meta[table, LIVE] -= 1


@njit(types.uint64(types.int64, types.int64, types.uint64, *_FIELDS), cache=True)
def enter(  # the arrays one by one: unpacking the tuple would double the time of a call
    space: Word,
    vpn: Word,
    pte: Word,
    tables: U64Array,
    links: I32Array,
    meta: I64Array,
    pv_head: I32Array,
    tlb: U64Array,
    spaces: I64Array,
    pool: I64Array,
) -> Word:
    """Set an entry; returns the one that it replaces (0: none)."""
    mmu = MmuState(tables, links, meta, pv_head, tlb, spaces, pool)
    slot = _find_or_build(space, vpn, mmu)
    old = np.uint64(0)
    if tables[slot] != 0:
        old = _clear_slot(slot, mmu)
    tables[slot] = pte
    meta[slot >> 9, LIVE] += 1
    if pte & np.uint64(PG_MANAGED):
        frame = np.int64(pte >> np.uint64(12))
        head = pv_head[frame]
        links[slot, 0], links[slot, 1] = head, 0
        if head:
            links[head, 1] = slot
        pv_head[frame] = slot
        spaces[space, 1] += 1
    if pte & np.uint64(PG_W):
        spaces[space, 2] += 1
    return old


@njit(_PAIR(types.uint64[::1], types.int64, types.int64), cache=True)
def leaf_table(tables: U64Array, root: Word, vpn: Word) -> tuple[Word, Word]:
    """Table that holds the entry of a page, and 0; if one is missing, its parent and the shift of the missing one."""
    table, level = root, 27
    while level > 0:
        entry = tables[(table << 9) | ((vpn >> level) & 511)]
        if entry == 0:
            break
        table = np.int64(entry >> np.uint64(12))
        level -= 9
    return table, level


@njit(types.void(types.int64, types.int64, types.uint64, MMU_STATE), cache=True)
def _clear_bits(slot: Word, vpn: Word, clear: Word, mmu: MmuState) -> None:
    """Clear bits of a valid entry; PG_V makes it invalid."""
    pte = mmu.tables[slot]
    if clear & np.uint64(PG_V):
        _clear_slot(slot, mmu)
    elif pte & clear:
        mmu.tables[slot] = pte & ~clear
        space = mmu.meta[slot >> 9, SPACE]
        if pte & clear & np.uint64(PG_W):
            mmu.spaces[space, 2] -= 1
        _shoot_down(space, vpn, mmu)


@njit(
    types.int64(types.int64, types.int64, types.int64, types.uint64, types.int64, types.uint64[::1], MMU_STATE),
    cache=True,
)
def _clear_range(space: Word, vpn: Word, end: Word, clear: Word, limit: Word, out: U64Array, mmu: MmuState) -> Word:
    """Clear bits of all valid entries from `vpn` to `end`, at most `limit` of them.

    `out[0]` gets the number of entries seen, the rest of `out` the entries as they were. Returns the page to go on at.
    """
    root = mmu.spaces[space, 0]
    found = 0
    while vpn < end and found < limit:
        table, level = leaf_table(mmu.tables, root, vpn)
        if level > 0:
            vpn = ((vpn >> level) + 1) << level
            continue
        last = min(end, (vpn | 511) + 1)
        while vpn < last and found < limit and mmu.meta[table, LIVE] > 0:
            slot = (table << 9) | (vpn & 511)
            if mmu.tables[slot]:
                found += 1
                out[found] = mmu.tables[slot]
                _clear_bits(slot, vpn, clear, mmu)
            vpn += 1
        if mmu.meta[table, LIVE] == 0:
            vpn = last
            _free_empty(table, mmu)
    out[0] = found
    return vpn


@njit(_PAIR(types.int64, types.int64, MMU_STATE), cache=True)
def frame_op(frame: Word, op: Word, mmu: MmuState) -> tuple[Word, Word]:
    """Do something to every managed mapping of a frame.

    Returns:
        The OR of the entries as they were, and how many of them had PG_A.
    """
    seen, accessed = np.uint64(0), 0
    clear = np.uint64(0)
    if op == OP_REMOVE_WRITE:
        clear = np.uint64(PG_RW | PG_M)
    elif op == OP_CLEAR_ACCESSED:
        clear = np.uint64(PG_A)
    elif op == OP_CLEAR_MODIFIED:
        clear = np.uint64(PG_M)
    slot = np.int64(mmu.pv_head[frame])
    while slot:
        after = np.int64(mmu.links[slot, 0])
        pte = mmu.tables[slot]
        seen |= pte
        if pte & np.uint64(PG_A):
            accessed += 1
        table = slot >> 9
        if op == OP_REMOVE or pte & clear:
            _invalidate(mmu.meta[table, SPACE], mmu)
        if op == OP_REMOVE:
            _clear_slot(slot, mmu)
            _free_empty(table, mmu)
        else:
            _clear_bits(slot, mmu.meta[table, BASE] + (slot & 511), clear, mmu)
        slot = after
    return seen, accessed


@njit(_PAIR(types.int64, types.int64, *_FIELDS), cache=True)
def _frame_op(
    frame: Word,
    op: Word,
    tables: U64Array,
    links: I32Array,
    meta: I64Array,
    pv_head: I32Array,
    tlb: U64Array,
    spaces: I64Array,
    pool: I64Array,
) -> tuple[Word, Word]:
    """See frame_op; for calls from Python, like enter."""
    return frame_op(frame, op, MmuState(tables, links, meta, pv_head, tlb, spaces, pool))


@njit(types.boolean(types.int64, types.int64, MMU_STATE), cache=True)
def frame_in_space(frame: Word, space: Word, mmu: MmuState) -> bool:
    """The frame has a managed mapping in an address space."""
    slot = np.int64(mmu.pv_head[frame])
    while slot:
        if mmu.meta[slot >> 9, SPACE] == space:
            return True
        slot = np.int64(mmu.links[slot, 0])
    return False


@njit(types.int64(MMU_STATE), cache=True)
def _stale_tlb_entry(mmu: MmuState) -> Word:
    """Index of a TLB entry that gives what the page tables do not, or -1."""
    for entry in range(len(mmu.tlb)):
        tag = np.int64(mmu.tlb[entry, 0])
        if tag == 0:
            continue
        space, vpn = tag >> TLB_SPACE_SHIFT, (tag >> 3) & ((1 << VPN_BITS) - 1)
        pte = mmu.tables[find_slot(mmu.tables, mmu.spaces[space, 0], vpn)]
        frame = np.uint64(pte >> np.uint64(PTE_FRAME_SHIFT))
        writable = pte & np.uint64(PG_RW) and pte & np.uint64(PG_M)
        if (
            frame != mmu.tlb[entry, 1]
            or not pte & np.uint64(PG_A)
            or (tag & 2 and not writable)
            or (tag & 4 and not pte & np.uint64(PG_X))
        ):
            return entry
    return -1


class Mmu:
    """Page tables of all address spaces; address space 0 is the kernel's and always exists.

    Attributes:
        state: The arrays; replaced when the pool grows, so never keep them across a call that may map a page.
    """

    state: MmuState
    CHECKPOINTED = ("state",)
    """What a checkpoint holds."""

    def __init__(self, frames: int, tables: int = 64, tlb_entries: int = TLB_ENTRIES) -> None:
        self.state = MmuState(
            tables=np.zeros(512, np.uint64),
            links=np.zeros((512, 2), np.int32),
            meta=np.zeros((1, 4), np.int64),
            pv_head=np.zeros(frames, np.int32),
            tlb=np.zeros((tlb_entries, 2), np.uint64),
            spaces=np.zeros((64, 4), np.int64),
            pool=np.zeros(3, np.int64),
        )
        self.bind()
        self._grow(tables)
        self.create(0)

    def bind(self) -> None:
        """Make what is not state: the compiled functions' scratch space."""
        self._scratch = np.zeros(4097, np.uint64)

    def misfit(self) -> str:
        """What cannot be: shapes that differ, or numbers of slots and tables beyond the pool; empty: nothing."""
        s = self.state
        slots = len(s.tables)
        shapes = [s.links.shape, s.meta.shape, s.tlb.shape[1:], s.spaces.shape[1:], s.pool.shape]
        if slots % 512 or shapes != [(slots, 2), (slots // 512, 4), (2,), (4,), (3,)] or len(s.tlb) != TLB_ENTRIES:
            return "tables of 512 entries, with links and a row for each"
        for numbers in (s.links, s.pv_head, s.meta[:, PARENT], s.spaces[:, 0] * 512):
            if numbers.size and not 0 <= numbers.min() <= numbers.max() < slots:
                return f"slots below {slots} and tables below {slots // 512}"
        return ""

    def create(self, space: int) -> None:
        """pmap_pinit: an empty address space.

        Raises:
            ValueError: It exists, or its id does not fit a TLB tag.
        """
        if not 0 <= space < SPACES_MAX:
            raise ValueError(f"address space {space}: expected 0 to {SPACES_MAX - 1}")
        if space >= len(self.state.spaces):
            rows = max(2 * len(self.state.spaces), space + 1)
            spaces = np.zeros((rows, 4), np.int64)
            spaces[: len(self.state.spaces)] = self.state.spaces
            self.state = self.state._replace(spaces=spaces)
        if self.state.spaces[space, 0]:
            raise ValueError(f"address space {space} exists")
        self.reserve()
        root = int(self.state.pool[FREE_HEAD])
        self.state.pool[FREE_HEAD] = self.state.meta[root, PARENT]
        self.state.pool[FREE_COUNT] -= 1
        self.state.meta[root] = (space, 0, 0, 0)
        self.state.spaces[space] = (root, 0, 0, 0)

    def destroy(self, space: int) -> None:
        """pmap_release: give the root table back.

        Raises:
            ValueError: Pages are still mapped.
        """
        root = int(self.state.spaces[space, 0])
        if root == 0 or self.state.meta[root, LIVE]:
            raise ValueError(f"address space {space} still maps pages, or does not exist")
        self.state.spaces[space] = 0
        self.state.meta[root, PARENT] = self.state.pool[FREE_HEAD]
        self.state.pool[FREE_HEAD] = root
        self.state.pool[FREE_COUNT] += 1

    def root(self, space: int) -> int:
        """Root table of an address space."""
        return int(self.state.spaces[space, 0])

    def resident(self, space: int) -> int:
        """Managed mappings of an address space, in pages."""
        return int(self.state.spaces[space, 1])

    def wired(self, space: int) -> int:
        """Wired mappings of an address space, in pages."""
        return int(self.state.spaces[space, 2])

    def pte(self, space: int, vpn: int) -> int:
        """Entry of a page; 0: not mapped."""
        slot = find_slot(self.state.tables, self.state.spaces[space, 0], vpn)
        return int(self.state.tables[slot]) if slot else 0

    def enter(self, space: int, vpn: int, pte: int) -> int:
        """Set the entry of a page; returns the entry that it replaces, 0 for none."""
        if self.state.pool[FREE_COUNT] < LEVELS:
            self._grow(len(self.state.meta))
        return int(enter(space, vpn, pte, *self.state))

    def clear_range(self, space: int, start: int, end: int, bits: int) -> U64Array:
        """Clear bits of all entries of pages [start, end); PG_V removes them.

        Returns:
            The valid entries of the range as they were, in address order.
        """
        parts, clear = [], np.uint64(bits)
        limit = len(self._scratch) - 1
        while start < end:
            start = _clear_range(space, start, end, clear, limit, self._scratch, self.state)
            parts.append(self._scratch[1 : 1 + int(self._scratch[0])].copy())
        return np.concatenate(parts) if parts else np.zeros(0, np.uint64)

    def frame_op(self, frame: int, op: int) -> tuple[int, int]:
        """Do `op` to every mapping of a frame; see the compiled function."""
        seen, accessed = _frame_op(frame, op, *self.state)
        return int(seen), int(accessed)

    def invalidate(self, space: int) -> None:
        """Count an invalidation, of one page or many, that other processors must hear of."""
        self.state.spaces[space, INVALIDATIONS] += 1
        self.state.pool[TO_TELL] = 1

    def invalidated(self) -> list[tuple[int, int]]:
        """Address spaces of which translations were invalidated since the last call, by id, and how often."""
        state = self.state
        if not state.pool[TO_TELL]:
            return []
        state.pool[TO_TELL] = 0
        counts = state.spaces[:, INVALIDATIONS]
        spaces = np.flatnonzero(counts)
        found = list(zip(spaces.tolist(), counts[spaces].tolist(), strict=True))
        counts[spaces] = 0
        return found

    def mappings(self, frame: int) -> list[tuple[int, int]]:
        """Address space and page of each managed mapping of a frame, the newest first."""
        found, slot = [], int(self.state.pv_head[frame])
        while slot:
            space, base = (int(self.state.meta[slot >> 9, column]) for column in (SPACE, BASE))
            found.append((space, base + (slot & 511)))
            slot = int(self.state.links[slot, 0])
        return found

    def check(self) -> list[str]:
        """Compare reverse mappings, counts and TLB with the page tables; one sentence for each thing wrong."""
        found, state = [], self.state
        slots = np.flatnonzero(state.tables & np.uint64(PG_MANAGED))
        ptes, spaces = state.tables[slots], state.meta[slots >> 9, SPACE]
        frames = (ptes >> np.uint64(PTE_FRAME_SHIFT)).astype(np.int64)
        after, before = state.links[slots, 0], state.links[slots, 1]
        heads = slots[before == 0]
        if (state.pv_head[frames[before == 0]] != heads).any() or len(heads) != np.count_nonzero(state.pv_head):
            found.append("the first mapping of a frame is not the head of its list")
        if (state.links[after[after != 0], 1] != slots[after != 0]).any():
            found.append("the mappings of a frame are not a list")
        rows = len(state.spaces)
        if (np.bincount(spaces, minlength=rows) != state.spaces[:, 1]).any():
            found.append("a resident count differs from the page tables")
        wired = np.flatnonzero(state.tables & np.uint64(PG_W))
        if (np.bincount(state.meta[wired >> 9, SPACE], minlength=rows) != state.spaces[:, 2]).any():
            found.append("a wired count differs from the page tables")
        live = np.count_nonzero(state.tables.reshape(-1, 512), axis=1)
        if (live != state.meta[:, LIVE]).any():
            found.append("a table counts other entries than it has")
        if (stale := _stale_tlb_entry(state)) >= 0:
            found.append(f"TLB entry {stale} gives what the page tables do not")
        return found

    def mapped_frames(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Frames of all managed entries, and of all others (the kernel's mappings); a frame may occur often."""
        tables = self.state.tables
        managed = tables[tables & np.uint64(PG_MANAGED) != 0]
        kernel = tables[tables & np.uint64(PG_G) != 0]
        shift = np.uint64(PTE_FRAME_SHIFT)
        return (managed >> shift).astype(np.int64), (kernel >> shift).astype(np.int64)

    def reserve(self) -> None:
        """Let the pool hold as many tables as one entry may need."""
        if self.state.pool[FREE_COUNT] < LEVELS:
            self._grow(len(self.state.meta))

    def _grow(self, tables: int) -> None:
        """Add tables to the pool."""
        state, have = self.state, len(self.state.meta)
        total = have + tables
        grown = state._replace(
            tables=np.zeros(total * 512, np.uint64),
            links=np.zeros((total * 512, 2), np.int32),
            meta=np.zeros((total, 4), np.int64),
        )
        grown.meta[:have] = state.meta
        live = np.flatnonzero(state.meta[:, LIVE])  # the host gives no memory to tables that stay empty
        grown.tables.reshape(total, 512)[live] = state.tables.reshape(have, 512)[live]
        grown.links.reshape(total, 512, 2)[live] = state.links.reshape(have, 512, 2)[live]
        grown.meta[have:, PARENT] = np.arange(have + 1, total + 1)
        grown.meta[total - 1, PARENT] = state.pool[FREE_HEAD]
        grown.pool[FREE_HEAD] = have
        grown.pool[FREE_COUNT] += tables
        self.state = grown
