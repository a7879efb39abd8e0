"""Progress of operations that sleep, as plain data: what a C function would have kept on its stack."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from services.ports.pager import VmPager
from services.ports.physmem import KernReturn, MapOp, PageRequest, StackBuilt, SwapStack


@dataclass(slots=True)
class PageRead:
    """A device read that physmem started.

    Attributes:
        object: Object whose pages are read.
        first: First pindex of the read.
        frames: Its pages, in order.
        requested: The page that the reader asked for; it stays busy for them.
        status: How it ended; None: it has not.
        abandoned: The reader is gone: nobody takes the page over.
    """

    object: int
    first: int
    frames: list[int]
    requested: int
    status: VmPager | None = None
    abandoned: bool = False


class FaultKind(IntEnum):
    """What a fault did to make its page accessible."""

    MINOR = 0
    """It mapped a resident page."""
    ZERO_FILL = 1
    """It made a page of zeros."""
    COW = 2
    """It copied a page, or took it over from the object behind."""
    MAJOR = 3
    """It had a page read, whatever it did besides."""


@dataclass(slots=True)
class FaultOp:
    """vm_fault: what it holds while a page is read; a fault that sleeps for anything else starts anew.

    Attributes:
        va: Faulting address.
        fault_type: VM_PROT_ bits of the access; 0 for a wiring.
        wiring: VM_FAULT_CHANGE_WIRING: the page is wired for its entry.
        wiring_op: Operation of the wiring, which may fault on an entry that it put into transition itself.
        counted: v_vm_faults counts it already.
        io: Read in progress, or finished and not looked at yet; 0: none.
        first_object: Object of the map entry.
        first_pindex: Index in it.
        first_frame: Its busy page, to be filled from a backing object, or None.
        object: Object whose pager reads.
        pages: Pages that the read covers.
        next_read: Index behind them, where a sequential reader faults next.
        behind: Pages in front of the faulting one that the read's window holds.
        ahead: Pages behind it that the window holds.
        major: A pager was asked and delivered.
        frame: The page that was mapped in the end.
        kind: What was done for it.
    """

    va: int
    fault_type: int
    wiring: bool = False
    wiring_op: int = 0
    counted: bool = False
    io: int = 0
    first_object: int = 0
    first_pindex: int = 0
    first_frame: int | None = None
    object: int = 0
    pages: int = 0
    next_read: int = 0
    behind: int = 0
    ahead: int = 0
    major: bool = False
    frame: int = -1
    kind: FaultKind = FaultKind.MINOR


@dataclass(slots=True)
class AccessOp:
    """A processor's reference that faults."""

    vmspace: int
    fault: FaultOp


@dataclass(slots=True)
class WireOp:
    """vm_map_wire.

    Attributes:
        space: Address space.
        start: First address.
        end: End, exclusive; cut short where the wiring fails.
        id: Operation id, which marks the entries in transition; set at the first step.
        next: Address at which the next entry begins.
        fault: Fault in progress.
        user: VM_MAP_WIRE_USER; False: VM_MAP_WIRE_SYSTEM.
        holes_ok: VM_MAP_WIRE_HOLESOK; False: VM_MAP_WIRE_NOHOLES.
    """

    space: int
    start: int
    end: int
    id: int = 0
    next: int = 0
    fault: FaultOp | None = None
    user: bool = False
    holes_ok: bool = False


@dataclass(slots=True)
class MapChangeOp:
    """A batch of map changes, the next of which sleeps."""

    vmspace: int
    ops: list[MapOp]
    results: list[KernReturn] = field(default_factory=list)
    wire: WireOp | None = None


@dataclass(slots=True)
class StackCreateOp:
    """Stacks under construction: the last of `built` may be incomplete."""

    sizes: list[int]
    built: list[StackBuilt] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)


@dataclass(slots=True)
class StackSwapinOp:
    """vm_thread_swapin of several stacks, one after the other.

    Attributes:
        stacks: Stacks and process ids.
        index: The stack that is brought in.
        frames: Its pages so far (`ma`); all of them once the grabbing is over.
        page: `i` of the loop over the pages.
        io: Read in progress; 0: none.
        run: Pages of that read's request.
        pcbs: Registers found so far.
        page_requests: Pager calls so far.
        scripted: A scripted pager answered the last of them.
    """

    stacks: list[SwapStack]
    index: int = 0
    frames: list[int] = field(default_factory=list)
    page: int = 0
    io: int = 0
    run: int = 0
    pcbs: list[bytes] = field(default_factory=list)
    page_requests: list[PageRequest] = field(default_factory=list)
    scripted: bool = False


@dataclass(slots=True)
class ImgactOp:
    """vm_imgact_hold_page.

    Attributes:
        object: The file's object.
        pindex: Index of the page.
        frame: The page, exclusively busy, or None.
        io: Read in progress; 0: none.
        held: The page, held for a mapping that has yet to be made, or None.
        page_requests: Pager calls so far.
    """

    object: int
    pindex: int
    frame: int | None = None
    io: int = 0
    held: int | None = None
    page_requests: list[PageRequest] = field(default_factory=list)


@dataclass(slots=True)
class HoldPagesOp:
    """vm_imgact_hold_page of several pages, one after the other.

    Attributes:
        object: The file's object.
        pages: One operation for each page.
        held: Pages that were held so far; None where there is none.
    """

    object: int
    pages: list[ImgactOp]
    held: list[int | None] = field(default_factory=list)


@dataclass(slots=True)
class SwapoffOp:
    """swapoff(2): the pages on a device come in one after the other.

    Attributes:
        device: Position of the device among the machine's.
        obj: Object of the page that is next.
        pindex: Its index.
        io: Read in progress; 0: none.
        retries: Scans that found nothing although blocks are in use.
    """

    device: int
    obj: int = 0
    pindex: int = 0
    io: int = 0
    retries: int = 0


Operation = AccessOp | WireOp | MapChangeOp | StackCreateOp | StackSwapinOp | ImgactOp | HoldPagesOp | SwapoffOp
"""Whatever sleeps under an operation id."""
