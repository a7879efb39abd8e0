"""Signals to processes (kern_sig.c)."""

from __future__ import annotations

from services.scheduler.kern import Kern
from services.scheduler.proc_flags import TDF_SINTR
from services.scheduler.sleepq import sleepq_remove
from services.scheduler.state import Proc


def psignal(k: Kern, p: Proc, signal: int) -> None:
    """Post a deadly signal: it ends the process when a thread returns to user mode; interruptible sleeps end now."""
    p.p_sig = p.p_sig or signal
    for td in p.p_threads:
        if td.td_wchan and td.td_flags & TDF_SINTR:
            sleepq_remove(k, td)
