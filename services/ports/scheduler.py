"""The scheduler port: processes, threads, the clock and the kernel's own threads."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from services.ports.common import (
    I32,
    I64,
    U32,
    U64,
    Answers,
    CounterValues,
    Digest,
    Empty,
    EventChunk,
    Outcome,
    Region,
    Setting,
    Settings,
    Upcalls,
    Violations,
)


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
    """FORK: the child's stream of references, chosen by the caller."""
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


@dataclass(slots=True)
class ProcessRow:
    """One process, living or ended."""

    pid: I32 = 0
    """Process id."""
    ppid: I32 = 0
    """Parent."""
    name: str = ""
    """p_comm."""
    state: str = ""
    """run, sleep, swapped, zombie or ended."""
    wmesg: str = ""
    """Wait message of a sleeping thread."""
    vmspace: U64 = 0
    """Address space; 0: none."""
    flags: U32 = 0
    """p_flag."""
    minor_faults: U64 = 0
    """ru_minflt."""
    major_faults: U64 = 0
    """ru_majflt."""
    swaps: U32 = 0
    """ru_nswap."""
    cpu_us: I64 = 0
    """Processor time, in microseconds."""
    sleep_us: I64 = 0
    """Time asleep, in microseconds."""
    start_us: I64 = 0
    """Virtual time of its start."""
    end_us: I64 = 0
    """Virtual time of its end; -1: it lives."""
    status: I32 = 0
    """Exit status, or minus the signal that ended it."""


@dataclass(slots=True)
class ProcessTable:
    """Processes in order of pid."""

    processes: list[ProcessRow] = field(default_factory=list)
    """Rows."""
    running: U32 = 0
    """Living processes in memory."""
    swapped: U32 = 0
    """Living processes that are swapped out."""


@dataclass(slots=True)
class SchedulerStats:
    """Figures of a run; latencies are little-endian int64 microseconds, one a sample."""

    now_us: I64 = 0
    """Virtual time."""
    swapouts: U32 = 0
    """Processes swapped out."""
    swapins: U32 = 0
    """Processes swapped in."""
    wakeup_resident: bytes = b""
    """setrunnable to on-CPU of threads in memory."""
    wakeup_swapped: bytes = b""
    """The same of threads that had to be swapped in."""
    major_fault: bytes = b""
    """Start of a page read by a fault to the thread's return to the processor."""
    idle_us: I64 = 0
    """Virtual time without a runnable thread."""


class SchedulerPort(Protocol):
    """Processes, threads, run queue, sleep queues, clock, and the kernel threads: swapper, page daemon, vmdaemon."""

    def boot(self, config: SchedulerBoot) -> Empty:
        """Build proc0, init and the kernel threads."""
        ...

    def spawn(self, programs: list[SpawnRequest]) -> Empty:
        """Start programs from init at their times: fork, exec, run."""
        ...

    def next(self, limit_us: I64) -> Dispatch:
        """First dispatch, or the next after IDLE; `limit_us` bounds the virtual time that may pass (0: no bound)."""
        ...

    def report(
        self, tid: I64, outcome: Outcome, trap: Trap, upcalls: Upcalls, limit_us: I64
    ) -> Dispatch:
        """Outcome of a slice, unread, and the trap behind it; answers the next dispatch."""
        ...

    def swapout_procs(self, action: U32) -> Empty:
        """swapout_procs (vm_glue.c:855-1006) now, as the vmdaemon calls it."""
        ...

    def faultin(self, pid: I32) -> Empty:
        """faultin (vm_glue.c:681-729) of a process now, as a PHOLD calls it."""
        ...

    def kick_proc0(self) -> Empty:
        """kick_proc0 (vm_glue.c:823-828)."""
        ...

    def processes(self) -> ProcessTable:
        """All processes, living and ended."""
        ...

    def stats(self) -> SchedulerStats:
        """Swap counts and latencies since boot."""
        ...

    def sysctl_get(self) -> Settings:
        """All sysctls of this service."""
        ...

    def sysctl_set(self, setting: Setting) -> Empty:
        """Set one."""
        ...

    def inject(self, script: list[Answers]) -> Empty:
        """Script answers of the kernel around the C code."""
        ...

    def digest(self) -> Digest:
        """Event chain and the process table."""
        ...

    def check(self) -> Violations:
        """Compare run queue, sleep queues, flags and stacks with one another."""
        ...

    def events(self, since: U64, limit: U32) -> EventChunk:
        """Recorded events from sequence number `since` on."""
        ...

    def counters(self) -> CounterValues:
        """The service's own counters."""
        ...


READS = frozenset({"check", "counters", "digest", "events", "processes", "stats", "sysctl_get"})
"""Methods that only read state: they need no clock, and are answered also after a panic."""
