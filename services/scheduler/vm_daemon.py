"""The vmdaemon (vm_pageout.c vm_daemon): whole processes go out, and resident sets come down to their limits."""

from __future__ import annotations

from services.ports.physmem import RssLimit
from services.scheduler.glue_swap import swapout_procs
from services.scheduler.kern import Kern
from services.scheduler.proc_flags import P_INEXEC, P_INMEM, P_SYSTEM, P_WEXIT, PPAUSE, Prs
from services.scheduler.sleepq import is_settled, msleep
from services.scheduler.state import Proc, Thread, VmdaemonFrame
from services.scheduler.upcalls import VM_DAEMON_CHANNEL


def vm_daemon(k: Kern, td: Thread, f: VmdaemonFrame) -> bool:
    """One turn of the vmdaemon (vm_pageout.c vm_daemon): swapout_procs, then the RSS pass; False: it sleeps."""
    if f.step == 0:
        f.step = 1
        msleep(k, td, VM_DAEMON_CHANNEL, PPAUSE, "psleep")
        return False
    f.step = 0
    action, k.s.vm_pageout_req_swapout = k.s.vm_pageout_req_swapout, 0
    if action:
        swapout_procs(k, action)
    _enforce_limits(k)
    return True


def _enforce_limits(k: Kern) -> None:
    """The RSS pass of vm_daemon; an address space without resident pages is left alone until its process is back."""
    procs = [p for p in reversed(k.s.allproc.values()) if _has_limit(k, p)]
    limited = [p.p_vmspace for p in procs if p.p_flag & P_INMEM]
    spaces = k.physmem.vmspace_info(limited).spaces if limited else []
    size = {space.vmspace: space.resident for space in spaces}
    limits = [RssLimit(p.p_vmspace, _rss_limit(p)) for p in procs if size.get(p.p_vmspace, 0) >= _rss_limit(p)]
    if not limits:
        return
    resident = k.physmem.map_deactivate(limits).resident
    for limit, pages in zip(limits, resident, strict=True):
        k.s.vmspaces[limit.vmspace].vm_drained = limit.pages == pages == 0


def limits_bind(k: Kern) -> bool:
    """The next RSS pass may take pages from somebody."""
    return any(_has_limit(k, p) for p in k.s.allproc.values())


def _rss_limit(p: Proc) -> int:
    """Pages that a process may keep: none while it is out."""
    return p.p_rss_limit if p.p_flag & P_INMEM else 0


def _has_limit(k: Kern, p: Proc) -> bool:
    """The RSS pass looks at a process: it is out with pages left, or has an RLIMIT_RSS, and no thread waits to come in.

    By default RLIMIT_RSS is all memory free at boot, which no process in memory exceeds.
    """
    if p.p_state is not Prs.NORMAL or p.p_flag & (P_INEXEC | P_SYSTEM | P_WEXIT):
        return False
    if p.p_flag & P_INMEM:
        return p.p_rss_limit > 0 and p.p_vmspace in k.s.vmspaces and all(is_settled(td) for td in p.p_threads)
    vm = k.s.vmspaces.get(p.p_vmspace)
    if vm is None or (vm.vm_drained and vm.vm_refcnt == 1):
        return False
    return all(is_settled(td) for td in p.p_threads)
