"""Suspension of threads (kern_thread.c): who is suspended may be swapped out, however it sleeps."""

from __future__ import annotations

from services.runtime.events import Kind
from services.scheduler.kern import Kern
from services.scheduler.proc_flags import P_STOPPED_SIG, TDI_SUSPENDED
from services.scheduler.sleepq import (
    child_channel,
    kick_proc0,
    sched_sleep,
    setrunnable,
    td_clr_inhib,
    td_set_inhib,
    wakeup,
)
from services.scheduler.state import Proc, Thread


def thread_suspend_one(k: Kern, td: Thread) -> None:
    """thread_suspend_one: the thread, which sleeps or has the processor, stays where it is until it is unsuspended."""
    td_set_inhib(k, td, TDI_SUSPENDED)
    sched_sleep(k, td, 0)
    if k.s.curthread == td.td_tid:
        k.s.curthread = 0
        td.td_runnable_us = k.s.now_us


def thread_suspend_check(k: Kern, p: Proc, td: Thread) -> bool:
    """thread_suspend_check at the return to user mode; True: the thread was suspended."""
    if not p.p_flag & P_STOPPED_SIG:
        return False
    thread_suspend_one(k, td)
    thread_stopped(k, p)
    return True


def thread_stopped(k: Kern, p: Proc) -> None:
    """thread_stopped: when all threads of a stopped process are suspended its parent is told (childproc_stopped)."""
    if all(td.td_inhibitors & TDI_SUSPENDED for td in p.p_threads):
        k.ctx.event(Kind.PROC_STOPPED, p.p_pid)
        wakeup(k, child_channel(p.p_pptr))


def thread_unsuspend(k: Kern, p: Proc) -> None:
    """thread_unsuspend: threads that nothing else keeps are runnable; swapped-out ones ask for the swapper."""
    k.ctx.event(Kind.PROC_CONTINUED, p.p_pid)
    thread_unsuspend_each(k, [td for td in p.p_threads if td.td_inhibitors & TDI_SUSPENDED])


def thread_unsuspend_each(k: Kern, threads: list[Thread]) -> None:
    """thread_unsuspend_one for each of some threads, and kick_proc0 if one of them is swapped out."""
    swapper_wanted = False
    for td in threads:
        td_clr_inhib(k, td, TDI_SUSPENDED)
        swapper_wanted |= setrunnable(k, td)
    if swapper_wanted:
        kick_proc0(k)
