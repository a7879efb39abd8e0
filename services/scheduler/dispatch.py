"""The machine's loop: timers, device completions, kernel work, and the next slice of a program."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop
from typing import Any

from hardware_sim.cpu import COSTS
from services.ports.scheduler import Dispatch, DispatchKind
from services.scheduler.glue_swap import swapper
from services.scheduler.kern import Kern
from services.scheduler.kern_exec import kern_execve
from services.scheduler.kern_exit import exit1, kern_wait
from services.scheduler.kern_fork import fork1
from services.scheduler.kern_proc import sysctl_kern_proc
from services.scheduler.kern_sig import pgsignal
from services.scheduler.kern_suspend import thread_suspend_check
from services.scheduler.kern_syscalls import (
    map_change,
    mlock_call,
    ptrace_call,
    shm_call,
    sleep_call,
    swap_device_call,
    sysctl_call,
)
from services.scheduler.kern_thr import must_exit, thr_exit, thr_join, thr_new, thr_turn
from services.scheduler.kthreads import hold_main, init_main, vm_pageout_worker
from services.scheduler.proc_flags import P_STOPPED_SIG, P_SYSTEM, SIGCONT, SIGSTOP, TDI_SUSPENDED, TDI_SWAPPED
from services.scheduler.runq import loadav, mi_switch, on_cpu, sched_choose, schedcpu
from services.scheduler.shootdown import tlb_shootdowns
from services.scheduler.sleepq import child_channel, sleepq_timeout, wakeup
from services.scheduler.smp import SKEW_US, idle, next_cpu, others_busy, wait_for
from services.scheduler.state import (
    INIT,
    ExecFrame,
    ExitFrame,
    ForkFrame,
    HolderFrame,
    InitFrame,
    MapFrame,
    MlockFrame,
    PagedaemonFrame,
    Proc,
    ProcstatFrame,
    PtraceFrame,
    ShmFrame,
    SleepFrame,
    SwapDeviceFrame,
    SwapperFrame,
    Thread,
    ThrExitFrame,
    ThrJoinFrame,
    ThrNewFrame,
    ThrTurnFrame,
    TimerKind,
    VmdaemonFrame,
    VslockFrame,
    WaitFrame,
)
from services.scheduler.upcalls import absorb
from services.scheduler.vm_daemon import vm_daemon

MEMORY_WAIT_US_MAX = 600_000_000
"""Virtual time after which programs that only wait for memory count as deadlocked: the page daemon found none."""
_UNBOUNDED_US = 60_000_000
"""Idle time that is looked ahead at once where the caller sets no bound."""
_REASONS_MAX = 8

_FRAMES: dict[type, Callable[[Kern, Thread, Any], bool]] = {
    SwapperFrame: swapper,
    HolderFrame: hold_main,
    PagedaemonFrame: vm_pageout_worker,
    VmdaemonFrame: vm_daemon,
    InitFrame: init_main,
    ForkFrame: fork1,
    ExecFrame: kern_execve,
    ExitFrame: exit1,
    ThrNewFrame: thr_new,
    ThrExitFrame: thr_exit,
    ThrJoinFrame: thr_join,
    ThrTurnFrame: thr_turn,
    WaitFrame: kern_wait,
    SleepFrame: sleep_call,
    VslockFrame: sysctl_call,
    MlockFrame: mlock_call,
    ShmFrame: shm_call,
    PtraceFrame: ptrace_call,
    ProcstatFrame: sysctl_kern_proc,
    MapFrame: map_change,
    SwapDeviceFrame: swap_device_call,
}
_FOR_EVER = (SwapperFrame, HolderFrame, PagedaemonFrame, VmdaemonFrame, InitFrame)


def next_dispatch(k: Kern, limit_us: int) -> Dispatch:
    """Let the machine go on until a program's thread has the processor in user mode.

    Args:
        k: The kernel.
        limit_us: Virtual time up to which idle time may pass; 0: no bound.
    """
    s = k.s
    k.limit_us = limit_us if limit_us > 0 else s.now_us + _UNBOUNDED_US
    while True:
        next_cpu(k)
        if s.now_us >= s.loadav_due_us:
            loadav(k)
        if s.now_us >= s.schedcpu_due_us:
            schedcpu(k)
        absorb(k)
        if fire_due(k):
            continue
        td = sched_choose(k)
        if td is None:
            if others_busy(s):
                idle(k)
                continue
            dispatch = _idle(k, limit_us)
            if dispatch is not None:
                return dispatch
            continue
        if wait_for(k, td) or mi_switch(k, td, COSTS.context_switch_us):
            continue
        if td.td_wake_us >= 0:
            on_cpu(k, td)
        if td.td_frame is None:
            p = s.allproc[td.td_pid]
            if td.td_fault_us >= 0 or not _ast(k, p, td):  # a fault that reads a page is completed before
                return _user(k, td, p)
            if td.td_frame is None:
                continue
        take_turn(k, td)


def _ast(k: Kern, p: Proc, td: Thread) -> bool:
    """ast: what a thread does instead of returning to user mode: it ends, its process ends, or it is suspended."""
    if must_exit(p, td):
        td.td_frame = ThrExitFrame()
    elif p.p_sig:
        td.td_frame = ExitFrame(-p.p_sig)
    else:
        return thread_suspend_check(k, p, td)
    return True


def take_turn(k: Kern, td: Thread) -> None:
    """A thread that is inside the kernel goes on until it sleeps, returns or has come round its loop."""
    if _FRAMES[type(td.td_frame)](k, td, td.td_frame) and not isinstance(td.td_frame, _FOR_EVER):
        td.td_frame = None
    tlb_shootdowns(k)
    k.spend_owed(td)


def fire_due(k: Kern) -> bool:
    """Complete the device operations that are due, in order of (due, id), and end the sleeps whose time has come."""
    s = k.s
    fired = False
    done: list[int] = []
    while s.ios and s.ios[0][0] <= s.now_us:
        done.append(heappop(s.ios)[1])
    if done:
        k.physmem.complete_io(done)
        absorb(k)
        fired = True
    while s.timers and s.timers[0][0] <= s.now_us:
        _, seq, kind, tid = heappop(s.timers)
        fired = True
        if kind == TimerKind.SPAWN:
            wakeup(k, child_channel(INIT))
        elif kind == TimerKind.STOP:
            pgsignal(k, tid, SIGSTOP)
        elif kind == TimerKind.CONTINUE:
            pgsignal(k, tid, SIGCONT)
        elif tid in s.threads and s.threads[tid].td_timeout == seq:
            sleepq_timeout(k, s.threads[tid])
    return fired


def next_due(k: Kern) -> int | None:
    """Virtual time of the next timer or device completion; timers of sleeps that ended before are dropped."""
    s = k.s
    while s.timers and s.timers[0][2] == TimerKind.SLEEP:
        _, seq, _, tid = s.timers[0]
        if tid in s.threads and s.threads[tid].td_timeout == seq:
            break
        heappop(s.timers)
    due = [queue[0][0] for queue in (s.timers, s.ios) if queue]
    return min(due) if due else None


def _user(k: Kern, td: Thread, p: Proc) -> Dispatch:
    """The thread returns to user mode: a slice up to its end, the next timer or the next turn of schedcpu."""
    s = k.s
    td.td_priority = td.td_user_pri
    due = next_due(k)
    until = s.schedcpu_due_us if due is None else min(due, s.schedcpu_due_us)
    budget = min(td.td_slice_us, until - s.now_us)
    if others_busy(s):
        budget = min(budget, SKEW_US)
    if p.p_sig or p.p_flag & P_STOPPED_SIG or must_exit(p, td):
        budget = 1
    s.user_ran_us = s.now_us
    s.dispatched = True
    notices, s.notices = s.notices, []
    return Dispatch(
        DispatchKind.RUN,
        s.now_us,
        k.ticks,
        td.td_tid,
        p.p_pid,
        p.p_vmspace,
        td.td_cookie or p.p_cookie,
        max(budget, 1),
        td.td_phase,
        td.td_fault_op,
        notices,
        cpu=s.cpu,
    )


def _idle(k: Kern, limit_us: int) -> Dispatch | None:
    """Nothing is runnable: jump to the next event, or answer that there is none; None: time has passed, go on."""
    s = k.s
    due = next_due(k)
    if _finished(k):
        return _stopped(k, DispatchKind.FINISHED)
    if due is None or _deadlocked(k):
        return _stopped(k, DispatchKind.DEADLOCK, _reason(k))
    until = due if limit_us <= 0 else min(due, max(limit_us, s.now_us))
    s.idle_us += until - s.now_us
    s.lastthread = 0
    k.set_time(until)
    return None if until == due else _stopped(k, DispatchKind.IDLE)


def _stopped(k: Kern, kind: DispatchKind, reason: str = "") -> Dispatch:
    notices, k.s.notices = k.s.notices, []
    return Dispatch(kind, k.s.now_us, k.ticks, notices=notices, reason=reason)


def _programs(k: Kern) -> list[Proc]:
    return [p for p in k.s.allproc.values() if p.p_flag & P_SYSTEM == 0]


def _finished(k: Kern) -> bool:
    return not k.s.spawns and not k.s.zombproc and not any(p.p_flag & P_SYSTEM == 0 for p in k.s.allproc.values())


def _deadlocked(k: Kern) -> bool:
    """No program can ever run again: nothing is due that concerns one, and waiting for memory has its limit."""
    s = k.s
    if s.ios or s.spawns:
        return False
    memory = False
    for td in s.threads.values():
        memory |= td.td_wchan == "v_free_count" or td.td_inhibitors == TDI_SWAPPED
        if td.td_timeout and (isinstance(td.td_frame, HolderFrame) or not k.is_kernel(td)):
            return False
    if any(kind == TimerKind.CONTINUE for _, _, kind, _ in s.timers):
        return False
    return not memory or s.now_us - s.user_ran_us > MEMORY_WAIT_US_MAX


def _wait(td: Thread) -> str:
    if td.td_inhibitors & TDI_SUSPENDED:
        return "is stopped"
    return f"waits for {td.td_wchan or 'the swapper'}"


def _reason(k: Kern) -> str:
    """Who waits for what."""
    waits = [
        f"{p.p_comm} (pid {p.p_pid}) {_wait(td)}" + (f" ({td.td_wmesg})" if td.td_wmesg else "")
        for p in _programs(k)
        for td in p.p_threads
    ]
    more = f", and {len(waits) - _REASONS_MAX} more" if len(waits) > _REASONS_MAX else ""
    return ", ".join(waits[:_REASONS_MAX]) + more
