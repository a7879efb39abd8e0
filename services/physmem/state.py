"""State of physical memory: what all modules of physmem take as their first argument, and its sysctls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hardware_sim.arch import Arch
from hardware_sim.mmu import Mmu
from hardware_sim.ram import Ram
from services.physmem.page_array import PageArray
from services.ports.pager import PageRange, PagerPort
from services.ports.physmem import Replacement
from services.runtime.context import Context
from services.runtime.preemption import PreemptStream


class ObjectType(IntEnum):
    """Types of VM objects (vm.h)."""

    DEFAULT = 0
    """Anonymous memory without swap metadata."""
    SWAP = 1
    """Anonymous memory with swap metadata."""
    VNODE = 2
    """Pages of a file."""
    DEAD = 5
    """Terminated."""


PVM = 84
PUSER = 120
"""Sleep priorities of the kernel's waits for pages and of page faults."""

OBJ_UNMANAGED = 0x2
OBJ_DEAD = 0x8
OBJ_MIGHTBEDIRTY = 0x100
OBJ_NOSPLIT = 0x10
OBJ_ONEMAPPING = 0x2000


NOTHING: Mapping[int, Any] = MappingProxyType({})
"""What all have in common whose mapping is empty: most objects never fill most of theirs."""


@dataclass(slots=True)
class VmObject:
    """struct vm_object."""

    id: int
    """Its id; counts up and is never used again."""
    type: ObjectType
    """Which pager it has."""
    size: int
    """Pages."""
    ref_count: int = 1
    """References; change it by vm_object_reference and vm_object_deallocate only."""
    shadow_count: int = 0
    """Objects that shadow this one."""
    flags: int = 0
    """OBJ_ bits."""
    resident: dict[int, int] = field(default_factory=dict)
    """Frame of each resident page, by pindex."""
    cached: Mapping[int, int] = field(default_factory=lambda: NOTHING)
    """Frame of each cached page, by pindex."""
    paging_in_progress: int = 0
    """Page operations under way (pip)."""
    backing: int = 0
    """Id of the object that this one shadows; 0: none."""
    backing_offset: int = 0
    """Where this object begins in the backing object, in pages."""
    shadows: Mapping[int, None] = field(default_factory=lambda: NOTHING)
    """Ids of the objects that shadow this one, in order (shadow_head)."""
    file: int = 0
    """VNODE: the pager's id of the file."""
    replaced: Mapping[int, int] = field(default_factory=lambda: NOTHING)
    """How often the pager put another page in the place of a resident one, by pindex; most never were."""
    swapped: Mapping[int, None] = field(default_factory=lambda: NOTHING)
    """Indexes of pages that have a swap block: what the pager's metadata says once it was told of `Vm.unswapped`."""

    charged: bool = False
    """Swap is reserved for it (cred)."""
    charge: int = 0
    """How much, in bytes."""

    @property
    def anonymous(self) -> bool:
        """Its pages go to swap: OBJT_DEFAULT or OBJT_SWAP."""
        return self.type <= ObjectType.SWAP

    def own(self, name: str) -> dict[int, Any]:
        """The mapping `cached`, `shadows`, `replaced` or `swapped`, to be written."""
        mapping: dict[int, Any] = getattr(self, name)
        if mapping is NOTHING:
            mapping = {}
            setattr(self, name, mapping)
        return mapping


class ObjectTable:
    """All VM objects by id.

    Attributes:
        referenced: uint8 by id: 1 while ref_count is not 0, for the compiled scans.
        next_id: Id of the next object.
        collapses: vm.stats.object.collapses.
        bypasses: vm.stats.object.bypasses.
    """

    _by_id: dict[int, VmObject]
    bypasses: int
    collapses: int
    next_id: int
    referenced: NDArray[np.uint8]
    __slots__ = ("_by_id", "bypasses", "collapses", "next_id", "referenced")
    CHECKPOINTED = __slots__
    """What a checkpoint holds: all."""

    def __init__(self) -> None:
        self._by_id = {}
        self.referenced = np.zeros(1024, np.uint8)
        self.next_id = 1
        self.collapses = self.bypasses = 0

    def misfit(self) -> str:
        """What contradicts itself; empty: nothing."""
        if any(object_.id != id_ or not 0 < id_ < self.next_id for id_, object_ in self._by_id.items()):
            return f"objects by their ids, below {self.next_id}"
        if self.next_id > len(self.referenced) + 1:
            return f"a mark for each id below {self.next_id}"
        return ""

    def create(self, type_: ObjectType, size: int) -> VmObject:
        """Enter a new object with one reference."""
        object_ = VmObject(self.next_id, type_, size)
        self.next_id += 1
        if object_.id >= len(self.referenced):
            self.referenced = np.concatenate([self.referenced, np.zeros_like(self.referenced)])
        self.referenced[object_.id] = 1
        self._by_id[object_.id] = object_
        return object_

    def drop(self, object_: VmObject) -> None:
        """Forget a terminated object."""
        del self._by_id[object_.id]

    def __getitem__(self, id_: int) -> VmObject:
        return self._by_id[id_]

    def get(self, id_: int) -> VmObject | None:
        """The object, or None."""
        return self._by_id.get(id_)

    def __contains__(self, id_: int) -> bool:
        return id_ in self._by_id

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[VmObject]:
        return iter(self._by_id.values())


@dataclass(slots=True)
class VmMeter:
    """struct vmmeter: physmem's share of vm_cnt; thresholds and counts in pages, v_page_size in bytes, rest events."""

    v_page_count: int = 0
    v_page_size: int = 0
    v_free_count: int = 0
    v_cache_count: int = 0
    v_wire_count: int = 0
    v_active_count: int = 0
    v_inactive_count: int = 0
    v_free_reserved: int = 0
    v_free_target: int = 0
    v_free_min: int = 0
    v_free_severe: int = 0
    v_inactive_target: int = 0
    v_pageout_free_min: int = 0
    v_interrupt_free_min: int = 0
    v_cache_min: int = 0
    v_cache_max: int = 0
    v_vm_faults: int = 0
    v_io_faults: int = 0
    v_cow_faults: int = 0
    v_cow_optim: int = 0
    v_zfod: int = 0
    v_ozfod: int = 0
    v_intrans: int = 0
    v_reactivated: int = 0
    v_pdwakeups: int = 0
    v_pdpages: int = 0
    v_tcached: int = 0
    v_dfree: int = 0
    v_pfree: int = 0
    v_tfree: int = 0


@dataclass(slots=True)
class Tunables:
    """Settings of the page side by their C variable, C ints: pages, seconds (the periods), or 0 and 1."""

    vm_pageout_wakeup_thresh: int = 0
    vm_max_launder: int = 32
    vm_pageout_update_period: int = 600
    lowmem_period: int = 10
    defer_swap_pageouts: int = 0
    disable_swap_pageouts: int = 0
    pageout_lock_miss: int = 0
    vm_page_max_wired: int = 0
    overcommit: int = 0
    vm_swap_enabled: int = 1
    old_mlock: int = 0
    vm_swap_idle_enabled: int = 0


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A sysctl of the page side."""

    attribute: str
    """Attribute of VmMeter or Tunables."""
    signed: bool = True
    """A C int; False: a C u_int."""
    writable: bool = True
    """CTLFLAG_RW."""


SYSCTLS: dict[str, Sysctl] = {
    "vm.v_free_min": Sysctl("v_free_min", signed=False),
    "vm.v_free_target": Sysctl("v_free_target", signed=False),
    "vm.v_free_reserved": Sysctl("v_free_reserved", signed=False),
    "vm.v_free_severe": Sysctl("v_free_severe", signed=False),
    "vm.v_inactive_target": Sysctl("v_inactive_target", signed=False),
    "vm.v_pageout_free_min": Sysctl("v_pageout_free_min", signed=False),
    "vm.v_cache_min": Sysctl("v_cache_min", signed=False),
    "vm.v_cache_max": Sysctl("v_cache_max", signed=False),
    "vm.pageout_wakeup_thresh": Sysctl("vm_pageout_wakeup_thresh"),
    "vm.max_launder": Sysctl("vm_max_launder"),
    "vm.pageout_update_period": Sysctl("vm_pageout_update_period"),
    "vm.lowmem_period": Sysctl("lowmem_period"),
    "vm.defer_swapspace_pageouts": Sysctl("defer_swap_pageouts"),
    "vm.disable_swapspace_pageouts": Sysctl("disable_swap_pageouts"),
    "vm.pageout_lock_miss": Sysctl("pageout_lock_miss", writable=False),
    "vm.max_wired": Sysctl("vm_page_max_wired"),
    "vm.overcommit": Sysctl("overcommit"),
    "vm.old_mlock": Sysctl("old_mlock"),
    "vm.swap_enabled": Sysctl("vm_swap_enabled"),
    "vm.swap_idle_enabled": Sysctl("vm_swap_idle_enabled"),
}
"""The page side's sysctls (reference section 10); thresholds take effect at once."""


@dataclass(slots=True)
class PageWrite:
    """What a device write that physmem started is for."""

    object: int
    """Object id."""
    first: int
    """First pindex."""
    frames: list[int]
    """Its pages, shared busy until the write ends."""


@dataclass(slots=True)
class SfBuf:
    """A place in the pool of kernel mappings (struct sf_buf)."""

    kva: int
    """Its kernel address."""
    m: int = -1
    """The page that is mapped there; -1: none so far."""
    ref_count: int = 0
    """Users; a mapping without stays until its place is needed."""


@dataclass(slots=True)
class SfPool:
    """sf_bufs of an architecture that does not map all memory (subr_sfbuf.c)."""

    nsfbufs: int = 0
    """kern.ipc.nsfbufs."""
    bufs: list[SfBuf] = field(default_factory=list)
    """Places that have their address."""
    active: dict[int, int] = field(default_factory=dict)
    """Place of each mapped page (sf_buf_active)."""
    freelist: dict[int, None] = field(default_factory=dict)
    """Places without users, the one that is taken next first (sf_buf_freelist)."""
    alloc_want: bool = False
    """Somebody waits for a place."""
    nsfbufsused: int = 0
    """Mappings with users."""
    nsfbufspeak: int = 0
    """Most of them so far."""


@dataclass(slots=True, kw_only=True)
class Vm:
    """All state of the page side; the map side derives from it and adds its own."""

    ctx: Context
    """Clock, events, counters, up-calls and environment."""
    arch: Arch
    """Architecture."""
    ram: Ram
    """Memory."""
    mmu: Mmu
    """Page tables."""
    pages: PageArray
    """The page array."""
    pager: PagerPort
    """The layer below."""
    seed: int = 0
    """Word 0 of every page stamp."""
    mips: int = 100
    """Instructions a microsecond."""
    ncpu: int = 1
    """Processors."""
    objects: ObjectTable = field(default_factory=ObjectTable)
    """VM objects."""
    cnt: VmMeter = field(default_factory=VmMeter)
    """vm_cnt."""
    tun: Tunables = field(default_factory=Tunables)
    """Settings."""
    writes: dict[int, PageWrite] = field(default_factory=dict)
    """Device writes under way, by the pager's id of the operation."""
    swap_reserved: int = 0
    """vm.swap_reserved: what entries and objects are charged for, in bytes."""
    unswapped: list[PageRange] = field(default_factory=list)
    """Swap blocks to free before this call is answered: see vm_pager_flush."""
    dealloced: list[int] = field(default_factory=list)
    """Terminated swap objects that the pager does not know of yet: see vm_pager_flush."""
    vm_pages_needed: bool = False
    """The page daemon was asked to free pages."""
    vm_pageout_deficit: int = 0
    """Pages that failed allocations wanted."""
    vm_pageout_page_count: int = 16
    """Most pages of a pageout cluster."""
    lowmem_ticks: int = 0
    """`ticks` at the last vm_lowmem event."""
    lsec: int = -1
    """Second in which idle swapping was asked for last."""
    in_pagedaemon: bool = False
    """The page daemon's pass is running (curproc == pageproc)."""
    preempt: PreemptStream = field(default_factory=PreemptStream)
    """Random stream of the preemption points."""
    sf_pool: SfPool = field(default_factory=SfPool)
    """Kernel mappings of single pages."""
    replacement: Replacement = Replacement.FREEBSD
    """Who chooses what leaves memory."""

    @property
    def bits_all(self) -> int:
        """VM_PAGE_BITS_ALL."""
        return self.arch.page_bits_all

    @classmethod
    def boot(cls, ctx: Context, pager: PagerPort, pages: int, arch: Arch, seed: int = 0, mips: int = 100) -> Self:
        """A machine's memory after boot: all pages free, the kernel's address space empty."""
        ram, mmu, array = Ram(pages, arch.page_size), Mmu(pages), PageArray(pages)
        vm = cls(ctx=ctx, arch=arch, ram=ram, mmu=mmu, pages=array, pager=pager, seed=seed, mips=mips)
        vm_pageout_init(vm)
        return vm


def vm_pageout_init(vm: Vm) -> None:
    """Thresholds at boot; the page array must be built and all pages free.

    Integer division throughout; P is v_page_count.
    """
    cnt, count = vm.cnt, vm.pages.count
    cnt.v_page_count = cnt.v_free_count = count
    cnt.v_page_size = vm.arch.page_size
    cnt.v_interrupt_free_min = 2
    vm.vm_pageout_page_count = 8 if count < 2000 else 16
    base_min = 4 + (count - 1024) // 200 if count > 1024 else 4
    cnt.v_pageout_free_min = (2 * 65536) // cnt.v_page_size + 2
    cnt.v_free_reserved = vm.vm_pageout_page_count + cnt.v_pageout_free_min + count // 768
    cnt.v_free_severe = base_min // 2 + cnt.v_free_reserved
    cnt.v_free_target = 4 * base_min + cnt.v_free_reserved
    cnt.v_free_min = base_min + cnt.v_free_reserved
    cnt.v_inactive_target = min(3 * cnt.v_free_target // 2, cnt.v_free_count // 3)
    vm.tun.vm_pageout_wakeup_thresh = cnt.v_free_min // 10 * 11
    vm.tun.vm_page_max_wired = cnt.v_free_count // 3


def vm_pager_flush(vm: Vm) -> None:
    """Tell the pager which swap blocks are free: two calls at most, before a call is answered or the pager is asked."""
    if vm.unswapped:
        ranges, vm.unswapped = vm.unswapped, []
        vm.pager.page_unswapped(ranges)
    if vm.dealloced:
        objects, vm.dealloced = vm.dealloced, []
        vm.pager.dealloc(objects)


def publish(vm: Vm) -> None:
    """Write vm_cnt to the context's counters, before a call is answered (C u_ints: they wrap)."""
    counters, cnt = vm.ctx.counters, vm.cnt
    values = _METER_VALUES(cnt)
    if min(values) < 0 or max(values) > _UINT_MAX:
        values = tuple(value & _UINT_MAX for value in values)
    counters.update(zip(_METER_NAMES, values, strict=True))
    counters["vm.v_free_severe"] = cnt.v_free_severe
    counters["vm.stats.object.collapses"] = vm.objects.collapses
    counters["vm.stats.object.bypasses"] = vm.objects.bypasses


_METER = [entry.name for entry in fields(VmMeter) if entry.name != "v_free_severe"]
_METER_NAMES = [f"vm.stats.vm.{name}" for name in _METER]
_METER_VALUES = attrgetter(*_METER)
_UINT_MAX = 0xFFFFFFFF
