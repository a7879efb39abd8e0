"""The run queue: 4BSD's rules in short.

Queues of four priorities each, first come first served within one; a slice of hz / 10 ticks, then to the tail. The user
priority is PUSER + estcpu / 8 + (nice + 20) as in sched_4bsd.c, estcpu being recent processor time in units of 1/128 s.
Deviations: estcpu decays by a third for each whole second (4BSD's factor at a load of one), computed when it is needed
instead of once a second over all threads; there is one processor.
"""

from __future__ import annotations

from heapq import heappop, heappush

from services.runtime.events import Kind
from services.scheduler.kern import Kern
from services.scheduler.proc_flags import PRI_MAX_TIMESHARE, PRI_MIN_TIMESHARE, PRI_TIMESHARE, PRIO_MIN, PUSER, Tds
from services.scheduler.state import Thread

SLICE_US = 100_000
"""A slice: hz / 10 ticks."""
_RQ_PPQ = 4
_INVERSE_ESTCPU_WEIGHT = 8
_STATHZ_US = 1_000_000 // 128
_DECAY_US = 1_000_000
_DECAY_STEPS_MAX = 64


def resetpriority(k: Kern, td: Thread) -> None:
    """Recompute the user priority from recent processor time and nice (sched_4bsd.c resetpriority)."""
    steps = min((k.s.now_us - td.td_estcpu_at_us) // _DECAY_US, _DECAY_STEPS_MAX)
    if steps:
        td.td_estcpu_at_us = k.s.now_us
        for _ in range(steps):
            td.td_estcpu_us = td.td_estcpu_us * 2 // 3
    if td.td_pri_class == PRI_TIMESHARE:
        estcpu = td.td_estcpu_us // _STATHZ_US
        pri = PUSER + estcpu // _INVERSE_ESTCPU_WEIGHT + k.proc(td.td_pid).p_nice - PRIO_MIN
        td.td_user_pri = max(PRI_MIN_TIMESHARE, min(pri, PRI_MAX_TIMESHARE))


def sched_add(k: Kern, td: Thread) -> None:
    """Put a thread on the tail of its queue."""
    td.td_state = Tds.RUNQ
    heappush(k.s.runq, (td.td_priority // _RQ_PPQ, k.next_seq(), td.td_tid))


def sched_choose(k: Kern) -> Thread | None:
    """The thread that has the processor: the one that had it, unless a better one waits or its slice is over.

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
        sched_add(k, td)
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
    k.ctx.event(Kind.SWITCH, td.td_tid, td.td_slice_us)
    return True


def on_cpu(k: Kern, td: Thread) -> None:
    """A woken thread is on the processor: its latency ends."""
    if td.td_wake_us < 0:
        return
    if not k.is_kernel(td):
        s = k.s
        samples = s.wakeup_swapped if td.td_wake_swapped else s.wakeup_resident
        samples += (s.now_us - td.td_wake_us).to_bytes(8, "little")
        times = s.wakeup_swapped_at if td.td_wake_swapped else s.wakeup_resident_at
        times += s.now_us.to_bytes(8, "little")
    td.td_wake_us = -1
