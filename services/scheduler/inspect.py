"""Invariants of the scheduler's state, and its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise

from services.scheduler.candidates import row_of, waits_to_come_in
from services.scheduler.kern import Kern
from services.scheduler.proc_flags import (
    P_INMEM,
    P_SWAPPINGIN,
    P_SWAPPINGOUT,
    TDF_CANSWAP,
    TDF_INMEM,
    TDF_SWAPINREQ,
    TDI_SLEEPING,
    TDI_SWAPPED,
    Prs,
    Tds,
)
from services.scheduler.smp import registers, running
from services.scheduler.state import PROC0, ForkFrame, InitFrame, Proc, Thread, ThrNewFrame


def check_state(k: Kern) -> tuple[list[str], int]:
    """Violations of the invariants (one sentence each) and the number of objects compared."""
    s = k.s
    found = [*_queues(k), *_stacks(k), *_candidates(k)]
    for p in s.allproc.values():
        found += _process(p)
    for p in s.zombproc.values():
        if p.p_state is not Prs.ZOMBIE or p.p_vmspace != s.vmspace0:
            found.append(f"pid {p.p_pid} is on zombproc in state {p.p_state.name} with address space {p.p_vmspace}")
    users: dict[int, int] = {}
    for p in (*s.allproc.values(), *s.zombproc.values()):
        users[p.p_vmspace] = users.get(p.p_vmspace, 0) + 1
    for vmspace, vm in s.vmspaces.items():
        if vm.vm_refcnt < users.get(vmspace, 0):
            found.append(f"address space {vmspace} has {vm.vm_refcnt} references and {users[vmspace]} processes")
    return found, len(s.threads) + len(s.allproc) + len(s.zombproc) + len(s.vmspaces)


def _queues(k: Kern) -> Iterator[str]:
    """A thread is on the run queue, on a sleep queue, on the processor, or swapped out and wanted."""
    s = k.s
    queued = [tid for _, _, tid in s.runq]
    on_runq = set(queued)
    if len(on_runq) != len(queued):
        yield "a thread is on the run queue twice"
    on_cpu = set(running(s))
    if len(on_cpu) != len(running(s)):
        yield "a thread is on two processors"
    asleep = {tid: channel for channel, tids in s.sleepqs.items() for tid in tids}
    for td in s.threads.values():
        name = f"tid {td.td_tid}"
        if (td.td_state is Tds.RUNQ) != (td.td_tid in on_runq):
            yield f"{name} in state {td.td_state.name} is {'' if td.td_tid in on_runq else 'not '}on the run queue"
        if (td.td_state is Tds.RUNNING) != (td.td_tid in on_cpu):
            yield f"{name} in state {td.td_state.name} is {'' if td.td_tid in on_cpu else 'not '}on the processor"
        if asleep.get(td.td_tid, "") != td.td_wchan:
            yield f"{name} waits for {td.td_wchan!r} but is on the sleep queue {asleep.get(td.td_tid, '')!r}"
        if bool(td.td_wchan) != bool(td.td_inhibitors & TDI_SLEEPING):
            yield f"{name} waits for {td.td_wchan!r} with inhibitors {td.td_inhibitors:#x}"
        if (td.td_inhibitors != 0) != (td.td_state is Tds.INHIBITED):
            yield f"{name} has inhibitors {td.td_inhibitors:#x} in state {td.td_state.name}"
        if td.td_inhibitors == TDI_SWAPPED and not td.td_flags & TDF_SWAPINREQ:
            yield f"{name} is kept by its swap-out alone, but nobody asked for the swapper"


def _process(p: Proc) -> Iterator[str]:
    """The swap state machine (reference 8.7)."""
    state = p.p_flag & (P_INMEM | P_SWAPPINGOUT | P_SWAPPINGIN)
    name = f"pid {p.p_pid}"
    if state not in (P_INMEM, P_SWAPPINGOUT, P_SWAPPINGIN, 0):
        yield f"{name} is in two swap states: {state:#x}"
    for td in p.p_threads:
        swapped = td.td_inhibitors & TDI_SWAPPED != 0
        if td.td_pid != p.p_pid:
            yield f"tid {td.td_tid} of {name} says pid {td.td_pid}"
        if state == P_INMEM and not _in_memory(td, swapped):
            yield f"{name} is in memory, its tid {td.td_tid} is not (flags {td.td_flags:#x})"
        if state == 0 and (td.td_flags & TDF_INMEM or not swapped or not td.td_flags & TDF_CANSWAP):
            yield f"{name} is swapped out, its tid {td.td_tid} is not (flags {td.td_flags:#x})"


def _in_memory(td: Thread, swapped: bool) -> bool:
    return td.td_flags & TDF_INMEM != 0 and not swapped and not td.td_flags & TDF_SWAPINREQ


def _candidates(k: Kern) -> Iterator[str]:
    """Whom the swapper considers are those whom vm_glue.c:758-773 finds, with the fields that they have now."""
    procs = k.s.allproc.values()
    theirs = {td.td_tid: row_of(p, td) for p in procs for td in p.p_threads if waits_to_come_in(p, td)}
    rows = k.candidates.rows()
    for tid in sorted(theirs.keys() | rows.keys()):
        if theirs.get(tid) != rows.get(tid):
            yield f"the swapper sees tid {tid} as {rows.get(tid)}, it is {theirs.get(tid)}"
    seqs = [p.p_seq for p in procs]
    if any(later <= earlier for earlier, later in pairwise(seqs)):
        yield "the places of processes in allproc are not in its order"


def _stacks(k: Kern) -> Iterator[str]:
    """Every thread has the stack that the stack allocator gave it, and there are no others.

    Process 0 has none: thread0's is boot memory, its other threads stand for somebody outside. Thread ids below 0 are
    those of the stack allocator's preemption points.
    """
    s = k.s
    mine = {tid: ks for tid, ks, _ in s.proc_zone} | s.zombie_threads
    for p in (*s.allproc.values(), *s.zombproc.values()):
        mine |= {td.td_tid: td.td_kstack for td in p.p_threads if td.td_kstack}
    stacks = k.kstack.stack_states(False).stacks
    theirs = {stack.tid: stack.ks for stack in stacks if stack.state == "in_use" and stack.tid >= 0}
    for tid in sorted(mine.keys() | theirs.keys()):
        if mine.get(tid) != theirs.get(tid) and not _building(k, tid):
            yield f"tid {tid} has its stack at {mine.get(tid)}, the stack allocator says {theirs.get(tid)}"
    for td in s.threads.values():
        if not td.td_kstack and td.td_pid != PROC0:
            yield f"tid {td.td_tid} has no kernel stack"


def _building(k: Kern, tid: int) -> bool:
    """A fork or a thr_new sleeps in vm_thread_new for this thread."""
    frames = (td.td_frame for td in k.s.threads.values())
    makers = (f.fork if isinstance(f, InitFrame) else f for f in frames)
    return any(isinstance(f, ForkFrame | ThrNewFrame) and f.op and f.tid == tid for f in makers)


def digest_state(k: Kern) -> bytes:
    """Digest of the process table, the queues and the counters of a run."""
    s = k.s
    total = hashlib.blake2b(digest_size=32)
    for part in (
        (s.now_us, s.idle_us, s.prng, s.seq, s.last_pid, s.last_tid, s.swapouts, s.swapins, s.curthread),
        list(s.allproc.values()),
        list(s.zombproc.values()),
        list(s.zombie_threads),
        s.ended,
        sorted(s.vmspaces.items()),
        sorted(s.runq),
        sorted(s.sleepqs.items()),
        sorted(s.timers),
        sorted(s.ios),
        *([(s.cpu, registers(s))] if len(s.cpus) > 1 else []),
    ):
        total.update(repr(part).encode())
    return total.digest()
