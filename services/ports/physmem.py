"""The physmem port: physical memory, VM objects, address spaces, the pmap and kernel VA."""

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
    Outcome,
    Setting,
    Settings,
    Status,
    SuspendedOperations,
    Suspension,
    Violations,
)

KERNEL_SPACE = 0
"""Id of kernel_map where an address space is asked for."""


class KernReturn(IntEnum):
    """KERN_ codes (vm_param.h)."""

    SUCCESS = 0
    """Done."""
    INVALID_ADDRESS = 1
    """Nothing is mapped there."""
    PROTECTION_FAILURE = 2
    """The mapping does not permit it."""
    NO_SPACE = 3
    """The range is taken."""
    INVALID_ARGUMENT = 4
    """Not a legal argument."""
    FAILURE = 5
    """The page could not be read."""
    RESOURCE_SHORTAGE = 6
    """Swap could not be reserved."""


class MapOpKind(IntEnum):
    """Changes of an address map."""

    INSERT = 0
    """vm_map_insert: a new entry."""
    REMOVE = 1
    """vm_map_remove."""
    PROTECT = 2
    """vm_map_protect: set the current protection."""
    WIRE = 3
    """vm_map_wire, system, no holes."""
    UNWIRE = 4
    """vm_map_unwire, system, no holes."""
    BOUNDS = 5
    """Set min_offset and max_offset of an empty or built map to [start, start + size)."""


class Replacement(IntEnum):
    """Who chooses the page that leaves memory."""

    FREEBSD = 0
    """The page daemon."""
    FIFO = 1
    """A fault that finds no room: the page that came first."""
    CLOCK = 2
    """The same, but a page that was referenced since it was looked at last stays for another round."""


@dataclass(slots=True)
class PhysmemBoot:
    """What the machine's memory is built with."""

    ram_pages: U32 = 0
    """v_page_count: pages that the kernel may allocate."""
    arch: str = "amd64"
    """Architecture (hardware_sim/arch.py)."""
    seed: U64 = 0
    """Seed, written into every page stamp."""
    mips: U32 = 100
    """Million instructions a second."""
    hz: I32 = 1000
    """Clock ticks a second."""
    start_ticks: I32 = 0
    """`ticks` at boot."""
    kernel_min: U64 = 0
    """min_offset of kernel_map; 0: the architecture's."""
    kernel_max: U64 = 0
    """max_offset of kernel_map (exclusive); 0: the architecture's."""
    kstack_guard_pages: I32 = -1
    """KSTACK_GUARD_PAGES; -1: the architecture's."""
    allow_inject: bool = False
    """Scripted answers are accepted."""
    kstack_max_pages: I32 = 0
    """KSTACK_MAX_PAGES: a larger stack that is asked for gets so many pages; 0: 32."""
    no_swapping: bool = False
    """NO_SWAPPING: whole processes and their stacks are never swapped."""
    without_invariants: bool = False
    """Built without INVARIANTS: the KASSERTs of the C code are gone, its panics stay."""
    preempt_seed: U64 = 0
    """Seed of what others do where the C code drops a lock or sleeps; 0: nothing."""
    replacement: Replacement = Replacement.FREEBSD
    """Who chooses what leaves memory; another than FREEBSD allows one address space only."""


@dataclass(slots=True)
class PhysmemBooted:
    """Memory after boot."""

    page_count: U32 = 0
    """v_page_count."""
    free_count: U32 = 0
    """v_free_count."""


@dataclass(slots=True)
class SpaceId:
    """An address space."""

    vmspace: U64 = 0
    """Its id (never 0)."""
    error: I32 = 0
    """0, or ENOMEM 12."""


@dataclass(slots=True)
class SpaceInfo:
    """Figures of an address space."""

    vmspace: U64 = 0
    """Its id."""
    refcnt: I32 = 0
    """vm_refcnt."""
    resident: U32 = 0
    """vmspace_resident_count, in pages."""
    swap_count: U32 = 0
    """vmspace_swap_count: estimate of the pages in swap, for the choice of an out-of-memory victim."""
    entries: U32 = 0
    """Map entries."""
    size_pages: U64 = 0
    """Pages mapped by all entries."""
    timestamp: U32 = 0
    """Map timestamp: exclusive locks so far."""


@dataclass(slots=True)
class SpaceInfos:
    """Figures of several address spaces, in the order asked."""

    spaces: list[SpaceInfo] = field(default_factory=list)
    """One for each id."""


@dataclass(slots=True)
class MapOp:
    """One change of an address map."""

    kind: MapOpKind = MapOpKind.INSERT
    """What to do."""
    start: U64 = 0
    """First address, page aligned."""
    size: U64 = 0
    """Bytes, page aligned."""
    prot: U32 = 3
    """INSERT, PROTECT: VM_PROT_ bits."""
    file: str = ""
    """INSERT: base name of the mapped file; empty: anonymous memory."""
    offset_pages: U64 = 0
    """INSERT: offset in the file, in pages."""
    file_pages: U64 = 0
    """INSERT: size of the file, in pages."""
    shared: bool = False
    """INSERT: VM_INHERIT_SHARE, no copy on write."""
    replace: bool = False
    """INSERT: unmap what is there first (MAP_FIXED)."""
    unfaultable: bool = False
    """INSERT, PROTECT: pages of the entry cannot be brought in (device memory that fails)."""


@dataclass(slots=True)
class MapResults:
    """Results of map changes, in order; an operation that sleeps ends the batch."""

    status: Status = Status.DONE
    """SUSPENDED: the last result is missing, resume by the suspension's op."""
    suspension: Suspension | None = None
    """The sleep (a wiring fault that reads a page)."""
    results: list[KernReturn] = field(default_factory=list)
    """One for each operation."""


@dataclass(slots=True)
class AccessCheck:
    """Arguments of kernacc and useracc."""

    addr: U64 = 0
    """First address."""
    len: I32 = 0
    """Bytes, a C int: a negative length wraps."""
    rw: I32 = 0
    """VM_PROT_ bits that must be permitted; a bit outside of 7 is a failed assertion."""


@dataclass(slots=True)
class AccessChecks:
    """Answers of kernacc and useracc."""

    ok: list[bool] = field(default_factory=list)
    """TRUE or FALSE for each check."""


@dataclass(slots=True)
class Errno:
    """A C errno."""

    status: Status = Status.DONE
    """SUSPENDED: see the suspension."""
    suspension: Suspension | None = None
    """The sleep."""
    error: I32 = 0
    """0, EFAULT 14, EINVAL 22, ENOMEM 12."""


@dataclass(slots=True)
class PageRequest:
    """One vm_pager_get_pages() call."""

    stack: U32 = 0
    """Swap-in: index of the stack within the request."""
    first: U64 = 0
    """First page of the run."""
    count: U32 = 0
    """Pages of the run."""
    result: I32 = 0
    """VM_PAGER_ code."""


@dataclass(slots=True)
class HeldPage:
    """What vm_imgact_hold_page returned for one page."""

    page: I64 = -1
    """Physical page; -1: NULL, there is no such page."""
    pindex: U64 = 0
    """Its index in the object."""
    generation: U32 = 0
    """How often the pager replaced the page at this index since it is resident."""


@dataclass(slots=True)
class HeldPages:
    """What vm_imgact_hold_page returned, in order; a page that is read ends the batch until it is there."""

    status: Status = Status.DONE
    """SUSPENDED: the page behind the last answer is being read."""
    suspension: Suspension | None = None
    """The sleep."""
    pages: list[HeldPage] = field(default_factory=list)
    """One for each offset from the start of the request."""
    page_requests: list[PageRequest] = field(default_factory=list)
    """Pager calls so far, in order."""


@dataclass(slots=True)
class SfBuf:
    """A processor-private mapping of an image page."""

    status: Status = Status.DONE
    """SUSPENDED: the page is being read."""
    suspension: Suspension | None = None
    """The sleep."""
    mapping: U64 = 0
    """Id of the mapping; 0: NULL, there is no such page."""
    pindex: U64 = 0
    """Page of the object."""
    pins: I32 = 0
    """td_pinned of the calling thread afterwards."""
    header: bytes = b""
    """First 64 bytes of the page, as exec reads them."""
    generation: U32 = 0
    """How often the pager replaced the page at this index since it is resident."""
    page_requests: list[PageRequest] = field(default_factory=list)
    """Pager calls, in order."""


@dataclass(slots=True)
class Pins:
    """Pinning of the calling thread."""

    pins: I32 = 0
    """td_pinned afterwards."""


@dataclass(slots=True)
class IcacheSync:
    """What reached pmap_sync_icache()."""

    vmspace: U64 = 0
    """Address space; 0: the kernel's."""
    va: U64 = 0
    """First address."""
    sz: U64 = 0
    """Bytes."""
    pages: U32 = 0
    """Mapped pages whose instructions the architecture had to make visible."""


@dataclass(slots=True)
class Accessed:
    """A batch of references and what was seen on the way."""

    outcome: Outcome = field(default_factory=Outcome)
    """For the scheduler."""
    observed: bytes = b""
    """Pages mapped after a page-in: 8 little-endian uint64 each: record index, vpn, words 0 to 4 and 511."""
    torn: U64 = 0
    """Loads whose two version words differed."""
    tlb_misses: U64 = 0
    """TLB misses of the batch."""


@dataclass(slots=True)
class Stamps:
    """Stamps of an address space's anonymous and copied pages, resident or in swap."""

    vpns: bytes = b""
    """Virtual page numbers, little-endian uint64, ascending."""
    words: bytes = b""
    """Words 0 to 4 and 511 of each page: 6 little-endian uint64 a page."""


@dataclass(slots=True)
class StackPages:
    """The pages of one kernel stack."""

    obj: U64 = 0
    """td_kstack_obj."""
    ks: U64 = 0
    """td_kstack: lowest address of the stack, above the guard."""
    pages: I32 = 0
    """td_kstack_pages."""


@dataclass(slots=True)
class StackBuilt:
    """One stack that vm_thread_new built."""

    stack: StackPages = field(default_factory=StackPages)
    """Object, address and pages; ks 0: no kernel address space."""
    kva_bytes: U64 = 0
    """Kernel address space taken, guard included."""
    complete: bool = False
    """All pages are grabbed and mapped; False: the operation sleeps for memory."""


@dataclass(slots=True)
class StacksBuilt:
    """Stacks built so far by one request, in order."""

    status: Status = Status.DONE
    """SUSPENDED: memory is short, the last stack is incomplete."""
    suspension: Suspension | None = None
    """The sleep."""
    stacks: list[StackBuilt] = field(default_factory=list)
    """One for each size asked for, from the start of the request; the sleeping one is the last."""


@dataclass(slots=True)
class KvaFreed:
    """Kernel address space given back."""

    kva_bytes: U64 = 0
    """Bytes, guards included."""


@dataclass(slots=True)
class SwapStack:
    """A stack that goes out or comes in, with the processor state saved at its top."""

    stack: StackPages = field(default_factory=StackPages)
    """Its pages."""
    pcb: bytes = b""
    """Swap-out: registers to save at the top of the stack; swap-in: what was found there."""
    pid: I32 = 0
    """Process id, for the panic's text."""


@dataclass(slots=True)
class StacksIn:
    """Stacks brought in."""

    status: Status = Status.DONE
    """SUSPENDED: a page is read or memory is short."""
    suspension: Suspension | None = None
    """The sleep."""
    pcbs: list[bytes] = field(default_factory=list)
    """Saved registers of each stack, in order (when DONE); empty where a scripted pager gave the page, without them."""
    page_requests: list[PageRequest] = field(default_factory=list)
    """Pager calls so far, in order."""


@dataclass(slots=True)
class KmemWrite:
    """Bytes for kernel memory."""

    addr: U64 = 0
    """Kernel address; the range must be mapped."""
    data: bytes = b""
    """What to write."""


@dataclass(slots=True)
class KmemRange:
    """A range of kernel memory."""

    addr: U64 = 0
    """Kernel address; the range must be mapped."""
    len: U32 = 0
    """Bytes."""


@dataclass(slots=True)
class KmemData:
    """Bytes of kernel memory."""

    data: list[bytes] = field(default_factory=list)
    """One for each range."""


@dataclass(slots=True)
class MapLocks:
    """Answers of vm_map_trylock."""

    locked: list[bool] = field(default_factory=list)
    """TRUE: the map is locked exclusively and must be unlocked."""
    resident: list[U32] = field(default_factory=list)
    """vmspace_resident_count of each, in pages."""


@dataclass(slots=True)
class PageoutBegin:
    """Start of a page-daemon pass."""

    lowmem: bool = False
    """The vm_lowmem event is due: run its handlers before the scan."""


@dataclass(slots=True)
class PageoutResult:
    """A page-daemon pass (vm_pageout_scan)."""

    page_shortage: I32 = 0
    """Pages still missing after the inactive scan."""
    scanned: U32 = 0
    """Pages looked at, both queues."""
    freed: U32 = 0
    """Pages freed or cached."""
    laundered: U32 = 0
    """Pages whose write was started."""
    deactivated: U32 = 0
    """Pages moved from the active to the inactive queue."""
    cost_us: I64 = 0
    """Processor time of the pass, in microseconds."""


@dataclass(slots=True)
class PagesNeeded:
    """State of vm_pages_needed after the daemon's wait test."""

    needed: bool = False
    """vm_pages_needed: the daemon must go on."""


@dataclass(slots=True)
class IdleScans:
    """Scans of an idle machine, in order."""

    cost_us: list[I64] = field(default_factory=list)
    """Processor time of each, in microseconds."""
    swap_request: list[U32] = field(default_factory=list)
    """Bits VM_SWAP_ that each asked the vmdaemon for."""


@dataclass(slots=True)
class ResidentCounts:
    """What is resident of address spaces."""

    resident: list[U64] = field(default_factory=list)
    """Resident pages of each, in the order of the request."""


@dataclass(slots=True)
class RssLimit:
    """An address space and the size to which its resident pages are brought."""

    vmspace: U64 = 0
    """Its id."""
    pages: U32 = 0
    """Desired resident pages."""


@dataclass(slots=True)
class ObjectPages:
    """State of the pages of an object, one character a page."""

    obj: U64 = 0
    """Object id."""
    exists: bool = False
    """The object lives."""
    valid: str = ""
    """V valid, P partly valid, I invalid, - not resident."""
    dirty: str = ""
    """D dirty, . clean, - not resident."""
    wired: str = ""
    """Wire count of each page (9: nine or more), - not resident."""
    queue: str = ""
    """I inactive, A active, N none, - not resident."""
    busy: str = ""
    """X exclusively busy, . not, - not resident."""
    mapped: str = ""
    """For a stack at `ks`: M maps the object's page, S maps another page, . nothing."""


@dataclass(slots=True)
class ObjectsPages:
    """State of several objects."""

    objects: list[ObjectPages] = field(default_factory=list)
    """In the order asked."""
    object_count: U32 = 0
    """VM objects in existence."""
    kva_bytes: U64 = 0
    """Kernel address space allocated by kva_alloc."""


class PageValid(IntEnum):
    """How much of a page is valid."""

    NONE = 0
    """Nothing."""
    PARTIAL = 1
    """Some of its blocks."""
    ALL = 2
    """VM_PAGE_BITS_ALL."""


class PageQueue(IntEnum):
    """Page queue on which a page is."""

    INACTIVE = 0
    """PQ_INACTIVE."""
    ACTIVE = 1
    """PQ_ACTIVE."""
    NONE = 2
    """PQ_NONE, as every wired page."""


@dataclass(slots=True)
class PageState:
    """A resident page of an object."""

    pindex: U64 = 0
    """Index in the object."""
    valid: PageValid = PageValid.NONE
    """How much of it is valid."""
    dirty: bool = False
    """A block of it is dirty."""
    wired: U32 = 0
    """wire_count."""
    held: U32 = 0
    """hold_count."""
    queue: PageQueue = PageQueue.INACTIVE
    """Its queue; of a placed page it counts if the page is not wired."""
    busy: bool = False
    """It is exclusively busy."""
    generation: U32 = 0
    """How often the pager replaced the page at this index since it is resident."""


@dataclass(slots=True)
class PlacedStack:
    """A kernel stack to place."""

    size: I32 = 0
    """td_kstack_pages, 1 to 32."""
    pages: list[PageState] = field(default_factory=list)
    """Its resident pages."""
    mapped: bool = False
    """They are mapped at the stack's address."""


@dataclass(slots=True)
class PlacedFile:
    """An image file to place."""

    file: str = ""
    """Base name; no file of that name was opened before."""
    size: U64 = 0
    """Its size, in pages."""
    pages: list[PageState] = field(default_factory=list)
    """Resident pages of its object."""


@dataclass(slots=True)
class Placed:
    """What was placed, in the order asked."""

    stacks: list[StackPages] = field(default_factory=list)
    """The stacks, with object and address."""
    vmspaces: list[U64] = field(default_factory=list)
    """Ids of the address spaces."""


@dataclass(slots=True)
class Evicted:
    """Pages that the page daemon could take."""

    pindexes: list[U64] = field(default_factory=list)
    """Their indexes, in the order asked."""


@dataclass(slots=True)
class FilePages:
    """Resident pages of a file's object."""

    file: str = ""
    """Base name."""
    pages: list[PageState] = field(default_factory=list)
    """By index."""


@dataclass(slots=True)
class ImageMapping:
    """A live mapping of vm_imgact_map_page."""

    mapping: U64 = 0
    """Its id."""
    pindex: U64 = 0
    """Index of the page in its object."""


@dataclass(slots=True)
class ImagePages:
    """Image files in memory."""

    files: list[FilePages] = field(default_factory=list)
    """In the order asked."""
    mappings: list[ImageMapping] = field(default_factory=list)
    """All live mappings, by id."""


@dataclass(slots=True)
class WiredRange:
    """Pages of equal wire count in an address map."""

    start: U64 = 0
    """First address."""
    end: U64 = 0
    """End, exclusive."""
    count: U32 = 0
    """System wirings."""


@dataclass(slots=True)
class WiredRanges:
    """Wired parts of an address map."""

    ranges: list[WiredRange] = field(default_factory=list)
    """In address order, neighbours with equal counts joined."""


class PhysmemPort(Protocol):
    """Physical memory and MMU: page array, queues, page daemon scan, objects, maps, pmap and kernel VA."""

    def boot(self, config: PhysmemBoot) -> PhysmemBooted:
        """Build memory anew; everything from before is dropped."""
        ...

    def vmspace_alloc(self, min: U64, max: U64) -> SpaceId:
        """vmspace_alloc: an empty address space; max 0 means the architecture's user range."""
        ...

    def vmspace_fork(self, vmspace: U64) -> SpaceId:
        """vmspace_fork: a copy, written pages shared copy on write."""
        ...

    def vmspace_ref(self, vmspace: U64) -> SpaceInfo:
        """vm_refcnt++ (vm_glue.c:645-648, RFMEM)."""
        ...

    def vmspace_free(self, vmspaces: list[U64]) -> Empty:
        """vmspace_free: drop one reference of each; the last one removes all mappings."""
        ...

    def vmspace_info(self, vmspaces: list[U64]) -> SpaceInfos:
        """vmspace_resident_count and other figures."""
        ...

    def map_ops(self, vmspace: U64, ops: list[MapOp], op: U64) -> MapResults:
        """Change an address map; vmspace 0 is kernel_map. `op` resumes a sleeping request."""
        ...

    def wired_ranges(self, vmspace: U64) -> WiredRanges:
        """System wirings of an address map."""
        ...

    def kernacc(self, checks: list[AccessCheck]) -> AccessChecks:
        """kernacc (vm_glue.c:120-143) for each check."""
        ...

    def useracc(self, vmspace: U64, checks: list[AccessCheck]) -> AccessChecks:
        """useracc (vm_glue.c:154-176) for each check, against the map of the current process."""
        ...

    def vslock(self, vmspace: U64, addr: U64, len: U64, op: U64) -> Errno:
        """vslock (vm_glue.c:178-213): wire user pages; EINVAL, ENOMEM, EFAULT or 0."""
        ...

    def vsunlock(self, vmspace: U64, addr: U64, len: U64) -> Empty:
        """vsunlock (vm_glue.c:215-223)."""
        ...

    def vm_imgact_hold_page(self, file: str, file_pages: U64, offsets: list[U64], op: U64) -> HeldPages:
        """vm_imgact_hold_page (vm_glue.c:230-262): pin the pages at byte offsets of a file, read if need be."""
        ...

    def vm_page_unhold(self, pages: list[I64]) -> Empty:
        """vm_page_unhold (vm_glue.c:291-293): give back what vm_imgact_hold_page pinned."""
        ...

    def vm_imgact_map_page(self, file: str, file_pages: U64, offset: U64, pins: I32, op: U64) -> SfBuf:
        """vm_imgact_map_page (vm_glue.c:230-278): pin the page at a byte offset of a file and map it."""
        ...

    def vm_imgact_unmap_page(self, mapping: U64, pins: I32) -> Pins:
        """vm_imgact_unmap_page (vm_glue.c:283-294)."""
        ...

    def vm_sync_icache(self, vmspace: U64, va: U64, sz: U64) -> IcacheSync:
        """vm_sync_icache (vm_glue.c:296-301)."""
        ...

    def access(self, vmspace: U64, runs: bytes, start: U64, budget_us: I64, phase: U32, op: U64) -> Accessed:
        """Issue packed runs of references from record `start` on, as a processor does to its MMU.

        A record is a uint64: vpn << 27 | kinds << 24 | refs << 12 | instructions (docs/trace-format.md). `op` names
        the suspended fault that this batch resumes. The slice ends at the first record boundary at or behind
        `budget_us`.
        """
        ...

    def complete_io(self, ios: list[U64]) -> Empty:
        """Device operations that are due: pages become valid or clean, sleepers are woken (see upcalls)."""
        ...

    def stack_create(self, sizes: list[I32], op: U64) -> StacksBuilt:
        """Objects, kernel VA, wired pages and mappings of new stacks (vm_glue.c:353-408)."""
        ...

    def stack_destroy(self, stacks: list[StackPages]) -> KvaFreed:
        """vm_thread_stack_dispose's page work (vm_glue.c:411-433)."""
        ...

    def stack_swapout(self, stacks: list[SwapStack]) -> Empty:
        """vm_thread_swapout's page work (vm_glue.c:542-564): save the PCB, unmap, dirty, unwire to inactive."""
        ...

    def stack_swapin(self, stacks: list[SwapStack], op: U64) -> StacksIn:
        """vm_thread_swapin's page work (vm_glue.c:569-606)."""
        ...

    def kmem_write(self, writes: list[KmemWrite]) -> Empty:
        """Store to mapped kernel memory."""
        ...

    def kmem_read(self, ranges: list[KmemRange]) -> KmemData:
        """Load from mapped kernel memory."""
        ...

    def vm_map_trylock(self, vmspaces: list[U64]) -> MapLocks:
        """Try to lock maps exclusively, in order; also tells their resident pages."""
        ...

    def vm_map_unlock(self, vmspaces: list[U64]) -> Empty:
        """Unlock maps that trylock locked."""
        ...

    def vm_wait(self) -> Suspension:
        """VM_WAIT of a thread other than the page daemon: wakes the daemon and sleeps on v_free_count at PVM."""
        ...

    def pageout_wait_test(self) -> PagesNeeded:
        """The worker's test at the top of its loop: wake waiters, clear vm_pages_needed when there is enough."""
        ...

    def pageout_begin(self, pass_: I32) -> PageoutBegin:
        """Start of vm_pageout_scan: is the vm_lowmem event due (first pass, once in vm.lowmem_period)?"""
        ...

    def pageout_scan(self, pass_: I32) -> PageoutResult:
        """vm_pageout_scan: inactive scan with laundering, active scan, swap-out request (see upcalls)."""
        ...

    def pageout_idle(self, until_us: I64, lag_us: U32, requests: bool) -> IdleScans:
        """The page daemon's scans of pass 0 while nobody else runs, one a second, in one call.

        The scans are at the virtual times at which the daemon would make them: its sleep of a second ends at a tick,
        and `lag_us` later it has the processor. They end before `until_us`, behind one that wants something, and,
        unless `requests`, behind one that asks for idle processes to be swapped out. That request is in the answer,
        one for each scan, not in the up-calls.
        """
        ...

    def map_deactivate(self, limits: list[RssLimit]) -> ResidentCounts:
        """vm_pageout_map_deactivate_pages for each address space whose map can be locked."""
        ...

    def vmspace_stamps(self, vmspace: U64) -> Stamps:
        """Stamps of all anonymous pages that were ever written, wherever they are now; changes nothing."""
        ...

    def object_pages(self, stacks: list[StackPages]) -> ObjectsPages:
        """State of the pages of kernel stacks, for inspection."""
        ...

    def image_pages(self, files: list[str]) -> ImagePages:
        """State of the pages of image files, and their live mappings, for inspection."""
        ...

    def place(self, stacks: list[PlacedStack], files: list[PlacedFile], vmspaces: list[I32]) -> Placed:
        """Build a situation (refused unless injection is allowed): stacks and files with their pages, address spaces.

        Of an address space its vm_refcnt is given; it is empty.
        """
        ...

    def set_page(self, file: str, pindex: U64, valid: PageValid, dirty: bool) -> Empty:
        """The state of a resident page of a file changes (refused unless injection is allowed)."""
        ...

    def evict(self, obj: U64, pindexes: list[U64]) -> Evicted:
        """The page daemon takes pages of an object; what was dirty counts as written (refused as `place` is).

        It can take those that are resident and neither wired nor held nor busy.
        """
        ...

    def lose_page(self, obj: U64, pindex: U64) -> Empty:
        """A fault: the page leaves its object (refused unless injection is allowed)."""
        ...

    def suspended(self) -> SuspendedOperations:
        """Operations that sleep, and what for; changes nothing."""
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
        """Event chain, page state and contents of RAM."""
        ...

    def check(self) -> Violations:
        """Compare the page array, queues, wirings, objects and the pmap with one another."""
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
        "image_pages",
        "kernacc",
        "kmem_read",
        "object_pages",
        "suspended",
        "sysctl_get",
        "useracc",
        "vmspace_info",
        "vmspace_stamps",
        "wired_ranges",
    }
)
"""Methods that only read state: they need no clock, and are answered also after a panic."""
