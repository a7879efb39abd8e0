"""Signals to processes with their default actions (kern_sig.c): stop, continue, end."""

from __future__ import annotations

from services.scheduler.kern import Kern
from services.scheduler.kern_suspend import thread_stopped, thread_suspend_one, thread_unsuspend
from services.scheduler.proc_flags import (
    P_PPWAIT,
    P_STOPPED_SIG,
    P_WEXIT,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    TDF_SINTR,
    TDI_SLEEPING,
    TDI_SUSPENDED,
    TDI_SWAPPED,
    Prs,
)
from services.scheduler.sleepq import sleepq_remove
from services.scheduler.state import Proc


def pgsignal(k: Kern, pgrp: int, signal: int) -> None:
    """pgsignal: to every process of a group."""
    for p in [p for p in k.s.allproc.values() if p.p_pgrp == pgrp and p.p_state is Prs.NORMAL]:
        psignal(k, p, signal)


def psignal(k: Kern, p: Proc, signal: int) -> None:
    """tdsendsignal: SIGSTOP stops a process, SIGCONT continues it, any other ends it.

    It ends when a thread returns to user mode. Interruptible sleeps end for it at once, and SIGKILL continues who is
    stopped; another signal waits until somebody does.
    """
    if signal == SIGSTOP:
        _stop(k, p)
    elif signal == SIGCONT:
        _continue(k, p)
    else:
        p.p_sig = p.p_sig or signal
        for td in p.p_threads:
            if td.td_wchan and td.td_flags & TDF_SINTR:
                sleepq_remove(k, td)
        if signal == SIGKILL:
            _continue(k, p)


def _stop(k: Kern, p: Proc) -> None:
    """SA_STOP: a child that its parent waits for in vfork, and who ends, go on."""
    if p.p_flag & (P_PPWAIT | P_WEXIT | P_STOPPED_SIG) or p.p_sig:
        return
    p.p_flag |= P_STOPPED_SIG
    sig_suspend_threads(k, p)
    thread_stopped(k, p)


def sig_suspend_threads(k: Kern, p: Proc) -> None:
    """Threads in an interruptible sleep are suspended where they are, others when they return to user mode."""
    for td in p.p_threads:
        asleep = td.td_inhibitors & (TDI_SLEEPING | TDI_SWAPPED) and td.td_flags & TDF_SINTR
        if asleep and not td.td_inhibitors & TDI_SUSPENDED:
            thread_suspend_one(k, td)


def _continue(k: Kern, p: Proc) -> None:
    """SA_CONT: all threads of a stopped process go on."""
    if p.p_flag & P_STOPPED_SIG:
        p.p_flag &= ~P_STOPPED_SIG
        thread_unsuspend(k, p)
