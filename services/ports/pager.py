"""The pager port: swap space, swap metadata, swap devices and the pages of image files."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from services.ports.common import (
    I32,
    I64,
    U32,
    U64,
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


class VmPager(IntEnum):
    """Results of the pager (vm_pager.h)."""

    OK = 0
    """Successful."""
    BAD = 1
    """Out of range."""
    FAIL = 2
    """In range, but there is no page."""
    PEND = 3
    """Started, not complete."""
    ERROR = 4
    """Input or output error."""
    AGAIN = 5
    """Shortage; try again."""


class ObjectKind(IntEnum):
    """Types of VM objects that have a pager (vm.h)."""

    DEFAULT = 0
    """Anonymous memory without swap metadata."""
    SWAP = 1
    """Anonymous memory with swap metadata."""
    VNODE = 2
    """Pages of a file."""


@dataclass(slots=True)
class DiskFaults:
    """Faults of a device, drawn from a seed."""

    seed: U64 = 0
    """Seed of the draws."""
    read_per_million: U32 = 0
    """Reads that end with an error, of a million."""
    write_per_million: U32 = 0
    """Writes that end with an error, of a million."""
    latency_per_million: U32 = 0
    """Operations that stall, of a million."""
    latency_us: U32 = 0
    """Length of a stall, in microseconds."""
    full_per_million: U32 = 0
    """Searches for space that find none although there is some, of a million."""


@dataclass(slots=True)
class SwapDisk:
    """A device to swap to."""

    pages: U32 = 0
    """Size, in pages; at least 3."""
    kind: str = "ssd"
    """How fast it is: ssd, hdd, nvme or network."""
    faults: DiskFaults = field(default_factory=DiskFaults)
    """How it fails; as it comes: never."""
    later: bool = False
    """It is not swapped to from boot on, but once `swapon` names it."""


@dataclass(slots=True)
class PagerBoot:
    """What the pager is built with."""

    swap_devices: list[SwapDisk] = field(default_factory=list)
    """The machine's swap devices, at most 16; from boot on those are swapped to, in order, that are not for later."""
    page_count: U32 = 0
    """v_page_count of the machine; limits the swap metadata blocks."""
    seed: U64 = 0
    """Seed of the device's latency and of synthesised pages."""
    hz: I32 = 1000
    """Clock ticks a second."""
    start_ticks: I32 = 0
    """`ticks` at boot."""
    allow_inject: bool = False
    """Scripted answers are accepted."""


@dataclass(slots=True)
class HasPage:
    """swap_pager_haspage: is there a page, and how many neighbours are contiguous with it."""

    present: bool = False
    """The pager has the page."""
    before: I32 = 0
    """Contiguous pages in front of it, at most 7 for swap."""
    after: I32 = 0
    """Contiguous pages behind it, at most 7 for swap."""


@dataclass(slots=True)
class GetPagesStart:
    """A started read."""

    status: VmPager = VmPager.OK
    """PEND: started (see io); FAIL: no such page; BAD: out of range."""
    io: U64 = 0
    """Id of the device operation."""
    due_us: I64 = 0
    """Virtual time of its end, in microseconds."""
    first: U64 = 0
    """First pindex that the read covers (it may extend before the requested one)."""
    count: U32 = 0
    """Pages that the read covers."""


@dataclass(slots=True)
class PagesRead:
    """A finished read."""

    status: VmPager = VmPager.OK
    """OK, or ERROR if the device failed or a checksum did not match."""
    data: bytes = b""
    """Contents of `count` pages, 4096 bytes each; empty on error."""


@dataclass(slots=True)
class PagesReadAll:
    """Finished reads, in the order asked."""

    reads: list[PagesRead] = field(default_factory=list)
    """One for each id."""


@dataclass(slots=True)
class PutChunk:
    """One contiguous write of a put request."""

    io: U64 = 0
    """Id of the device operation; 0: no swap space, these pages failed."""
    due_us: I64 = 0
    """Virtual time of its end, in microseconds."""
    first: U64 = 0
    """First pindex of the chunk."""
    count: U32 = 0
    """Pages of the chunk."""
    status: VmPager = VmPager.PEND
    """PEND if started, FAIL if no space was found."""


@dataclass(slots=True)
class PutPagesStart:
    """A put request cut into contiguous writes."""

    chunks: list[PutChunk] = field(default_factory=list)
    """The writes, in pindex order."""
    converted: bool = False
    """The object had no metadata and became OBJT_SWAP."""


@dataclass(slots=True)
class PutRun:
    """Consecutive dirty pages of one object that are to be written."""

    obj: U64 = 0
    """Object id."""
    first: U64 = 0
    """First pindex."""
    count: U32 = 0
    """Pages; their contents follow one another in the request's data."""
    file: U64 = 0
    """Id of the file whose pages they are; 0: the pages are anonymous and go to swap."""


@dataclass(slots=True)
class PutPagesStartAll:
    """Answers for several runs, in order."""

    runs: list[PutPagesStart] = field(default_factory=list)
    """One for each run."""


@dataclass(slots=True)
class IoStatus:
    """How device operations ended."""

    statuses: list[VmPager] = field(default_factory=list)
    """One for each id: OK or ERROR."""


@dataclass(slots=True)
class PageRange:
    """Consecutive pages of one object."""

    obj: U64 = 0
    """Object id."""
    first: U64 = 0
    """First pindex."""
    count: U64 = 0
    """Pages."""


SW_CLOSING = 4
"""Flag of a device on which swapoff is under way."""


@dataclass(slots=True)
class SwapDeviceStatus:
    """A device that is swapped to (struct xswdev)."""

    device: U32 = 0
    """Position among the machine's devices."""
    kind: str = ""
    """How fast it is: ssd, hdd, nvme or network."""
    pages: U32 = 0
    """Size, in pages (xsw_nblks)."""
    used: U32 = 0
    """Pages in use (xsw_used)."""
    flags: U32 = 0
    """4: swapoff is under way (SW_CLOSING)."""


@dataclass(slots=True)
class SwapErrno:
    """How swapon or swapoff went."""

    error: I32 = 0
    """0, EBUSY 16, ENODEV 19, EINVAL 22 or ENOMEM 12."""


@dataclass(slots=True)
class SwappedPages:
    """Pages in swap."""

    objects: list[U64] = field(default_factory=list)
    """Object of each."""
    pindexes: list[U64] = field(default_factory=list)
    """Its index there."""


@dataclass(slots=True)
class SwapoffEnd:
    """What is left of a device."""

    used: U32 = 0
    """Blocks that somebody has or reads; 0: the device is gone."""


@dataclass(slots=True)
class SwapStatus:
    """Swap space (swap_pager_status)."""

    total: U32 = 0
    """Pages of all devices."""
    used: U32 = 0
    """Pages in use."""
    avail: I32 = 0
    """swap_pager_avail: free pages as the kernel counts them."""
    full: I32 = 0
    """swap_pager_full: 0, 1, or 2 without a device or space."""
    almost_full: I32 = 0
    """swap_pager_almost_full."""
    meta_blocks: U32 = 0
    """Swap metadata blocks in use."""
    devices: list[SwapDeviceStatus] = field(default_factory=list)
    """Devices, in the order of swapon."""


@dataclass(slots=True)
class Peek:
    """Contents of pages as the pager would read them, without a device operation."""

    present: list[bool] = field(default_factory=list)
    """Whether each page is in swap."""
    stamps: bytes = b""
    """Words 0 to 4 and 511 of each present page: 6 little-endian uint64 a page; zeros for the others."""


@dataclass(slots=True)
class FileId:
    """An opened image file."""

    file: U64 = 0
    """Its id."""


class PagerPort(Protocol):
    """Answers for vm_pager_get_pages, vm_pager_put_pages and vm_pager_has_page behind everything."""

    def boot(self, config: PagerBoot) -> Empty:
        """Build swap space and metadata anew; everything from before is dropped."""
        ...

    def vm_pager_has_page(self, obj: U64, kind: ObjectKind, pindex: U64) -> HasPage:
        """vm_pager_has_page for an object."""
        ...

    def vnode_open(self, name: str, pages: U64) -> FileId:
        """Name an image file and its size in pages; the same name gives the same id."""
        ...

    def get_pages_start(
        self, obj: U64, kind: ObjectKind, file: U64, pindex: U64, behind: U32, ahead: U32, wired: bool
    ) -> GetPagesStart:
        """Start the read of `pindex` and of at most `behind` and `ahead` neighbours that are contiguous on the device.

        For OBJT_VNODE `file` names the file; for swap the neighbours must have adjacent blocks (swap_pager_getpages).
        """
        ...

    def get_pages_finish(self, ios: list[U64]) -> PagesReadAll:
        """Fetch the contents of reads that are due; swap blocks are kept."""
        ...

    def put_pages_start(self, runs: list[PutRun], data: bytes, sync: bool) -> PutPagesStartAll:
        """Start to write pages, in clusters of at most 16.

        Anonymous ones get new blocks of swap, clusters halved down to 4 when space is scattered; those of a file keep
        their places in it.
        """
        ...

    def put_pages_finish(self, ios: list[U64]) -> IoStatus:
        """End writes that are due."""
        ...

    def page_unswapped(self, ranges: list[PageRange]) -> Empty:
        """Free the swap blocks of pages that were dirtied or freed (swap_pager_unswapped, swap_pager_freespace)."""
        ...

    def swap_copy(self, source: U64, destination: U64, offset: U64, size: U64, destroysource: bool) -> Empty:
        """Hand swap blocks over to another object (swap_pager_copy); what that one has wins.

        With `destroysource` the source, a backing object, ends: none of its blocks is kept.
        """
        ...

    def dealloc(self, objects: list[U64]) -> Empty:
        """Free all swap blocks of terminated objects (swap_pager_dealloc)."""
        ...

    def swapon(self, device: U32) -> SwapErrno:
        """sys_swapon of one of the machine's devices: ENODEV if it has none of that number, EBUSY if it is in use."""
        ...

    def swapoff_begin(self, device: U32, free_pages: U64) -> SwapErrno:
        """swapoff_one up to swap_pager_swapoff: EINVAL, ENOMEM, or no space is given out on the device any more.

        `free_pages` is v_free_count + v_cache_count.
        """
        ...

    def swapoff_pages(self, device: U32, obj: U64, pindex: U64, limit: U32) -> SwappedPages:
        """Pages on a device, from one page on in order of (object, index), at most `limit` (swp_pager_isondev)."""
        ...

    def swapoff_end(self, device: U32) -> SwapoffEnd:
        """swapoff_one behind swap_pager_swapoff: a device on which nothing lies any more is gone."""
        ...

    def swap_status(self) -> SwapStatus:
        """Sizes of swap space, swap_pager_full and almost_full."""
        ...

    def peek(self, obj: U64, pindexes: list[U64]) -> Peek:
        """Look at pages in swap, checksum verified; starts no device operation and changes nothing."""
        ...

    def suspended(self) -> SuspendedOperations:
        """Device operations under way, and until when; changes nothing."""
        ...

    def sysctl_get(self) -> Settings:
        """All sysctls of this service."""
        ...

    def sysctl_set(self, setting: Setting) -> Empty:
        """Set one."""
        ...

    def checkpoint_save(self, offset: U64) -> CheckpointChunk:
        """A piece of this service's checkpoint from a byte on; it is made at offset 0."""
        ...

    def checkpoint_load(self, offset: U64, size: U64, data: bytes) -> Empty:
        """Take in a piece of a checkpoint of `size` bytes, for `checkpoint_commit`; size 0 withdraws it."""
        ...

    def checkpoint_commit(self) -> Empty:
        """Go on from the checkpoint that was loaded whole; everything from before is dropped."""
        ...

    def inject(self, script: list[Answers]) -> Empty:
        """Script answers of the kernel around the C code."""
        ...

    def digest(self) -> Digest:
        """Event chain and state."""
        ...

    def check(self) -> Violations:
        """Compare every swap block's owner with the bitmap and the counters."""
        ...

    def events(self, since: U64, limit: U32) -> EventChunk:
        """Recorded events from sequence number `since` on."""
        ...

    def counters(self) -> CounterValues:
        """The service's own counters."""
        ...


READS = frozenset(
    {
        "check",
        "checkpoint_save",
        "counters",
        "digest",
        "events",
        "peek",
        "suspended",
        "swap_status",
        "swapoff_pages",
        "sysctl_get",
        "vm_pager_has_page",
    }
)
"""Methods that only read state: they need no clock, and are answered also after a panic."""
