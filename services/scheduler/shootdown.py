"""TLB shoot-downs: which processors must hear that translations are gone, and what that costs (amd64 mp_machdep.c).

Who runs where is known here, what was invalidated is told by physmem. The kernel waits until every processor that it
interrupts has answered, so the time is that of the processor that asks.
"""

from __future__ import annotations

from services.scheduler.kern import Kern
from services.scheduler.state import Cpu, SchedState

SHOOTDOWNS = "vmglue.tlb.shootdowns"
"""Counter: invalidations that interrupted another processor."""
IPIS = "vmglue.tlb.ipis"
"""Counter: the interrupts, one for each processor."""


def curpmap(s: SchedState, cpu: Cpu) -> int:
    """PCPU_GET(curpmap): the address space that a processor has activated; vmspace0 where it is idle or a zombie's."""
    td = None if cpu.idle else s.threads.get(cpu.curthread or cpu.lastthread)
    p = None if td is None else s.allproc.get(td.td_pid)
    return s.vmspace0 if p is None else p.p_vmspace


def targets(s: SchedState, vmspace: int) -> int:
    """smp_targeted_tlb_shootdown: how many processors beside the present one are in pm_active; the kernel's has all."""
    others = [cpu for number, cpu in enumerate(s.cpus) if number != s.cpu]
    return sum(vmspace in (0, curpmap(s, cpu)) for cpu in others)


def tlb_shootdowns(k: Kern) -> None:
    """pmap_invalidate_page, _range and _all: interrupt those that may hold the translations; nobody: it costs nothing.

    To be called on the processor that changed the mappings; whoever runs on it owes the time.
    """
    told, k.ctx.upcalls.shootdowns = k.ctx.upcalls.shootdowns, []
    for shootdown in told:
        ipis, config = targets(k.s, shootdown.vmspace), k.s.config
        if ipis:
            k.ctx.count(SHOOTDOWNS, shootdown.count)
            k.ctx.count(IPIS, shootdown.count * ipis)
            k.s.owed_ns += shootdown.count * (config.shootdown_ns + ipis * config.ipi_ns)
