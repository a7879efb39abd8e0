"""What other threads and interrupts do at a preemption point of the scheduler: time passes, others run, hold, wake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from heapq import heapify

from hardware_sim.cpu import COSTS
from services.runtime.preemption import Act, Choice, PreemptStream
from services.scheduler.dispatch import fire_due, take_turn
from services.scheduler.kern import Kern
from services.scheduler.kthreads import phold
from services.scheduler.proc_flags import P_SWAPPINGOUT, P_SYSTEM, P_WEXIT, Prs, Tds
from services.scheduler.runq import mi_switch, on_cpu, sched_add
from services.scheduler.sleepq import wakeup
from services.scheduler.state import ExecFrame, ExitFrame, ForkFrame, InitFrame, Proc, ProcstatFrame, Thread, WaitFrame
from services.scheduler.upcalls import absorb

_PROC_LOCKED = frozenset({"swapout_procs:972", "swapout:1075"})
"""Points under a process' lock: interrupts come, but who wants that lock waits."""
_ALLPROC_LOCKED = frozenset({"swapout_procs:900", "swapout_procs:902", "swapout:1079"})
"""Points under allproc_lock, shared, with maps locked: no process comes, goes, or changes its address space."""
_MAP_TRYLOCK = "swapout_procs:900"
_WANT_ALLPROC = (ForkFrame, InitFrame, ExitFrame, WaitFrame, ExecFrame, ProcstatFrame)
_PASSES_US_MAX = 20_000
_HOLD_US_MAX = 50_000


class SchedulerPreemption:
    """Others, as far as the locks that the C code holds at a point let them.

    Left out is what the C code is known to break from: a hold of a process between P_SWAPPINGOUT and the end of its
    swap-out (docs/fidelity.md).
    """

    def __init__(self, kern: Callable[[], Kern]) -> None:
        self._kern = kern
        self._preempted: list[tuple[int, bool]] = []
        """Threads that were preempted, the first one outermost, and whether each has allproc_lock."""

    def possible(self, point: str, stream: PreemptStream) -> Iterator[Choice]:
        """What may happen; nothing while a function is called from outside, whose script says it all."""
        k = self._kern()
        s = k.s
        if k.record is not None:
            return
        yield Choice(Act.INTERRUPT, partial(_interrupt, k, 1 + stream.below(_PASSES_US_MAX)))
        if s.sleepqs:
            yield Choice(Act.WAKEUP, partial(_wakeup, k, sorted(s.sleepqs)[stream.below(len(s.sleepqs))]))
        if point in _PROC_LOCKED:
            return
        locked = point in _ALLPROC_LOCKED or any(has_it for _, has_it in self._preempted)
        kept = _WANT_ALLPROC if locked else ()
        ready = [td for td in self._in_kernel(k) if not isinstance(td.td_frame, kept)]
        if ready:
            yield Choice(Act.SWITCH, partial(self._switch, k, ready[stream.below(len(ready))], locked))
        holdable = [p for p in s.allproc.values() if _may_be_held(p)]
        if holdable:
            p = holdable[stream.below(len(holdable))]
            yield Choice(Act.HOLD, partial(self._hold, k, p, 1 + stream.below(_HOLD_US_MAX), locked))
        if point == _MAP_TRYLOCK and holdable:
            p = holdable[stream.below(len(holdable))]
            yield Choice(Act.LOCK_MAP, partial(_lock_map, k, p.p_vmspace))

    def _in_kernel(self, k: Kern) -> Iterator[Thread]:
        """Runnable threads inside the kernel that are not preempted themselves."""
        taken = {k.s.lastthread, *(tid for tid, _ in self._preempted)}
        for _, _, tid in sorted(k.s.runq):
            td = k.s.threads[tid]
            if td.td_frame is not None and tid not in taken:
                yield td

    def _switch(self, k: Kern, td: Thread, locked: bool) -> int:
        """The processor goes to another thread for one turn, and back."""
        s = k.s
        preempted, running, owed = s.lastthread, s.curthread, s.owed_ns
        self._preempted.append((preempted, locked))
        s.runq = [entry for entry in s.runq if entry[2] != td.td_tid]
        heapify(s.runq)
        td.td_state, s.curthread, s.owed_ns = Tds.RUNNING, td.td_tid, 0
        mi_switch(k, td, COSTS.context_switch_us)
        on_cpu(k, td)
        take_turn(k, td)
        absorb(k)
        if s.curthread == td.td_tid:
            sched_add(k, td)
        s.curthread, s.owed_ns = running, owed
        if running:
            mi_switch(k, s.threads[running], COSTS.context_switch_us)
        self._preempted.pop()
        return td.td_tid

    def _hold(self, k: Kern, p: Proc, hold_us: int, locked: bool) -> int:
        """Another process looks into this one (procfs, ptrace): PHOLD now, PRELE after a while."""
        self._switch(k, phold(k, p, hold_us), locked)
        return p.p_pid


def _may_be_held(p: Proc) -> bool:
    return p.p_state is Prs.NORMAL and p.p_flag & (P_SYSTEM | P_WEXIT | P_SWAPPINGOUT) == 0


def _interrupt(k: Kern, us: int) -> int:
    """Time passes elsewhere; what is due then interrupts."""
    k.set_time(k.s.now_us + us)
    fire_due(k)
    absorb(k)
    return us


def _wakeup(k: Kern, channel: str) -> int:
    """A wakeup that proves nothing, or a signal; how many threads it found."""
    sleepers = len(k.s.sleepqs[channel])
    wakeup(k, channel)
    return sleepers


def _lock_map(k: Kern, vmspace: int) -> int:
    """Somebody else has the map's lock at this moment."""
    k.busy_map = vmspace
    return vmspace
