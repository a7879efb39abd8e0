"""Messages of single calls of the C functions: what they did, and how they ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from services.ports.common import I32, I64, U32, U64


class Left(IntEnum):
    """How a call of a C function that may sleep ended."""

    RETURNED = 0
    """The function returned."""
    SLEEP = 1
    """It was left asleep, in the last of its sleeps."""
    VM_WAIT = 2
    """It was left in VM_WAIT."""


@dataclass(slots=True)
class Slept:
    """A sleep of the caller."""

    channel: str = ""
    """Sleep channel: `proc0`, `swapin:<pid>` (&p->p_flag), `page:<frame>` ..."""
    timeout_ticks: I32 = 0
    """Its timeout; 0: none."""


@dataclass(slots=True)
class StackRead:
    """A vm_pager_get_pages() call for a kernel stack."""

    tid: I64 = 0
    """Thread whose stack it is."""
    first: U64 = 0
    """First page of the run."""
    count: U32 = 0
    """Pages of the run."""
    result: I32 = 0
    """VM_PAGER_ code."""


@dataclass(slots=True)
class SwapoutCall:
    """What a call of swapout_procs did."""

    swapped_out: list[I32] = field(default_factory=list)
    """Processes whose swapout() succeeded, in order."""
    busy: list[I32] = field(default_factory=list)
    """Processes whose swapout() returned EBUSY, in order, once for each time."""
    wakeups: list[str] = field(default_factory=list)
    """Channels woken, in order."""
    livelock: list[I32] = field(default_factory=list)
    """Processes that would be retried for ever; the scan was given up. Empty: it ended."""


@dataclass(slots=True)
class SwapoutResults:
    """What swapout returned, in order."""

    errors: list[I32] = field(default_factory=list)
    """Of each process: 0, or EBUSY 16: a thread was not safe, and swapclear brought the process back."""


@dataclass(slots=True)
class SwapinCall:
    """What a call of swapper or faultin did."""

    swapped_in: list[I32] = field(default_factory=list)
    """Processes brought in, in order."""
    vm_waits: U32 = 0
    """VM_WAITs."""
    sleeps: list[Slept] = field(default_factory=list)
    """All other sleeps of the caller, in order."""
    wakeups: list[str] = field(default_factory=list)
    """Channels woken, in order."""
    page_requests: list[StackRead] = field(default_factory=list)
    """Pager calls, in order."""
    left: Left = Left.RETURNED
    """How the call ended."""
    ticks: I32 = 0
    """The kernel's `ticks` afterwards."""


@dataclass(slots=True)
class Woken:
    """What a call woke."""

    wakeups: list[str] = field(default_factory=list)
    """Channels woken, in order."""
    wakeup_swapper: bool = False
    """setrunnable() asked for the swapper, and kick_proc0() was called."""


class ForkStepKind(IntEnum):
    """What vm_forkproc has done by the kernel around it."""

    UNSHARE = 0
    """vmspace_unshare(pid); `vmspace` is the copy, 0 if it failed."""
    SHMFORK = 1
    """shmfork(pid, child_pid)."""
    CPU_FORK = 2
    """cpu_fork(tid, child_pid, child_tid, flags)."""


@dataclass(slots=True)
class ForkStep:
    """One of these calls, with its arguments; what does not apply is 0."""

    kind: ForkStepKind = ForkStepKind.UNSHARE
    """Which."""
    pid: I32 = 0
    """The process, or the parent."""
    tid: I64 = 0
    """The calling thread."""
    child_pid: I32 = 0
    """The child."""
    child_tid: I64 = 0
    """The child's thread."""
    vmspace: U64 = 0
    """Address space of the child at that moment, or the copy."""
    flags: U32 = 0
    """RF bits."""
    old_vmspace: U64 = 0
    """UNSHARE: address space that the process had."""


@dataclass(slots=True)
class ForkprocCall:
    """What a call of vm_forkproc did."""

    steps: list[ForkStep] = field(default_factory=list)
    """What it called, in order."""
    vm_waits: U32 = 0
    """VM_WAITs."""
    left: Left = Left.RETURNED
    """How the call ended."""
    error: I32 = 0
    """With RETURNED: 0, or ENOMEM 12."""
