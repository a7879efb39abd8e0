"""State of the scheduler: plain data, so that a checkpoint can write it down."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from services.ports.kstack import StackSample
from services.ports.physmem import MapOp
from services.ports.scheduler import ProcessRow, SchedulerBoot, SpaceNotice, SpawnRequest
from services.runtime.preemption import PreemptStream
from services.scheduler.proc_flags import P_INMEM, PRI_TIMESHARE, PUSER, TDF_INMEM, Prs, Tds

FIRST_USER_PID = 100
"""Process id of the first program; the kernel's own processes are below."""
FIRST_TID = 100_000
"""Thread id of thread0."""
PROC0, INIT, PAGEDAEMON, VMDAEMON = 0, 1, 2, 3
"""Process ids of the kernel: swapper, init, page daemon, vmdaemon."""


@dataclass(slots=True)
class FaultinFrame:
    """faultin() under way: 0 entered, 1 waits for another swap-in, 2 brings the stacks in."""

    pid: int
    step: int = 0
    op: int = 0
    """Suspended vm_thread_swapin."""
    begun_us: int = 0
    """Virtual time of its start."""


@dataclass(slots=True)
class SwapperFrame:
    """swapper: the faultin it is in, if any."""

    faultin: FaultinFrame | None = None


@dataclass(slots=True)
class HolderFrame:
    """Calls of faultin() from outside: the one under way, if any, and the processes behind it; or a PHOLD."""

    faultin: FaultinFrame | None = None
    pids: list[int] = field(default_factory=list)
    held: int = 0
    """Process that it holds; 0: none."""
    hold_us: int = 0
    """How long it still wants to, in virtual microseconds; 0: it lets go."""


@dataclass(slots=True)
class PagedaemonFrame:
    """vm_pageout_worker: 0 at the top of its loop, 1 woken."""

    step: int = 0
    vmd_pass: int = 0


@dataclass(slots=True)
class VmdaemonFrame:
    """vm_daemon: 0 about to sleep, 1 woken."""

    step: int = 0


@dataclass(slots=True)
class ForkFrame:
    """fork1: 0 stack, 1 address space, 2 vm_forkproc, 3 it waits for memory, 4 vfork, 5 ENOMEM, 6 pauses for it."""

    flags: int
    cookie: int
    step: int = 0
    op: int = 0
    """Suspended vm_thread_new."""
    tid: int = 0
    vm2: int = 0
    p2: int = 0
    program: SpawnRequest | None = None
    """Init: what the child executes."""


@dataclass(slots=True)
class InitFrame:
    """init: reaps, and forks the programs that are due."""

    fork: ForkFrame | None = None


@dataclass(slots=True)
class ExecFrame:
    """execve: 0 reads the image's first page, 1 builds the address space, 2 maps."""

    name: str
    ops: list[MapOp]
    file: str = ""
    file_pages: int = 0
    step: int = 0
    op: int = 0
    """Suspended vm_imgact_map_page or map operation."""
    vmspace: int = 0


@dataclass(slots=True)
class ExitFrame:
    """exit1(); waits until nobody holds the process."""

    status: int


@dataclass(slots=True)
class ThrNewFrame:
    """thr_new of a thread that runs `cookie`."""

    cookie: int
    number: int
    turn: bool = False
    """It gets the turn at once."""
    tid: int = 0
    op: int = 0
    """Suspended vm_thread_new."""


@dataclass(slots=True)
class ThrExitFrame:
    """thr_exit; the turn goes to thread `turn`, if there is one."""

    turn: int = 0


@dataclass(slots=True)
class ThrJoinFrame:
    """A wait for the end of thread `number`."""

    number: int


@dataclass(slots=True)
class ThrTurnFrame:
    """A hand-over of the turn to thread `number`, and a wait for it: 0 gives it away, 1 waits."""

    number: int
    step: int = 0


@dataclass(slots=True)
class WaitFrame:
    """kern_wait() for the child that runs `cookie`, or any (-1)."""

    cookie: int


@dataclass(slots=True)
class SleepFrame:
    """A system call that sleeps: 0 checks its argument and sleeps, 1 woken."""

    number: int
    sleep_us: int
    addr: int = 0
    step: int = 0


@dataclass(slots=True)
class VslockFrame:
    """A sysctl(3): its buffer is wired with vslock, filled and unwired."""

    addr: int
    len: int
    op: int = 0


@dataclass(slots=True)
class MlockFrame:
    """mlock, munlock, mlockall or munlockall, by its number; `addr` holds the flags of mlockall."""

    number: int
    addr: int
    len: int
    op: int = 0


@dataclass(slots=True)
class ShmFrame:
    """shmget, shmat, shmdt or shmctl with IPC_RMID, by its number; the segment is named by its key."""

    number: int
    key: int
    addr: int
    size: int
    op: int = 0


@dataclass(slots=True)
class PtraceFrame:
    """A debugger's write to the memory of a child, which is held meanwhile."""

    addr: int
    len: int
    pid: int = 0
    """The child; 0: none was looked for."""
    faultin: FaultinFrame | None = None
    """The child comes in first."""


@dataclass(slots=True)
class ProcstatFrame:
    """Somebody reads something of each of some processes."""

    pids: list[int]
    """Those to come."""
    faultin: FaultinFrame | None = None
    """The present one, which is held, comes in first."""


@dataclass(slots=True)
class MapFrame:
    """mmap, munmap, mprotect, brk."""

    ops: list[MapOp]
    op: int = 0
    growth: int = 0
    """brk: pages by which the data segment grows."""


@dataclass(slots=True)
class SwapDeviceFrame:
    """swapon or swapoff of a device."""

    device: int
    on: bool
    op: int = 0


Frame: TypeAlias = (
    SwapperFrame
    | HolderFrame
    | PagedaemonFrame
    | VmdaemonFrame
    | InitFrame
    | ForkFrame
    | ExecFrame
    | ExitFrame
    | ThrNewFrame
    | ThrExitFrame
    | ThrJoinFrame
    | ThrTurnFrame
    | WaitFrame
    | SleepFrame
    | VslockFrame
    | MlockFrame
    | ShmFrame
    | PtraceFrame
    | ProcstatFrame
    | MapFrame
    | SwapDeviceFrame
)
"""What a thread does inside the kernel, written down so that it can be left and entered again."""


@dataclass(slots=True)
class Thread:
    """struct thread, the fields that matter here."""

    td_tid: int
    td_pid: int
    """td_proc."""
    td_flags: int = TDF_INMEM
    td_inhibitors: int = 0
    td_state: Tds = Tds.INACTIVE
    td_slptick: int = 0
    """Signed; `ticks` at the start of the sleep, 0 when it was woken."""
    td_pri_class: int = PRI_TIMESHARE
    td_priority: int = PUSER
    """Of the place where it is: a sleep's until it returns to user mode."""
    td_user_pri: int = PUSER
    td_estcpu_us: int = 0
    """Recent processor time, decaying."""
    td_estcpu_at_us: int = 0
    """Virtual time of the last decay."""
    td_slice_us: int = 0
    """Left of its slice."""
    td_wchan: str = ""
    td_wmesg: str = ""
    td_timeout: int = 0
    """Sequence number of the timer that ends its sleep; 0: none."""
    td_pinned: int = 0
    ru_nswap: int = 0
    ru_minflt: int = 0
    ru_majflt: int = 0
    td_kstack: int = 0
    td_kstack_pages: int = 0
    td_pcb: bytes = b""
    """What swap-out saved at the top of the stack: must come back."""
    td_runtime_us: int = 0
    td_sleep_us: int = 0
    td_swappable_us: int = 0
    """The part of it with TDF_CANSWAP set."""
    td_asleep_since_us: int = 0
    td_runnable_us: int = 0
    """Virtual time from which on it can be on a processor."""
    td_references: int = 0
    td_switches: int = 0
    td_phase: int = 0
    """Instructions beyond the last whole microsecond."""
    td_fault_op: int = 0
    """Suspended fault that its next access resumes."""
    td_fault_us: int = -1
    """Virtual time at which that fault first slept for a page; -1: it does not."""
    td_wake_us: int = -1
    """Virtual time of setrunnable until it is on the processor; -1 otherwise."""
    td_wake_swapped: bool = False
    """It was swapped out then."""
    td_frame: Frame | None = None
    """What it does inside the kernel; None: user mode."""
    td_cookie: int = 0
    """Its stream of references; 0: the process' own."""
    td_number: int = 0
    """What its program calls it; 0: the process' first."""


@dataclass(slots=True)
class Rusage:
    """p_ru: what the threads of a process used that have ended."""

    ru_minflt: int = 0
    ru_majflt: int = 0
    ru_nswap: int = 0
    runtime_us: int = 0
    sleep_us: int = 0
    swappable_us: int = 0

    def add(self, td: Thread) -> None:
        """ruadd: a thread's use."""
        self.ru_minflt += td.ru_minflt
        self.ru_majflt += td.ru_majflt
        self.ru_nswap += td.ru_nswap
        self.runtime_us += td.td_runtime_us
        self.sleep_us += td.td_sleep_us
        self.swappable_us += td.td_swappable_us


@dataclass(slots=True)
class Proc:
    """struct proc, the fields that matter here."""

    p_pid: int
    p_comm: str
    p_seq: int = 0
    """Its place in allproc: the greater, the nearer to the head."""
    p_pptr: int = PROC0
    """Parent's process id."""
    p_state: Prs = Prs.NEW
    p_flag: int = P_INMEM
    p_lock: int = 0
    p_swtick: int = 0
    """Unsigned (u_int)."""
    p_nice: int = 0
    p_skip: int = 0
    """Why swapout_procs passed it over the last time (glue_swap.Skip); 0: it did not."""
    p_vmspace: int = 0
    """0: none."""
    p_threads: list[Thread] = field(default_factory=list)
    p_children: list[int] = field(default_factory=list)
    """Process ids, oldest first."""
    p_pgrp: int = 0
    """Process group: the cookie of the program that init started; its descendants are in it."""
    p_cookie: int = 0
    """Its stream of references."""
    p_brk: int = -1
    """End of the data segment as a page number, once it moved."""
    p_sig: int = 0
    """Signal that will end it when a thread returns to user mode; 0: none."""
    p_rss_limit: int = 0
    """RLIMIT_RSS in pages; 0: its default, all memory that was free at boot."""
    p_memlock_limit: int = 0
    """RLIMIT_MEMLOCK in pages; 0: its default, none."""
    p_sleep_percent: int = 100
    """Factor of its sleeps."""
    p_singlethread: int = 0
    """Thread that asked to remain alone (P_SINGLE_EXIT)."""
    p_turn: int = 0
    """Number of the thread whose turn it is, where its threads take turns."""
    p_ru: Rusage | None = None
    """None: no thread has ended."""
    p_start_us: int = 0
    p_end_us: int = -1
    p_status: int = 0


@dataclass(slots=True)
class Vmspace:
    """What the scheduler knows of an address space: physmem owns the rest."""

    vm_refcnt: int = 1
    vm_swrss: int = 0
    """Resident pages at the last swap-out."""
    vm_dsize: int = 0
    """Pages of the data segment: the image's own, and what brk added."""
    vm_ssize: int = 0
    """Pages of the stack at exec."""
    vm_shm: bool = False
    """System V shared memory is attached."""
    vm_drained: bool = False
    """Its process is swapped out and the RSS pass has taken its last resident page."""

    def forked(self) -> Vmspace:
        """What a copy of it starts with (vmspace_map_entry_forked)."""
        return Vmspace(vm_dsize=self.vm_dsize, vm_ssize=self.vm_ssize)


class TimerKind(IntEnum):
    """What a timer does."""

    SLEEP = 0
    """End a thread's sleep."""
    SPAWN = 1
    """Wake init: a program is due."""
    STOP = 2
    """SIGSTOP to the process group in the thread's place."""
    CONTINUE = 3
    """SIGCONT to it."""


Timer: TypeAlias = tuple[int, int, int, int]
"""(due in virtual us, sequence number, TimerKind, thread or process group)."""


@dataclass(slots=True)
class Cpu:
    """struct pcpu: a processor, of which the one that the kernel runs on has its registers in SchedState."""

    idle: bool = False
    """It has nothing to do, and its clock stands."""
    now_us: int = 0
    """Its clock, in virtual microseconds."""
    idle_us: int = 0
    """Time without a runnable thread."""
    curthread: int = 0
    """Thread on it; 0: none."""
    lastthread: int = 0
    """Thread that was on it last."""


@dataclass(slots=True)
class SchedState:
    """Everything that the scheduler knows."""

    config: SchedulerBoot
    now_us: int = 0
    idle_us: int = 0
    latest_us: int = 0
    """The clock that is furthest ahead: `ticks` follows it."""
    cpu: int = 0
    """Processor that the kernel runs on; now_us, idle_us, curthread and lastthread are its own."""
    cpus: list[Cpu] = field(default_factory=lambda: [Cpu()])
    """All processors, but for what is kept above of the present one."""
    prng: int = 0
    """State of the generator that perturbs starts and sleeps."""
    seq: int = 0
    """Counts queue insertions and timers: ties are broken by it, and a change of it means that something changed."""
    last_pid: int = FIRST_USER_PID - 1
    last_tid: int = FIRST_TID - 1
    last_proc_seq: int = 0
    """p_seq of the process that entered allproc last."""
    scripted: bool = False
    """Answers are scripted: scans take nothing for granted between two questions."""
    allproc: dict[int, Proc] = field(default_factory=dict)
    """Living processes by pid, newest last; the kernel's list is this one backwards."""
    zombproc: dict[int, Proc] = field(default_factory=dict)
    ended: list[ProcessRow] = field(default_factory=list)
    """Reaped processes."""
    proc_zone: list[tuple[int, int, int]] = field(default_factory=list)
    """Recycled processes keep their thread and its stack: (tid, td_kstack, td_kstack_pages), last one first."""
    zombie_threads: dict[int, int] = field(default_factory=dict)
    """Threads that have ended and wait for thread_reap, with the address of their stack."""
    threads: dict[int, Thread] = field(default_factory=dict)
    """Index of the living processes' threads."""
    vmspaces: dict[int, Vmspace] = field(default_factory=dict)
    vmspace0: int = 0
    held_maps: list[int] = field(default_factory=list)
    """Address spaces whose map somebody of a situation holds locked."""
    runq: list[tuple[int, int, int]] = field(default_factory=list)
    """Heap of (queue, sequence number, tid)."""
    ldavg: list[int] = field(default_factory=lambda: [0, 0, 0])
    """averunnable: load of the last 1, 5 and 15 minutes in units of 1 / FSCALE."""
    loadav_due_us: int = 5_000_000
    """Virtual time of the next sample of the load."""
    schedcpu_due_us: int = 1_000_000
    """Virtual time of the next turn of schedcpu."""
    curthread: int = 0
    """Thread on the processor; 0: none."""
    lastthread: int = 0
    """Thread that was on the processor last."""
    dispatched: bool = False
    """The processor runs `curthread` in user mode and will report."""
    sleepqs: dict[str, list[int]] = field(default_factory=dict)
    """Threads by sleep channel, first come first."""
    timers: list[Timer] = field(default_factory=list)
    """Heap."""
    ios: list[tuple[int, int]] = field(default_factory=list)
    """Heap of device operations: (due in virtual us, id)."""
    spawns: list[tuple[int, int, SpawnRequest]] = field(default_factory=list)
    """Programs not yet started: (due in virtual us, sequence number, program), sorted."""
    samples: list[StackSample] = field(default_factory=list)
    """Clock interrupts of this call that hit a thread in the kernel."""
    owed_ns: int = 0
    """Processor time that the caller of a vm_glue function has yet to spend: time stands still inside."""
    notices: list[SpaceNotice] = field(default_factory=list)
    """For the next dispatch."""
    vm_pages_needed: bool = False
    """What the page daemon was last told."""
    vm_pageout_req_swapout: int = 0
    vm_daemon_lastrun: int = 0
    oom: int = 0
    """Reasons for which vm_pageout_oom is wanted: VM_OOM_MEM, VM_OOM_SWAPZ."""
    vm_panic_on_oom: int = 0
    swap_idle_threshold1: int = 2
    swap_idle_threshold2: int = 10
    user_ran_us: int = 0
    """Virtual time at which a program last got the processor."""
    swapouts: int = 0
    swapins: int = 0
    preempt: PreemptStream = field(default_factory=PreemptStream)
    """Random stream of the preemption points."""
    wakeup_resident: bytearray = field(default_factory=bytearray)
    wakeup_swapped: bytearray = field(default_factory=bytearray)
    wakeup_resident_at: bytearray = field(default_factory=bytearray)
    wakeup_swapped_at: bytearray = field(default_factory=bytearray)
    major_fault: bytearray = field(default_factory=bytearray)
