"""Messages about address spaces and their maps."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from services.ports.common import I32, U32, U64, Status, Suspension

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
    prefault: bool = False
    """INSERT: all that is resident of the file is mapped at once (MAP_PREFAULT), not only of its first pages."""


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
    """0, ENOMEM 12, EFAULT 14, EBUSY 16, ENODEV 19, EINVAL 22, EMFILE 24, EAGAIN 35."""


@dataclass(slots=True)
class Stamps:
    """Stamps of an address space's anonymous and copied pages, resident or in swap."""

    vpns: bytes = b""
    """Virtual page numbers, little-endian uint64, ascending."""
    words: bytes = b""
    """Words 0 to 4 and 511 of each page: 6 little-endian uint64 a page."""


@dataclass(slots=True)
class MapLocks:
    """Answers of vm_map_trylock."""

    locked: list[bool] = field(default_factory=list)
    """TRUE: the map is locked exclusively and must be unlocked."""
    resident: list[U32] = field(default_factory=list)
    """vmspace_resident_count of each, in pages."""


@dataclass(slots=True)
class ShmId:
    """A System V segment."""

    shmid: I32 = 0
    """Its id (never 0)."""
    error: I32 = 0
    """0, ENOENT 2, ENOMEM 12, EEXIST 17, EINVAL 22, ENOSPC 28."""


@dataclass(slots=True)
class ShmForked:
    """What a child has attached."""

    segments: U32 = 0
    """System V segments, as its parent."""


@dataclass(slots=True)
class WiredRange:
    """Pages of an address map that are wired alike."""

    start: U64 = 0
    """First address."""
    end: U64 = 0
    """End, exclusive."""
    count: U32 = 0
    """System wirings."""
    user: bool = False
    """The program wired them as well (mlock)."""


@dataclass(slots=True)
class WiredRanges:
    """Wired parts of an address map."""

    ranges: list[WiredRange] = field(default_factory=list)
    """In address order, neighbours that are wired alike joined."""
