"""The pager's core: the port's methods over swap pager and vnode pager."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from hardware_sim.disk import BLOCK_SIZE
from services.pager import checkpoint, inspect
from services.pager.devices import SwapDevices, check_devices
from services.pager.swap_pager import Io, IoTable, SwapPager
from services.pager.tunables import Tunables
from services.pager.vnode_pager import VNODE_CLUSTER_PAGES, VnodePager
from services.ports.common import (
    Answers,
    CheckpointChunk,
    CounterValues,
    Digest,
    Empty,
    EventChunk,
    Setting,
    Settings,
    SuspendedOperations,
    Violations,
)
from services.ports.pager import (
    FileId,
    GetPagesStart,
    HasPage,
    IoStatus,
    ObjectKind,
    PageRange,
    PagerBoot,
    PagesRead,
    PagesReadAll,
    Peek,
    PutChunk,
    PutPagesStart,
    PutPagesStartAll,
    PutRun,
    SwapDeviceStatus,
    SwapErrno,
    SwapoffEnd,
    SwappedPages,
    SwapStatus,
    VmPager,
)
from services.runtime.checkpoint import Checkpoint
from services.runtime.context import Context
from services.runtime.errors import Reason, Refused
from services.runtime.events import Kind


class PagerCore:
    """Swap space, swap metadata, swap devices and the pages of image files.

    Besides the kernel's own questions, injection may script `disk_read_error` and `disk_write_error`: 1 lets the
    operation that is being started end with an error.
    """

    def __init__(self, ctx: Context, swap_file: Path | None = None) -> None:
        """Build a pager that waits for its boot.

        Args:
            ctx: Its context.
            swap_file: Where the swap device keeps its bytes; None: a temporary file without a name.
        """
        self._ctx = ctx
        self._swap_file = swap_file
        self._ios = IoTable({})
        self._tunables = Tunables(0)
        self._swap = SwapPager(ctx, self._tunables, self._ios)
        self._devices = SwapDevices(ctx, self._swap, self._ios, [], 0, swap_file)
        self._vnodes = VnodePager(0)
        self._checkpoint = Checkpoint(ctx, checkpoint.registry(), self._state, self._restore)

    def boot(self, config: PagerBoot) -> Empty:
        """Build swap space and metadata anew; everything from before is dropped.

        Raises:
            Refused: A device without a usable block, or its file cannot be made.
        """
        check_devices(config.swap_devices, "swap_devices")
        self.close()
        self._ctx.reboot(config.hz, config.start_ticks, config.allow_inject)
        self._ios = IoTable({})
        self._tunables = Tunables(config.page_count)
        self._swap = SwapPager(self._ctx, self._tunables, self._ios)
        self._vnodes = VnodePager(config.seed)
        self._devices = SwapDevices(self._ctx, self._swap, self._ios, config.swap_devices, config.seed, self._swap_file)
        for number, disk in enumerate(config.swap_devices):
            if not disk.later:
                self._devices.swapon(number)
        self._ctx.counters.update(dict.fromkeys(inspect.EVENT_COUNTERS, 0))
        self._publish()
        return Empty()

    def close(self) -> None:
        """Give back the swap file."""
        self._swap.space.close()

    def vm_pager_has_page(self, obj: int, kind: ObjectKind, pindex: int) -> HasPage:
        """vm_pager_has_page for an object; for OBJT_VNODE `obj` is the file's id."""
        if kind is ObjectKind.SWAP:
            return HasPage(*self._swap.haspage(obj, pindex))
        if kind is ObjectKind.VNODE and pindex < (pages := self._file_pages(obj)):
            limit = VNODE_CLUSTER_PAGES - 1
            return HasPage(True, min(pindex, limit), min(pages - 1 - pindex, limit))
        return HasPage()

    def vnode_open(self, name: str, pages: int) -> FileId:
        """Name an image file and its size in pages; the same name gives the same id."""
        return FileId(self._vnodes.open(name, pages))

    def get_pages_start(
        self, obj: int, kind: ObjectKind, file: int, pindex: int, behind: int, ahead: int, wired: bool
    ) -> GetPagesStart:
        """Start the read of `pindex` and of at most `behind` and `ahead` contiguous neighbours.

        Answers PEND; FAIL for a page that is not in swap; BAD beyond the end of a file.
        """
        if kind is ObjectKind.VNODE:
            return self._vnode_read(file, pindex, behind, ahead)
        started = self._swap.start_read(obj, pindex, behind, ahead) if kind is ObjectKind.SWAP else None
        if started is None:
            return GetPagesStart(VmPager.FAIL)
        number, io = started
        self._ctx.event(Kind.SWAP_READ, obj, io.first, io.count, io.block, outcome=int(wired))
        self._publish_transfers()
        return GetPagesStart(VmPager.PEND, number, io.due_us, io.first, io.count)

    def get_pages_finish(self, ios: list[int]) -> PagesReadAll:
        """Fetch the contents of reads that are due; swap blocks are kept."""
        reads = [self._finish_read(io) for io in self._take(ios, write=False)]
        return PagesReadAll(
            [PagesRead(VmPager.ERROR) if data is None else PagesRead(VmPager.OK, data) for data in reads]
        )

    def put_pages_start(self, runs: list[PutRun], data: bytes, sync: bool) -> PutPagesStartAll:
        """Start to write pages: to new blocks of swap (swap_pager_putpages), or to their files (vnode_pager_putpages).

        Of those without `sync`, vm.swap_async_max overlap; a caller with `sync` waits.
        """
        pages = sum(run.count for run in runs)
        if len(data) != pages * BLOCK_SIZE:
            raise Refused(
                Reason.FIELD_OUT_OF_RANGE, "data", f"{len(data)} bytes", f"{pages} pages of {BLOCK_SIZE} bytes"
            )
        for i, run in enumerate(runs):
            if run.file and run.first + run.count > self._file_pages(run.file):
                raise Refused(Reason.FIELD_OUT_OF_RANGE, f"runs[{i}].first", run.first, "pages within the file")
        if sync:
            self._ctx.count("vmglue.pager.sync_puts", len(runs))
        answers: list[PutPagesStart] = []
        rest = memoryview(data)
        for to_file, group in groupby(runs, lambda run: run.file != 0):
            put = list(group)
            size = sum(run.count for run in put) * BLOCK_SIZE
            part = rest[:size]
            answers += self._vnode_write(put, part) if to_file else self._swap.putpages(put, part, sync)
            rest = rest[size:]
        self._publish()
        return PutPagesStartAll(answers)

    def put_pages_finish(self, ios: list[int]) -> IoStatus:
        """End writes that are due; a failed one leaves its blocks assigned, the caller writes again elsewhere."""
        done = self._take(ios, write=True)
        for io in done:
            if io.failed:
                self._swap.io_error(io)
        return IoStatus([VmPager.ERROR if io.failed else VmPager.OK for io in done])

    def page_unswapped(self, ranges: list[PageRange]) -> Empty:
        """Free the swap blocks of pages that were dirtied or freed (swap_pager_unswapped, swap_pager_freespace)."""
        self._swap.freespace(ranges)
        self._publish()
        return Empty()

    def swap_copy(self, source: int, destination: int, offset: int, size: int, destroysource: bool) -> Empty:
        """Hand swap blocks over to another object (swap_pager_copy); what that one has wins.

        Args:
            source: The object that has them.
            destination: The object that gets them.
            offset: Page of the source that is page 0 of the destination.
            size: Pages of the destination.
            destroysource: The source has no metadata afterwards.
        """
        self._swap.copy(source, destination, offset, size, destroysource)
        self._publish()
        return Empty()

    def dealloc(self, objects: list[int]) -> Empty:
        """Free all swap blocks of terminated objects (swap_pager_dealloc)."""
        self._swap.dealloc(objects)
        self._publish()
        return Empty()

    def swapon(self, device: int) -> SwapErrno:
        """sys_swapon of one of the machine's devices: ENODEV if it has none of that number, EBUSY if it is in use."""
        error = self._devices.swapon(device)
        if not error:
            added = self._swap.space.devices[-1]
            self._ctx.event(Kind.SWAPON, device, added.nblks, added.first)
        self._publish()
        return SwapErrno(error)

    def swapoff_begin(self, device: int, free_pages: int) -> SwapErrno:
        """swapoff_one up to swap_pager_swapoff: EINVAL, ENOMEM, or no space is given out on the device any more."""
        error = self._devices.swapoff_begin(device, free_pages)
        self._publish()
        return SwapErrno(error)

    def swapoff_pages(self, device: int, obj: int, pindex: int, limit: int) -> SwappedPages:
        """Pages on a device, from one page on in order of (object, index), at most `limit`."""
        pages = self._devices.swapoff_pages(device, obj, pindex, limit)
        return SwappedPages([page[0] for page in pages], [page[1] for page in pages])

    def swapoff_end(self, device: int) -> SwapoffEnd:
        """swapoff_one behind swap_pager_swapoff: a device on which nothing lies any more is gone."""
        left = self._devices.swapoff_end(device)
        if not left:
            self._ctx.event(Kind.SWAPOFF, device, outcome=1)
        self._publish()
        return SwapoffEnd(left)

    def swap_status(self) -> SwapStatus:
        """Sizes of swap space, swap_pager_full and almost_full."""
        space = self._swap.space
        devices = [SwapDeviceStatus(d.number, d.queue.kind, d.nblks, d.used, d.flags) for d in space.devices]
        return SwapStatus(
            space.total, space.used, space.avail, space.full, space.almost_full, self._swap.meta.in_use, devices
        )

    def peek(self, obj: int, pindexes: list[int]) -> Peek:
        """Look at pages in swap, checksum verified; starts no device operation and changes nothing."""
        return self._swap.peek(obj, pindexes)

    def suspended(self) -> SuspendedOperations:
        """Device operations under way, and until when; changes nothing."""
        return inspect.suspended(self._ios, self._vnodes)

    def sysctl_get(self) -> Settings:
        """All sysctls of this service."""
        values = self._tunables.values(self._swap.space)
        values |= {name: value for name, value in self._ctx.counters.items() if not name.startswith("vmglue.")}
        return Settings([Setting(name, value) for name, value in sorted(values.items())])

    def sysctl_set(self, setting: Setting) -> Empty:
        """Set one.

        Raises:
            Refused: No such sysctl, a read-only one, or a value that its handler refuses.
        """
        self._tunables.set(setting)
        return Empty()

    def checkpoint_save(self, offset: int) -> CheckpointChunk:
        """A piece of this service's checkpoint."""
        return self._checkpoint.save(offset)

    def checkpoint_load(self, offset: int, size: int, data: bytes) -> Empty:
        """Take in a piece of a checkpoint."""
        return self._checkpoint.load(offset, size, data)

    def checkpoint_commit(self) -> Empty:
        """Go on from the checkpoint that was loaded."""
        return self._checkpoint.commit()

    def inject(self, script: list[Answers]) -> Empty:
        """Script answers of the kernel around the C code."""
        self._ctx.env.inject(script)
        return Empty()

    def digest(self) -> Digest:
        """Event chain; metadata, contents of swap, devices and operations under way."""
        log = self._ctx.log
        log.flush()
        return Digest(log.head, log.count, inspect.digest(self._swap, self._vnodes, self._ios))

    def check(self) -> Violations:
        """Compare every swap block's owner with the bitmap and the counters."""
        return inspect.check(self._swap, self._ctx.counters)

    def events(self, since: int, limit: int) -> EventChunk:
        """Recorded events from sequence number `since` on."""
        first, records = self._ctx.log.since(since, limit)
        return EventChunk(records, first, self._ctx.log.count)

    def trouble(self) -> str:
        """What keeps the pager from its work: that the host refused the last write to a swap file, or the last read."""
        files = [device.file for device in self._swap.space.devices]
        refused = (file.write_refusal or file.read_refusal for file in files)
        return next((f"the swap file: {refusal}" for refusal in refused if refusal), "")

    def counters(self) -> CounterValues:
        """The service's own counters."""
        names = sorted(self._ctx.counters)
        return CounterValues(names, [self._ctx.counters[name] for name in names], self._ctx.sequence)

    def _state(self) -> checkpoint.PagerState:
        return checkpoint.take(self._swap, self._ios, self._devices, self._vnodes, self._tunables)

    def _restore(self, state: checkpoint.PagerState) -> None:
        self.close()
        swap = SwapPager(self._ctx, state.tunables, state.ios)
        try:
            checkpoint.restore(state, swap, self._swap_file)
        except OSError as error:
            swap.space.close()
            self._ctx.booted = False  # what was there before is gone
            expected = f"a host that can hold its swap ({error.strerror}: {error.filename or 'temporary file'})"
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "checkpoint", "swap contents", expected) from error
        self._swap, self._ios, self._vnodes, self._tunables = swap, state.ios, state.vnodes, state.tunables
        self._devices = SwapDevices(self._ctx, swap, state.ios, state.disks, state.seed, self._swap_file)

    def _file_pages(self, file: int) -> int:
        if not 0 < file <= len(self._vnodes.files):
            raise Refused(Reason.UNKNOWN_ID, "file", file, "the id of an opened file")
        return self._vnodes.files[file - 1].pages

    def _vnode_read(self, file: int, pindex: int, behind: int, ahead: int) -> GetPagesStart:
        """vnode_pager_getpages up to the start of the read."""
        pages, ctx = self._file_pages(file), self._ctx
        if pindex >= pages:
            return GetPagesStart(VmPager.BAD)
        first = pindex - min(behind, pindex)
        count = min(pindex + ahead + 1, pages) - first
        due, fails = self._vnodes.queue.start(ctx.now_us, first, count, write=False)
        failed = bool(ctx.env.ask("disk_read_error", lambda: fails))
        ctx.count("vm.stats.vm.v_vnodein")
        ctx.count("vm.stats.vm.v_vnodepgsin", count)
        ctx.event(Kind.VNODE_READ, file, first, count)
        io = Io(False, file, first, count, -1, due, failed, begun_us=ctx.now_us)
        return GetPagesStart(VmPager.PEND, self._ios.add(io), due, first, count)

    def _vnode_write(self, runs: list[PutRun], data: memoryview) -> list[PutPagesStart]:
        """vnode_pager_putpages: the device has the contents from now on, unless it fails."""
        answers, at = [], 0
        for run in runs:
            chunks = []
            for first in range(run.first, run.first + run.count, VNODE_CLUSTER_PAGES):
                count = min(VNODE_CLUSTER_PAGES, run.first + run.count - first)
                chunks.append(self._vnode_chunk(run.file, first, data[at : at + count * BLOCK_SIZE]))
                at += count * BLOCK_SIZE
            answers.append(PutPagesStart(chunks))
        return answers

    def _vnode_chunk(self, file: int, first: int, data: memoryview) -> PutChunk:
        """Start one write of at most a cluster."""
        ctx, count = self._ctx, len(data) // BLOCK_SIZE
        due, fails = self._vnodes.queue.start(ctx.now_us, first, count, write=True)
        failed = bool(ctx.env.ask("disk_write_error", lambda: fails))
        if not failed:
            self._vnodes.write(file, first, data)
        ctx.count("vm.stats.vm.v_vnodeout")
        ctx.count("vm.stats.vm.v_vnodepgsout", count)
        ctx.event(Kind.VNODE_WRITE, file, first, count)
        io = Io(True, file, first, count, -1, due, failed, begun_us=ctx.now_us)
        return PutChunk(self._ios.add(io), due, first, count)

    def _finish_read(self, io: Io) -> bytes | None:
        if io.block >= 0:
            return self._swap.finish_read(io)
        if io.failed:
            self._swap.io_error(io)
            return None
        return self._vnodes.contents(io.obj, io.first, io.count)

    def _take(self, ios: list[int], write: bool) -> list[Io]:
        """Remove operations that are due from the table; all or, if one is refused, none."""
        pending, expected = self._ios.pending, "writes that are due" if write else "reads that are due"
        for number in ios:
            if number not in pending:
                raise Refused(Reason.UNKNOWN_ID, "ios", number, expected)
            if pending[number].write != write or pending[number].due_us > self._ctx.now_us:
                raise Refused(Reason.FIELD_OUT_OF_RANGE, "ios", number, expected)
        if len(set(ios)) != len(ios):
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "ios", ios, "each operation once")
        return [pending.pop(number) for number in ios]

    def _publish(self) -> None:
        """Write what is kept in fields to the counters."""
        space, counters = self._swap.space, self._ctx.counters
        counters["vm.swap_total"] = space.total * BLOCK_SIZE
        counters["vm.nswapdev"] = len(space.devices)
        counters["vmglue.pager.swap_surplus"] = space.surplus
        counters["vmglue.pager.swap_used"] = space.used
        counters["vmglue.pager.swap_avail"] = space.avail
        counters["vmglue.pager.swap_full"] = space.full
        counters["vmglue.pager.swap_almost_full"] = space.almost_full
        counters["vmglue.pager.meta_blocks"] = self._swap.meta.in_use
        self._publish_transfers()

    def _publish_transfers(self) -> None:
        """Those of what the devices moved."""
        space, counters = self._swap.space, self._ctx.counters
        read, written = space.gone_read, space.gone_written
        for device in space.devices:
            read += device.queue.blocks_read
            written += device.queue.blocks_written
        counters["vmglue.pager.device_pages_read"], counters["vmglue.pager.device_pages_written"] = read, written
