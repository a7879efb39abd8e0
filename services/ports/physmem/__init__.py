"""The physmem port: physical memory, VM objects, address spaces, the pmap and kernel VA."""

from __future__ import annotations

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
    Suspension,
    Violations,
)
from services.ports.physmem.boot import PhysmemBoot, PhysmemBooted, Replacement
from services.ports.physmem.images import Accessed, HeldPage, HeldPages, IcacheSync, PageRequest, Pins, SfBuf
from services.ports.physmem.maps import (
    KERNEL_SPACE,
    AccessCheck,
    AccessChecks,
    Errno,
    KernReturn,
    MapLocks,
    MapOp,
    MapOpKind,
    MapResults,
    ShmForked,
    ShmId,
    SpaceId,
    SpaceInfo,
    SpaceInfos,
    Stamps,
    WiredRange,
    WiredRanges,
)
from services.ports.physmem.pageout import IdleScans, PageoutBegin, PageoutResult, PagesNeeded, ResidentCounts, RssLimit
from services.ports.physmem.situation import (
    Evicted,
    FilePages,
    ImageMapping,
    ImagePages,
    ObjectPages,
    ObjectsPages,
    PageQueue,
    PageState,
    PageValid,
    Placed,
    PlacedFile,
    PlacedStack,
)
from services.ports.physmem.stacks import (
    KmemData,
    KmemRange,
    KmemWrite,
    KvaFreed,
    StackBuilt,
    StackPages,
    StacksBuilt,
    StacksIn,
    SwapStack,
)

__all__ = [
    "KERNEL_SPACE",
    "READS",
    "AccessCheck",
    "AccessChecks",
    "Accessed",
    "Errno",
    "Evicted",
    "FilePages",
    "HeldPage",
    "HeldPages",
    "IcacheSync",
    "IdleScans",
    "ImageMapping",
    "ImagePages",
    "KernReturn",
    "KmemData",
    "KmemRange",
    "KmemWrite",
    "KvaFreed",
    "MapLocks",
    "MapOp",
    "MapOpKind",
    "MapResults",
    "ObjectPages",
    "ObjectsPages",
    "PageQueue",
    "PageRequest",
    "PageState",
    "PageValid",
    "PageoutBegin",
    "PageoutResult",
    "PagesNeeded",
    "PhysmemBoot",
    "PhysmemBooted",
    "PhysmemPort",
    "Pins",
    "Placed",
    "PlacedFile",
    "PlacedStack",
    "Replacement",
    "ResidentCounts",
    "RssLimit",
    "SfBuf",
    "ShmForked",
    "ShmId",
    "SpaceId",
    "SpaceInfo",
    "SpaceInfos",
    "StackBuilt",
    "StackPages",
    "StacksBuilt",
    "StacksIn",
    "Stamps",
    "SwapStack",
    "WiredRange",
    "WiredRanges",
]


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
        """Wirings of an address map, the system's and the program's."""
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

    def mlock(self, vmspace: U64, addr: U64, len: U64, memlock: U64, op: U64) -> Errno:
        """vm_mlock: wire pages for the program, within RLIMIT_MEMLOCK (bytes); EINVAL, ENOMEM, EAGAIN or 0."""
        ...

    def munlock(self, vmspace: U64, addr: U64, len: U64) -> Errno:
        """sys_munlock: take the program's wiring off a range; EINVAL, ENOMEM or 0."""
        ...

    def mlockall(self, vmspace: U64, how: U32, memlock: U64, op: U64) -> Errno:
        """sys_mlockall: wire what is mapped (MCL_CURRENT 1), will be (MCL_FUTURE 2); EINVAL, ENOMEM, EAGAIN or 0."""
        ...

    def munlockall(self, vmspace: U64) -> Errno:
        """sys_munlockall: take all wirings of the program off, and wire nothing in future; ENOMEM or 0."""
        ...

    def swapon(self, device: U32) -> Errno:
        """sys_swapon of one of the machine's swap devices: ENODEV, EBUSY or 0."""
        ...

    def swapoff(self, device: U32, op: U64) -> Errno:
        """sys_swapoff: EINVAL, ENOMEM, or 0 once every page on the device has come in and the device is gone."""
        ...

    def shmget(self, key: I64, size: U64, flags: U32) -> ShmId:
        """kern_shmget: the System V segment of a key, made with IPC_CREAT 01000 (IPC_EXCL 02000) or for key 0."""
        ...

    def shmat(self, vmspace: U64, shmid: I32, addr: U64, flags: U32) -> Errno:
        """kern_shmat: map a segment at an address (SHM_RDONLY 010000, SHM_RND 020000); EINVAL, EMFILE, ENOMEM or 0."""
        ...

    def shmdt(self, vmspace: U64, addr: U64, op: U64) -> Errno:
        """kern_shmdt: unmap the segment that is attached at an address; EINVAL or 0."""
        ...

    def shmctl_rmid(self, shmid: I32) -> Errno:
        """kern_shmctl with IPC_RMID: the last detachment frees the segment; EINVAL or 0."""
        ...

    def shmfork(self, parent: U64, child: U64) -> ShmForked:
        """shmfork (vm_glue.c:656-657): a child has attached what its parent has."""
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

    def access_kept(
        self, vmspace: U64, name: str, runs: bytes, start: U64, end: U64, budget_us: I64, phase: U32, op: U64
    ) -> Accessed:
        """`access` to the records from `start` up to `end` of kept runs; the answer counts from `start` on.

        `runs` are kept under the name from now on; empty: those that are kept already. A boot forgets them, and those
        that were not used for longest go for others.
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
