"""Messages about the page daemon and the vmdaemon."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.ports.common import I32, I64, U32, U64


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
