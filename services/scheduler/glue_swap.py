"""Swapping of whole processes: vm_glue.c:681-1094, line by line."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from hardware_sim.clock import c_div, c_int, c_uint
from hardware_sim.cpu import COSTS, Pcb
from services.ports.common import Status
from services.ports.kstack import ThreadPcb
from services.ports.scheduler import StackRead
from services.runtime.errors import KernelPanic, kassert
from services.runtime.events import LOSERS_PER_EVENT, Kind, packed
from services.scheduler.candidates import SWAP_STATE
from services.scheduler.kern import Kern
from services.scheduler.proc_flags import (
    EBUSY,
    MAXSLP,
    P_INMEM,
    P_STOPPED_SINGLE,
    P_SWAPPINGIN,
    P_SWAPPINGOUT,
    P_SYSTEM,
    P_TRACED,
    P_WEXIT,
    PVM,
    TDF_INMEM,
    TDF_SWAPINREQ,
    TDI_SWAPPED,
    VM_SWAP_IDLE,
    VM_SWAP_NORMAL,
    Prs,
    Tds,
    pri_is_realtime,
)
from services.scheduler.sleepq import (
    PROC0_CHANNEL,
    msleep,
    setrunnable,
    td_clr_inhib,
    td_set_inhib,
    thread_safetoswapout,
    wakeup,
)
from services.scheduler.state import FaultinFrame, Proc, SwapperFrame, Thread
from services.scheduler.upcalls import suspend

_LIVELOCK_RETRIES = 100
"""EBUSY of one process, with no success and no movement of the clock in between, that count as a scan without end."""


class Skip(IntEnum):
    """Why swapout_procs left a process alone: outcome of a SWAPOUT_SKIP event, the line of vm_glue.c as its value."""

    NEW = 875
    SYSTEM = 883
    NO_VMSPACE = 898
    MAP_LOCKED = 900
    HELD = 904
    NOT_INMEM = 914
    NOT_NORMAL = 918
    REALTIME = 930
    SLEPT_TOO_SHORT = 939
    UNSAFE = 953
    NOT_IDLE = 963
    MIN_NOT_IDLE = 980


@dataclass(slots=True)
class SwapoutScan:
    """What one call of swapout_procs did.

    Attributes:
        swapped_out: Processes whose swapout() succeeded, in order.
        busy: Processes whose swapout() returned EBUSY, once for each time.
        in_vain: How often swapout() of a process returned EBUSY since the scan last got on.
        livelock: Processes that would be retried for ever; empty: the scan ended.
        exact: Every question is asked in the C code's order.
    """

    action: int
    swapped_out: list[int] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)
    livelock: list[int] = field(default_factory=list)
    in_vain: dict[int, int] = field(default_factory=dict)
    exact: bool = False
    _locked: dict[int, bool] = field(default_factory=dict)
    _resident: dict[int, int] = field(default_factory=dict)
    _stacks: list[ThreadPcb] = field(default_factory=list)

    def trylock_maps(self, k: Kern) -> None:
        """vm_map_trylock of every map whose lock decides something, in one call; held until the scan ends.

        That are the maps of processes that nothing else keeps. Where answers are scripted or points are preempted, the
        C code's order of questions matters, and every map is asked for.
        """
        self.exact = k.s.scripted or k.ctx.env.preempts
        wanted = dict.fromkeys(
            p.p_vmspace
            for p in reversed(k.s.allproc.values())
            if p.p_state is not Prs.NEW
            and p.p_flag & P_SYSTEM == 0
            and p.p_vmspace
            and (self.exact or (p.p_flag & SWAP_STATE == P_INMEM and _why_not(k, p, self) is None))
        )
        self._locked, self._resident = {}, {}
        if wanted:
            answer = k.physmem.vm_map_trylock(list(wanted))
            self._locked = dict(zip(wanted, answer.locked, strict=True))
            self._resident = dict(zip(wanted, answer.resident, strict=True))

    def count_resident(self, k: Kern, vmspaces: list[int]) -> None:
        """vmspace_resident_count of address spaces whose processes somebody has chosen, in one call."""
        if vmspaces:
            spaces = k.physmem.vmspace_info(vmspaces).spaces
            self._resident = {space.vmspace: space.resident for space in spaces}

    def unlock_maps(self, k: Kern) -> None:
        """vm_map_unlock of those that were locked."""
        held = [vmspace for vmspace, locked in self._locked.items() if locked]
        if held:
            k.physmem.vm_map_unlock(held)

    def map_trylock(self, k: Kern, vmspace: int) -> bool:
        """vm_map_trylock as the C code asks it, process by process; a script cannot lock what somebody else holds."""
        k.ctx.env.preempt("swapout_procs:900")
        if not self.exact:
            return self._locked.get(vmspace, True)
        free, k.busy_map = k.busy_map != vmspace, 0
        return free and bool(k.ctx.env.ask(f"vm_map_trylock:{vmspace}", lambda: True)) and self._locked[vmspace]

    def resident_count(self, k: Kern, vmspace: int) -> int:
        """vmspace_resident_count."""
        return k.ctx.env.ask(resident_question(vmspace), lambda: self._resident[vmspace])

    def between_passes(self, k: Kern) -> None:
        """No lock is held before the scan begins anew (vm_glue.c:985-989): processes may come and go."""
        self.unlock_maps(k)
        k.ctx.env.preempt("swapout_procs:988")
        self.trylock_maps(k)

    def retried(self, pid: int) -> int:
        """swapout() returned EBUSY; how often it did so in vain."""
        self.busy.append(pid)
        self.in_vain[pid] = self.in_vain.get(pid, 0) + 1
        return self.in_vain[pid]

    def progressed(self) -> None:
        """A process went out, or the clock moved: nothing was retried in vain."""
        self.in_vain.clear()

    def vm_thread_swapout(self, k: Kern, p: Proc) -> None:
        """Let the stacks of a process go with those of all others of this call; at once if answers are scripted."""
        self._stacks += [ThreadPcb(td.td_tid, p.p_pid, save_pcb(p, td)) for td in p.p_threads]
        if k.s.scripted or k.ctx.env.preempts:
            self.flush(k)

    def flush(self, k: Kern) -> None:
        """vm_thread_swapout of all stacks collected, in one call."""
        stacks, self._stacks = self._stacks, []
        if stacks and k.s.config.stack_swap:
            k.kstack.vm_thread_swapout(stacks)

    def skip(self, k: Kern, p: Proc, why: Skip, found: int, wanted: int) -> None:
        """Note a process that stays, unless it stayed for the same reason the last time that it was looked at."""
        if p.p_skip != why:
            p.p_skip = int(why)
            k.ctx.event(Kind.SWAPOUT_SKIP, p.p_pid, found, wanted, outcome=why)


def resident_question(vmspace: int) -> str:
    """The question vmspace_resident_count() of an address space, to script."""
    return f"vmspace_resident_count:{vmspace}"


def save_pcb(p: Proc, td: Thread) -> bytes:
    """cpu_thread_swapout: the registers that go to the top of the stack."""
    td.td_pcb = Pcb(
        td.td_tid,
        p.p_pid,
        td.td_cookie or p.p_cookie,
        td.td_references,
        td.td_runtime_us,
        td.td_phase,
        td.td_switches,
        td.ru_nswap,
        td.td_kstack,
    ).pack()
    return td.td_pcb


def swapout_procs(k: Kern, action: int) -> SwapoutScan:
    """swapout_procs (vm_glue.c:855-1006): swap out every process that may go.

    The C code starts again at the head of the list after each swapout(). Where nothing else changed meanwhile, the
    processes already passed would be skipped again for the same reason and the one just swapped out because it is
    out, so the scan goes on behind it: the same answers in O(n).
    """
    s = k.s
    scan = SwapoutScan(action)
    scan.trylock_maps(k)
    didswap = position = 0
    order = _scan_order(k, scan)
    while position < len(order):
        p = order[position]
        verdict = _why_not(k, p, scan)
        if verdict is not None:
            scan.skip(k, p, *verdict)
            position += 1
            continue
        before = (s.seq, k.ticks)
        if swapout(k, p, scan) == 0:
            didswap += 1
            scan.swapped_out.append(p.p_pid)
            scan.progressed()
        elif scan.retried(p.p_pid) > _LIVELOCK_RETRIES:
            latest = scan.busy[-_LIVELOCK_RETRIES:]
            scan.livelock = [pid for pid in scan.in_vain if pid in latest]
            break
        if scan.exact:
            scan.between_passes(k)
        if before[1] != k.ticks:
            scan.progressed()
        if scan.exact or scan.in_vain or before != (s.seq, k.ticks):
            order, position = _scan_order(k, scan), 0
        else:
            position += 1
    scan.flush(k)
    scan.unlock_maps(k)
    if didswap:
        wakeup(k, PROC0_CHANNEL)
    considered = len(s.allproc)
    k.s.owed_ns += considered * COSTS.scan_proc_ns + didswap * COSTS.swapout_proc_us * 1000
    k.ctx.event(Kind.SWAPOUT_DONE, action, didswap, considered, outcome=len(scan.livelock))
    return scan


def _scan_order(k: Kern, scan: SwapoutScan) -> list[Proc]:
    """Processes in the order of allproc, without those that are out and known to be: they would be passed over."""
    order = reversed(k.s.allproc.values())
    if scan.exact:
        return list(order)
    return [p for p in order if p.p_skip != Skip.NOT_INMEM or p.p_flag & SWAP_STATE or p.p_lock]


def _why_not(k: Kern, p: Proc, scan: SwapoutScan) -> tuple[Skip, int, int] | None:
    """The checks of one process in their order (vm_glue.c:866-983): what keeps it, or None: swapout() is called."""
    if p.p_state is Prs.NEW:
        return Skip.NEW, 0, 0
    if p.p_flag & P_SYSTEM:
        return Skip.SYSTEM, 0, 0
    vm = k.s.vmspaces.get(p.p_vmspace)
    if vm is None or vm.vm_refcnt <= 0:
        return Skip.NO_VMSPACE, 0, 0
    if not scan.map_trylock(k, p.p_vmspace):
        return Skip.MAP_LOCKED, 0, 0
    k.ctx.env.preempt("swapout_procs:902")
    if p.p_lock != 0 or p.p_flag & (P_STOPPED_SINGLE | P_TRACED | P_SYSTEM | P_WEXIT):
        return Skip.HELD, p.p_lock, p.p_flag
    if p.p_flag & SWAP_STATE != P_INMEM:
        return Skip.NOT_INMEM, p.p_flag, 0
    if p.p_state is not Prs.NORMAL:
        return Skip.NOT_NORMAL, p.p_state, 0
    action, minslptime = scan.action, 100000
    threshold1, threshold2 = k.s.swap_idle_threshold1, k.s.swap_idle_threshold2
    for td in p.p_threads:
        if pri_is_realtime(td.td_pri_class):
            return Skip.REALTIME, td.td_pri_class, 0
        slptime = c_div(c_int(k.ticks - td.td_slptick), k.hz)
        if slptime < threshold1:
            return Skip.SLEPT_TOO_SHORT, slptime, threshold1
        if not thread_safetoswapout(k, td):
            return Skip.UNSAFE, slptime, 0
        if action & VM_SWAP_NORMAL == 0 and (action & VM_SWAP_IDLE == 0 or slptime < threshold2):
            return Skip.NOT_IDLE, slptime, threshold2
        minslptime = min(minslptime, slptime)
        k.ctx.env.preempt("swapout_procs:972")
    if action & VM_SWAP_NORMAL or (action & VM_SWAP_IDLE and minslptime > threshold2):
        return None
    return Skip.MIN_NOT_IDLE, minslptime, threshold2


def swapout(k: Kern, p: Proc, scan: SwapoutScan) -> int:
    """swapout (vm_glue.c:1038-1093): 0, or EBUSY if a thread became unsafe."""
    if k.s.config.swap_debug:
        k.ctx.event(Kind.SWAP_DEBUG, p.p_pid)
    k.ctx.kassert(p.p_flag & SWAP_STATE == P_INMEM, "swapout: lost a swapout race?", "swapout", 1054)
    resident = scan.resident_count(k, p.p_vmspace)
    k.s.vmspaces[p.p_vmspace].vm_swrss = resident
    p.p_flag &= ~P_INMEM
    p.p_flag |= P_SWAPPINGOUT
    for td in p.p_threads:
        if not thread_safetoswapout(k, td):
            swapclear(k, p)
            k.ctx.event(Kind.SWAPOUT_BUSY, p.p_pid, outcome=EBUSY)
            return EBUSY
        td.td_flags &= ~TDF_INMEM
        td_set_inhib(k, td, TDI_SWAPPED)
        k.ctx.env.preempt("swapout:1075")
    kassert(p.p_threads, f"swapout: pid {p.p_pid} has no thread", "swapout", 1077)
    p.p_threads[0].ru_nswap += 1
    k.ctx.env.preempt("swapout:1079")
    scan.vm_thread_swapout(k, p)
    p.p_flag &= ~P_SWAPPINGOUT
    p.p_swtick = c_uint(k.ticks)
    k.candidates.update_all(p)
    k.s.swapouts += 1
    k.ctx.event(Kind.SWAPOUT, p.p_pid, resident, p.p_swtick)
    return 0


def swapclear(k: Kern, p: Proc) -> None:
    """swapclear (vm_glue.c:1008-1036): the process is in memory; threads that nothing else keeps run."""
    for td in p.p_threads:
        td.td_flags |= TDF_INMEM
        td.td_flags &= ~TDF_SWAPINREQ
        td_clr_inhib(k, td, TDI_SWAPPED)
        if td.td_state is Tds.CAN_RUN and setrunnable(k, td) and k.ctx.invariants:
            raise KernelPanic("not waking up swapper", "swapclear", 1029)
    p.p_flag &= ~(P_SWAPPINGIN | P_SWAPPINGOUT)
    p.p_flag |= P_INMEM
    vm = k.s.vmspaces.get(p.p_vmspace)
    if vm is not None:
        vm.vm_drained = False


def swapin_channel(pid: int) -> str:
    """&p->p_flag, where those wait who find a swap-in under way."""
    return f"swapin:{pid}"


def faultin(k: Kern, td: Thread, f: FaultinFrame) -> bool:
    """faultin (vm_glue.c:681-729) by thread `td`, with its progress in `f`.

    Returns:
        False: `td` was put to sleep; call again when it runs.
    """
    p = k.s.allproc.get(f.pid)
    if p is None:
        return True
    if k.s.config.no_swapping:
        if p.p_flag & P_INMEM == 0:
            raise KernelPanic("faultin: proc swapped out with NO_SWAPPING!", "faultin", 689)
        return True
    if f.step < 2:
        if p.p_flag & P_SWAPPINGIN:
            f.step = 1
            msleep(k, td, swapin_channel(p.p_pid), PVM, "faultin")
            k.ctx.env.preempt("faultin:701")
            return False
        if f.step == 1 or p.p_flag & P_INMEM:
            return True
        p.p_lock += 1
        p.p_flag |= P_SWAPPINGIN
        k.candidates.update_all(p)
        f.step, f.begun_us = 2, k.s.now_us
        k.ctx.event(Kind.FAULTIN, p.p_pid, c_int(k.ticks - p.p_swtick))
        k.ctx.env.preempt("faultin:710")
    if not _swapin_stacks(k, td, p, f):
        return False
    swapclear(k, p)
    p.p_swtick = c_uint(k.ticks)
    wakeup(k, swapin_channel(p.p_pid))
    p.p_lock -= 1
    k.s.swapins += 1
    if k.record is not None:
        k.record.swapped_in.append(p.p_pid)
    k.ctx.event(Kind.FAULTIN_DONE, p.p_pid, k.s.now_us - f.begun_us)
    return True


def _swapin_stacks(k: Kern, td: Thread, p: Proc, f: FaultinFrame) -> bool:
    """vm_thread_swapin of every thread (vm_glue.c:717-718), in one call; False: `td` sleeps."""
    if not k.s.config.stack_swap:
        return True
    answer = k.kstack.vm_thread_swapin([ThreadPcb(other.td_tid, p.p_pid) for other in p.p_threads], f.op)
    if answer.status is Status.SUSPENDED:
        f.op = suspend(k, td, answer.suspension)
        k.ctx.env.preempt("faultin:718")
        return False
    f.op = 0
    if k.record is not None:
        k.record.page_requests += [
            StackRead(p.p_threads[request.stack].td_tid, request.first, request.count, request.result)
            for request in answer.page_requests
        ]
    for other, pcb in zip(p.p_threads, answer.pcbs, strict=True):
        text = f"cpu_thread_swapin: tid {other.td_tid} came back with other registers"
        kassert(pcb in (other.td_pcb, b""), text, "vm_thread_swapin", 605)
    k.s.owed_ns += COSTS.swapin_proc_us * 1000
    return True


def p_lock_channel(pid: int) -> str:
    """&p->p_lock, where an ending process waits for those who hold it."""
    return f"p_lock:{pid}"


def prele(k: Kern, p: Proc) -> None:
    """--p_lock, and the wakeup of an ending process that waits for it (_PRELE)."""
    k.ctx.kassert(p.p_lock > 0, "PHOLD not held", "_PRELE")
    p.p_lock -= 1
    if p.p_flag & P_WEXIT and p.p_lock == 0:
        wakeup(k, p_lock_channel(p.p_pid))


def swapper(k: Kern, td: Thread, f: SwapperFrame) -> bool:
    """One turn of the swapper's endless loop (vm_glue.c:738-821) by thread0.

    Returns:
        False: thread0 was put to sleep; True: it goes on with the next turn.
    """
    if f.faultin is None:
        if k.vm_page_count_min():
            k.ctx.event(Kind.SWAPPER_WAIT, k.free_min())
            suspend(k, td, k.physmem.vm_wait())
            k.ctx.env.preempt("swapper:751")
            return False
        p = _select(k)
        k.ctx.env.preempt("swapper:793")
        if p is None:
            timeout = c_div(c_int(MAXSLP * k.hz), 2)
            k.ctx.event(Kind.SWAPPER_SLEEP, timeout)
            msleep(k, td, PROC0_CHANNEL, PVM, "swapin", timo=timeout)
            k.ctx.env.preempt("swapper:799")
            return False
        if p.p_flag & SWAP_STATE:
            return True
        f.faultin = FaultinFrame(p.p_pid)
    if not faultin(k, td, f.faultin):
        return False
    f.faultin = None
    k.ctx.env.preempt("swapper:819")
    return True


def _select(k: Kern) -> Proc | None:
    """The swapper's choice (vm_glue.c:755-792): the strictly highest priority, first in list order on ties."""
    ranking = k.candidates.choose(k.ticks, k.hz)
    k.s.owed_ns += len(k.s.allproc) * COSTS.scan_proc_ns
    if not ranking:
        return None
    (pid, priority), *losers = ranking
    k.ctx.event(Kind.SWAPPER_PICK, pid, priority, len(k.candidates), len(losers))
    for first in range(0, len(losers), LOSERS_PER_EVENT):
        four = [packed(*loser) for loser in losers[first : first + LOSERS_PER_EVENT]]
        k.ctx.event(Kind.SWAPPER_LOSERS, pid, *four, *[-1] * (LOSERS_PER_EVENT - len(four)))
    return k.s.allproc[pid]
