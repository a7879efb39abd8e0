"""fork1 (kern_fork.c): stack, address space, process, vm_forkproc."""

from __future__ import annotations

from hardware_sim.clock import c_uint
from hardware_sim.cpu import COSTS
from services.ports.common import Status
from services.ports.kstack import ThreadStack
from services.ports.scheduler import SpaceEvent, SpaceNotice
from services.scheduler.glue_fork import ForkprocArgs, vm_forkproc
from services.scheduler.glue_swap import prele
from services.scheduler.kern import Kern
from services.scheduler.kern_exec import exec_frame
from services.scheduler.kern_exit import vfork_channel
from services.scheduler.kern_resource import rtp_to_pri
from services.scheduler.kern_thr import thread_reap
from services.scheduler.proc_flags import FORK_FLAGS, P_INMEM, P_PPWAIT, RFMEM, RFPPWAIT, VFORK_FLAGS, Prs, Tds
from services.scheduler.runq import STATCLOCK_US, resetpriority, sched_add
from services.scheduler.sleepq import msleep
from services.scheduler.state import PROC0, ForkFrame, Proc, Thread
from services.scheduler.upcalls import suspend

_STACK, _SPACE, _FORKPROC, _MEMORY, _VFORK, _PAUSE, _PAUSED = range(7)


def fork1(k: Kern, td: Thread, f: ForkFrame) -> bool:
    """fork1: make a child of the thread's process; False: the thread was put to sleep.

    A failure (no kernel address space or no memory for the map) makes no child and pauses for half a second.
    """
    if f.step == _STACK:
        if not _stack(k, td, f):
            return False
        f.step = _SPACE if f.tid else _PAUSE
    if f.step == _SPACE:
        f.step = _FORKPROC if _space(k, td, f) else _PAUSE
    if f.step == _PAUSE:
        f.step = _PAUSED
        msleep(k, td, f"pause:{td.td_tid}", 0, "fork", timo=k.hz // 2)
        return False
    if f.step in (_FORKPROC, _MEMORY) and not _child(k, td, f):
        return False
    p2 = k.s.allproc.get(f.p2)
    if p2 is not None and p2.p_flag & P_PPWAIT:
        msleep(k, td, vfork_channel(f.p2), 0, "ppwait")
        return False
    return True


def _stack(k: Kern, td: Thread, f: ForkFrame) -> bool:
    """A thread with a kernel stack: a recycled one, or vm_thread_new; no tid afterwards: there was none."""
    s = k.s
    if s.proc_zone and not f.op:
        f.tid = s.proc_zone[-1][0]
        return True
    if f.tid == 0:
        thread_reap(k)
        s.last_tid += 1
        f.tid = s.last_tid
    answer = k.kstack.vm_thread_new([ThreadStack(f.tid, 0)], f.op)
    if answer.status is Status.SUSPENDED:
        f.op = suspend(k, td, answer.suspension)
        return False
    f.op = 0
    stack = answer.stacks[0]
    if stack.ok:
        s.proc_zone.append((f.tid, stack.td_kstack, stack.td_kstack_pages))
    else:
        f.tid = 0
    return True


def _space(k: Kern, td: Thread, f: ForkFrame) -> bool:
    """vmspace_fork, unless the memory is shared; then the new process, held back until it is complete."""
    p1 = k.s.allproc[td.td_pid]
    if f.flags & RFMEM == 0:
        answer = k.physmem.vmspace_fork(p1.p_vmspace)
        if answer.error:
            return False
        f.vm2 = answer.vmspace
        k.s.vmspaces[f.vm2] = k.s.vmspaces[p1.p_vmspace].forked()
        k.s.notices.append(SpaceNotice(SpaceEvent.FORKED, f.vm2, p1.p_vmspace))
    p1.p_lock += 1
    _new_proc(k, p1, td, f)
    return True


def _new_proc(k: Kern, p1: Proc, td: Thread, f: ForkFrame) -> None:
    """A process at the head of allproc, PRS_NEW, with the thread and stack taken from the zone."""
    s = k.s
    s.last_pid += 1
    f.p2 = s.last_pid
    tid, ks, pages = s.proc_zone.pop()
    td2 = Thread(
        tid,
        f.p2,
        td_pri_class=td.td_pri_class,
        td_user_pri=td.td_user_pri,
        td_estcpu_at_us=td.td_estcpu_at_us,
        td_kstack=ks,
        td_kstack_pages=pages,
    )
    p2 = Proc(
        f.p2,
        p1.p_comm,
        p_pptr=p1.p_pid,
        p_flag=P_INMEM,
        p_swtick=c_uint(k.ticks),
        p_nice=p1.p_nice,
        p_threads=[td2],
        p_pgrp=p1.p_pgrp,
        p_cookie=f.cookie,
        p_brk=p1.p_brk,
        p_rss_limit=p1.p_rss_limit,
        p_memlock_limit=p1.p_memlock_limit,
        p_sleep_percent=p1.p_sleep_percent,
        p_start_us=s.now_us,
    )
    if f.program is not None:
        p2.p_nice, p2.p_sleep_percent = f.program.nice, f.program.sleep_scale_percent
        p2.p_rss_limit, p2.p_memlock_limit = f.program.rss_limit, f.program.memlock_limit
        p2.p_pgrp = f.program.cookie
        rtp_to_pri(td2, f.program.pri_class, f.program.rtprio)
        td2.td_frame = exec_frame(k, f.program.name, f.program.regions)
    k.allproc_insert_head(p2)
    s.threads[tid] = td2
    p1.p_children.append(f.p2)


def _child(k: Kern, td: Thread, f: ForkFrame) -> bool:
    """vm_forkproc, then let the child run; False: the parent waits for memory."""
    p1, p2 = k.s.allproc[td.td_pid], k.s.allproc[f.p2]
    td2 = p2.p_threads[0]
    resumed, f.step = f.step == _MEMORY, _MEMORY
    if vm_forkproc(k, ForkprocArgs(td, p2, td2, f.vm2, f.flags), resumed) is None:
        return False
    f.step = _VFORK
    k.spend(td, COSTS.fork_us)
    _count(k, p1, p2, f.flags)
    if f.flags & RFPPWAIT:
        p2.p_flag |= P_PPWAIT
    p2.p_state = Prs.NORMAL
    td2.td_state, td2.td_slice_us = Tds.CAN_RUN, STATCLOCK_US
    resetpriority(k, td2)
    td2.td_priority = td2.td_user_pri
    sched_add(k, td2)
    prele(k, p1)
    return True


def _count(k: Kern, p1: Proc, p2: Proc, flags: int) -> None:
    """The meter's forks of each kind, and the pages of data and stack that they were asked to copy or share."""
    vm = k.s.vmspaces[p2.p_vmspace]
    if flags == FORK_FLAGS:
        kind = "fork"
    elif flags == VFORK_FLAGS:
        kind = "vfork"
    else:
        kind = "kthread" if p1.p_pid == PROC0 else "rfork"
    k.ctx.count(f"vm.stats.vm.v_{kind}s")
    k.ctx.count(f"vm.stats.vm.v_{kind}pages", vm.vm_dsize + vm.vm_ssize)
