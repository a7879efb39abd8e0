"""Situations and calls from outside: placing, changing, showing; functions left asleep and scripted; refusals."""

from __future__ import annotations

import pytest
from driver import SECOND, booted, sleep
from fakes import machine

from services.ports.common import Answers
from services.ports.scheduler import (
    Change,
    ChangeField,
    ChangesAt,
    ForkStepKind,
    Left,
    ProcState,
    SchedulerBoot,
    Slept,
    SpawnRequest,
    ThreadState,
    VmspaceState,
)
from services.runtime.errors import KernelPanic, Reason, Refused
from services.scheduler.proc_flags import (
    P_INMEM,
    P_SWAPPINGIN,
    RFMEM,
    RFPROC,
    TDF_CANSWAP,
    TDF_INMEM,
    TDF_SWAPINREQ,
    TDI_SLEEPING,
    TDI_SWAPPED,
    Prs,
    Tds,
)

NORMAL = 1
T1, T2 = 100_100, 100_101
IN, OUT = TDF_CANSWAP | TDF_INMEM, TDF_CANSWAP
INHIBITED = int(Tds.INHIBITED)


def thread(tid=T1, flags=IN, inhibitors=TDI_SLEEPING, state=INHIBITED, slptick=-100_000):
    return ThreadState(tid, state, flags, inhibitors, slptick=slptick)


def process(pid=101, *threads, flags=P_INMEM, vmspace=0, **fields):
    return ProcState(pid, f"p{pid}", int(Prs.NORMAL), flags, vmspace=vmspace, threads=list(threads), **fields)


def bare(*procs, spaces=()):
    """A scheduler over fakes with nothing but these processes."""
    m = machine(bare=True, start_ticks=0)
    for space in spaces:
        m.physmem.refs[space.vmspace] = space.refcnt
    m.physmem.last_vmspace = len(m.physmem.refs)
    m.core.place(list(procs), list(spaces))
    return m


def stack_out(m, *tids):
    """The registers of placed threads whose process is out lie on their stacks."""
    m.kstack.saved |= {tid: m.core.k.s.threads[tid].td_pcb for tid in tids}


def test_what_is_placed_is_shown_head_first_and_satisfies_the_invariants():
    procs = [
        process(150, thread(T1), vmspace=1, swtick=0xFFFFFFFF, nice=-3, lock=2),
        process(7, thread(T2, OUT, TDI_SLEEPING | TDI_SWAPPED), flags=0),
    ]
    spaces = [VmspaceState(1, 3, 44, True)]
    m = bare(*procs, spaces=spaces)
    shown = m.core.proc_states()
    assert shown.procs[:2] == procs
    assert [p.pid for p in shown.procs] == [150, 7, 0]
    assert shown.vmspaces == spaces
    runnable = thread(100_200, TDF_INMEM, 0, int(Tds.RUNQ))
    m.core.place([process(160, runnable)], [])
    assert m.core.proc_states().procs[0].threads == [runnable]
    assert [text for text in m.core.check().violations if "kernel stack" not in text] == []


@pytest.mark.parametrize(
    ("procs", "spaces", "field"),
    [
        ([process(101), process(101)], [], "procs.pid"),
        ([process(0)], [], "procs.pid"),
        ([process(-1)], [], "procs.pid"),
        ([process(101, thread(), thread())], [], "procs.threads.tid"),
        ([process(101, vmspace=9)], [], "procs.vmspace"),
        ([], [VmspaceState(1), VmspaceState(1)], "vmspaces"),
        ([ProcState(101, state=3)], [], "procs.state"),
        ([process(101, thread(state=5))], [], "procs.threads.state"),
    ],
)
def test_what_contradicts_itself_is_refused_whole(procs, spaces, field):
    m = bare()
    before = m.core.proc_states()
    with pytest.raises(Refused) as refused:
        m.core.place([process(55), *procs], spaces)
    assert refused.value.field == field
    assert m.core.proc_states() == before


def test_without_injection_nothing_is_placed_changed_or_scripted():
    m = machine(allow_inject=False)
    tid = m.core.proc_states().procs[0].threads[0].tid
    for call in (
        lambda: m.core.place([], []),
        lambda: m.core.change([]),
        lambda: m.core.swapper([ChangesAt("sleep")], 0, 0),
        lambda: m.core.swapper([], 2, 0),
        lambda: m.core.faultin([1], [], 2),
        lambda: m.core.vm_forkproc(tid, 0, 0, 0, 0, 0),
        lambda: m.core.vm_waitproc(1),
        lambda: m.core.boot(SchedulerBoot(bare=True)),
    ):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.reason is Reason.INJECTION_REFUSED


def test_unknown_ids_are_not_found():
    m = bare(process(101, thread()))
    change = [(ChangeField.P_NICE, 9), (ChangeField.TD_FLAGS, 9), (ChangeField.VM_RESIDENT, 9)]
    calls = [lambda field=field, id_=id_: m.core.change([Change(field, id_, 0)]) for field, id_ in change]
    calls += [
        lambda: m.core.setrunnable(9),
        lambda: m.core.wake_thread(9),
        lambda: m.core.faultin([9], [], 0),
        lambda: m.core.vm_waitproc(9),
        lambda: m.core.vm_waitproc(101),
        lambda: m.core.vm_forkproc(9, 0, 0, 0, 0, 0),
        lambda: m.core.vm_forkproc(T1, 0, 0, 0, 0, 0),
    ]
    for call in calls:
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.reason is Reason.UNKNOWN_ID


def test_programs_need_an_init():
    with pytest.raises(Refused, match="programs"):
        bare().core.spawn([SpawnRequest("prog", 1)])


def test_changes_reach_every_field_and_keep_the_queues_right():
    m = bare(process(101, thread(), vmspace=1), spaces=[VmspaceState(1)])
    values = {
        ChangeField.P_FLAG: P_INMEM | 0x800,
        ChangeField.P_LOCK: -2,
        ChangeField.P_SWTICK: -1,
        ChangeField.P_NICE: 7,
        ChangeField.TD_FLAGS: TDF_INMEM,
        ChangeField.TD_INHIBITORS: 0,
        ChangeField.TD_STATE: int(Tds.RUNQ),
        ChangeField.TD_PRI_CLASS: 4,
        ChangeField.TD_SLPTICK: -5,
    }
    changes = [Change(f, T1 if f.name.startswith("TD_") else 101, value) for f, value in values.items()]
    assert m.core.change([*changes, Change(ChangeField.TICKS, 0, -7)]).ticks == -7
    (p, _) = m.core.proc_states().procs
    assert (p.flags, p.lock, p.swtick, p.nice) == (P_INMEM | 0x800, -2, 0xFFFFFFFF, 7)
    assert p.threads == [ThreadState(T1, int(Tds.RUNQ), TDF_INMEM, 0, 4, -5)]
    assert [text for text in m.core.check().violations if "kernel stack" not in text] == []
    m.core.change([Change(ChangeField.TD_STATE, T1, INHIBITED), Change(ChangeField.TD_INHIBITORS, T1, TDI_SLEEPING)])
    assert [text for text in m.core.check().violations if "kernel stack" not in text] == []


@pytest.mark.parametrize("wrong", [Change(ChangeField.P_STATE, 101, 3), Change(ChangeField.TD_STATE, T1, -1)])
def test_changes_that_cannot_be_are_refused_before_anything_happens(wrong):
    m = bare(process(101, thread()))
    nice = Change(ChangeField.P_NICE, 101, 9)
    calls = [
        lambda: m.core.change([nice, wrong]),
        lambda: m.core.swapper([ChangesAt("sleep", 1, [nice]), ChangesAt("sleep", 2, [wrong])], 3, 0),
        lambda: m.core.faultin([101], [ChangesAt("sleep", 1, [wrong])], 2),
    ]
    before = m.core.proc_states()
    for call in calls:
        with pytest.raises(Refused, match=r"changes\.value"):
            call()
    assert m.core.proc_states() == before


def test_a_map_is_held_by_somebody_else_until_it_is_given_back():
    m = bare(process(101, thread(), vmspace=1), spaces=[VmspaceState(1)])
    hold, release = (Change(ChangeField.VM_MAP_LOCKED, 1, value) for value in (1, 0))
    m.core.change([release, hold, hold])
    assert m.physmem.named("vm_map_trylock") == [[1]]
    m.physmem.locked.add(1)
    assert m.core.swapout_procs(NORMAL).swapped_out == []
    m.physmem.locked.clear()
    m.core.change([release, release])
    assert m.physmem.named("vm_map_unlock") == [[1]]
    m.core.change([Change(ChangeField.VM_RESIDENT, 1, 123_456)])
    assert m.core.swapout_procs(NORMAL).swapped_out == [101]
    assert m.core.proc_states().vmspaces == [VmspaceState(1, 1, 123_456)]


def test_a_scan_that_alternates_between_processes_is_given_up():
    m = bare(
        *(process(101 + n, thread(T1 + n), vmspace=n + 1) for n in range(3)),
        spaces=[VmspaceState(n) for n in (1, 2, 3)],
    )
    answers = ([1, 0, 0], [1, 0], [0])
    m.core.inject([Answers(f"thread_safetoswapout:{T1 + n}", answers[n], cycle=True) for n in range(3)])
    call = m.core.swapout_procs(NORMAL)
    assert call.livelock == [101, 102]
    assert set(call.busy) == {101, 102}
    assert max(call.busy.count(pid) for pid in (101, 102)) == 101


def test_the_swapper_is_left_at_the_wanted_sleep_and_changes_happen_in_between():
    m = bare(process(101, thread(flags=OUT, inhibitors=TDI_SLEEPING | TDI_SWAPPED), flags=0))
    stack_out(m, T1)
    awake = [Change(ChangeField.TD_INHIBITORS, T1, TDI_SWAPPED), Change(ChangeField.TICKS, 0, 500)]
    call = m.core.swapper([ChangesAt("sleep", 2, awake)], 3, 0)
    assert call.sleeps == [Slept("proc0", 10_000)] * 3
    assert (call.swapped_in, call.wakeups, call.left, call.ticks) == ([101], ["swapin:101"], Left.SLEEP, 500)
    assert m.core.proc_states().procs[0].flags == P_INMEM


def test_the_swapper_loses_its_choice_to_a_change_behind_the_scan():
    m = bare(process(101, thread(flags=OUT, inhibitors=TDI_SWAPPED), flags=0))
    taken = [Change(ChangeField.P_FLAG, 101, P_SWAPPINGIN)]
    call = m.core.swapper([ChangesAt("swapper:793", 1, taken)], 0, 0)
    assert (call.swapped_in, call.sleeps, call.left) == ([], [Slept("proc0", 10_000)], Left.SLEEP)


def test_the_swapper_waits_for_memory_until_it_is_left():
    m = bare()
    m.core.inject([Answers("vm_page_count_min", [1, 1, 1])])
    call = m.core.swapper([], 0, 2)
    assert (call.vm_waits, call.sleeps, call.left) == (2, [], Left.VM_WAIT)
    call = m.core.swapper([], 0, 9)
    assert (call.vm_waits, call.sleeps, call.left) == (1, [Slept("proc0", 10_000)], Left.SLEEP)


def test_faultin_waits_for_another_and_each_wait_has_its_thread():
    m = bare(process(101, thread(flags=OUT, inhibitors=TDI_SWAPPED), flags=P_SWAPPINGIN))
    for _ in range(2):
        call = m.core.faultin([101], [], 0)
        assert (call.sleeps, call.left) == ([Slept("swapin:101")], Left.SLEEP)
    done = [ChangesAt("sleep", 2, [Change(ChangeField.P_FLAG, 101, P_INMEM)])]
    call = m.core.faultin([101], done, 3)
    assert (call.sleeps, call.swapped_in, call.left) == ([Slept("swapin:101")] * 2, [], Left.RETURNED)
    before = len(m.core.k.s.threads)
    assert m.core.faultin([101], [], 0).left is Left.RETURNED
    assert len(m.core.k.s.threads) == before


def test_wakeups_ask_for_the_swapper_once():
    m = bare(process(101, thread(flags=OUT, inhibitors=TDI_SLEEPING | TDI_SWAPPED), flags=0))
    woken = m.core.wake_thread(T1)
    assert (woken.wakeups, woken.wakeup_swapper) == (["proc0"], True)
    for call in (m.core.wake_thread, m.core.setrunnable):
        again = call(T1)
        assert (again.wakeups, again.wakeup_swapper) == ([], False)
    (td,) = m.core.proc_states().procs[0].threads
    assert td.flags == OUT | TDF_SWAPINREQ
    assert m.core.kick_proc0().wakeups == ["proc0"]


def test_a_zombie_is_not_made_runnable():
    m = bare(ProcState(101, "p", int(Prs.ZOMBIE), P_INMEM, threads=[thread()]))
    with pytest.raises(KernelPanic, match="setrunnable: pid 101 is a zombie"):
        m.core.setrunnable(T1)


def test_forks_tell_what_they_call_and_wait_where_they_are_left():
    spaces = [VmspaceState(1, 2, 0, True), VmspaceState(2)]
    m = bare(process(101, thread(), vmspace=1), process(102, thread(T2)), process(103), spaces=spaces)
    m.core.inject([Answers("vm_page_count_severe", [1, 1, 0])])
    call = m.core.vm_forkproc(T1, 102, T2, 2, RFPROC, 2)
    assert (call.steps, call.vm_waits, call.left) == ([], 2, Left.VM_WAIT)
    call = m.core.vm_forkproc(T1, 102, T2, 2, RFPROC, 2)
    shm, fork = call.steps
    assert (shm.kind, shm.pid, shm.child_pid, shm.vmspace) == (ForkStepKind.SHMFORK, 101, 102, 2)
    assert (fork.kind, fork.tid, fork.child_tid, fork.vmspace, fork.flags) == (ForkStepKind.CPU_FORK, T1, T2, 2, RFPROC)
    shared = m.core.vm_forkproc(T1, 103, 0, 2, RFPROC | RFMEM, 0)
    assert (shared.error, shared.steps[0].vmspace) == (0, 1), "RFMEM passes over the address space that comes along"
    assert m.core.proc_states().vmspaces[0].refcnt == 3
    unshare, _ = m.core.vm_forkproc(T1, 0, 0, 0, 0, 0).steps
    assert (unshare.kind, unshare.pid, unshare.old_vmspace, unshare.vmspace) == (ForkStepKind.UNSHARE, 101, 1, 3)
    m.core.vm_waitproc(103)
    assert [(space.vmspace, space.refcnt) for space in m.core.proc_states().vmspaces] == [(1, 1), (2, 1), (3, 1)]
    for arguments in ((T1, 0, 0, 0, RFPROC, 0), (T1, 103, 0, 9, RFPROC, 0)):
        with pytest.raises(Refused):
            m.core.vm_forkproc(*arguments)


def test_the_swapper_of_a_running_machine_looks_now_and_goes_back_to_sleep():
    driver = booted((1, 0), (2, 0))
    driver.report(sleep(5 * SECOND))
    for _ in range(30):
        driver.report(elapsed_us=100_000)
    driver.m.core.swapout_procs(NORMAL)
    assert driver.m.core.swapper([], 0, 0).swapped_in == []
    driver.m.kstack.read_us = 5000
    woken = driver.m.core.wake_thread(driver.thread().td_tid)
    assert woken.wakeup_swapper
    call = driver.m.core.swapper([], 0, 0)
    assert (call.swapped_in, call.left, call.sleeps[0].channel) == ([], Left.SLEEP, f"page:{driver.thread().td_tid}")
    again = driver.m.core.swapper([], 0, 0)
    assert (again.left, again.sleeps) == (Left.SLEEP, [])
    driver.report(elapsed_us=6000)
    assert driver.proc().p_flag & P_INMEM
    assert driver.m.core.stats().swapins == 1
