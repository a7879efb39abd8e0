"""Sleep queues, thread states and wakeups: subr_sleepqueue.c, kern_synch.c and the state macros of sys/proc.h."""

from __future__ import annotations

from heapq import heappush

from hardware_sim.clock import US_PER_SECOND
from services.ports.scheduler import Slept
from services.runtime.errors import KernelPanic, kassert
from services.runtime.events import Kind
from services.scheduler.kern import Kern
from services.scheduler.proc_flags import (
    PRI_TIMESHARE,
    PSOCK,
    TDF_CANSWAP,
    TDF_INMEM,
    TDF_SINTR,
    TDF_SWAPINREQ,
    TDF_TIMEOUT,
    TDI_SLEEPING,
    TDI_SUSPENDED,
    TDI_SWAPPED,
    Prs,
    Tds,
    pri_base,
)
from services.scheduler.runq import SLICE_US, sched_add, updatepri
from services.scheduler.state import Thread, TimerKind

PROC0_CHANNEL = "proc0"
"""&proc0, where the swapper sleeps."""


def child_channel(pid: int) -> str:
    """The process itself, where it waits for its children."""
    return f"proc:{pid}"


def td_set_inhib(k: Kern, td: Thread, inhibitor: int) -> None:
    """TD_SET_INHIB."""
    td.td_state = Tds.INHIBITED
    td.td_inhibitors |= inhibitor
    if td.td_inhibitors & TDI_SWAPPED:
        k.candidates.update(k.proc(td.td_pid), td)


def td_clr_inhib(k: Kern, td: Thread, inhibitor: int) -> None:
    """TD_CLR_INHIB: changes nothing if the inhibitor was not set."""
    if td.td_inhibitors & inhibitor:
        swapped = td.td_inhibitors & TDI_SWAPPED
        td.td_inhibitors &= ~inhibitor
        if td.td_inhibitors == 0:
            td.td_state = Tds.CAN_RUN
        if swapped:
            k.candidates.update(k.proc(td.td_pid), td)


def is_settled(td: Thread) -> bool:
    """Runnable, running, sleeping or suspended: not merely swapped out (the test of vm_daemon and vm_pageout_oom)."""
    return td.td_state in (Tds.RUNQ, Tds.RUNNING) or td.td_inhibitors & (TDI_SLEEPING | TDI_SUSPENDED) != 0


def thread_safetoswapout(k: Kern, td: Thread) -> bool:
    """thread_safetoswapout: TDF_CANSWAP, nothing else."""
    return bool(k.ctx.env.ask(f"thread_safetoswapout:{td.td_tid}", lambda: td.td_flags & TDF_CANSWAP))


def sched_sleep(k: Kern, td: Thread, prio: int) -> None:
    """sched_sleep: note the start of the sleep; at PSOCK and above the thread may be swapped out.

    Only a time-sharing thread wakes with the sleep's priority.
    """
    td.td_slptick = k.ticks
    if td.td_inhibitors & TDI_SUSPENDED or prio >= PSOCK:
        td.td_flags |= TDF_CANSWAP
    if prio and pri_base(td.td_pri_class) == PRI_TIMESHARE:
        td.td_priority = prio


def sched_wakeup(k: Kern, td: Thread) -> None:
    """sched_wakeup: back to the run queue with a whole slice."""
    td.td_flags &= ~TDF_CANSWAP
    td.td_slptick = 0
    if td.td_inhibitors & TDI_SWAPPED:
        k.candidates.update(k.proc(td.td_pid), td)
    td.td_slice_us = SLICE_US
    updatepri(k, td)
    sched_add(k, td)


def setrunnable(k: Kern, td: Thread) -> bool:
    """setrunnable (kern_synch.c).

    Returns:
        True: the process is swapped out and nobody asked for it yet: the caller must call kick_proc0.

    Raises:
        KernelPanic: The process is a zombie, or the thread is inactive.
    """
    p = k.proc(td.td_pid)
    k.ctx.kassert(p.p_state is not Prs.ZOMBIE, f"setrunnable: pid {p.p_pid} is a zombie", "setrunnable")
    if td.td_state in (Tds.RUNNING, Tds.RUNQ):
        return False
    if td.td_state is Tds.INHIBITED:
        if td.td_inhibitors != TDI_SWAPPED:
            return False
    elif td.td_state is not Tds.CAN_RUN:
        raise KernelPanic("setrunnable(2)", "setrunnable")
    resident = td.td_flags & TDF_INMEM != 0
    if td.td_wake_us < 0:
        td.td_wake_us, td.td_wake_swapped = k.s.now_us, not resident
    if resident:
        k.ctx.event(Kind.WAKEUP, td.td_tid, 0)
        sched_wakeup(k, td)
        return False
    if td.td_flags & TDF_SWAPINREQ:
        return False
    td.td_flags |= TDF_SWAPINREQ
    k.candidates.update(p, td)
    k.ctx.event(Kind.WAKEUP, td.td_tid, 1)
    return True


def msleep(
    k: Kern,
    td: Thread,
    channel: str,
    priority: int,
    wmesg: str,
    timeout_us: int = 0,
    catch: bool = False,
    timo: int = 0,
) -> None:
    """Put the current thread to sleep; with a timeout, for that long at most.

    Args:
        k: The kernel.
        td: The thread.
        channel: What it waits for.
        priority: Sleep priority; 0 leaves the thread's as it is.
        wmesg: Wait message.
        timeout_us: Virtual microseconds; 0: no timeout.
        catch: PCATCH: a signal ends the sleep.
        timo: The timeout in ticks, instead of `timeout_us`.
    """
    s = k.s
    if timo:
        timeout_us = tick_us(k, timo)
    if k.record is not None:
        k.record.sleeps.append(Slept(channel, timo))
    kassert(td.td_wchan == "", f"sleepq_add: td {td.td_tid} already on a sleep queue", "sleepq_add")
    td.td_wchan, td.td_wmesg, td.td_timeout = channel, wmesg, 0
    td.td_flags &= ~(TDF_TIMEOUT | TDF_SINTR)
    if catch:
        td.td_flags |= TDF_SINTR
    s.sleepqs.setdefault(channel, []).append(td.td_tid)
    td_set_inhib(k, td, TDI_SLEEPING)
    sched_sleep(k, td, priority)
    td.td_asleep_since_us = s.now_us
    seq = k.next_seq()
    if timeout_us > 0:
        td.td_timeout = seq
        heappush(s.timers, (s.now_us + timeout_us, seq, TimerKind.SLEEP, td.td_tid))
    if s.curthread == td.td_tid:
        s.curthread = 0
    k.ctx.event(Kind.SLEEP, td.td_tid, priority, timeout_us)


def tick_us(k: Kern, ticks: int) -> int:
    """Virtual microseconds until `ticks` has advanced by a number: callouts end at a tick."""
    begun = k.s.now_us * k.hz // US_PER_SECOND
    return -(-(begun + ticks) * US_PER_SECOND // k.hz) - k.s.now_us


def wakeup(k: Kern, channel: str) -> None:
    """Wake all sleepers on the channel, in order (wakeup(9)); a swapped-out one asks for the swapper."""
    if k.record is not None:
        k.record.wakeups.append(channel)
    tids = k.s.sleepqs.pop(channel, None)
    if tids is None:
        return
    swapper_wanted = False
    for tid in tids:
        swapper_wanted |= _resume(k, k.s.threads[tid])
    if swapper_wanted:
        k.ctx.kassert(channel != PROC0_CHANNEL, "wakeup and wakeup_swapper and proc0", "wakeup")
        kick_proc0(k)


def kick_proc0(k: Kern) -> None:
    """kick_proc0 (vm_glue.c:823-828): wake the swapper; lost if it does not sleep right now."""
    k.ctx.event(Kind.KICK_PROC0, len(k.s.sleepqs.get(PROC0_CHANNEL, ())))
    wakeup(k, PROC0_CHANNEL)


def sleepq_timeout(k: Kern, td: Thread) -> None:
    """The timeout of a sleep."""
    td.td_flags |= TDF_TIMEOUT
    sleepq_remove(k, td)


def sleepq_remove(k: Kern, td: Thread) -> bool:
    """End one thread's sleep, by timeout or signal; True: it is swapped out, and kick_proc0 was called."""
    queue = k.s.sleepqs[td.td_wchan]
    queue.remove(td.td_tid)
    if not queue:
        del k.s.sleepqs[td.td_wchan]
    swapper_wanted = _resume(k, td)
    if swapper_wanted:
        kick_proc0(k)
    return swapper_wanted


def _resume(k: Kern, td: Thread) -> bool:
    """sleepq_resume_thread: off the queue, and runnable if nothing else keeps it."""
    td.td_wchan = td.td_wmesg = ""
    td.td_timeout = 0
    td.td_flags &= ~TDF_SINTR
    slept = max(k.s.now_us - td.td_asleep_since_us, 0)  # another processor's clock may be behind
    td.td_sleep_us += slept
    if td.td_flags & TDF_CANSWAP:
        td.td_swappable_us += slept
    if td.td_inhibitors & TDI_SLEEPING == 0:
        return False
    td_clr_inhib(k, td, TDI_SLEEPING)
    return setrunnable(k, td)
