"""Messages about kernel stacks and kernel memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.ports.common import I32, U32, U64, Status, Suspension
from services.ports.physmem.images import PageRequest


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
