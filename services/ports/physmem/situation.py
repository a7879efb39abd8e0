"""Messages that show the state of pages, and that place a situation."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from services.ports.common import I32, U32, U64
from services.ports.physmem.stacks import StackPages


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
