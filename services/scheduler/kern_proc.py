"""What procstat -a and ps -e read of every process by kern.proc sysctls (kern_proc.c): each is held for it."""

from __future__ import annotations

from services.scheduler.glue_swap import faultin, prele
from services.scheduler.kern import Kern
from services.scheduler.proc_flags import P_SYSTEM, P_WEXIT, Prs
from services.scheduler.state import FaultinFrame, ProcstatFrame, Thread

_READ_INSTRUCTIONS = 3000
"""An estimate of the way into one process' arguments, environment and auxiliary vector."""
_STACK_BYTES = 1400


def procstat(k: Kern) -> ProcstatFrame:
    """A turn round all programs' processes."""
    return ProcstatFrame([p.p_pid for p in k.s.allproc.values() if p.p_flag & P_SYSTEM == 0])


def sysctl_kern_proc(k: Kern, td: Thread, f: ProcstatFrame) -> bool:
    """The next process: pget(PGET_HOLD), which brings it in if it is out, and _PRELE; False: more, or it sleeps.

    Those that end meanwhile are passed over (PGET_NOTWEXIT), as are those in creation.
    """
    procs = k.s.allproc
    if f.faultin is None and f.pids:
        p = procs.get(f.pids.pop(0))
        if p is not None and p.p_state is Prs.NORMAL and p.p_flag & P_WEXIT == 0:
            p.p_lock += 1
            f.faultin = FaultinFrame(p.p_pid)
    if f.faultin is not None:
        if not faultin(k, td, f.faultin):
            return False
        k.spend_instructions(td, _READ_INSTRUCTIONS, _STACK_BYTES)
        held, f.faultin = f.faultin.pid, None
        prele(k, procs[held])
    return not f.pids
