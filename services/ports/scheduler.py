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
    CheckpointChunk,
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
    swappable_us: I64 = 0
    """Time asleep where it may be swapped out (TDF_CANSWAP), in microseconds."""


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
    wakeup_resident_at: bytes = b""
    """Virtual times at which the wakeups of wakeup_resident ended."""
    wakeup_swapped_at: bytes = b""
    """The same of wakeup_swapped."""


@dataclass(slots=True)
class ThreadState:
    """The fields of a thread that swapping looks at, with the values of sys/proc.h."""

    tid: I64 = 0
    """Thread id."""
    state: U32 = 0
    """td_state: TDS_INACTIVE 0, INHIBITED 1, CAN_RUN 2, RUNQ 3, RUNNING 4."""
    flags: U32 = 0
    """td_flags: TDF_INMEM 0x4, TDF_CANSWAP 0x40, TDF_SWAPINREQ 0x400000 ..."""
    inhibitors: U32 = 0
    """td_inhibitors: TDI_SUSPENDED 1, SLEEPING 2, SWAPPED 4, LOCK 8, IWAIT 16."""
    pri_class: U32 = 3
    """td_pri_class: PRI_ITHD 1, REALTIME 2, TIMESHARE 3, IDLE 4; the FIFO bit is 8."""
    slptick: I32 = 0
    """td_slptick."""
    nswap: I32 = 0
    """td_ru.ru_nswap."""
    kstack: U64 = 0
    """td_kstack; 0: none."""
    kstack_pages: I32 = 0
    """td_kstack_pages."""


@dataclass(slots=True)
class ProcState:
    """The fields of a process that swapping looks at, with the values of sys/proc.h."""

    pid: I32 = 0
    """Process id."""
    name: str = ""
    """p_comm."""
    state: U32 = 0
    """p_state: PRS_NEW 0, PRS_NORMAL 1, PRS_ZOMBIE 2."""
    flags: U32 = 0
    """p_flag: P_SYSTEM 0x200, P_TRACED 0x800, P_WEXIT 0x2000, P_STOPPED_SINGLE 0x80000, P_INMEM 0x10000000 ..."""
    lock: I32 = 0
    """p_lock."""
    swtick: U32 = 0
    """p_swtick, unsigned."""
    nice: I32 = 0
    """p_nice."""
    vmspace: U64 = 0
    """Address space; 0: none."""
    threads: list[ThreadState] = field(default_factory=list)
    """Its threads, in order."""


@dataclass(slots=True)
class VmspaceState:
    """What the scheduler knows of an address space."""

    vmspace: U64 = 0
    """Its id."""
    refcnt: I32 = 1
    """vm_refcnt."""
    swrss: I64 = 0
    """vm_swrss, in pages."""
    shm: bool = False
    """System V shared memory is attached (vm_shm)."""


@dataclass(slots=True)
class ProcStates:
    """Processes and address spaces as swapping sees them."""

    procs: list[ProcState] = field(default_factory=list)
    """Processes in the order of allproc, then zombies."""
    vmspaces: list[VmspaceState] = field(default_factory=list)
    """Address spaces by id."""


class ChangeField(IntEnum):
    """What a change sets: the clock, or a field of a process, a thread or an address space."""

    TICKS = 0
    """The clock moves on by `value`, wrapping."""
    P_STATE = 1
    """p_state of process `id`."""
    P_FLAG = 2
    """p_flag."""
    P_LOCK = 3
    """p_lock."""
    P_SWTICK = 4
    """p_swtick."""
    P_NICE = 5
    """p_nice."""
    TD_STATE = 6
    """td_state of thread `id`."""
    TD_FLAGS = 7
    """td_flags."""
    TD_INHIBITORS = 8
    """td_inhibitors; a thread that begins or ceases to sleep goes on or off a sleep queue."""
    TD_PRI_CLASS = 9
    """td_pri_class."""
    TD_SLPTICK = 10
    """td_slptick."""
    VM_RESIDENT = 11
    """What vmspace_resident_count() reports of address space `id`, in pages."""
    VM_MAP_LOCKED = 12
    """Somebody holds the map's lock: 1, or gives it back: 0."""


@dataclass(slots=True)
class Change:
    """Something that the rest of the kernel changes."""

    field: ChangeField = ChangeField.TICKS
    """What."""
    id: I64 = 0
    """Process, thread or address space."""
    value: I64 = 0
    """Its new value."""


@dataclass(slots=True)
class ChangesAt:
    """Changes at a point within a call."""

    point: str = ""
    """Preemption point of the core, for example `swapper:793`; `sleep`: during a sleep of the caller."""
    nth: U32 = 1
    """At which time that the call reaches the point, from 1."""
    changes: list[Change] = field(default_factory=list)
    """What changes, in order."""


@dataclass(slots=True)
class Clock:
    """The clock after a call that may have moved it."""

    ticks: I32 = 0
    """The kernel's `ticks`."""


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

    def report(self, tid: I64, outcome: Outcome, trap: Trap, upcalls: Upcalls, limit_us: I64) -> Dispatch:
        """Outcome of a slice, unread, and the trap behind it; answers the next dispatch."""
        ...

    def swapout_procs(self, action: U32) -> SwapoutCall:
        """swapout_procs (vm_glue.c:855-1006) now, as the vmdaemon calls it."""
        ...

    def swapper(self, script: list[ChangesAt], leave_after_sleeps: U32, leave_after_waits: U32) -> SwapinCall:
        """swapper (vm_glue.c:738-821): thread0 leaves the sleep in which it may be and runs until it is left.

        It is left at its n-th sleep or VM_WAIT in this call, n being 1 where 0 is given. To end sleeps, and to change
        what the rest of the kernel does meanwhile (`script`), injection must be allowed.
        """
        ...

    def faultin(self, pids: list[I32], script: list[ChangesAt], leave_after_sleeps: U32) -> SwapinCall:
        """faultin (vm_glue.c:681-729) of each process now, by one thread of the kernel's; left and scripted as swapper.

        Where the thread is left asleep it goes on by itself, to the last of the processes.
        """
        ...

    def swapout(self, pids: list[I32]) -> SwapoutResults:
        """swapout (vm_glue.c:1038-1093) of each process now, without the tests of swapout_procs before it."""
        ...

    def swapclear(self, pids: list[I32]) -> Empty:
        """swapclear (vm_glue.c:1008-1036) of each process: in memory by its flags, wherever its stacks are."""
        ...

    def kick_proc0(self) -> Woken:
        """kick_proc0 (vm_glue.c:823-828)."""
        ...

    def setrunnable(self, tid: I64) -> Woken:
        """setrunnable of a thread, and kick_proc0 if it asks for the swapper."""
        ...

    def wake_thread(self, tid: I64) -> Woken:
        """End a thread's sleep: off its sleep queue, then as setrunnable."""
        ...

    def vm_forkproc(
        self, tid: I64, child_pid: I32, child_tid: I64, vmspace: U64, flags: U32, leave_after_waits: U32
    ) -> ForkprocCall:
        """vm_forkproc (vm_glue.c:617-666) by thread `tid` of placed processes; 0 is NULL.

        It is left at its n-th VM_WAIT, n being 1 where 0 is given (refused unless injection is allowed).
        """
        ...

    def vm_waitproc(self, pid: I32) -> Empty:
        """vm_waitproc (vm_glue.c:673-679) of a placed process (refused unless injection is allowed)."""
        ...

    def place(self, procs: list[ProcState], vmspaces: list[VmspaceState]) -> Empty:
        """Build a situation (refused unless injection is allowed): address spaces, and processes at allproc's head.

        The processes are in the order of allproc, their threads on the stacks that the stack allocator gave them. A
        thread with TDI_SLEEPING is on a sleep queue of its own.
        """
        ...

    def change(self, changes: list[Change]) -> Clock:
        """The rest of the kernel changes something (refused unless injection is allowed)."""
        ...

    def proc_states(self) -> ProcStates:
        """Processes and address spaces as swapping sees them, for inspection."""
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

    def checkpoint_save(self, offset: U64) -> CheckpointChunk:
        """A piece of this service's checkpoint from a byte on; it is made at offset 0."""
        ...

    def checkpoint_load(self, offset: U64, size: U64, data: bytes) -> Empty:
        """Take in a piece of a checkpoint of `size` bytes, for `checkpoint_commit`; size 0 withdraws it."""
        ...

    def checkpoint_commit(self) -> Empty:
        """Go on from the checkpoint that was loaded whole; everything from before is dropped."""
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


READS = frozenset(
    {"check", "checkpoint_save", "counters", "digest", "events", "proc_states", "processes", "stats", "sysctl_get"}
)
"""Methods that only read state: they need no clock, and are answered also after a panic."""
