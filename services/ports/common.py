"""Widths, suspensions and up-calls that every port uses.

A method ``vm_thread_new`` of a port is the rpc ``VmThreadNew`` of its service; the method's parameters are the fields
of ``VmThreadNewRequest`` and the fields of the answer's dataclass those of ``VmThreadNewResponse``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated

I32 = Annotated[int, "int32"]
"""A C ``int``: -2147483648 to 2147483647."""
U32 = Annotated[int, "uint32"]
"""A C ``u_int``."""
I64 = Annotated[int, "int64"]
"""A C ``int64_t``."""
U64 = Annotated[int, "uint64"]
"""A C ``uint64_t``, ``vm_offset_t``, ``vm_ooffset_t``, ``vm_pindex_t`` or ``size_t``."""


class Status(IntEnum):
    """How far an operation that may sleep has come."""

    DONE = 0
    """The operation is complete; the answer's other fields hold."""
    SUSPENDED = 1
    """The operation sleeps: see the suspension; resume it by its operation id after a wakeup of the channel."""


@dataclass(slots=True)
class Suspension:
    """A sleep of the calling thread inside the kernel, with the arguments of msleep(9)."""

    op: U64 = 0
    """Operation id by which the service resumes; 0: nothing sleeps."""
    channel: str = ""
    """Sleep channel, for example ``page:123`` or ``v_free_count``."""
    priority: I32 = 0
    """Sleep priority (PVM 84, PWAIT 108 ...); it decides TDF_CANSWAP."""
    wmesg: str = ""
    """Wait message, as ps(1) and top(1) show it."""
    timeout_ticks: I32 = 0
    """Ticks after which the sleep ends by itself; 0: none."""


@dataclass(slots=True)
class SuspendedOperation:
    """An operation that sleeps until its caller comes back with its id."""

    op: U64 = 0
    """Operation id."""
    function: str = ""
    """C function that sleeps, and its lines where it is one of vm_glue.c."""
    subject: str = ""
    """What it works for: threads, a process, a page of an address space, stack or file."""
    channel: str = ""
    """Sleep channel, for example ``page:123`` or ``v_free_count``."""
    priority: I32 = 0
    """Sleep priority."""
    wmesg: str = ""
    """Wait message, as ps(1) and top(1) show it."""
    since_us: I64 = 0
    """Virtual time at which this sleep began, in microseconds."""
    until_us: I64 = 0
    """Virtual time at which it ends by itself, in microseconds, to the tick; 0: only a wakeup ends it."""


@dataclass(slots=True)
class SuspendedOperations:
    """Suspended operations of a service."""

    operations: list[SuspendedOperation] = field(default_factory=list)
    """The oldest, by id; at most 100."""
    total: U32 = 0
    """All that there are."""


@dataclass(slots=True)
class IoStart:
    """A device operation that was started and ends at a virtual time."""

    io: U64 = 0
    """Id to hand to complete_io when it is due."""
    due_us: I64 = 0
    """Virtual time at which the device is done, in microseconds."""


VM_OOM_MEM = 1
"""Reason of vm_pageout_oom(): neither memory nor swap space is left."""
VM_OOM_SWAPZ = 2
"""Reason of vm_pageout_oom(): the zone of swap metadata is exhausted."""


@dataclass(slots=True)
class Shootdown:
    """Invalidations of translations of an address space that other processors must hear of."""

    vmspace: U64 = 0
    """Address space; 0: the kernel's."""
    count: U32 = 0
    """How many: each is an interrupt to every processor that may hold such translations."""


@dataclass(slots=True)
class Upcalls:
    """What lower layers want from the scheduler, which owns the kernel's threads; it travels in answers."""

    ios: list[IoStart] = field(default_factory=list)
    """Device operations started by this call."""
    wakeups: list[str] = field(default_factory=list)
    """Channels woken, in order: wakeup(9)."""
    pagedaemon_wanted: bool = False
    """pagedaemon_wakeup() was called (vm_pages_needed set)."""
    swap_request: U32 = 0
    """vm_req_vmdaemon() flags: VM_SWAP_NORMAL 1, VM_SWAP_IDLE 2."""
    oom: U32 = 0
    """vm_pageout_oom() is wanted: VM_OOM_MEM (the page daemon's pass voted), VM_OOM_SWAPZ (the swap zone is full)."""
    shootdowns: list[Shootdown] = field(default_factory=list)
    """Invalidations of translations by this call, on a machine of several processors."""

    def absorb(self, other: Upcalls) -> None:
        """Append what a lower layer's answer carried."""
        self.ios += other.ios
        self.wakeups += other.wakeups
        self.pagedaemon_wanted |= other.pagedaemon_wanted
        self.swap_request |= other.swap_request
        self.oom |= other.oom
        self.shootdowns += other.shootdowns

    def __bool__(self) -> bool:
        wanted = self.pagedaemon_wanted or self.swap_request or self.oom
        return bool(self.ios or self.wakeups or wanted or self.shootdowns)


@dataclass(slots=True)
class Empty:
    """An answer without fields of its own."""


@dataclass(slots=True)
class Setting:
    """One sysctl."""

    name: str = ""
    """Its name, for example ``vm.max_launder``."""
    value: I64 = 0
    """Its value; wraps at the C width of the variable."""


@dataclass(slots=True)
class Settings:
    """Sysctls of one service, sorted by name."""

    settings: list[Setting] = field(default_factory=list)
    """Name and value of each."""


@dataclass(slots=True)
class Answers:
    """Scripted answers to one question that the C code asks of the kernel around it (refused unless allowed)."""

    question: str = ""
    """Question, for example ``kva_alloc`` or ``thread_safetoswapout:t1``."""
    answers: list[I64] = field(default_factory=list)
    """Answers of successive questions; booleans are 0 and 1."""
    after: I64 = 0
    """Answer to every question after the list, if `has_after`."""
    has_after: bool = False
    """False: after the list, state answers as in production."""
    cycle: bool = False
    """True: the list is repeated for ever."""


@dataclass(slots=True)
class Digest:
    """A service's share of the event hash."""

    events: bytes = b""
    """Head of the hash chain over the service's events."""
    event_count: U64 = 0
    """Events recorded since boot."""
    state: bytes = b""
    """Digest of the final state (RAM, swap contents, tables)."""


@dataclass(slots=True)
class Violations:
    """What an invariant check found."""

    violations: list[str] = field(default_factory=list)
    """One sentence for each violated invariant; empty: all hold."""
    checked: U64 = 0
    """Objects that were compared (pages, blocks, stacks ...)."""


@dataclass(slots=True)
class EventChunk:
    """Recorded events, in order."""

    records: bytes = b""
    """Fixed-size records, see services/runtime/events.py."""
    first: U64 = 0
    """Sequence number of the first record."""
    total: U64 = 0
    """Events recorded since boot."""


@dataclass(slots=True)
class CheckpointChunk:
    """A piece of a service's checkpoint."""

    data: bytes = b""
    """Its bytes; see services/runtime/snapshot.py."""
    size: U64 = 0
    """Bytes of the whole."""


@dataclass(slots=True)
class CounterValues:
    """A service's own counters, by sysctl name."""

    names: list[str] = field(default_factory=list)
    """Names, sorted."""
    values: list[I64] = field(default_factory=list)
    """Values in the same order."""
    sequence: U64 = 0
    """Publication sequence of these values within the boot."""


class Stop(IntEnum):
    """Why a processor stopped issuing a thread's references."""

    END = 0
    """All records were executed."""
    BUDGET = 1
    """The time budget is used up."""
    SUSPENDED = 2
    """A fault sleeps; the record at `next_record` is issued again when the fault is resumed."""
    YIELD = 3
    """A kernel thread of higher priority was woken (the page daemon); nothing is wrong with this thread."""
    SIGNAL = 4
    """A fault failed: the thread gets SIGSEGV or SIGBUS (see `kern_error`)."""


@dataclass(slots=True)
class Outcome:
    """What became of a batch of memory references; the orchestrator hands it to the scheduler unread."""

    stop: Stop = Stop.END
    """Why the batch ended."""
    next_record: U64 = 0
    """Index of the first record of the batch that was not executed."""
    references: U64 = 0
    """Original memory accesses executed."""
    kernel_calls: U64 = 0
    """System calls without a sleep that the executed records stand for."""
    elapsed_us: I64 = 0
    """Virtual time used, in microseconds, fault and scan costs included."""
    phase: U32 = 0
    """Instructions executed beyond the last whole microsecond (0 to cpu.mips - 1)."""
    suspension: Suspension | None = None
    """With SUSPENDED: the sleep."""
    fault_va: U64 = 0
    """With SIGNAL or SUSPENDED: the faulting address."""
    kern_error: I32 = 0
    """With SIGNAL: KERN_ code of vm_fault."""
    minor: U32 = 0
    """Faults resolved without the pager (ru_minflt)."""
    major: U32 = 0
    """Faults resolved with a pager read (ru_majflt)."""


@dataclass(slots=True)
class Region:
    """One mapping of a program's image or of mmap."""

    start_vpn: U64 = 0
    """First virtual page number."""
    npages: U64 = 0
    """Pages."""
    prot: U32 = 0
    """VM_PROT_ bits: READ 1, WRITE 2, EXECUTE 4."""
    file: str = ""
    """Base name of the mapped file; empty: anonymous memory."""
    offset_pages: U64 = 0
    """Offset in the file, in pages."""
    file_pages: U64 = 0
    """Size of the file, in pages."""
    shared: bool = False
    """MAP_SHARED: VM_INHERIT_SHARE and no copy on write."""
