"""The scheduler core: SchedulerPort over the modules that answer for the kernel's parts."""

from __future__ import annotations

from bisect import insort
from heapq import heappush

from services.ports.common import (
    Answers,
    CheckpointChunk,
    CounterValues,
    Digest,
    Empty,
    EventChunk,
    Outcome,
    Setting,
    Settings,
    Stop,
    Upcalls,
    Violations,
)
from services.ports.kstack import KstackPort
from services.ports.physmem import KernReturn, PhysmemPort
from services.ports.scheduler import (
    Change,
    ChangesAt,
    Clock,
    Dispatch,
    ForkprocCall,
    ProcessTable,
    ProcState,
    ProcStates,
    SchedulerBoot,
    SchedulerStats,
    SpawnRequest,
    SwapinCall,
    SwapoutCall,
    SwapoutResults,
    Trap,
    TrapOp,
    VmspaceState,
    Woken,
)
from services.runtime.checkpoint import Checkpoint
from services.runtime.context import Context
from services.runtime.errors import Reason, Refused
from services.runtime.events import Kind
from services.runtime.preemption import PreemptStream, arm
from services.runtime.snapshot import Registry
from services.scheduler import outside, situation, sysctls
from services.scheduler.boot import boot_kernel
from services.scheduler.dispatch import next_dispatch
from services.scheduler.glue_fork import ForkprocArgs, vm_waitproc
from services.scheduler.inspect import check_state, digest_state
from services.scheduler.kern import Kern
from services.scheduler.kern_exit import process_row
from services.scheduler.kern_resource import RTP_PRIO_MAX
from services.scheduler.kern_syscalls import enter_kernel
from services.scheduler.preemption import SchedulerPreemption
from services.scheduler.proc_flags import (
    P_INMEM,
    P_SYSTEM,
    PRI_FIFO,
    PRI_IDLE,
    PRI_REALTIME,
    PRI_TIMESHARE,
    SIGBUS,
    SIGSEGV,
    VM_SWAP_IDLE,
    VM_SWAP_NORMAL,
)
from services.scheduler.smp import MAXCPU, boot_cpus, busy_us
from services.scheduler.state import INIT, ExitFrame, SchedState, Thread, TimerKind
from services.scheduler.upcalls import absorb, suspend

_SCANNED = ("thread_safetoswapout:", "vm_map_trylock:")
"""Questions that the scan of swapout_procs asks."""
_PFAULT = "pfault"
"""Wait message of a fault that waits for memory, not for a page."""
_CLASSES = (PRI_REALTIME, PRI_TIMESHARE, PRI_IDLE, PRI_FIFO)


def _check_program(program: SpawnRequest) -> None:
    if not -20 <= program.nice <= 20:
        raise Refused(Reason.FIELD_OUT_OF_RANGE, "nice", program.nice, "-20 to 20")
    if program.pri_class not in _CLASSES:
        raise Refused(Reason.FIELD_OUT_OF_RANGE, "pri_class", program.pri_class, "2, 3, 4 or 10")
    if program.rtprio > RTP_PRIO_MAX:
        raise Refused(Reason.FIELD_OUT_OF_RANGE, "rtprio", program.rtprio, f"0 to {RTP_PRIO_MAX}")


class SchedulerCore:
    """Processes, threads, run queue, sleep queues, clock, and the kernel threads (see SchedulerPort).

    Attributes:
        k: The kernel: state, services below, clock.
    """

    def __init__(self, ctx: Context, physmem: PhysmemPort, kstack: KstackPort) -> None:
        self._ctx = ctx
        self.k = Kern(ctx, physmem, kstack, SchedState(SchedulerBoot()))
        self._checkpoint = Checkpoint(ctx, Registry(SchedState, TimerKind), lambda: self.k.s, self._begin)

    def boot(self, config: SchedulerBoot) -> Empty:
        """Build proc0, init and the kernel threads."""
        for name, value in (("hz", config.hz), ("mips", config.mips), ("page_size", config.page_size)):
            if value < 1:
                raise Refused(Reason.FIELD_OUT_OF_RANGE, name, value, "1 or more")
        if config.bare and not (config.allow_inject and self._ctx.inject_permitted):
            raise Refused(Reason.INJECTION_REFUSED, "bare", True, "a system that was started with injection allowed")
        if not 1 <= config.ncpu <= MAXCPU:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "ncpu", config.ncpu, f"1 to {MAXCPU}")
        self._ctx.reboot(config.hz, config.start_ticks, config.allow_inject, not config.without_invariants)
        preempt = PreemptStream.seeded(config.preempt_seed, "scheduler")
        self._begin(SchedState(config, prng=config.seed, preempt=preempt))
        boot_cpus(self.k.s)
        boot_kernel(self.k)
        return Empty()

    def _begin(self, state: SchedState) -> None:
        self.k = Kern(self._ctx, self.k.physmem, self.k.kstack, state)
        arm(self._ctx, state.preempt, SchedulerPreemption(lambda: self.k).possible)

    def spawn(self, programs: list[SpawnRequest]) -> Empty:
        """Start programs from init at their times: fork, exec, run."""
        s = self.k.s
        if INIT not in s.allproc:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "programs", len(programs), "none where there is no init")
        for program in programs:
            _check_program(program)
        for program in programs:
            due, seq = max(s.now_us, self.k.sleep_length(program.start_us)), self.k.next_seq()
            insort(s.spawns, (due, seq, program), key=lambda entry: entry[:2])
            heappush(s.timers, (due, seq, TimerKind.SPAWN, 0))
            for at_us, kind in ((program.stop_us, TimerKind.STOP), (program.continue_us, TimerKind.CONTINUE)):
                if at_us >= 0:
                    heappush(s.timers, (max(at_us, s.now_us), self.k.next_seq(), kind, program.cookie))
        return Empty()

    def next(self, limit_us: int) -> Dispatch:
        """First dispatch, or the next after IDLE."""
        if self.k.s.dispatched:
            raise Refused(Reason.UNKNOWN_ID, "tid", self.k.s.curthread, "a report of the slice that was dispatched")
        return self._run(limit_us)

    def report(self, tid: int, outcome: Outcome, trap: Trap, upcalls: Upcalls, limit_us: int) -> Dispatch:
        """Outcome of a slice, unread, and the trap behind it; answers the next dispatch."""
        k, s = self.k, self.k.s
        if not s.dispatched or tid != s.curthread:
            raise Refused(Reason.UNKNOWN_ID, "tid", tid, f"the thread that was dispatched ({s.curthread})")
        s.dispatched = False
        td = s.threads[tid]
        k.set_time(s.now_us)
        begun = s.now_us
        k.spend(td, outcome.elapsed_us)
        td.td_phase = outcome.phase
        td.td_references += outcome.references
        td.ru_minflt += outcome.minor
        td.ru_majflt += outcome.major
        k.ctx.count("vm.stats.sys.v_syscall", outcome.kernel_calls)
        k.ctx.count("vm.stats.sys.v_trap", outcome.minor + outcome.major)
        k.ctx.upcalls.absorb(upcalls)
        absorb(k)
        k.spend_owed(td)
        self._end_fault(td, outcome, begun)
        self._stop(td, outcome, trap)
        return self._run(limit_us)

    def _run(self, limit_us: int) -> Dispatch:
        """Go on until the next slice, then profile the stacks that clock interrupts hit on the way."""
        k = self.k
        k.set_time(k.s.now_us)
        dispatch = next_dispatch(k, limit_us)
        assert not k.idle_scans, "scans were made for a time in which somebody else ran"
        if k.s.samples:
            samples, k.s.samples = k.s.samples, []
            k.kstack.intr_prof_stack_use(samples)
        return dispatch

    def _end_fault(self, td: Thread, outcome: Outcome, begun_us: int) -> None:
        """A fault that slept for a page has ended, unless the slice came no further than to sleep again."""
        again = outcome.stop is Stop.SUSPENDED and outcome.next_record == 0
        if td.td_fault_op and not again:
            if td.td_fault_us >= 0:
                self.k.s.major_fault += (begun_us - td.td_fault_us).to_bytes(8, "little")
            td.td_fault_us = -1
        td.td_fault_op = 0

    def _stop(self, td: Thread, outcome: Outcome, trap: Trap) -> None:
        """Act on why the processor stopped."""
        k = self.k
        if outcome.stop is Stop.SUSPENDED:
            suspension = outcome.suspension
            if suspension is not None and suspension.wmesg != _PFAULT and td.td_fault_us < 0:
                td.td_fault_us = k.s.now_us
            td.td_fault_op = suspend(k, td, suspension)
        elif outcome.stop is Stop.SIGNAL:
            signal = SIGBUS if outcome.kern_error == KernReturn.PROTECTION_FAILURE else SIGSEGV
            k.ctx.event(Kind.SIGNAL, td.td_pid, outcome.kern_error, outcome.fault_va)
            td.td_frame = ExitFrame(-signal)
        elif outcome.stop is Stop.END and trap.op is not TrapOp.NONE:
            enter_kernel(k, td, trap)

    def kill(self, pids: list[int], signal: int) -> Empty:
        """A signal to each of some processes."""
        outside.call_kill(self.k, pids, signal)
        return Empty()

    # Functions of vm_glue.c, called from outside

    def swapout_procs(self, action: int) -> SwapoutCall:
        """swapout_procs (vm_glue.c:855-1006) now, as the vmdaemon calls it."""
        if action & ~(VM_SWAP_NORMAL | VM_SWAP_IDLE):
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "action", action, "bits VM_SWAP_NORMAL 1 and VM_SWAP_IDLE 2")
        self._swaps("swapout_procs")
        return outside.call_swapout_procs(self.k, action)

    def swapper(self, script: list[ChangesAt], leave_after_sleeps: int, leave_after_waits: int) -> SwapinCall:
        """swapper (vm_glue.c:738-821): thread0 leaves the sleep in which it may be and runs until it is left."""
        return outside.call_swapper(self.k, script, leave_after_sleeps, leave_after_waits)

    def faultin(self, pids: list[int], script: list[ChangesAt], leave_after_sleeps: int) -> SwapinCall:
        """faultin (vm_glue.c:681-729) of each process now, by one thread of the kernel's."""
        return outside.call_faultin(self.k, pids, script, leave_after_sleeps)

    def swapout(self, pids: list[int]) -> SwapoutResults:
        """swapout (vm_glue.c:1038-1093) of each process now, without the tests of swapout_procs before it."""
        self._swaps("swapout")
        return outside.call_swapout(self.k, pids)

    def swapclear(self, pids: list[int]) -> Empty:
        """swapclear (vm_glue.c:1008-1036) of each process: in memory by its flags, wherever its stacks are."""
        self._swaps("swapclear")
        outside.call_swapclear(self.k, pids)
        return Empty()

    def _swaps(self, function: str) -> None:
        """NO_SWAPPING leaves out what swaps whole processes out (vm_glue.c:830-1094)."""
        if self.k.s.config.no_swapping:
            raise Refused(Reason.NOT_BUILT, "function", function, "a kernel built without NO_SWAPPING")

    def kick_proc0(self) -> Woken:
        """kick_proc0 (vm_glue.c:823-828)."""
        return outside.call_kick_proc0(self.k)

    def setrunnable(self, tid: int) -> Woken:
        """setrunnable of a thread, and kick_proc0 if it asks for the swapper."""
        return outside.call_setrunnable(self.k, situation.thread(self.k, tid))

    def wake_thread(self, tid: int) -> Woken:
        """End a thread's sleep: off its sleep queue, then as setrunnable."""
        return outside.call_wake_thread(self.k, situation.thread(self.k, tid))

    def vm_forkproc(
        self, tid: int, child_pid: int, child_tid: int, vmspace: int, flags: int, leave_after_waits: int
    ) -> ForkprocCall:
        """vm_forkproc (vm_glue.c:617-666) by thread `tid` of placed processes; 0 is NULL."""
        k = self.k
        situation.allowed(k, "tid", tid)
        td = situation.thread(k, tid)
        p2 = situation.proc(k, child_pid) if child_pid else None
        td2 = situation.thread(k, child_tid) if child_tid else None
        return outside.call_forkproc(k, ForkprocArgs(td, p2, td2, vmspace, flags), leave_after_waits)

    def vm_waitproc(self, pid: int) -> Empty:
        """vm_waitproc (vm_glue.c:673-679) of a placed process."""
        k = self.k
        situation.allowed(k, "pid", pid)
        p = situation.proc(k, pid)
        if p.p_vmspace not in k.s.vmspaces:
            raise Refused(Reason.UNKNOWN_ID, "pid", pid, "a process with an address space")
        vm_waitproc(k, p)
        absorb(k)
        return Empty()

    # Situations

    def place(self, procs: list[ProcState], vmspaces: list[VmspaceState]) -> Empty:
        """Build a situation: address spaces, and processes at allproc's head."""
        situation.allowed(self.k, "procs", len(procs))
        situation.place(self.k, procs, vmspaces)
        return Empty()

    def change(self, changes: list[Change]) -> Clock:
        """The rest of the kernel changes something."""
        situation.allowed(self.k, "changes", len(changes))
        situation.check_changes(self.k, changes)
        situation.apply(self.k, changes)
        return Clock(self.k.ticks)

    # Inspection and control

    def proc_states(self) -> ProcStates:
        """Processes and address spaces as swapping sees them, for inspection."""
        return situation.proc_states(self.k)

    def processes(self) -> ProcessTable:
        """All processes, living and ended."""
        k, s = self.k, self.k.s
        living = [p for p in s.allproc.values() if p.p_flag & P_SYSTEM == 0]
        rows = [process_row(k, p) for p in (*s.allproc.values(), *s.zombproc.values())]
        swapped = sum(p.p_flag & P_INMEM == 0 for p in living)
        return ProcessTable(sorted(rows + s.ended, key=lambda row: row.pid), len(living) - swapped, swapped)

    def stats(self) -> SchedulerStats:
        """Swap counts and latencies since boot."""
        s = self.k.s
        return SchedulerStats(
            s.now_us,
            s.swapouts,
            s.swapins,
            bytes(s.wakeup_resident),
            bytes(s.wakeup_swapped),
            bytes(s.major_fault),
            s.latest_us * len(s.cpus) - sum(busy_us(s)),
            bytes(s.wakeup_resident_at),
            bytes(s.wakeup_swapped_at),
            busy_us(s),
        )

    def sysctl_get(self) -> Settings:
        """All sysctls of this service."""
        return sysctls.sysctl_get(self.k)

    def sysctl_set(self, setting: Setting) -> Empty:
        """Set one."""
        sysctls.sysctl_set(self.k, setting)
        return Empty()

    def checkpoint_save(self, offset: int) -> CheckpointChunk:
        """A piece of this service's checkpoint."""
        return self._checkpoint.save(offset)

    def checkpoint_load(self, offset: int, size: int, data: bytes) -> Empty:
        """Take in a piece of a checkpoint."""
        return self._checkpoint.load(offset, size, data)

    def checkpoint_commit(self) -> Empty:
        """Go on from the checkpoint that was loaded."""
        return self._checkpoint.commit()

    def inject(self, script: list[Answers]) -> Empty:
        """Script answers of the kernel around the C code."""
        self._ctx.env.inject(script)
        self.k.s.scripted |= any(entry.question.startswith(_SCANNED) for entry in script)
        return Empty()

    def digest(self) -> Digest:
        """Event chain and the process table."""
        self._ctx.log.flush()
        return Digest(self._ctx.log.head, self._ctx.log.count, digest_state(self.k))

    def check(self) -> Violations:
        """Compare run queue, sleep queues, flags and stacks with one another."""
        found, checked = check_state(self.k)
        return Violations(found, checked)

    def events(self, since: int, limit: int) -> EventChunk:
        """Recorded events from sequence number `since` on."""
        return self._ctx.event_chunk(since, limit)

    def counters(self) -> CounterValues:
        """The service's own counters."""
        return self._ctx.counter_values()
