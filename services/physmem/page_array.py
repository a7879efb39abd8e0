"""The page array: struct vm_page as one array per field, and the constants of vm_page.h."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PQ_INACTIVE = 0
PQ_ACTIVE = 1
PQ_NONE = 255
PQ_COUNT = 2

PG_CACHED = 0x1
PG_MARKER = 0x10
PG_WINATCFLS = 0x40
PG_UNHOLDFREE = 0x100
PG_DOOMED = 0x8000
"""Ours: the page left its mapping while it was being written; it is freed when the write ends."""

PGA_WRITEABLE = 0x1
PGA_REFERENCED = 0x2

VPO_UNMANAGED = 0x4

VPB_BIT_SHARED = 1
VPB_BIT_EXCLUSIVE = 2
VPB_BIT_WAITERS = 4
VPB_ONE_SHARER = 8
VPB_UNBUSIED = 1
VPB_SINGLE_EXCLUSIVER = 2

ACT_DECLINE = 1
ACT_ADVANCE = 3
ACT_INIT = 5
ACT_MAX = 64

_CACHE_QUEUE = 2
_MARKERS = 3
_EXTRA_NODES = 5
"""Queue heads (inactive, active, cached pages) and one marker for each page queue."""


_Frames = NDArray[np.int32]


class PageFields(NamedTuple):
    """struct vm_page, one array per field; index: frame. Behind the last frame stand queue heads and markers."""

    object: NDArray[np.int64]
    """Id of the owning object; 0: none."""
    pindex: NDArray[np.int64]
    """Index in the owner, in pages."""
    flags: NDArray[np.uint16]
    """PG_ bits."""
    aflags: NDArray[np.uint8]
    """PGA_ bits."""
    oflags: NDArray[np.uint8]
    """VPO_ bits."""
    queue: NDArray[np.uint8]
    """PQ_INACTIVE, PQ_ACTIVE or PQ_NONE."""
    act_count: NDArray[np.uint8]
    """Usage score on the active queue."""
    wire_count: NDArray[np.uint32]
    """Wirings."""
    hold_count: NDArray[np.uint16]
    """Short-term holds."""
    busy_lock: NDArray[np.uint32]
    """VPB_ word."""
    valid: NDArray[np.uint16]
    """Valid DEV_BSIZE blocks."""
    dirty: NDArray[np.uint16]
    """Dirty DEV_BSIZE blocks."""
    qnext: NDArray[np.int32]
    """Next page of the queue."""
    qprev: NDArray[np.int32]
    """Previous page of the queue."""


class PageArray:
    """All frames; scalar code indexes the fields like m->field, compiled and vectorised code uses `np`.

    Attributes:
        count: Frames (v_page_count).
        np: The arrays.
        free: Stack of free frames; the first v_free_count are free, the last of these is taken next.
    """

    count: int
    np: PageFields
    free_frames: _Frames
    CHECKPOINTED = ("count", "np", "free_frames")
    """What a checkpoint holds."""
    __slots__ = (
        "act_count", "aflags", "busy_lock", "count", "dirty", "flags", "free", "free_frames", "hold_count", "np",
        "object", "oflags", "pindex", "qnext", "qprev", "queue", "valid", "wire_count",
    )  # fmt: skip

    def __init__(self, count: int) -> None:
        self.count = count
        nodes = count + _EXTRA_NODES
        self.free_frames = np.arange(count - 1, -1, -1, dtype=np.int32)
        self.np = PageFields(
            object=np.zeros(nodes, np.int64),
            pindex=np.zeros(nodes, np.int64),
            flags=np.zeros(nodes, np.uint16),
            aflags=np.zeros(nodes, np.uint8),
            oflags=np.zeros(nodes, np.uint8),
            queue=np.full(nodes, PQ_NONE, np.uint8),
            act_count=np.zeros(nodes, np.uint8),
            wire_count=np.zeros(nodes, np.uint32),
            hold_count=np.zeros(nodes, np.uint16),
            busy_lock=np.full(nodes, VPB_UNBUSIED, np.uint32),
            valid=np.zeros(nodes, np.uint16),
            dirty=np.zeros(nodes, np.uint16),
            qnext=np.zeros(nodes, np.int32),
            qprev=np.zeros(nodes, np.int32),
        )
        self.bind()
        for node in range(count, nodes):
            self.qnext[node] = self.qprev[node] = node
            self.flags[node] = PG_MARKER

    def misfit(self) -> str:
        """What cannot be: lengths that differ, links and free frames beyond the array; empty: nothing."""
        nodes = self.count + _EXTRA_NODES
        if len(self.free_frames) != self.count or any(len(array) != nodes for array in self.np):
            return f"arrays of {self.count} frames, and {nodes} with the heads of queues"
        links = (self.np.qnext, self.np.qprev)
        if not _within(self.free_frames, self.count) or not all(_within(array, nodes) for array in links):
            return f"frames below {self.count}, links below {nodes}"
        return ""

    def bind(self) -> None:
        """Make the scalar views anew, after the arrays were replaced."""
        fields = self.np
        self.free = self.free_frames.data
        self.object, self.pindex = fields.object.data, fields.pindex.data
        self.flags, self.aflags, self.oflags = fields.flags.data, fields.aflags.data, fields.oflags.data
        self.queue, self.act_count = fields.queue.data, fields.act_count.data
        self.wire_count, self.hold_count = fields.wire_count.data, fields.hold_count.data
        self.busy_lock = fields.busy_lock.data
        self.valid, self.dirty = fields.valid.data, fields.dirty.data
        self.qnext, self.qprev = fields.qnext.data, fields.qprev.data

    def head(self, queue: int) -> int:
        """Node that is the head of a page queue."""
        return self.count + queue

    @property
    def cache_head(self) -> int:
        """Head of the list of cached pages, the one that was cached first in front."""
        return self.count + _CACHE_QUEUE

    def marker(self, queue: int) -> int:
        """Marker with which a scan keeps its place in a queue."""
        return self.count + _MARKERS + queue

    def link_before(self, node: int, m: int) -> None:
        """TAILQ_INSERT_BEFORE; before a head means at the tail."""
        prev = self.qprev[node]
        self.qnext[prev] = self.qprev[node] = m
        self.qprev[m], self.qnext[m] = prev, node

    def unlink(self, m: int) -> None:
        """TAILQ_REMOVE."""
        prev, following = self.qprev[m], self.qnext[m]
        self.qnext[prev], self.qprev[following] = following, prev

    def park(self, marker: int) -> None:
        """Take a marker out of its queue."""
        self.unlink(marker)
        self.qnext[marker] = self.qprev[marker] = marker

    def queued(self, queue: int) -> list[int]:
        """Pages of a queue, from head to tail, for inspection."""
        head, pages = self.head(queue), []
        m = self.qnext[head]
        while m != head:
            pages.append(m)
            m = self.qnext[m]
        return pages


def _within(numbers: _Frames, end: int) -> bool:
    """All numbers are from 0 to `end`, exclusive."""
    return len(numbers) == 0 or (int(numbers.min()) >= 0 and int(numbers.max()) < end)
