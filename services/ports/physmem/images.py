"""Messages about pages of image files, and about references."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.ports.common import I32, I64, U32, U64, Outcome, Status, Suspension


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
