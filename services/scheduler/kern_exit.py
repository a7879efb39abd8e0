"""exit1, kern_wait and proc_reap (kern_exit.c)."""

from __future__ import annotations

from hardware_sim.cpu import COSTS
from services.ports.scheduler import ProcessRow, SpaceEvent, SpaceNotice
from services.runtime.events import Kind
from services.scheduler.glue_fork import vm_waitproc, vmspace_free, vmspace_ref
from services.scheduler.glue_swap import p_lock_channel
from services.scheduler.kern import Kern
from services.scheduler.kern_thr import must_exit, thread_reap, thread_single
from services.scheduler.proc_flags import P_INMEM, P_PPWAIT, P_WEXIT, PWAIT, TDF_CANSWAP, TDI_SUSPENDED, Prs, Tds
from services.scheduler.runq import sched_exit
from services.scheduler.sleepq import child_channel, msleep, wakeup
from services.scheduler.state import INIT, ExitFrame, Proc, Rusage, Thread, WaitFrame

_NONE_ENDED = Rusage()


def vfork_channel(pid: int) -> str:
    """&p->p_pwait of a child, where its parent waits for the memory that it lent."""
    return f"ppwait:{pid}"


def exit1(k: Kern, td: Thread, f: ExitFrame) -> bool:
    """exit1: give the address space back, become a zombie; False: the thread sleeps, or is gone."""
    s, p = k.s, k.s.allproc[td.td_pid]
    if not thread_single(k, td):
        return False
    p.p_flag |= P_WEXIT
    if p.p_lock > 0:
        msleep(k, td, p_lock_channel(p.p_pid), PWAIT, "exithold")
        return False
    k.spend(td, COSTS.exit_us)
    vmspace_ref(k, s.vmspace0)
    switch_vmspace(k, p, s.vmspace0)
    p.p_status, p.p_end_us = f.status, s.now_us
    del s.allproc[p.p_pid]
    s.zombproc[p.p_pid] = p
    p.p_state = Prs.ZOMBIE
    k.ctx.event(Kind.PROC_EXIT, p.p_pid, f.status, td.td_runtime_us)
    sched_exit(k, k.proc(p.p_pptr).p_threads[0], td)
    _reparent(k, p)
    wakeup(k, child_channel(p.p_pptr))
    td.td_state, td.td_frame = Tds.INACTIVE, None
    del s.threads[td.td_tid]
    s.curthread = 0
    return False


def switch_vmspace(k: Kern, p: Proc, vmspace: int) -> None:
    """Leave the address space for another, already referenced; a vfork parent gets its own back."""
    old, p.p_vmspace = p.p_vmspace, vmspace
    if vmspace_free(k, old):
        k.s.notices.append(SpaceNotice(SpaceEvent.FREED, old))
    if p.p_flag & P_PPWAIT:
        p.p_flag &= ~P_PPWAIT
        wakeup(k, vfork_channel(p.p_pid))


def _reparent(k: Kern, p: Proc) -> None:
    """Children go to init, which reaps those that have ended."""
    init = k.s.allproc[INIT]
    for pid in p.p_children:
        k.proc(pid).p_pptr = INIT
        init.p_children.append(pid)
    if p.p_children:
        p.p_children = []
        wakeup(k, child_channel(INIT))


def kern_wait(k: Kern, td: Thread, f: WaitFrame) -> bool:
    """kern_wait: reap the child, or sleep until it ends; done also when there is no such child (ECHILD)."""
    s, p = k.s, k.s.allproc[td.td_pid]
    wanted = p.p_children if f.cookie < 0 else [pid for pid in p.p_children if k.proc(pid).p_cookie == f.cookie]
    ended = ended_children(k, wanted)
    if ended:
        proc_reap(k, s.zombproc[ended[0]])
        return True
    if not wanted or p.p_sig or must_exit(p, td):
        return True
    msleep(k, td, child_channel(p.p_pid), PWAIT, "wait", catch=True)
    return False


def ended_children(k: Kern, children: list[int]) -> list[int]:
    """Those of some children that are zombies, in the children's order; zombies are few, children may be many."""
    zombies = k.s.zombproc
    return [pid for pid in children if pid in zombies] if zombies else []


def proc_reap(k: Kern, p: Proc) -> None:
    """proc_reap: the process structure, its thread and its stack go back to the zone for the next fork."""
    s = k.s
    thread_reap(k)
    vm_waitproc(k, p)
    k.proc(p.p_pptr).p_children.remove(p.p_pid)
    del s.zombproc[p.p_pid]
    s.ended.append(process_row(k, p, "ended"))
    s.proc_zone += [(td.td_tid, td.td_kstack, td.td_kstack_pages) for td in p.p_threads]
    k.ctx.event(Kind.PROC_REAPED, p.p_pid, p.p_pptr)


def process_row(k: Kern, p: Proc, state: str = "") -> ProcessRow:
    """A process as a row of the table."""
    threads, ru = p.p_threads, p.p_ru or _NONE_ENDED
    return ProcessRow(
        pid=p.p_pid,
        ppid=p.p_pptr,
        name=p.p_comm,
        state=state or _state(p),
        wmesg=", ".join(dict.fromkeys(td.td_wmesg for td in threads if td.td_wmesg)),
        vmspace=p.p_vmspace if p.p_vmspace != k.s.vmspace0 else 0,
        flags=p.p_flag & 0xFFFFFFFF,
        minor_faults=ru.ru_minflt + sum(td.ru_minflt for td in threads),
        major_faults=ru.ru_majflt + sum(td.ru_majflt for td in threads),
        swaps=ru.ru_nswap + sum(td.ru_nswap for td in threads),
        cpu_us=ru.runtime_us + sum(td.td_runtime_us for td in threads),
        sleep_us=ru.sleep_us + sum(_asleep_us(k, td) for td in threads),
        start_us=p.p_start_us,
        end_us=p.p_end_us,
        status=p.p_status,
        swappable_us=ru.swappable_us + sum(_swappable_us(k, td) for td in threads),
    )


def _state(p: Proc) -> str:
    if p.p_state is Prs.ZOMBIE:
        return "zombie"
    if p.p_flag & P_INMEM == 0:
        return "swapped"
    if all(td.td_inhibitors & TDI_SUSPENDED for td in p.p_threads):
        return "stopped"
    return "run" if any(td.td_state in (Tds.RUNNING, Tds.RUNQ) for td in p.p_threads) else "sleep"


def _swappable_us(k: Kern, td: Thread) -> int:
    now = k.s.now_us - td.td_asleep_since_us if td.td_wchan and td.td_flags & TDF_CANSWAP else 0
    return td.td_swappable_us + now


def _asleep_us(k: Kern, td: Thread) -> int:
    return td.td_sleep_us + (k.s.now_us - td.td_asleep_since_us if td.td_wchan else 0)
