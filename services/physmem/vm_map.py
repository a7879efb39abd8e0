"""Address maps: sorted entries and what the kernel does with them (vm_map.c)."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace

from services.physmem import pmap
from services.physmem.state import PVM, ObjectType, Vm, VmObject
from services.physmem.swap_reserve import swap_reserve
from services.physmem.vm_object import (
    vm_object_allocate,
    vm_object_coalesce,
    vm_object_deallocate,
    vm_object_reference,
)
from services.ports.common import Suspension
from services.ports.physmem import KernReturn
from services.runtime.errors import kassert

VM_PROT_READ, VM_PROT_WRITE, VM_PROT_EXECUTE, VM_PROT_ALL = 1, 2, 4, 7
VM_INHERIT_SHARE, VM_INHERIT_COPY = 0, 1
MAP_ENTRY_COW, MAP_ENTRY_NEEDS_COPY, MAP_ENTRY_USER_WIRED = 0x4, 0x8, 0x20
MAP_ENTRY_IN_TRANSITION, MAP_ENTRY_NEEDS_WAKEUP, MAP_ENTRY_WIRE_SKIPPED = 0x100, 0x200, 0x4000
MAP_ENTRY_UNFAULTABLE = 0x1000000
"""Not the kernel's: pages of the entry cannot be brought in, as of a device that fails."""

MAP_WIREFUTURE = 1
"""Flag of a map: what is mapped from now on is wired (mlockall with MCL_FUTURE)."""

MAX_INIT_PT = 96
"""Pages of a file that mmap(2) maps in advance, at most."""
VM_FAULT_READ_AHEAD_INIT = 15
"""Read-ahead window of a new entry, in pages."""


@dataclass(slots=True)
class VmMapEntry:
    """A mapped range (struct vm_map_entry).

    Attributes:
        start: First address.
        end: End, exclusive.
        object: Id of the VM object; 0: none yet.
        offset: Offset of `start` in the object, in bytes.
        protection: Current VM_PROT_ bits.
        max_protection: Bits that vm_map_protect may set.
        inheritance: VM_INHERIT_SHARE or VM_INHERIT_COPY.
        wired_count: Wirings; one of them is the user's with MAP_ENTRY_USER_WIRED, the others are the system's.
        eflags: MAP_ENTRY_ bits.
        wiring_op: Operation that put the entry into transition (wiring_thread).
        read_ahead: Read-ahead window, in pages.
        next_read: Page index at which a sequential reader would fault next.
        charged: Swap is reserved for its size (cred).
    """

    start: int
    end: int
    object: int = 0
    offset: int = 0
    protection: int = VM_PROT_ALL
    max_protection: int = VM_PROT_ALL
    inheritance: int = VM_INHERIT_COPY
    wired_count: int = 0
    eflags: int = 0
    wiring_op: int = 0
    read_ahead: int = VM_FAULT_READ_AHEAD_INIT
    next_read: int = 0
    charged: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def system_wired_count(self) -> int:
        """vm_map_entry_system_wired_count: wirings without the user's."""
        return self.wired_count - bool(self.eflags & MAP_ENTRY_USER_WIRED)


@dataclass(slots=True)
class VmMap:
    """An address map (struct vm_map).

    Attributes:
        id: Address space, also the pmap's; 0 is kernel_map.
        min_offset: Lowest address.
        max_offset: End, exclusive.
        entries: Entries in address order; they do not overlap.
        starts: `start` of each entry, for bisection.
        timestamp: Exclusive locks so far.
        locked: vm_map_trylock's caller holds the map.
        flags: MAP_WIREFUTURE or 0.
        memlock: RLIMIT_MEMLOCK of who set MAP_WIREFUTURE, in bytes.
    """

    id: int
    min_offset: int
    max_offset: int
    entries: list[VmMapEntry] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    timestamp: int = 0
    locked: bool = False
    flags: int = 0
    memlock: int = 0

    @property
    def size(self) -> int:
        """Bytes that are mapped (struct vm_map, size)."""
        return sum(entry.end - entry.start for entry in self.entries)

    @property
    def system_map(self) -> bool:
        """Whether this is kernel_map."""
        return self.id == 0

    @property
    def channel(self) -> str:
        """Sleep channel of those who wait for the map."""
        return f"map:{self.id}"

    def lookup_entry(self, addr: int) -> tuple[bool, int]:
        """vm_map_lookup_entry: TRUE and the entry that holds `addr`, or FALSE and the one before it (-1: none)."""
        i = bisect_right(self.starts, addr) - 1
        return i >= 0 and addr < self.entries[i].end, i

    def first_from(self, addr: int) -> int:
        """Index of the first entry that ends behind `addr`."""
        found, i = self.lookup_entry(addr)
        return i if found else i + 1

    def range_check(self, start: int, end: int) -> tuple[int, int]:
        """VM_MAP_RANGE_CHECK: clip a range to the map's bounds, silently."""
        start = max(start, self.min_offset)
        end = min(end, self.max_offset)
        return min(start, end), end

    def link(self, i: int, entry: VmMapEntry) -> None:
        """vm_map_entry_link: insert an entry at index `i`."""
        self.entries.insert(i, entry)
        self.starts.insert(i, entry.start)

    def unlink(self, i: int) -> VmMapEntry:
        """vm_map_entry_unlink: take the entry at index `i` out."""
        del self.starts[i]
        return self.entries.pop(i)

    def lock(self) -> None:
        """vm_map_lock, exclusively, by an operation that gives the lock back before it answers or sleeps."""
        kassert(not self.locked, f"vm_map_lock: map {self.id} is locked", "vm_map_lock")
        self.timestamp = (self.timestamp + 1) & 0xFFFFFFFF


def vm_map_trylock(map_: VmMap) -> bool:
    """vm_map_trylock: lock exclusively if nobody holds the map."""
    if map_.locked:
        return False
    map_.lock()
    map_.locked = True
    return True


def vm_map_unlock(vm: Vm, map_: VmMap) -> None:
    """vm_map_unlock of a map that vm_map_trylock locked."""
    kassert(map_.locked, f"vm_map_unlock: map {map_.id} is not locked", "vm_map_unlock")
    map_.locked = False
    vm.ctx.wakeup(map_.channel)


def vm_map_wait(map_: VmMap) -> Suspension:
    """vm_map_unlock_and_wait: sleep until an entry in transition is ready, a wiring ends or the lock is free."""
    return Suspension(channel=map_.channel, priority=PVM, wmesg="vmmaps")


def vm_map_check_protection(map_: VmMap, start: int, end: int, prot: int) -> bool:
    """vm_map_check_protection: whether every page of [start, end) is mapped and grants `prot`.

    An empty range is not granted either unless an entry holds `start`.
    """
    found, i = map_.lookup_entry(start)
    if not found:
        return False
    while start < end:
        if i == len(map_.entries):
            return False
        entry = map_.entries[i]
        if start < entry.start or entry.protection & prot != prot:
            return False
        start = entry.end
        i += 1
    return True


def vm_map_insert(vm: Vm, map_: VmMap, new: VmMapEntry) -> KernReturn:
    """vm_map_insert: link a new entry, or extend the one before it where nothing tells them apart.

    Swap is reserved for memory of a program that can be written and is its own; RESOURCE_SHORTAGE if it is refused.
    The reference to ``new.object`` passes to the map on success.
    """
    if new.start < map_.min_offset or new.end > map_.max_offset or new.start >= new.end:
        return KernReturn.INVALID_ADDRESS
    found, i = map_.lookup_entry(new.start)
    if found or (i + 1 < len(map_.entries) and map_.entries[i + 1].start < new.end):
        return KernReturn.NO_SPACE
    private = new.object == 0 or new.eflags & MAP_ENTRY_NEEDS_COPY
    if private and new.protection & VM_PROT_WRITE and not map_.system_map:
        if not swap_reserve(vm, new.size):
            return KernReturn.RESOURCE_SHORTAGE
        new.charged = True
    map_.lock()
    if i >= 0 and new.object == 0 and _extend(vm, map_.entries[i], new):
        return KernReturn.SUCCESS
    new.next_read = new.offset >> vm.arch.page_shift
    map_.link(i + 1, new)
    vm_map_simplify_entry(vm, map_, i + 1)
    return KernReturn.SUCCESS


def _extend(vm: Vm, prev: VmMapEntry, new: VmMapEntry) -> bool:
    """Grow the entry in front of anonymous memory; if its object alone can grow, let the new entry share that."""
    if prev.end != new.start or prev.eflags != new.eflags or prev.wired_count != 0:
        return False
    obj = vm.objects[prev.object] if prev.object else None
    if new.charged != prev.charged and (obj is None or new.charged != obj.charged):
        return False
    shift = vm.arch.page_shift
    first = (prev.offset + prev.size) >> shift
    if obj and not vm_object_coalesce(vm, obj, first, new.size >> shift, reserved=new.charged):
        return False
    if (prev.protection, prev.max_protection, prev.inheritance) == (
        new.protection,
        new.max_protection,
        new.inheritance,
    ):
        prev.end = new.end
        return True
    if obj:
        vm_object_reference(vm, obj)
        new.object, new.offset = obj.id, first << shift
        if obj.charged and not prev.eflags & MAP_ENTRY_NEEDS_COPY:
            new.charged = False
    return False


def vm_map_pmap_enter(
    vm: Vm, map_: VmMap, addr: int, prot: int, obj: VmObject, pindex: int, pages: int, partial: bool
) -> None:
    """vm_map_pmap_enter: map in advance what is resident of a file that is mapped anew.

    Args:
        vm: Memory.
        map_: The map.
        addr: Where it is mapped.
        prot: VM_PROT_ bits of the new entry.
        obj: The file's object.
        pindex: Its first page that is mapped.
        pages: How many are.
        partial: MAP_PREFAULT_PARTIAL, as for mmap(2): only of its first MAX_INIT_PT pages; exec maps all.
    """
    if not prot & (VM_PROT_READ | VM_PROT_EXECUTE):
        return
    if partial:
        pages = min(pages, MAX_INIT_PT)
    frames = {i: m for i in range(pages) if (m := obj.resident.get(pindex + i, -1)) >= 0}
    valid = [i for i, m in frames.items() if vm.pages.valid[m] == vm.bits_all]
    vpn = pmap.vpn_of(vm, addr)
    pmap.pmap_enter_quick(vm, map_.id, [vpn + i for i in valid], [frames[i] for i in valid], prot)


def vm_map_find(vm: Vm, map_: VmMap, size: int, align: int) -> int:
    """vm_map_find: map `size` bytes of fresh memory at the lowest aligned hole; its address, or 0."""
    start = -(-map_.min_offset // align) * align
    for entry in map_.entries:
        if start + size <= entry.start:
            break
        start = max(start, -(-entry.end // align) * align)
    if vm_map_insert(vm, map_, VmMapEntry(start, start + size)) != KernReturn.SUCCESS:
        return 0
    return start


def vm_map_clip_start(vm: Vm, map_: VmMap, i: int, start: int) -> int:
    """vm_map_clip_start: make an entry begin at `start`; the index of that entry."""
    entry = map_.entries[i]
    if start <= entry.start:
        return i
    _back(vm, map_, entry)
    front = replace(entry, end=start)
    entry.offset += start - entry.start
    entry.start = map_.starts[i] = start
    map_.link(i, front)
    return i + 1


def vm_map_clip_end(vm: Vm, map_: VmMap, i: int, end: int) -> None:
    """vm_map_clip_end: make the entry at index `i` end at `end`; the rest becomes the next entry."""
    entry = map_.entries[i]
    if end >= entry.end:
        return
    _back(vm, map_, entry)
    rest = replace(entry, start=end, offset=entry.offset + end - entry.start)
    entry.end = end
    map_.link(i + 1, rest)


def _back(vm: Vm, map_: VmMap, entry: VmMapEntry) -> None:
    """Before an entry is split: give anonymous user memory its object now, so that both parts share it."""
    if entry.object == 0 and not map_.system_map:
        vm_map_entry_back(vm, entry)
    elif entry.object and not entry.eflags & MAP_ENTRY_NEEDS_COPY:
        charge_object(vm, entry)
    if entry.object:
        vm_object_reference(vm, vm.objects[entry.object])


def vm_map_entry_back(vm: Vm, entry: VmMapEntry) -> VmObject:
    """Give an entry without an object a new anonymous one of its size."""
    obj = vm_object_allocate(vm, ObjectType.DEFAULT, (entry.end - entry.start) >> vm.arch.page_shift)
    entry.object, entry.offset = obj.id, 0
    charge_object(vm, entry)
    return obj


def charge_object(vm: Vm, entry: VmMapEntry) -> None:
    """What is reserved for an entry is its object's from now on."""
    if entry.charged:
        obj = vm.objects[entry.object]
        kassert(not obj.charged, f"object {obj.id} and an entry over it are both charged", "vm_map_entry")
        obj.charged, obj.charge, entry.charged = True, entry.size, False


def is_charged(vm: Vm, entry: VmMapEntry) -> bool:
    """ENTRY_CHARGED: swap is reserved for what is written through the entry."""
    if entry.charged or not entry.object or entry.eflags & MAP_ENTRY_NEEDS_COPY:
        return entry.charged
    return vm.objects[entry.object].charged


def vm_map_simplify_entry(vm: Vm, map_: VmMap, i: int) -> int:
    """vm_map_simplify_entry: join an entry with equal neighbours; the index of the result."""
    if map_.entries[i].eflags & MAP_ENTRY_IN_TRANSITION:
        return i
    if i > 0 and _joinable(map_.entries[i - 1], map_.entries[i]):
        _join(vm, map_, i - 1)
        i -= 1
    if i + 1 < len(map_.entries) and _joinable(map_.entries[i], map_.entries[i + 1]):
        _join(vm, map_, i)
    return i


def _joinable(a: VmMapEntry, b: VmMapEntry) -> bool:
    return (
        a.end == b.start
        and a.object == b.object
        and (a.object == 0 or a.offset + a.end - a.start == b.offset)
        and a.eflags == b.eflags
        and a.protection == b.protection
        and a.max_protection == b.max_protection
        and a.inheritance == b.inheritance
        and a.wired_count == b.wired_count
        and a.charged == b.charged
    )


def _join(vm: Vm, map_: VmMap, i: int) -> None:
    """Let entry `i` swallow the one behind it."""
    gone = map_.unlink(i + 1)
    map_.entries[i].end = gone.end
    if gone.object:
        vm_object_deallocate(vm, vm.objects[gone.object])


def vm_map_protect(vm: Vm, map_: VmMap, start: int, end: int, new_prot: int) -> KernReturn:
    """vm_map_protect: set the current protection of what is mapped in a range; holes are allowed.

    Swap is reserved for what can be written now and could not before; RESOURCE_SHORTAGE if it is refused.
    """
    if start == end:
        return KernReturn.SUCCESS
    map_.lock()
    start, end = map_.range_check(start, end)
    i = map_.first_from(start)
    j = i
    while j < len(map_.entries) and map_.entries[j].start < end:
        if new_prot & map_.entries[j].max_protection != new_prot:
            return KernReturn.PROTECTION_FAILURE
        j += 1
    if i < len(map_.entries):
        i = vm_map_clip_start(vm, map_, i, start)
    j = i
    while j < len(map_.entries) and map_.entries[j].start < end:
        vm_map_clip_end(vm, map_, j, end)
        if not map_.system_map and not _charge_write(vm, map_.entries[j], new_prot):
            return KernReturn.RESOURCE_SHORTAGE
        j += 1
    while i < len(map_.entries) and map_.entries[i].start < end:
        entry = map_.entries[i]
        restricted = entry.protection & ~new_prot
        entry.protection = new_prot
        if restricted:
            writable = new_prot & ~VM_PROT_WRITE if entry.eflags & MAP_ENTRY_COW else new_prot
            _pmap_protect(vm, map_, entry, writable)
        i = vm_map_simplify_entry(vm, map_, i) + 1
    return KernReturn.SUCCESS


def _charge_write(vm: Vm, entry: VmMapEntry, new_prot: int) -> bool:
    """Reserve swap for an entry that becomes writable; for the whole object, where parts cannot be told later."""
    if not new_prot & ~entry.protection & VM_PROT_WRITE or is_charged(vm, entry):
        return True
    if not entry.object or entry.eflags & MAP_ENTRY_NEEDS_COPY:
        entry.charged = swap_reserve(vm, entry.size)
        return entry.charged
    obj = vm.objects[entry.object]
    if not obj.anonymous:
        return True
    size = obj.size << vm.arch.page_shift
    if not swap_reserve(vm, size):
        return False
    obj.charged, obj.charge = True, size
    return True


def _pmap_protect(vm: Vm, map_: VmMap, entry: VmMapEntry, prot: int) -> None:
    pmap.pmap_protect(vm, map_.id, pmap.vpn_of(vm, entry.start), pmap.vpn_of(vm, entry.end - 1) + 1, prot)
