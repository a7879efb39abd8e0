"""The threads of vm.vmtotal (vm_meter.c vmtotal): vmstat's columns r, b and w."""

from __future__ import annotations

from services.scheduler.kern import Kern
from services.scheduler.proc_flags import P_SYSTEM, PZERO, TDI_SLEEPING, TDI_SWAPPED, Prs, Tds
from services.scheduler.state import Thread

_FIELDS = ("t_rq", "t_dw", "t_sl", "t_sw")


def vmtotal(k: Kern) -> dict[str, int]:
    """Programs' threads: on run queue and processors, asleep at PZERO or better, asleep otherwise, swapped out."""
    total = dict.fromkeys(_FIELDS, 0)
    for p in k.s.allproc.values():
        if p.p_flag & P_SYSTEM == 0 and p.p_state is not Prs.NEW:
            for td in p.p_threads:
                field = _field(td)
                if field:
                    total[field] += 1
    return total


def _field(td: Thread) -> str:
    """Where a thread counts; a suspended one that does not sleep counts nowhere."""
    if td.td_state is Tds.INHIBITED:
        if td.td_inhibitors & TDI_SWAPPED:
            return "t_sw"
        if td.td_inhibitors & TDI_SLEEPING:
            return "t_dw" if td.td_priority <= PZERO else "t_sl"
        return ""
    if td.td_state is Tds.CAN_RUN:
        return "t_sw"
    return "t_rq" if td.td_state in (Tds.RUNQ, Tds.RUNNING) else ""
