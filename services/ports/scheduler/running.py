"""Messages of a machine that runs: boot, programs, slices and traps."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from services.ports.common import I32, I64, U32, U64, Region


class TrapOp(IntEnum):
    """What a thread asks of the kernel behind its last record (docs/trace-format.md)."""

    NONE = 0
    """Nothing: the batch ended inside the stream."""
    SYSCALL = 1
    """A system call of services/scheduler/syscalls.py: a number, b sleep in us or -1, c address, d length."""
    MMAP = 2
    """A new mapping (`regions`)."""
    MUNMAP = 3
    """a first vpn, b pages."""
    MPROTECT = 4
    """a first vpn, b pages, c protection."""
    BRK = 5
    """a new end of the data segment, as a vpn (`regions` holds the grown part, if any)."""
    FORK = 6
    """The child runs `cookie`; b 1: vfork (RFPPWAIT | RFMEM)."""
    EXEC = 7
    """`regions` is the new image and `name` its name."""
    EXIT = 8
    """a status."""
    WAIT = 9
    """wait4 for a child; a: cookie of the child or -1."""
    SLEEP = 10
    """a microseconds, b system call number."""
    THR_NEW = 11
    """A thread of the same process runs `cookie`; a its number, not 0; b 1: it has the turn."""
    THR_EXIT = 12
    """The thread ends; the last one of a process ends the process. a: the thread that gets its turn."""
    THR_JOIN = 13
    """Waits until thread `a` has ended."""
    THR_TURN = 14
    """Gives the turn to thread `a`, 0 is the process' first, and waits for it; its own number: waits only."""


@dataclass(slots=True)
class Trap:
    """A kernel entry of a thread."""

    op: TrapOp = TrapOp.NONE
    """Which."""
    a: I64 = 0
    """First argument."""
    b: I64 = 0
    """Second argument."""
    c: I64 = 0
    """Third argument."""
    d: I64 = 0
    """Fourth argument."""
    cookie: U64 = 0
    """FORK, THR_NEW: the stream of references of the child or thread, chosen by the caller."""
    name: str = ""
    """EXEC: base name of the program."""
    regions: list[Region] = field(default_factory=list)
    """EXEC, MMAP, BRK: mappings."""


class DispatchKind(IntEnum):
    """What the processor is to do."""

    RUN = 0
    """Issue references of the thread."""
    IDLE = 1
    """Nothing is runnable before `now_us`; ask again."""
    FINISHED = 2
    """All processes have ended."""
    DEADLOCK = 3
    """Processes are left, but nothing can ever wake them (see `reason`)."""


class SpaceEvent(IntEnum):
    """What happened to an address space."""

    FORKED = 0
    """`vmspace` is a copy of `parent`."""
    FREED = 1
    """`vmspace` is gone."""
    UNMAPPED = 2
    """A range of `vmspace` was unmapped or mapped anew."""


@dataclass(slots=True)
class SpaceNotice:
    """News of an address space, for whoever keeps a model of its contents."""

    event: SpaceEvent = SpaceEvent.FORKED
    """What happened."""
    vmspace: U64 = 0
    """Address space."""
    parent: U64 = 0
    """FORKED: the original."""
    start_vpn: U64 = 0
    """UNMAPPED: first virtual page."""
    npages: U64 = 0
    """UNMAPPED: pages."""


@dataclass(slots=True)
class Dispatch:
    """The next slice."""

    kind: DispatchKind = DispatchKind.IDLE
    """What to do."""
    now_us: I64 = 0
    """Virtual time at its start, in microseconds; every further request carries it."""
    ticks: I32 = 0
    """The kernel's `ticks` at its start."""
    tid: I64 = 0
    """Thread."""
    pid: I32 = 0
    """Process."""
    vmspace: U64 = 0
    """Address space."""
    cookie: U64 = 0
    """The thread's stream of references."""
    budget_us: I64 = 0
    """Longest run, in microseconds: end of the slice or the next timer."""
    phase: U32 = 0
    """Instructions beyond the last whole microsecond."""
    resume_op: U64 = 0
    """Suspended fault that the first access resumes; 0: none."""
    notices: list[SpaceNotice] = field(default_factory=list)
    """Address spaces changed since the last dispatch, in order."""
    reason: str = ""
    """DEADLOCK: who waits for what."""
    cpu: U32 = 0
    """Processor that is to run the thread; its clock is `now_us`, others' may be ahead or behind."""


@dataclass(slots=True)
class SchedulerBoot:
    """What the scheduler is built with."""

    hz: I32 = 1000
    """Clock ticks a second."""
    start_ticks: I32 = 0
    """`ticks` at boot; normally INT_MAX - hz * 600."""
    mips: U32 = 100
    """Million instructions a second."""
    seed: U64 = 0
    """Seed that perturbs start times and sleeps."""
    stack_swap: bool = True
    """kernel.stack_swap: False leaves kernel stacks in memory when a process goes out."""
    page_count: U32 = 0
    """v_page_count of the machine."""
    page_size: U32 = 4096
    """Bytes of a page of the architecture."""
    allow_inject: bool = False
    """Scripted answers are accepted."""
    bare: bool = False
    """No process but process 0: those of a situation are placed (refused unless injection is allowed)."""
    without_kstack_usage_prof: bool = False
    """Built without KSTACK_USAGE_PROF: intr_prof_stack_use and debug.max_kstack_used are absent."""
    no_swapping: bool = False
    """NO_SWAPPING: whole processes and their stacks are never swapped."""
    swap_debug: bool = False
    """SWAP_DEBUG: swapout() tells about each process, as an event."""
    without_invariants: bool = False
    """Built without INVARIANTS: the KASSERTs of the C code are gone, its panics stay."""
    preempt_seed: U64 = 0
    """Seed of what others do where the C code drops a lock or sleeps; 0: nothing."""
    ncpu: U32 = 1
    """Processors, 1 to 64."""
    shootdown_ns: U32 = 1_000
    """Time of a TLB shoot-down for whoever asks for it, in nanoseconds."""
    ipi_ns: U32 = 200
    """The same for each processor that it interrupts."""


@dataclass(slots=True)
class SpawnRequest:
    """A program to start from init."""

    name: str = ""
    """Base name."""
    cookie: U64 = 0
    """Its stream of references."""
    start_us: I64 = 0
    """Virtual time of its start, in microseconds (perturbed by the seed)."""
    nice: I32 = 0
    """p_nice, -20 to 20."""
    regions: list[Region] = field(default_factory=list)
    """Mappings of its image."""
    sleep_scale_percent: U32 = 100
    """Factor for its sleeps and its children's, in percent."""
    pri_class: U32 = 3
    """Its class, as rtprio(2) sets it: RTP_PRIO_REALTIME 2, NORMAL 3, IDLE 4, FIFO 10."""
    rtprio: U32 = 0
    """Priority within the class, 0 (best) to 31; NORMAL has none."""
    rss_limit: U64 = 0
    """RLIMIT_RSS, in pages; 0: all memory that was free at boot."""
    memlock_limit: U64 = 0
    """RLIMIT_MEMLOCK, in pages; 0: none."""
    stop_us: I64 = -1
    """Virtual time at which its processes get SIGSTOP, in microseconds; -1: never."""
    continue_us: I64 = -1
    """Virtual time at which they get SIGCONT; -1: never."""
