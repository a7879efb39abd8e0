"""What every part of the scheduler takes: the state, the services below, and the clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from hardware_sim.clock import ticks_at
from hardware_sim.disk import splitmix64
from services.ports.kstack import KstackPort, StackSample
from services.ports.physmem import PhysmemPort
from services.ports.scheduler import ForkStep, Slept, StackRead
from services.runtime.context import Context
from services.scheduler.candidates import Candidates
from services.scheduler.proc_flags import P_SYSTEM
from services.scheduler.state import Proc, SchedState, Thread

_METER = "vm.stats.vm."
_FREE_MIN = "vm.stats.vm.v_free_min"


@dataclass(slots=True)
class CallRecord:
    """What a C function that was called from outside has done so far, in order; see the answers of the port."""

    wakeups: list[str] = field(default_factory=list)
    sleeps: list[Slept] = field(default_factory=list)
    swapped_in: list[int] = field(default_factory=list)
    page_requests: list[StackRead] = field(default_factory=list)
    fork_steps: list[ForkStep] = field(default_factory=list)


@dataclass(slots=True)
class Kern:
    """The kernel as its functions see it.

    Attributes:
        ctx: Clock of the call, events, counters, environment.
        physmem: Physical memory and maps.
        kstack: Kernel stacks.
        s: The scheduler's state.
        record: What a call from outside does, while there is one.
        busy_map: Address space whose lock somebody else holds at the preemption point that was just passed; 0: none.
        candidates: Whom the swapper may choose; made of the state.
        limit_us: Virtual time up to which idle time may pass in this call.
        idle_scans: Scans of pass 0 that were made ahead in this call: cost in microseconds, swap request.
    """

    ctx: Context
    physmem: PhysmemPort
    kstack: KstackPort
    s: SchedState
    record: CallRecord | None = None
    busy_map: int = 0
    limit_us: int = 0
    idle_scans: list[tuple[int, int]] = field(default_factory=list)
    candidates: Candidates = field(init=False)

    def __post_init__(self) -> None:
        self.candidates = Candidates(self.s.allproc.values())

    @property
    def ticks(self) -> int:
        """The kernel's `ticks`."""
        return self.ctx.ticks

    @property
    def hz(self) -> int:
        """Clock ticks a second."""
        return self.s.config.hz

    def set_time(self, now_us: int) -> None:
        """Move the clock to a virtual time."""
        s, ctx = self.s, self.ctx
        s.now_us = ctx.now_us = now_us
        if now_us > s.latest_us:
            s.latest_us = now_us
        config = s.config
        ctx.ticks = ticks_at(config.start_ticks, config.hz, s.latest_us)

    def spend(self, td: Thread, us: int, depth: int = 0) -> None:
        """A thread uses the processor for `us` microseconds in the kernel; with a stack `depth`, interrupts see it."""
        before = self.ctx.ticks
        self.set_time(self.s.now_us + us)
        td.td_runtime_us += us
        td.td_slice_us -= us
        td.td_estcpu_us += us
        if self.ctx.ticks == before or not depth or not td.td_kstack:
            return
        if not self.s.config.without_kstack_usage_prof:
            top = td.td_kstack + td.td_kstack_pages * self.s.config.page_size
            self.s.samples.append(StackSample(td.td_kstack, td.td_kstack_pages, False, top - depth))

    def spend_owed(self, td: Thread) -> None:
        """The same for what is owed since the last time, in nanoseconds."""
        if self.s.owed_ns:
            owed, self.s.owed_ns = self.s.owed_ns, 0
            self.spend(td, -(-owed // 1000))

    def spend_instructions(self, td: Thread, instructions: int, depth: int) -> None:
        """The same for a number of instructions."""
        us, td.td_phase = divmod(td.td_phase + instructions, self.s.config.mips)
        self.spend(td, us, depth)

    def allproc_insert_head(self, p: Proc) -> None:
        """LIST_INSERT_HEAD(&allproc, p, p_list)."""
        s = self.s
        s.last_proc_seq += 1
        p.p_seq = s.last_proc_seq
        s.allproc[p.p_pid] = p

    def next_seq(self) -> int:
        """A sequence number."""
        self.s.seq += 1
        return self.s.seq

    def proc(self, pid: int) -> Proc:
        """A process, living or zombie."""
        found = self.s.allproc.get(pid)
        return found if found is not None else self.s.zombproc[pid]

    def is_kernel(self, td: Thread) -> bool:
        """A thread of a P_SYSTEM process."""
        return self.proc(td.td_pid).p_flag & P_SYSTEM != 0

    def sleep_length(self, us: int) -> int:
        """A duration perturbed by the seed, within 10 % of `us`."""
        self.s.prng, drawn = splitmix64(self.s.prng)
        return us * (9000 + drawn % 2001) // 10000

    def vm_page_count_min(self) -> bool:
        """vm_page_count_min: v_free_min > v_free_count + v_cache_count."""
        return bool(self.ctx.env.ask("vm_page_count_min", lambda: self._short_of(_FREE_MIN)))

    def vm_page_count_severe(self) -> bool:
        """vm_page_count_severe: v_free_severe > v_free_count + v_cache_count."""
        return bool(self.ctx.env.ask("vm_page_count_severe", lambda: self._short_of("vm.v_free_severe")))

    def free_min(self) -> int:
        """vm.v_free_min."""
        return self.ctx.read_counters("physmem", (_FREE_MIN,))[_FREE_MIN]

    def _short_of(self, threshold: str) -> bool:
        names = (threshold, _METER + "v_free_count", _METER + "v_cache_count")
        values = self.ctx.read_counters("physmem", names)
        return values[threshold] > values[names[1]] + values[names[2]]
