"""The run queue, priorities and load of sched_4bsd.c and kern_synch.c (loadav).

Queues of four priorities each, first come first served within one; a slice of hz / 10 ticks, then to the tail. The user
priority is PUSER + estcpu / (8 * processors) + (nice + 20), estcpu being recent processor time in units of 1/128 s.
Each second schedcpu lets it decay by 2 * load / (2 * load + 1), load being the average of a minute; a sleeper's decay
of all but its first second is made up for when it wakes (updatepri). Deviations are in docs/fidelity.md.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from hardware_sim.clock import US_PER_SECOND
from services.runtime.events import Kind
from services.scheduler.kern import Kern
from services.scheduler.proc_flags import (
    PRI_MAX_TIMESHARE,
    PRI_MIN_IDLE,
    PRI_MIN_TIMESHARE,
    PRI_TIMESHARE,
    PRIO_MIN,
    PUSER,
    Tds,
)
from services.scheduler.smp import forward_wakeup, running
from services.scheduler.state import Proc, Thread

SLICE_US = 100_000
"""A slice: hz / 10 ticks."""
FSCALE = 2048
"""1.0 in fixed point (sys/param.h)."""
LOADAV_US = 5 * US_PER_SECOND
"""Between two samples of the load."""
_CEXP = (1884, 2014, 2036)
"""exp(-1/12), exp(-1/60), exp(-1/180) in units of 1 / FSCALE: what a sample leaves of the averages of 1, 5, 15 min."""
_RQ_PPQ = 4
STATCLOCK_US = 1_000_000 // 128
"""Between two interrupts of the statistics clock; the first slice of a new thread is one (sched_fork_thread)."""
_PRIO_RANGE = 40


def inverse_estcpu_weight(k: Kern) -> int:
    """INVERSE_ESTCPU_WEIGHT: recent processor time, in ticks of the statistics clock, that costs one priority."""
    return 8 * len(k.s.cpus)


def estcpulim(k: Kern, estcpu_us: int) -> int:
    """ESTCPULIM: more recent processor time makes no difference."""
    weight = inverse_estcpu_weight(k)
    limit = weight * (_PRIO_RANGE + PRI_MAX_TIMESHARE - PRI_MIN_TIMESHARE) + weight - 1
    return min(estcpu_us, limit * STATCLOCK_US)


def loadav(k: Kern) -> None:
    """Take the samples of the load that are due (kern_synch.c loadav): threads on the run queue and processors."""
    s = k.s
    while s.loadav_due_us <= s.now_us:
        s.loadav_due_us += LOADAV_US
        nrun = (len(s.runq) + len(running(s))) * FSCALE
        s.ldavg = [(cexp * avg + nrun * (FSCALE - cexp)) // FSCALE for cexp, avg in zip(_CEXP, s.ldavg, strict=True)]


def schedcpu(k: Kern) -> None:
    """schedcpu, once a second: recent processor time decays, and runnable threads go where their priority is now."""
    s = k.s
    if s.now_us < s.schedcpu_due_us:
        return
    s.schedcpu_due_us = (s.now_us // US_PER_SECOND + 1) * US_PER_SECOND
    moved = False
    for at, (queue, _, tid) in enumerate(s.runq):
        td = s.threads[tid]
        _decayed_priority(k, td)
        if td.td_priority // _RQ_PPQ != queue:
            s.runq[at] = (td.td_priority // _RQ_PPQ, k.next_seq(), tid)
            moved = True
    if moved:
        heapify(s.runq)
    for tid in running(s):
        _decayed_priority(k, s.threads[tid])


def _decayed_priority(k: Kern, td: Thread) -> None:
    """Decay and resetpriority_thread: a thread that has a kernel priority, until it returns to user mode, keeps it."""
    updatepri(k, td)
    if is_timeshare(td.td_priority):
        td.td_priority = td.td_user_pri


def is_timeshare(priority: int) -> bool:
    """A priority of user mode in the time-sharing class."""
    return PRI_MIN_TIMESHARE <= priority <= PRI_MAX_TIMESHARE


def updatepri(k: Kern, td: Thread) -> None:
    """Decay recent processor time by every second since it last did, then resetpriority.

    The load is the present one for all of them; C takes that of the time for the first second of a sleep.
    """
    s = k.s
    seconds = s.now_us // US_PER_SECOND - td.td_estcpu_at_us // US_PER_SECOND
    if s.now_us > td.td_estcpu_at_us:
        td.td_estcpu_at_us = s.now_us
    td.td_estcpu_us = estcpulim(k, td.td_estcpu_us)
    if seconds > 0:
        factor = 2 * s.ldavg[0]
        while seconds > 0 and td.td_estcpu_us:
            td.td_estcpu_us = factor * td.td_estcpu_us // (factor + FSCALE)
            seconds -= 1
    resetpriority(k, td)


def resetpriority(k: Kern, td: Thread) -> None:
    """The user priority from recent processor time and nice (sched_4bsd.c resetpriority)."""
    if td.td_pri_class == PRI_TIMESHARE:
        estcpu = estcpulim(k, td.td_estcpu_us) // STATCLOCK_US
        pri = PUSER + estcpu // inverse_estcpu_weight(k) + k.proc(td.td_pid).p_nice - PRIO_MIN
        td.td_user_pri = max(PRI_MIN_TIMESHARE, min(pri, PRI_MAX_TIMESHARE))


def sched_nice(k: Kern, p: Proc, nice: int) -> None:
    """sched_nice: a process' nice, and with it the priority of its threads."""
    p.p_nice = nice
    for td in p.p_threads:
        resetpriority(k, td)
        if td.td_state is Tds.RUNQ and is_timeshare(td.td_priority):
            sched_rem(k, td)
            td.td_priority = td.td_user_pri
            sched_add(k, td)
    k.candidates.update_all(p)


def sched_exit(k: Kern, parent: Thread, child: Thread) -> None:
    """sched_exit_thread: the parent answers for the recent processor time of its child."""
    parent.td_estcpu_us = estcpulim(k, parent.td_estcpu_us + child.td_estcpu_us)


def sched_add(k: Kern, td: Thread, preempted: bool = False) -> None:
    """Put a thread on the tail of its queue, or on the head if it was preempted (SRQ_PREEMPTED)."""
    td.td_state = Tds.RUNQ
    td.td_runnable_us = max(k.s.now_us, td.td_asleep_since_us, td.td_runnable_us)
    forward_wakeup(k)
    seq = k.next_seq()
    heappush(k.s.runq, (td.td_priority // _RQ_PPQ, -seq if preempted else seq, td.td_tid))


def sched_rem(k: Kern, td: Thread) -> None:
    """Take a thread off its queue."""
    k.s.runq = [entry for entry in k.s.runq if entry[2] != td.td_tid]
    heapify(k.s.runq)
    td.td_state = Tds.CAN_RUN


def sched_choose(k: Kern) -> Thread | None:
    """The thread that has the present processor: the one that had it, unless a better one waits or its slice is over.

    Returns:
        None if nothing is runnable.
    """
    s = k.s
    if s.curthread:
        td = s.threads[s.curthread]
        expired = td.td_slice_us <= 0
        if expired:
            td.td_slice_us = SLICE_US
            resetpriority(k, td)
            if td.td_frame is None:
                td.td_priority = td.td_user_pri
        if not s.runq or not _yields(td, s.runq[0][0], expired):
            return td
        s.curthread = 0
        # maybe_preempt: only an idle-class thread is preempted; others give way when they return to user mode
        sched_add(k, td, preempted=td.td_priority >= PRI_MIN_IDLE and not expired)
    if not s.runq:
        return None
    td = s.threads[heappop(s.runq)[2]]
    td.td_state = Tds.RUNNING
    s.curthread = td.td_tid
    return td


def _yields(td: Thread, best_queue: int, expired: bool) -> bool:
    queue = td.td_priority // _RQ_PPQ
    return best_queue < queue or (expired and best_queue == queue)


def mi_switch(k: Kern, td: Thread, cost_us: int) -> bool:
    """Account for the processor going to another thread; False if it had it already."""
    s = k.s
    if s.lastthread == td.td_tid:
        return False
    s.lastthread = td.td_tid
    k.set_time(s.now_us + cost_us)
    k.ctx.count("vm.stats.sys.v_swtch")
    td.td_switches += 1
    k.ctx.event(Kind.SWITCH, td.td_tid, td.td_slice_us, s.cpu)
    return True


def on_cpu(k: Kern, td: Thread) -> None:
    """A woken thread is on the processor: its latency ends."""
    if td.td_wake_us < 0:
        return
    if not k.is_kernel(td):
        s = k.s
        samples = s.wakeup_swapped if td.td_wake_swapped else s.wakeup_resident
        samples += max(s.now_us - td.td_wake_us, 0).to_bytes(8, "little")
        times = s.wakeup_swapped_at if td.td_wake_swapped else s.wakeup_resident_at
        times += s.now_us.to_bytes(8, "little")
    td.td_wake_us = -1
