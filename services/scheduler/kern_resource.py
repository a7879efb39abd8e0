"""Priorities that a process is given (kern_resource.c): the classes of rtprio(2)."""

from __future__ import annotations

from services.scheduler.proc_flags import PRI_IDLE, PRI_MIN_IDLE, PRI_MIN_REALTIME, PRI_TIMESHARE, pri_is_realtime
from services.scheduler.state import Thread

RTP_PRIO_MAX = 31
"""Lowest priority within a class."""


def rtp_to_pri(td: Thread, pri_class: int, prio: int) -> None:
    """rtp_to_pri: put a thread that does not run into a class; a time-sharing one keeps the priority that it has."""
    td.td_pri_class = pri_class
    if pri_is_realtime(pri_class):
        td.td_user_pri = PRI_MIN_REALTIME + prio
    elif pri_class == PRI_IDLE:
        td.td_user_pri = PRI_MIN_IDLE + prio
    else:
        assert pri_class == PRI_TIMESHARE, f"rtprio(2) knows no class {pri_class}"
