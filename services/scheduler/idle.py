"""Idle time: how long nobody but the kernel's daemons will run, so that the page daemon's scans of it are one call.

Scans that were made ahead are used up before the call of the scheduler ends, at the very times for which they were
made: no event and no state tells that they were made together.
"""

from __future__ import annotations

from collections.abc import Callable

from hardware_sim.clock import US_PER_SECOND, c_int
from hardware_sim.cpu import COSTS
from services.scheduler.kern import Kern
from services.scheduler.proc_flags import P_INMEM, P_SYSTEM, TDF_CANSWAP, VM_SWAP_NORMAL
from services.scheduler.smp import others_busy
from services.scheduler.state import PagedaemonFrame, Proc, SwapperFrame, TimerKind, VmdaemonFrame

_MARGIN_US = 2_000
"""From a scan that was made ahead until somebody may run, at least: what a turn of the daemons takes."""


def pageout_scan_idle(k: Kern, limits: Callable[[], bool]) -> int:
    """vm_pageout_scan of pass 0 by the page daemon.

    Args:
        k: The kernel.
        limits: Whether the next turn of the vmdaemon takes pages from somebody.

    Returns:
        Its cost in microseconds.
    """
    if not k.idle_scans:
        until_us, due = _nobody_goes(k, _quiet_until(k))
        answer = k.physmem.pageout_idle(until_us, COSTS.context_switch_us, not (due or limits()))
        k.idle_scans = list(zip(answer.cost_us, answer.swap_request, strict=True))
    cost_us, request = k.idle_scans.pop(0)
    k.ctx.upcalls.swap_request |= request
    return cost_us


def _quiet_until(k: Kern) -> int:
    """Virtual time up to which only daemons run that change nothing; now, if somebody else may run at once."""
    s = k.s
    swapper = s.allproc[0].p_threads[0].td_frame
    busy = isinstance(swapper, SwapperFrame) and swapper.faultin is not None
    if busy or others_busy(s) or s.runq or len(k.candidates) or s.scripted or k.ctx.env.preempts:
        return s.now_us
    if s.vm_pageout_req_swapout & VM_SWAP_NORMAL:
        return s.now_us
    due = [k.limit_us, *(io[0] for io in s.ios[:1]), *(timer[0] for timer in s.timers if _of_others(k, *timer[1:]))]
    return min(due) - _MARGIN_US


def _of_others(k: Kern, seq: int, kind: int, tid: int) -> bool:
    """A timer that lets somebody run beside page daemon and vmdaemon: the swapper, too, delays what runs after it."""
    if kind != TimerKind.SLEEP:
        return True
    td = k.s.threads.get(tid)
    if td is None or td.td_timeout != seq:
        return False
    return not isinstance(td.td_frame, (PagedaemonFrame, VmdaemonFrame))


def _nobody_goes(k: Kern, until_us: int) -> tuple[int, bool]:
    """The part of a time in which no process becomes idle enough to go, and whether one is already (vm_glue.c:982)."""
    due = False
    for p in k.s.allproc.values():
        if p.p_flag & P_SYSTEM or p.p_flag & P_INMEM == 0:
            continue
        left = _ticks_until_idle(k, p)
        due |= left is not None and left <= 0
        if left is not None and left > 0:
            until_us = min(until_us, k.s.now_us + left * US_PER_SECOND // k.hz - _MARGIN_US)
    return until_us, due


def _ticks_until_idle(k: Kern, p: Proc) -> int | None:
    """Ticks until all threads have slept longer than swap_idle_threshold2; None: one may not be swapped out."""
    if not all(td.td_flags & TDF_CANSWAP for td in p.p_threads):
        return None
    idle = (max(k.s.swap_idle_threshold2, k.s.swap_idle_threshold1 - 1) + 1) * k.hz
    return max(idle - c_int(k.ticks - td.td_slptick) for td in p.p_threads)
