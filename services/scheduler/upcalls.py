"""What lower layers want: acted upon here, because the scheduler owns the kernel's threads."""

from __future__ import annotations

from heapq import heappush

from hardware_sim.clock import c_int
from services.ports.common import Suspension
from services.scheduler.kern import Kern
from services.scheduler.shootdown import tlb_shootdowns
from services.scheduler.sleepq import msleep, wakeup
from services.scheduler.state import Thread

PAGES_NEEDED_CHANNEL = "vm_pages_needed"
"""&vm_pages_needed, where the page daemon sleeps."""
VM_DAEMON_CHANNEL = "vm_daemon_needed"
"""&vm_daemon_needed, where the vmdaemon sleeps."""


def absorb(k: Kern) -> None:
    """Act on what the answers of the layers below carried."""
    s, ctx = k.s, k.ctx
    if not ctx.upcalls:
        return
    tlb_shootdowns(k)
    upcalls = ctx.take_upcalls()
    for io in upcalls.ios:
        heappush(s.ios, (io.due_us, io.io))
    for channel in upcalls.wakeups:
        wakeup(k, channel)
    if upcalls.pagedaemon_wanted:
        pagedaemon_wakeup(k)
    if upcalls.swap_request:
        vm_req_vmdaemon(k, upcalls.swap_request)
    s.oom |= upcalls.oom


def pagedaemon_wakeup(k: Kern) -> None:
    """pagedaemon_wakeup: vm_pages_needed was just set; wake the daemon."""
    k.s.vm_pages_needed = True
    wakeup(k, PAGES_NEEDED_CHANNEL)


def vm_req_vmdaemon(k: Kern, request: int) -> None:
    """vm_req_vmdaemon: note the request; wake the vmdaemon at most about once a second."""
    s = k.s
    s.vm_pageout_req_swapout |= request
    if k.ticks > c_int(s.vm_daemon_lastrun + k.hz) or k.ticks < s.vm_daemon_lastrun:
        s.vm_daemon_lastrun = k.ticks
        wakeup(k, VM_DAEMON_CHANNEL)


def suspend(k: Kern, td: Thread, suspension: Suspension | None) -> int:
    """Put the thread to sleep as an operation below asks.

    Wakeups that came with the answer happened before the sleep.

    Returns:
        The operation's id.
    """
    assert suspension is not None, "an answer is SUSPENDED but carries no suspension"
    absorb(k)
    msleep(k, td, suspension.channel, suspension.priority, suspension.wmesg, timo=suspension.timeout_ticks)
    return suspension.op
