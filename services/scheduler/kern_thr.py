"""Threads of a process: thr_new, thr_exit, and the single thread that remains (kern_thr.c, kern_thread.c)."""

from __future__ import annotations

from services.ports.common import Status
from services.ports.kstack import ThreadStack
from services.runtime.events import Kind
from services.scheduler.kern import Kern
from services.scheduler.kern_suspend import thread_unsuspend_each
from services.scheduler.proc_flags import P_HADTHREADS, P_SINGLE_EXIT, TDF_SINTR, TDI_SUSPENDED, Tds
from services.scheduler.runq import STATCLOCK_US, resetpriority, sched_add, sched_exit
from services.scheduler.sleepq import msleep, sleepq_remove, wakeup
from services.scheduler.state import (
    ExitFrame,
    Proc,
    Rusage,
    Thread,
    ThrExitFrame,
    ThrJoinFrame,
    ThrNewFrame,
    ThrTurnFrame,
)
from services.scheduler.upcalls import suspend


def thr_new(k: Kern, td: Thread, f: ThrNewFrame) -> bool:
    """kern_thr_alloc and thread_create: a thread of the same process, runnable; False: the caller sleeps.

    Where there is no kernel address space for its stack the call fails (ENOMEM) and nobody runs `f.cookie`.
    """
    if f.tid == 0:
        thread_reap(k)
        k.s.last_tid += 1
        f.tid = k.s.last_tid
    answer = k.kstack.vm_thread_new([ThreadStack(f.tid, 0)], f.op)
    if answer.status is Status.SUSPENDED:
        f.op = suspend(k, td, answer.suspension)
        return False
    stack = answer.stacks[0]
    if stack.ok:
        td2 = Thread(
            f.tid,
            td.td_pid,
            td_kstack=stack.td_kstack,
            td_kstack_pages=stack.td_kstack_pages,
            td_cookie=f.cookie,
            td_number=f.number,
        )
        if f.turn:
            k.s.allproc[td.td_pid].p_turn = f.number
        _thread_link(k, td, td2)
    return True


def _thread_link(k: Kern, td: Thread, td2: Thread) -> None:
    """thread_link and sched_fork_thread: last of its process, with the recent processor time of its maker."""
    p = k.s.allproc[td.td_pid]
    p.p_flag |= P_HADTHREADS
    p.p_threads.append(td2)
    k.s.threads[td2.td_tid] = td2
    td2.td_pri_class, td2.td_user_pri, td2.td_slice_us = td.td_pri_class, td.td_user_pri, STATCLOCK_US
    td2.td_estcpu_us, td2.td_estcpu_at_us = td.td_estcpu_us, td.td_estcpu_at_us
    resetpriority(k, td2)
    td2.td_priority = td2.td_user_pri
    k.ctx.event(Kind.THREAD_NEW, td2.td_tid, td2.td_pid, len(p.p_threads))
    sched_add(k, td2)


def thr_exit(k: Kern, td: Thread, f: ThrExitFrame) -> bool:
    """kern_thr_exit: the thread is gone; the last one of a process ends the process."""
    p = k.s.allproc[td.td_pid]
    if len(p.p_threads) == 1:
        td.td_frame = ExitFrame(0)
    else:
        if p.p_turn == td.td_number:
            _give_turn(k, p, f.turn)
        _thread_exit(k, td)
    return False


def thr_join(k: Kern, td: Thread, f: ThrJoinFrame) -> bool:
    """A program waits, in _umtx_op, for the end of thread `f.number`; False: it sleeps."""
    p = k.s.allproc[td.td_pid]
    if p.p_sig or must_exit(p, td) or not _lives(p, f.number):
        return True
    msleep(k, td, _join_channel(p, f.number), 0, "umtxn", catch=True)
    return False


def thr_turn(k: Kern, td: Thread, f: ThrTurnFrame) -> bool:
    """Threads of a captured program run in turn, as they were recorded: a lock of theirs; False: it sleeps for it."""
    p = k.s.allproc[td.td_pid]
    if f.step == 0:
        f.step = 1
        if f.number != td.td_number and _lives(p, f.number):
            _give_turn(k, p, f.number)
    if p.p_sig or must_exit(p, td) or p.p_turn == td.td_number:
        return True
    msleep(k, td, _turn_channel(p, td.td_number), 0, "umtxn", catch=True)
    return False


def _give_turn(k: Kern, p: Proc, number: int) -> None:
    """The turn goes to a thread, to the first one if that has ended."""
    p.p_turn = number if _lives(p, number) else p.p_threads[0].td_number
    wakeup(k, _turn_channel(p, p.p_turn))


def _lives(p: Proc, number: int) -> bool:
    return any(td.td_number == number for td in p.p_threads)


def _turn_channel(p: Proc, number: int) -> str:
    """The word in the program's memory on which a thread waits for its turn."""
    return f"turn:{p.p_pid}:{number}"


def _join_channel(p: Proc, number: int) -> str:
    """The word in the thread's memory that its exit clears."""
    return f"umtx:{p.p_pid}:{number}"


def _thread_exit(k: Kern, td: Thread) -> None:
    """thread_exit: its use of resources stays with the process, itself it is a zombie until somebody reaps it."""
    s = k.s
    p = s.allproc[td.td_pid]
    p.p_threads.remove(td)
    p.p_ru = p.p_ru or Rusage()
    p.p_ru.add(td)
    sched_exit(k, p.p_threads[0], td)
    k.ctx.event(Kind.THREAD_EXIT, td.td_tid, td.td_pid, len(p.p_threads))
    wakeup(k, _join_channel(p, td.td_number))
    if p.p_flag & P_SINGLE_EXIT and len(p.p_threads) == 1:
        wakeup(k, _single_channel(p))
    td.td_state, td.td_frame = Tds.INACTIVE, None
    del s.threads[td.td_tid]
    s.curthread = 0
    s.zombie_threads[td.td_tid] = td.td_kstack


def thread_reap(k: Kern) -> None:
    """thread_reap: threads that have ended are freed, and their kernel stacks with them (thread_free)."""
    zombies, k.s.zombie_threads = k.s.zombie_threads, {}
    if zombies:
        k.kstack.vm_thread_dispose(list(zombies))


def thread_single(k: Kern, td: Thread) -> bool:
    """SINGLE_EXIT: all other threads of the process end; False: the caller waits for them, or is gone.

    The first one to ask remains. Others end at their return to user mode; who sleeps interruptibly is woken for it.
    """
    p = k.s.allproc[td.td_pid]
    if len(p.p_threads) == 1:
        p.p_flag &= ~P_SINGLE_EXIT
        return True
    if must_exit(p, td):
        _thread_exit(k, td)
        return False
    p.p_flag |= P_SINGLE_EXIT
    p.p_singlethread = td.td_tid
    others = [other for other in p.p_threads if other is not td]
    thread_unsuspend_each(k, [other for other in others if other.td_inhibitors & TDI_SUSPENDED])
    for other in others:
        if other.td_flags & TDF_SINTR:
            sleepq_remove(k, other)
    msleep(k, td, _single_channel(p), 0, "single")
    return False


def must_exit(p: Proc, td: Thread) -> bool:
    """thread_suspend_check: another thread of the process is to remain alone."""
    return p.p_flag & P_SINGLE_EXIT != 0 and p.p_singlethread != td.td_tid


def _single_channel(p: Proc) -> str:
    """Where the thread waits that is to remain."""
    return f"single:{p.p_pid}"
