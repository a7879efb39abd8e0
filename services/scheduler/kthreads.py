"""The kernel's own threads: page daemon, vmdaemon, init, and those that bring processes in for others."""

from __future__ import annotations

from hardware_sim.clock import c_uint
from services.ports.common import VM_OOM_MEM, VM_OOM_SWAPZ
from services.scheduler.glue_swap import faultin, prele
from services.scheduler.idle import pageout_scan_idle
from services.scheduler.kern import Kern
from services.scheduler.kern_exit import ended_children, proc_reap
from services.scheduler.kern_fork import fork1
from services.scheduler.proc_flags import (
    FORK_FLAGS,
    P_INMEM,
    P_KTHREAD,
    P_SYSTEM,
    PVM,
    PWAIT,
    Prs,
)
from services.scheduler.runq import SLICE_US, sched_add
from services.scheduler.sleepq import child_channel, msleep, sleepq_remove
from services.scheduler.state import (
    INIT,
    PROC0,
    FaultinFrame,
    ForkFrame,
    Frame,
    HolderFrame,
    InitFrame,
    PagedaemonFrame,
    Proc,
    Thread,
)
from services.scheduler.upcalls import PAGES_NEEDED_CHANNEL, absorb
from services.scheduler.vm_daemon import limits_bind
from services.scheduler.vm_oom import vm_pageout_oom

HOLDER_CHANNEL = "phold"
"""Where threads sleep that wait for a faultin() from outside."""


def vm_pageout_worker(k: Kern, td: Thread, f: PagedaemonFrame) -> bool:
    """One turn of the page daemon's loop (vm_pageout.c vm_pageout_worker); False: it sleeps."""
    s = k.s
    if f.step == 0:
        f.step = 1
        if s.vm_pages_needed:
            s.vm_pages_needed = k.physmem.pageout_wait_test().needed
            absorb(k)
        if not s.vm_pages_needed:
            f.vmd_pass = 0
            msleep(k, td, PAGES_NEEDED_CHANNEL, PVM, "psleep", timo=k.hz)
            return False
        if f.vmd_pass > 1:
            msleep(k, td, PAGES_NEEDED_CHANNEL, PVM, "psleep", timo=k.hz // 2)
            return False
    f.step = 0
    if s.vm_pages_needed:
        f.vmd_pass += 1
        if k.physmem.pageout_begin(f.vmd_pass).lowmem:
            k.kstack.vm_thread_stack_lowmem()
            uma_reclaim(k)
        cost_us = k.physmem.pageout_scan(f.vmd_pass).cost_us
    else:
        cost_us = pageout_scan_idle(k, lambda: limits_bind(k))
    k.spend(td, cost_us)
    absorb(k)
    for shortage in (VM_OOM_SWAPZ, VM_OOM_MEM):
        if s.oom & shortage:
            s.oom &= ~shortage
            vm_pageout_oom(k, shortage)
    return True


def uma_reclaim(k: Kern) -> None:
    """uma_reclaim: recycled processes are freed with their threads, whose stacks go back (proc_fini, thread_free)."""
    zone, k.s.proc_zone = k.s.proc_zone, []
    if zone:
        k.kstack.vm_thread_dispose([tid for tid, _, _ in zone])


def init_main(k: Kern, td: Thread, f: InitFrame) -> bool:
    """One turn of init: reap, start what is due, wait; False: it sleeps."""
    s = k.s
    p = s.allproc[INIT]
    if f.fork is not None:
        if not fork1(k, td, f.fork):
            return False
        f.fork = None
    for pid in ended_children(k, p.p_children):
        proc_reap(k, s.zombproc[pid])
    if s.spawns and s.spawns[0][0] <= s.now_us:
        program = s.spawns.pop(0)[2]
        f.fork = ForkFrame(FORK_FLAGS, program.cookie, program=program)
        return True
    msleep(k, td, child_channel(INIT), PWAIT, "wait")
    return False


def hold_main(k: Kern, td: Thread, f: HolderFrame) -> bool:
    """One turn of a thread that calls faultin(), or holds a process, for somebody outside; False: it sleeps."""
    if not hold_all(k, td, f):
        return False
    if f.hold_us:
        length, f.hold_us = f.hold_us, 0
        msleep(k, td, f"hold:{td.td_tid}", PVM, "hold", length)
        return False
    if f.held:
        held, f.held = f.held, 0
        prele(k, k.s.allproc[held])
    msleep(k, td, HOLDER_CHANNEL, PVM, "phold")
    return False


def hold_all(k: Kern, td: Thread, f: HolderFrame) -> bool:
    """faultin() of all processes that are still wanted, one after the other; False: the thread sleeps in one."""
    while f.faultin is not None or f.pids:
        f.faultin = f.faultin or FaultinFrame(f.pids.pop(0))
        if not faultin(k, td, f.faultin):
            return False
        f.faultin = None
    return True


def holder(k: Kern) -> Thread:
    """A thread of process 0 that is free to call faultin() for somebody outside, for whose thread it stands."""
    s = k.s
    idle = s.sleepqs.get(HOLDER_CHANNEL)
    if idle:
        return s.threads[idle[0]]
    s.last_tid += 1
    td = Thread(s.last_tid, PROC0, td_priority=PVM, td_frame=HolderFrame(), td_slice_us=SLICE_US)
    s.allproc[PROC0].p_threads.append(td)
    s.threads[td.td_tid] = td
    return td


def phold(k: Kern, p: Proc, hold_us: int) -> Thread:
    """A thread that is about to hold a process (_PHOLD): p_lock++, faultin() if it is out, and _PRELE after a while."""
    td = holder(k)
    frame = td.td_frame
    assert isinstance(frame, HolderFrame), "a holder does nothing else"
    if td.td_wchan:
        sleepq_remove(k, td)
    else:
        sched_add(k, td)
    p.p_lock += 1
    frame.held, frame.hold_us = p.p_pid, hold_us
    if p.p_flag & P_INMEM == 0:
        frame.pids = [p.p_pid]
    return td


def new_kproc(k: Kern, pid: int, name: str, tid: int, frame: Frame) -> Thread:
    """kproc_create: a P_SYSTEM process on process 0's address space (the caller counts it), its thread runnable."""
    s = k.s
    flags = P_SYSTEM | P_INMEM | (P_KTHREAD if pid != INIT else 0)
    td = Thread(tid, pid, td_priority=PVM, td_frame=frame, td_slice_us=SLICE_US)
    p = Proc(
        pid, name, p_state=Prs.NORMAL, p_flag=flags, p_vmspace=s.vmspace0, p_threads=[td], p_swtick=c_uint(k.ticks)
    )
    k.allproc_insert_head(p)
    s.threads[tid] = td
    sched_add(k, td)
    return td
