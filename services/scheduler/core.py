"""The scheduler core: SchedulerPort over the modules that answer for the kernel's parts."""

from __future__ import annotations

from bisect import insort
from heapq import heappush

from services.ports.common import (
    Answers,
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
    Dispatch,
    ProcessTable,
    SchedulerBoot,
    SchedulerStats,
    SpawnRequest,
    Trap,
    TrapOp,
)
from services.runtime.context import Context
from services.runtime.errors import Reason, Refused
from services.runtime.events import Kind
from services.scheduler import sysctls
from services.scheduler.boot import boot_kernel
from services.scheduler.dispatch import next_dispatch
from services.scheduler.glue_swap import swapout_procs
from services.scheduler.inspect import check_state, digest_state
from services.scheduler.kern import Kern
from services.scheduler.kern_exit import process_row
from services.scheduler.kern_syscalls import enter_kernel
from services.scheduler.kthreads import hold
from services.scheduler.proc_flags import P_INMEM, P_SYSTEM, SIGBUS, SIGSEGV, VM_SWAP_IDLE, VM_SWAP_NORMAL
from services.scheduler.sleepq import kick_proc0
from services.scheduler.state import ExitFrame, SchedState, Thread, TimerKind
from services.scheduler.upcalls import absorb, suspend

_PFAULT = "pfault"
"""Wait message of a fault that waits for memory, not for a page."""


class SchedulerCore:
    """Processes, threads, run queue, sleep queues, clock, and the kernel threads (see SchedulerPort).

    Attributes:
        k: The kernel: state, services below, clock.
    """

    def __init__(self, ctx: Context, physmem: PhysmemPort, kstack: KstackPort) -> None:
        self._ctx = ctx
        self.k = Kern(ctx, physmem, kstack, SchedState(SchedulerBoot()))

    def boot(self, config: SchedulerBoot) -> Empty:
        """Build proc0, init and the kernel threads."""
        for name, value in (("hz", config.hz), ("mips", config.mips), ("page_size", config.page_size)):
            if value < 1:
                raise Refused(Reason.FIELD_OUT_OF_RANGE, name, value, "1 or more")
        self._ctx.reboot(config.hz, config.start_ticks, config.allow_inject)
        self.k = Kern(self._ctx, self.k.physmem, self.k.kstack, SchedState(config, prng=config.seed))
        boot_kernel(self.k)
        return Empty()

    def spawn(self, programs: list[SpawnRequest]) -> Empty:
        """Start programs from init at their times: fork, exec, run."""
        s = self.k.s
        for program in programs:
            if not -20 <= program.nice <= 20:
                raise Refused(Reason.FIELD_OUT_OF_RANGE, "nice", program.nice, "-20 to 20")
        for program in programs:
            due, seq = max(s.now_us, self.k.sleep_length(program.start_us)), self.k.next_seq()
            insort(s.spawns, (due, seq, program), key=lambda entry: entry[:2])
            heappush(s.timers, (due, seq, TimerKind.SPAWN, 0))
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
        self._end_fault(td, outcome, begun)
        self._stop(td, outcome, trap)
        return self._run(limit_us)

    def _run(self, limit_us: int) -> Dispatch:
        """Go on until the next slice, then profile the stacks that clock interrupts hit on the way."""
        k = self.k
        k.set_time(k.s.now_us)
        dispatch = next_dispatch(k, limit_us)
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

    def swapout_procs(self, action: int) -> Empty:
        """swapout_procs (vm_glue.c:855-1006) now, as the vmdaemon calls it."""
        if action & ~(VM_SWAP_NORMAL | VM_SWAP_IDLE):
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "action", action, "bits VM_SWAP_NORMAL 1 and VM_SWAP_IDLE 2")
        absorb(self.k)
        swapout_procs(self.k, action)
        self.k.s.owed_ns = 0
        absorb(self.k)
        return Empty()

    def faultin(self, pid: int) -> Empty:
        """faultin (vm_glue.c:681-729) of a process, as a PHOLD calls it."""
        if pid not in self.k.s.allproc:
            raise Refused(Reason.UNKNOWN_ID, "pid", pid, "a living process")
        hold(self.k, pid)
        return Empty()

    def kick_proc0(self) -> Empty:
        """kick_proc0 (vm_glue.c:823-828)."""
        kick_proc0(self.k)
        return Empty()

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
            s.idle_us,
        )

    def sysctl_get(self) -> Settings:
        """All sysctls of this service."""
        return sysctls.sysctl_get(self.k)

    def sysctl_set(self, setting: Setting) -> Empty:
        """Set one."""
        sysctls.sysctl_set(self.k, setting)
        return Empty()

    def inject(self, script: list[Answers]) -> Empty:
        """Script answers of the kernel around the C code."""
        self._ctx.env.inject(script)
        self.k.s.scripted = True
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
