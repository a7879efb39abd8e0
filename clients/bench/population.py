"""A machine with many sleeping processes, and what the same decisions cost as plain loops over plain objects."""

from __future__ import annotations

from dataclasses import dataclass

from clients.kernel import Kernel
from hardware_sim.arch import arch
from hardware_sim.clock import c_div, c_int, c_uint, initial_ticks
from services.ports.common import Answers
from services.ports.kstack import KstackBoot, ThreadStack
from services.ports.pager import PagerBoot, SwapDisk
from services.ports.physmem import PhysmemBoot
from services.ports.scheduler import ProcState, SchedulerBoot, ThreadState, VmspaceState

HZ = 1000
TICKS = initial_ticks(HZ)
SLEPT_S = 40
"""How long all threads have slept: longer than any threshold."""
NICE_STEPS = 5
"""Nice values differ, so that priorities do."""
THREADS = 2
"""Threads of a process."""
_FIRST_PID, _FIRST_TID = 1000, 200_000
_PLACED_TOGETHER = 2000
"""Processes of one call."""
_RAM_SPARE_PAGES = 1 << 15
_NORMAL, _INHIBITED, _TIMESHARE = 1, 1, 3
_P_INMEM, _SLEEPING, _SWAPPED, _TDF_INMEM, _TDF_CANSWAP, _TDF_SWAPINREQ = 0x10000000, 0x2, 0x4, 0x4, 0x40, 0x400000


def boot(kernel: Kernel, stacks: int, stack_swap: bool = True) -> None:
    """Boot a machine without processes that has room for so many kernel stacks."""
    amd64 = arch("amd64")
    ram_pages = stacks * amd64.kstack_pages + _RAM_SPARE_PAGES
    kernel.ctx.reboot(HZ, TICKS, allow_inject=False)
    kernel.pager.boot(PagerBoot([SwapDisk(ram_pages)], ram_pages, 1, HZ, TICKS, allow_inject=True))
    kernel.physmem.boot(PhysmemBoot(ram_pages=ram_pages, seed=1, hz=HZ, start_ticks=TICKS, allow_inject=True))
    kernel.kstack.boot(KstackBoot(amd64.kstack_pages, amd64.kstack_guard_pages, HZ, TICKS, allow_inject=True))
    kernel.scheduler.boot(
        SchedulerBoot(HZ, TICKS, stack_swap=stack_swap, page_count=ram_pages, allow_inject=True, bare=True)
    )


def place_sleepers(kernel: Kernel, count: int, threads: int = THREADS) -> None:
    """Processes that sleep in memory, each with its address space and its threads on their kernel stacks."""
    for first in range(0, count, _PLACED_TOGETHER):
        procs = range(first, min(first + _PLACED_TOGETHER, count))
        tids = [tid for at in procs for tid in _tids(at, threads)]
        spaces = kernel.physmem.place([], [], [1] * len(procs)).vmspaces
        stacks = iter(kernel.kstack.vm_thread_new([ThreadStack(tid, 0) for tid in tids], 0).stacks)
        placed = [_process(at, _P_INMEM, _SLEEPING, _TDF_INMEM | _TDF_CANSWAP, threads) for at in procs]
        for process, space in zip(placed, spaces, strict=True):
            process.vmspace = space
            for thread in process.threads:
                stack = next(stacks)
                thread.kstack, thread.kstack_pages = stack.td_kstack, stack.td_kstack_pages
        kernel.scheduler.place(placed, [VmspaceState(space) for space in spaces])


def place_waiting(kernel: Kernel, count: int) -> None:
    """Processes that are out, each with one thread that waits to come in, without address space or stack."""
    for first in range(0, count, _PLACED_TOGETHER):
        procs = range(first, min(first + _PLACED_TOGETHER, count))
        kernel.scheduler.place([_process(at, 0, _SWAPPED, _TDF_CANSWAP, 1) for at in procs], [])


def let_choose(kernel: Kernel, choices: int) -> None:
    """The next call of swapper chooses so often, then finds that memory is short."""
    kernel.scheduler.inject([Answers("vm_page_count_min", [0] * choices, 1, has_after=True)])


def _tids(at: int, threads: int) -> range:
    return range(_FIRST_TID + at * threads, _FIRST_TID + (at + 1) * threads)


def _process(at: int, flags: int, inhibitors: int, td_flags: int, threads: int) -> ProcState:
    since = c_int(TICKS - SLEPT_S * HZ - at)
    made = [ThreadState(tid, _INHIBITED, td_flags, inhibitors, _TIMESHARE, slptick=since) for tid in _tids(at, threads)]
    return ProcState(
        _FIRST_PID + at, f"p{at}", _NORMAL, flags, swtick=c_uint(since), nice=at % NICE_STEPS, threads=made
    )


@dataclass(slots=True)
class PlainThread:
    """A thread of the plain loops."""

    flags: int
    inhibitors: int
    slptick: int
    pri_class: int = _TIMESHARE


@dataclass(slots=True)
class PlainProc:
    """A process of the plain loops: the fields that vm_glue.c reads, nothing around them."""

    threads: list[PlainThread]
    flag: int
    swtick: int
    nice: int
    state: int = _NORMAL
    lock: int = 0


def plain_procs(count: int, out: bool) -> list[PlainProc]:
    """The processes of `place_waiting` (`out`) or `place_sleepers`."""
    made = []
    for at in range(count):
        since = c_int(TICKS - SLEPT_S * HZ - at)
        inhibitors, td_flags = (_SWAPPED, _TDF_CANSWAP) if out else (_SLEEPING, _TDF_INMEM | _TDF_CANSWAP)
        threads = [PlainThread(td_flags, inhibitors, since) for _ in range(1 if out else THREADS)]
        made.append(PlainProc(threads, 0 if out else _P_INMEM, c_uint(since), at % NICE_STEPS))
    return made


def plain_choice(procs: list[PlainProc]) -> PlainProc | None:
    """vm_glue.c:755-792 as a plain loop."""
    chosen, chosen_pri = None, -(1 << 31)
    for p in procs:
        if p.state == 0 or p.flag & 0x70000000:
            continue
        swtime = c_uint(TICKS - p.swtick) // HZ
        for td in p.threads:
            if td.inhibitors == _SWAPPED:
                pri = swtime + c_div(c_int(TICKS - td.slptick), HZ)
                if not td.flags & _TDF_SWAPINREQ:
                    pri -= p.nice * 8
                if pri > chosen_pri:
                    chosen, chosen_pri = p, pri
    return chosen


def plain_swapout_procs(procs: list[PlainProc]) -> int:
    """vm_glue.c:855-1006 as a plain loop that starts anew after each process; returns the processes looked at."""
    looked_at = 0
    while True:
        for p in procs:
            looked_at += 1
            if _goes_out(p):
                p.flag &= ~_P_INMEM
                p.swtick = c_uint(TICKS)
                break
        else:
            return looked_at


def looks_of_plain_scan(count: int) -> int:
    """Processes that the plain loop looks at if all of `count` go out: one more each time, and all once more."""
    return count * (count + 3) // 2


def _goes_out(p: PlainProc) -> bool:
    if p.state == 0 or p.lock != 0 or p.flag & 0x82A00 or p.flag & 0x70000000 != _P_INMEM:
        return False
    for td in p.threads:
        realtime = td.pri_class & ~8 == 2
        if realtime or c_div(c_int(TICKS - td.slptick), HZ) < 2 or not td.flags & _TDF_CANSWAP:
            return False
    return True
