"""The scheduler port: processes, threads, the clock and the kernel's own threads."""

from __future__ import annotations

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
    Setting,
    Settings,
    Upcalls,
    Violations,
)
from services.ports.scheduler.calls import (
    ForkprocCall,
    ForkStep,
    ForkStepKind,
    Left,
    Slept,
    StackRead,
    SwapinCall,
    SwapoutCall,
    SwapoutResults,
    Woken,
)
from services.ports.scheduler.figures import ProcessRow, ProcessTable, SchedulerStats
from services.ports.scheduler.running import (
    Dispatch,
    DispatchKind,
    SchedulerBoot,
    SpaceEvent,
    SpaceNotice,
    SpawnRequest,
    Trap,
    TrapOp,
)
from services.ports.scheduler.situation import (
    Change,
    ChangeField,
    ChangesAt,
    Clock,
    ProcState,
    ProcStates,
    ThreadState,
    VmspaceState,
)

__all__ = [
    "READS",
    "Change",
    "ChangeField",
    "ChangesAt",
    "Clock",
    "Dispatch",
    "DispatchKind",
    "ForkStep",
    "ForkStepKind",
    "ForkprocCall",
    "Left",
    "ProcState",
    "ProcStates",
    "ProcessRow",
    "ProcessTable",
    "SchedulerBoot",
    "SchedulerPort",
    "SchedulerStats",
    "Slept",
    "SpaceEvent",
    "SpaceNotice",
    "SpawnRequest",
    "StackRead",
    "SwapinCall",
    "SwapoutCall",
    "SwapoutResults",
    "ThreadState",
    "Trap",
    "TrapOp",
    "VmspaceState",
    "Woken",
]


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

    def kill(self, pids: list[I32], signal: U32) -> Empty:
        """A signal to each of some processes: SIGSTOP 17 stops it, SIGCONT 19 continues it, any other ends it."""
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
