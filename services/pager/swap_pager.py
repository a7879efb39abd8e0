"""The swap pager (swap_pager.c): reads, writes and the contents of pages in swap."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from hardware_sim.disk import BLOCK_SIZE
from services.pager.blist import BLIST_MAX_ALLOC, SWAPBLK_NONE
from services.pager.checksum import WORDS, page_checksums
from services.pager.swap_meta import Blocks, SwapMeta
from services.pager.swap_space import SwapDevice, SwapSpace, runs_of
from services.pager.tunables import Tunables
from services.ports.common import VM_OOM_SWAPZ
from services.ports.pager import PageRange, Peek, PutChunk, PutPagesStart, PutRun, VmPager
from services.runtime.context import Context
from services.runtime.events import Kind

NSW_CLUSTER_MAX = 16
"""Pages of a write: min(MAXPHYS / PAGE_SIZE, MAX_PAGEOUT_CLUSTER)."""
HASPAGE_MAX = 7
"""Neighbours that swap_pager_haspage tells at most: SWB_NPAGES / 2 - 1."""
_NUMBERS = np.arange(BLIST_MAX_ALLOC, dtype=np.int32)
_HOST_WRITE_PAGES = 32
"""Pages from which on a write to the backing file gets no more: the processor's caches hold them for the checksums."""
_STAMP_WORDS = [0, 1, 2, 3, 4, 511]


@dataclass(slots=True)
class Io:
    """A device operation under way; one of a file has block -1."""

    write: bool
    """It writes."""
    obj: int
    """Object, or file id."""
    first: int
    """First pindex."""
    count: int
    """Pages."""
    block: int
    """First global block."""
    due_us: int
    """Virtual time of its end, in microseconds."""
    failed: bool = False
    """The device will report an error."""
    sums: NDArray[np.uint64] | None = None
    """A read from swap: the checksums that its pages must have."""
    begun_us: int = 0
    """Virtual time at which it was started, in microseconds."""


@dataclass(slots=True)
class IoTable:
    """Device operations under way; ids count up and are never used again."""

    pending: dict[int, Io]
    """Operation by id, in order of id."""
    last: int = 0
    """Last id given out."""
    async_ends_us: list[int] = field(default_factory=list)
    """A heap: when the asynchronous writes that have a buffer (nsw_wcount_async) end, in microseconds."""

    def write_buffer(self, now_us: int, limit: int) -> int:
        """getpbuf(&nsw_wcount_async): when an asynchronous write gets a buffer, of which there are `limit`.

        In C the page daemon sleeps until then; here it goes on, and its writes begin as late.
        """
        ends, begins = self.async_ends_us, now_us
        while ends and ends[0] <= now_us:
            heappop(ends)
        while len(ends) >= limit:
            begins = heappop(ends)
        return begins

    def write_queued(self, due_us: int) -> None:
        """The write that got a buffer keeps it until its end."""
        heappush(self.async_ends_us, due_us)

    def add(self, io: Io) -> int:
        """Give an operation an id."""
        self.last += 1
        self.pending[self.last] = io
        return self.last


@dataclass(slots=True)
class _HostWrite:
    """Adjacent chunks that go to the backing file in one operation; one that the device fails stays alone."""

    device: SwapDevice
    block: int
    start: int
    pages: int
    ios: list[Io]

    def takes(self, device: SwapDevice, at: int, io: Io) -> bool:
        """Whether a chunk, whose contents begin at page `at`, can be written together with those that are here."""
        adjacent = self.block + self.pages == io.block and self.start + self.pages == at and self.device is device
        return adjacent and self.pages < _HOST_WRITE_PAGES and not (io.failed or self.ios[-1].failed)


@dataclass(slots=True)
class _PutRequest:
    """One putpages call, and the host writes that it comes to, in order."""

    sync: bool
    chunks: int = 0
    pages: int = 0
    writes: list[_HostWrite] = field(default_factory=list)

    def add(self, device: SwapDevice, at: int, io: Io) -> None:
        """Join a chunk, whose contents begin at page `at`, to the host write before if it is adjacent to it."""
        self.chunks += 1
        self.pages += io.count
        if self.writes and (last := self.writes[-1]).takes(device, at, io):
            last.pages += io.count
            last.ios.append(io)
        else:
            self.writes.append(_HostWrite(device, io.block, at, io.count, [io]))


class SwapPager:
    """Swap space, metadata and the pages in them.

    Attributes:
        space: Devices and free blocks.
        meta: Which block holds which page.
    """

    def __init__(self, ctx: Context, tunables: Tunables, ios: IoTable) -> None:
        self._ctx = ctx
        self._tunables = tunables
        self._ios = ios
        self.space = SwapSpace(on_full=self._on_full)
        self.meta = SwapMeta(tunables.meta_blocks_max)

    def putpages(self, runs: list[PutRun], data: memoryview, sync: bool) -> list[PutPagesStart]:
        """swap_pager_putpages for several runs: new blocks for all pages, written in clusters.

        Args:
            runs: Runs of dirty pages.
            data: Their contents, one run after another.
            sync: The caller waits; otherwise vm.swap_async_max of the writes overlap.
        """
        request = _PutRequest(sync)
        answers, at = [], 0
        for run in runs:
            converted = self.meta.convert(run.obj)
            answers.append(PutPagesStart(self._chunks(run, at, request), converted))
            at += run.count
        for write in request.writes:
            self._write(write, data)
        self._ctx.count("vm.stats.vm.v_swapout", request.chunks)
        self._ctx.count("vm.stats.vm.v_swappgsout", request.pages)
        return answers

    def start_read(self, obj: int, pindex: int, behind: int, ahead: int) -> tuple[int, Io] | None:
        """swap_pager_getpages up to the start of the read; None: the page is not in swap."""
        block = self.meta.lookup(obj, pindex)
        if block == SWAPBLK_NONE:
            return None
        before, after = self.meta.contiguous(obj, pindex, behind, ahead)
        count = before + 1 + after
        device = self.space.device_of(block)
        first = block - before
        due, fails = device.queue.start(self._ctx.now_us, first - device.first, count, write=False)
        failed = bool(self._ctx.env.ask("disk_read_error", lambda: fails))
        sums = self._sums(device, first, count).copy()
        io = Io(False, obj, pindex - before, count, first, due, failed, sums, self._ctx.now_us)
        self._ctx.count("vm.stats.vm.v_swapin")
        self._ctx.count("vm.stats.vm.v_swappgsin", count)
        return self._ios.add(io), io

    def finish_read(self, io: Io) -> bytes | None:
        """Contents of a read that is due, verified; None on an error of the device or of a checksum."""
        data = None if io.failed else self._read(io.block, io.count)
        if data is not None:
            if io.sums is not None and page_checksums(data).tobytes() == io.sums.tobytes():
                return data
            self._ctx.count("vmglue.pager.checksum_errors")
        self.io_error(io)
        return None

    def io_error(self, io: Io) -> None:
        """swp_pager_async_iodone with an error."""
        self._ctx.count("vmglue.pager.io_errors")
        self._ctx.event(Kind.SWAP_IO_ERROR, io.obj, io.first, io.count, int(io.write))

    def haspage(self, obj: int, pindex: int) -> tuple[bool, int, int]:
        """swap_pager_haspage: whether there is a block, contiguous pages before and after."""
        if self.meta.lookup(obj, pindex) == SWAPBLK_NONE:
            return False, 0, 0
        return True, *self.meta.contiguous(obj, pindex, HASPAGE_MAX, HASPAGE_MAX)

    def freespace(self, ranges: list[PageRange]) -> None:
        """swap_pager_freespace: the contents of these pages in swap are not wanted any more."""
        self._freed([(pages.obj, self.meta.free(pages.obj, pages.first, pages.count)) for pages in ranges])

    def dealloc(self, objects: list[int]) -> None:
        """swap_pager_dealloc: the objects are gone."""
        self._freed([(obj, self.meta.free_all(obj)) for obj in objects])

    def copy(self, source: int, destination: int, offset: int, size: int, destroysource: bool) -> None:
        """swap_pager_copy."""
        self._freed([(source, self.meta.copy(source, destination, offset, size, destroysource))])

    def peek(self, obj: int, pindexes: list[int]) -> Peek:
        """Stamps of pages in swap; a page whose checksum does not match has an all-zero stamp, which fits no page."""
        blocks = np.array([self.meta.lookup(obj, pindex) for pindex in pindexes], np.int32)
        wanted, rows = np.unique(blocks[blocks != SWAPBLK_NONE], return_inverse=True)
        found = np.concatenate([self._stamps(*run) for run in runs_of(wanted)] or [np.empty((0, 6), np.uint64)])
        stamps = np.zeros((len(blocks), len(_STAMP_WORDS)), np.uint64)
        stamps[blocks != SWAPBLK_NONE] = found[rows]
        return Peek((blocks != SWAPBLK_NONE).tolist(), stamps.tobytes())

    def owned_runs(self, blocks: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Runs of adjacent blocks, ascending, cut at devices."""
        return runs_of(np.sort(blocks))

    def contents(self, block: int, count: int) -> bytes:
        """Bytes of adjacent blocks as they lie on the device.

        Raises:
            OSError: The host refused.
        """
        device = self.space.device_of(block)
        return device.file.read(block - device.first, count)

    def _chunks(self, run: PutRun, at: int, request: _PutRequest) -> list[PutChunk]:
        """Cut a run into contiguous writes of at most 16 pages, halved while space is scattered, and start them."""
        chunks, done = [], 0
        while done < run.count:
            n = min(BLIST_MAX_ALLOC, run.count - done, NSW_CLUSTER_MAX)
            block, n = self._allocate(run.obj, run.first + done, n)
            chunk = PutChunk(first=run.first + done, count=n, status=VmPager.FAIL)
            if block != SWAPBLK_NONE:
                self._start_write(run.obj, chunk, block, at + done, request)
            chunks.append(chunk)
            done += n
        return chunks

    def _allocate(self, obj: int, first: int, n: int) -> tuple[int, int]:
        """Find `n` adjacent blocks or, where there are none, half as many while that is above four."""
        if not self.meta.has_room(obj, first, n):
            self._ctx.upcalls.oom |= VM_OOM_SWAPZ
            self._ctx.count("vmglue.pager.swap_zone_exhausted")
            return SWAPBLK_NONE, n
        while (block := self.space.getswapspace(n)) == SWAPBLK_NONE and n > 4:
            n >>= 1
        return block, n

    def _start_write(self, obj: int, chunk: PutChunk, block: int, at: int, request: _PutRequest) -> None:
        """Assign the blocks and queue the write of a chunk, whose contents begin at page `at` of the request."""
        n, ctx = chunk.count, self._ctx
        old = self.meta.build(obj, chunk.first, _NUMBERS[:n] + block)
        if len(old):
            self._freed([(obj, old)])
        device = self.space.device_of(block)
        begins = ctx.now_us if request.sync else self._ios.write_buffer(ctx.now_us, self._tunables.swap_async_max)
        chunk.due_us, fails = device.queue.start(begins, block - device.first, n, write=True)
        if not request.sync:
            self._ios.write_queued(chunk.due_us)
        failed = bool(ctx.env.ask("disk_write_error", lambda: fails))
        io = Io(True, obj, chunk.first, n, block, chunk.due_us, failed, begun_us=ctx.now_us)
        chunk.io, chunk.status = self._ios.add(io), VmPager.PEND
        ctx.event(Kind.SWAP_WRITE, obj, chunk.first, n, block)
        request.add(device, at, io)

    def _write(self, write: _HostWrite, data: memoryview) -> None:
        """Move bytes to the backing file; if the host refuses, the device operations end with an error.

        The checksums come afterwards: reading the pages for the write brings them into the caches.
        """
        part = data[write.start * BLOCK_SIZE : (write.start + write.pages) * BLOCK_SIZE]
        try:
            if not write.ios[0].failed:
                write.device.file.write(write.block - write.device.first, part)
        except OSError:
            for io in write.ios:
                io.failed = True
        self._sums(write.device, write.block, write.pages)[:] = page_checksums(part)

    def _stamps(self, block: int, count: int) -> NDArray[np.uint64]:
        """Stamps of adjacent blocks; zeros where the contents are not what was written."""
        data = self._read(block, count)
        if data is None:
            return np.zeros((count, len(_STAMP_WORDS)), np.uint64)
        stamps = np.frombuffer(data, np.uint64).reshape(count, WORDS)[:, _STAMP_WORDS]
        stamps[page_checksums(data) != self._sums(self.space.device_of(block), block, count)] = 0
        return stamps

    def _read(self, block: int, count: int) -> bytes | None:
        """Contents of adjacent blocks; None if the host refuses."""
        try:
            return self.contents(block, count)
        except OSError:
            return None

    def _sums(self, device: SwapDevice, block: int, count: int) -> NDArray[np.uint64]:
        """The checksums kept for adjacent blocks of a device, as a view."""
        return device.checksums[block - device.first : block - device.first + count]

    def _freed(self, freed: list[tuple[int, Blocks]]) -> None:
        """Give back the blocks that pages of objects had."""
        for obj, blocks in freed:
            if len(blocks):
                self._ctx.event(Kind.SWAP_FREE, obj, len(blocks))
        if freed:
            self.space.freeswapspace(np.concatenate([blocks for _, blocks in freed]))

    def _on_full(self, wanted: int, full: int) -> None:
        self._ctx.event(Kind.SWAP_FULL, wanted, self.space.avail, outcome=full)
