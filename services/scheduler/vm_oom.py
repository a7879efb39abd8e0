"""Out of memory: whom vm_pageout_oom (vm_pageout.c) kills."""

from __future__ import annotations

from services.ports.common import VM_OOM_MEM
from services.runtime.errors import KernelPanic
from services.runtime.events import Kind
from services.scheduler.kern import Kern
from services.scheduler.kern_sig import psignal
from services.scheduler.proc_flags import (
    P_INEXEC,
    P_PROTECTED,
    P_SYSTEM,
    P_WEXIT,
    P_WKILLED,
    PRIO_MIN,
    SIGKILL,
    Prs,
)
from services.scheduler.runq import sched_nice
from services.scheduler.sleepq import is_settled, wakeup
from services.scheduler.state import Proc


def vm_pageout_oom(k: Kern, shortage: int) -> None:
    """vm_pageout_oom: kill the process with most pages in swap, and in memory; the first in list order on ties.

    Args:
        k: The kernel.
        shortage: VM_OOM_MEM: resident pages count, too; VM_OOM_SWAPZ: pages in swap alone, which fill the zone.

    Raises:
        KernelPanic: There is one, and vm.panic_on_oom is set.
    """
    bigproc, bigsize = None, 0
    procs = [p for p in reversed(k.s.allproc.values()) if _may_be_killed(p)]
    sizes = _sizes(k, list(dict.fromkeys(p.p_vmspace for p in procs)), shortage)
    for p in procs:
        size = sizes.get(p.p_vmspace, 0)
        if size > bigsize:
            bigproc, bigsize = p, size
    if bigproc is None:
        return
    if k.s.vm_panic_on_oom:
        raise KernelPanic("out of swap space", "vm_pageout_oom")
    k.ctx.event(Kind.OOM_KILL, bigproc.p_pid, bigsize, shortage)
    killproc(k, bigproc)
    sched_nice(k, bigproc, PRIO_MIN)
    wakeup(k, "v_free_count")


def _may_be_killed(p: Proc) -> bool:
    """Whom the choice considers; process ids below 48, spared while there is swap, are the kernel's P_SYSTEM ones."""
    if p.p_state is not Prs.NORMAL or p.p_flag & (P_INEXEC | P_PROTECTED | P_SYSTEM | P_WEXIT | P_WKILLED):
        return False
    return p.p_vmspace != 0 and all(is_settled(td) for td in p.p_threads)


def _sizes(k: Kern, vmspaces: list[int], shortage: int) -> dict[int, int]:
    """The size of each address space whose map nobody has locked (vm_map_trylock_read); locked ones are passed over."""
    if not vmspaces:
        return {}
    answer = k.physmem.vm_map_trylock(vmspaces)
    free = [vmspace for vmspace, locked in zip(vmspaces, answer.locked, strict=True) if locked]
    if not free:
        return {}
    infos = k.physmem.vmspace_info(free).spaces
    k.physmem.vm_map_unlock(free)
    return {info.vmspace: info.swap_count + (info.resident if shortage == VM_OOM_MEM else 0) for info in infos}


def killproc(k: Kern, p: Proc) -> None:
    """killproc: SIGKILL that the process cannot escape."""
    p.p_flag |= P_WKILLED
    psignal(k, p, SIGKILL)
