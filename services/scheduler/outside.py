"""Functions of vm_glue.c called from outside, one at a time: run until they return or are left asleep, and recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from heapq import heapify

from services.ports.scheduler import (
    ChangesAt,
    ForkprocCall,
    Left,
    SwapinCall,
    SwapoutCall,
    SwapoutResults,
    Woken,
)
from services.runtime.errors import Reason, Refused
from services.scheduler import situation
from services.scheduler.glue_fork import ForkprocArgs, vm_forkproc
from services.scheduler.glue_swap import SwapoutScan, swapclear, swapout, swapout_procs, swapper
from services.scheduler.kern import CallRecord, Kern
from services.scheduler.kern_sig import psignal
from services.scheduler.kthreads import HOLDER_CHANNEL, hold_all, holder
from services.scheduler.proc_flags import P_SYSTEM, PVM, RFPROC, SIGNAL_MAX, VM_SWAP_NORMAL, Tds
from services.scheduler.runq import sched_add
from services.scheduler.sleepq import kick_proc0, msleep, setrunnable, sleepq_remove
from services.scheduler.state import PROC0, HolderFrame, Proc, SwapperFrame, Thread
from services.scheduler.upcalls import absorb

_VM_WAIT_CHANNEL = "v_free_count"
_SLEEP_POINT, _WAIT_POINT = "sleep", "vm_wait"


@contextmanager
def recorded(k: Kern) -> Iterator[CallRecord]:
    """Note what a call does: wakeups, sleeps, swap-ins, pager calls. Time stands still inside."""
    absorb(k)
    k.record = CallRecord()
    try:
        yield k.record
        k.s.owed_ns = 0
    finally:
        k.record = None
    absorb(k)


def call_swapout_procs(k: Kern, action: int) -> SwapoutCall:
    """swapout_procs (vm_glue.c:855-1006), as the vmdaemon calls it."""
    with recorded(k) as record:
        scan = swapout_procs(k, action)
    return SwapoutCall(scan.swapped_out, scan.busy, record.wakeups, scan.livelock)


def call_swapper(k: Kern, script: list[ChangesAt], leave_after_sleeps: int, leave_after_waits: int) -> SwapinCall:
    """swapper (vm_glue.c:738-821) by thread0; where it sleeps inside of faultin, it is left there."""
    run = _Run(k, script, leave_after_sleeps, leave_after_waits)
    td = k.s.allproc[PROC0].p_threads[0]
    frame = td.td_frame
    assert isinstance(frame, SwapperFrame), "thread0 is the swapper"
    with recorded(k) as record:
        left = Left.SLEEP
        if frame.faultin is None:
            left = run.until_left(td, lambda: _Turn.GOES_ON if swapper(k, td, frame) else _Turn.ASLEEP)
    return _swapin_call(k, record, left)


def call_faultin(k: Kern, pids: list[int], script: list[ChangesAt], leave_after_sleeps: int) -> SwapinCall:
    """faultin (vm_glue.c:681-729) by a thread that waits for such calls, and goes on by itself if it is left asleep."""
    run = _Run(k, script, leave_after_sleeps, leave_after_sleeps)
    for pid in pids:
        _living(k, pid)
    td = holder(k)
    frame = td.td_frame
    assert isinstance(frame, HolderFrame), "a holder does nothing else"
    frame.pids = list(pids)
    with recorded(k) as record:
        left = run.until_left(td, lambda: _Turn.RETURNED if hold_all(k, td, frame) else _Turn.ASLEEP)
    if left is Left.RETURNED:
        _run_now(k, td)
        msleep(k, td, HOLDER_CHANNEL, PVM, "phold")
    return _swapin_call(k, record, left)


def call_swapout(k: Kern, pids: list[int]) -> SwapoutResults:
    """swapout (vm_glue.c:1038-1093) of each process; a panic leaves those before it swapped out."""
    procs = [_living(k, pid) for pid in pids]
    for p in procs:
        if p.p_vmspace not in k.s.vmspaces or not all(td.td_kstack for td in p.p_threads):
            raise Refused(Reason.UNKNOWN_ID, "pids", p.p_pid, "a process with an address space and kernel stacks")
    scan = SwapoutScan(VM_SWAP_NORMAL)
    scan.count_resident(k, [p.p_vmspace for p in procs])
    with recorded(k):
        try:
            return SwapoutResults([swapout(k, p, scan) for p in procs])
        finally:
            scan.flush(k)


def call_swapclear(k: Kern, pids: list[int]) -> None:
    """swapclear (vm_glue.c:1008-1036) of each process."""
    procs = [_living(k, pid) for pid in pids]
    with recorded(k):
        for p in procs:
            swapclear(k, p)


def _living(k: Kern, pid: int) -> Proc:
    if pid not in k.s.allproc:
        raise Refused(Reason.UNKNOWN_ID, "pids", pid, "a living process")
    return k.s.allproc[pid]


def _swapin_call(k: Kern, record: CallRecord, left: Left) -> SwapinCall:
    sleeps = [sleep for sleep in record.sleeps if sleep.channel != _VM_WAIT_CHANNEL]
    waits = len(record.sleeps) - len(sleeps)
    return SwapinCall(record.swapped_in, waits, sleeps, record.wakeups, record.page_requests, left, k.ticks)


def call_kill(k: Kern, pids: list[int], signal: int) -> None:
    """A signal to each of some programs' processes, as kill(2) sends it."""
    if not 1 <= signal <= SIGNAL_MAX:
        raise Refused(Reason.FIELD_OUT_OF_RANGE, "signal", signal, f"1 to {SIGNAL_MAX}")
    procs = [_living(k, pid) for pid in pids]
    for p in procs:
        if p.p_flag & P_SYSTEM:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "pids", p.p_pid, "a program's process")
    for p in procs:
        psignal(k, p, signal)
    absorb(k)


def call_kick_proc0(k: Kern) -> Woken:
    """kick_proc0 (vm_glue.c:823-828)."""
    with recorded(k) as record:
        kick_proc0(k)
    return Woken(record.wakeups)


def call_setrunnable(k: Kern, td: Thread) -> Woken:
    """setrunnable; like all who call it, kick_proc0 if it asks for the swapper."""
    with recorded(k) as record:
        wanted = setrunnable(k, td)
        if wanted:
            kick_proc0(k)
    return Woken(record.wakeups, wanted)


def call_wake_thread(k: Kern, td: Thread) -> Woken:
    """End a thread's sleep; one that does not sleep is made runnable if nothing else keeps it."""
    if not td.td_wchan:
        return call_setrunnable(k, td)
    with recorded(k) as record:
        wanted = sleepq_remove(k, td)
    return Woken(record.wakeups, wanted)


def call_forkproc(k: Kern, args: ForkprocArgs, leave_after_waits: int) -> ForkprocCall:
    """vm_forkproc (vm_glue.c:617-666) by the thread of its first argument."""
    _check_forkproc(k, args)
    run = _Run(k, [], 0, leave_after_waits)
    error, resumed = 0, False

    def turn() -> _Turn:
        nonlocal error, resumed
        answer = vm_forkproc(k, args, resumed)
        resumed = True
        if answer is None:
            return _Turn.ASLEEP
        error = answer
        return _Turn.RETURNED

    with recorded(k) as record:
        left = run.until_left(args.td, turn)
    return ForkprocCall(record.fork_steps, len(record.sleeps), left, error)


def _check_forkproc(k: Kern, args: ForkprocArgs) -> None:
    """Refuse what the C code would answer with a null pointer."""
    if k.proc(args.td.td_pid).p_vmspace not in k.s.vmspaces:
        raise Refused(Reason.UNKNOWN_ID, "tid", args.td.td_tid, "a thread of a process with an address space")
    if args.flags & RFPROC and args.p2 is None:
        raise Refused(Reason.UNKNOWN_ID, "child_pid", 0, "a process, as the flags have RFPROC")
    if args.vm2 and args.vm2 not in k.s.vmspaces:
        raise Refused(Reason.UNKNOWN_ID, "vmspace", args.vm2, "an address space")


class _Turn(Enum):
    """How far a function came when the thread had the processor."""

    RETURNED = 0
    GOES_ON = 1
    ASLEEP = 2


class _Run:
    """One call by one thread, with what is scripted to happen in it."""

    def __init__(self, k: Kern, script: list[ChangesAt], sleeps: int, waits: int) -> None:
        if script or sleeps > 1 or waits > 1:
            situation.allowed(k, "script", len(script))
        for at in script:
            situation.check_changes(k, at.changes)
        self._k = k
        self._script = {(at.point, at.nth): at.changes for at in script}
        self._reached: Counter[str] = Counter()
        self._limits = {_SLEEP_POINT: max(sleeps, 1), _WAIT_POINT: max(waits, 1)}

    def until_left(self, td: Thread, turn: Callable[[], _Turn]) -> Left:
        """Let the thread take turns until the function has returned or is left asleep."""
        k = self._k
        before, k.ctx.env.preempt = k.ctx.env.preempt, self._reach
        try:
            while True:
                _run_now(k, td)
                state = turn()
                if state is _Turn.RETURNED:
                    sched_add(k, td)
                    return Left.RETURNED
                if state is _Turn.ASLEEP and (left := self._slept(td)) is not None:
                    return left
        finally:
            k.ctx.env.preempt = before

    def _slept(self, td: Thread) -> Left | None:
        """The thread sleeps: it is left there, or something changes and the sleep ends."""
        waits = td.td_wchan == _VM_WAIT_CHANNEL
        point = _WAIT_POINT if waits else _SLEEP_POINT
        if self._reached[point] + 1 == self._limits[point]:
            return Left.VM_WAIT if waits else Left.SLEEP
        self._reach(point)
        return None

    def _reach(self, point: str) -> None:
        """What the rest of the kernel does at this point for the n-th time."""
        self._reached[point] += 1
        situation.apply(self._k, self._script.get((point, self._reached[point]), []))


def _run_now(k: Kern, td: Thread) -> None:
    """Give a thread the processor, wherever it is."""
    if td.td_wchan:
        sleepq_remove(k, td)
    if td.td_state is Tds.RUNQ:
        k.s.runq = [entry for entry in k.s.runq if entry[2] != td.td_tid]
        heapify(k.s.runq)
    td.td_inhibitors, td.td_state = 0, Tds.RUNNING
    k.candidates.update(k.proc(td.td_pid), td)
