"""SIGSTOP and SIGCONT: who is suspended where, what may be swapped out meanwhile, how a stopped process ends."""

from __future__ import annotations

import pytest
from driver import EXIT, FORK, IMAGE, SECOND, SELECT, Driver, booted, events, sleep

from services.ports.scheduler import DispatchKind, SpawnRequest, Trap, TrapOp
from services.runtime.errors import Refused
from services.runtime.events import Kind
from services.scheduler.proc_flags import (
    P_INMEM,
    P_STOPPED_SIG,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    TDF_CANSWAP,
    TDF_SWAPINREQ,
    TDI_SLEEPING,
    TDI_SUSPENDED,
    VM_SWAP_NORMAL,
)

SIGTERM = 15


def kill(driver, signal, pid=100):
    driver.m.core.kill([pid], signal)


def pass_time(driver, us):
    """Whoever has the processor computes."""
    until = driver.dispatch.now_us + us
    while driver.dispatch.now_us < until:
        driver.report(elapsed_us=min(driver.dispatch.budget_us, until - driver.dispatch.now_us))


def asleep(number=SELECT, us=60 * SECOND):
    """The first of two programs sleeps in a call, the second computes."""
    driver = booted((1, 0), (2, 0))
    driver.report(sleep(us, number))
    return driver


def test_a_program_that_computes_is_suspended_at_its_return_to_user_mode():
    driver = booted((1, 0), (2, 0))
    assert driver.dispatch.pid == 100
    kill(driver, SIGSTOP)
    assert driver.thread().td_inhibitors == 0
    driver.report(elapsed_us=10)
    assert driver.thread().td_inhibitors == TDI_SUSPENDED
    pass_time(driver, SECOND)
    assert driver.row().state == "stopped"
    assert driver.row().cpu_us < 1000
    kill(driver, SIGCONT)
    pass_time(driver, SECOND)
    assert driver.row().cpu_us > SECOND // 4
    assert not driver.proc().p_flag & P_STOPPED_SIG


def test_a_system_call_is_finished_first():
    driver = booted((1, 0), (2, 0))
    kill(driver, SIGSTOP)
    driver.report(FORK)
    assert driver.proc(102).p_pptr == 100
    assert driver.thread().td_inhibitors == TDI_SUSPENDED


def test_a_sleeper_is_suspended_where_it_is_and_may_be_swapped_out_then():
    driver = asleep()
    pass_time(driver, 3 * SECOND)
    driver.m.core.swapout_procs(VM_SWAP_NORMAL)
    assert driver.proc().p_flag & P_INMEM, "a sleep in select is not swappable"
    kill(driver, SIGSTOP)
    td = driver.thread()
    assert td.td_inhibitors == TDI_SLEEPING | TDI_SUSPENDED
    assert td.td_flags & TDF_CANSWAP
    assert td.td_slptick == driver.m.core.k.ticks
    driver.m.core.swapout_procs(VM_SWAP_NORMAL)
    assert driver.proc().p_flag & P_INMEM, "it counts from the suspension"
    pass_time(driver, 3 * SECOND)
    driver.m.core.swapout_procs(VM_SWAP_NORMAL)
    assert not driver.proc().p_flag & P_INMEM
    assert driver.row().state == "swapped"


def test_the_end_of_its_sleep_neither_runs_it_nor_brings_it_in():
    driver = asleep(us=5 * SECOND)
    kill(driver, SIGSTOP)
    pass_time(driver, 3 * SECOND)
    driver.m.core.swapout_procs(VM_SWAP_NORMAL)
    pass_time(driver, 9 * SECOND)
    td = driver.thread()
    assert (td.td_wchan, td.td_flags & TDF_SWAPINREQ, driver.proc().p_flag & P_INMEM) == ("", 0, 0)
    kill(driver, SIGCONT)
    assert td.td_flags & TDF_SWAPINREQ
    pass_time(driver, SECOND)
    assert driver.proc().p_flag & P_INMEM
    assert driver.m.core.stats().swapins == 1
    assert driver.row().cpu_us > 0


def test_a_sleep_goes_on_after_a_continuation():
    driver = asleep(us=20 * SECOND)
    kill(driver, SIGSTOP)
    pass_time(driver, SECOND)
    kill(driver, SIGCONT)
    td = driver.thread()
    assert td.td_inhibitors == TDI_SLEEPING
    assert td.td_flags & TDF_CANSWAP, "nobody takes it back before the thread is woken"
    pass_time(driver, 30 * SECOND)
    assert td.td_wchan == ""


def test_a_page_read_is_completed_before_it_stops():
    driver = booted((1, 0), (2, 0))
    driver.fault(50_000)
    kill(driver, SIGSTOP)
    assert driver.thread().td_inhibitors == TDI_SLEEPING
    while driver.dispatch.pid == 101:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    assert (driver.dispatch.resume_op, driver.dispatch.budget_us) == (1, 1)
    driver.report(elapsed_us=1)
    assert driver.dispatch.pid == 101
    assert driver.thread().td_inhibitors == TDI_SUSPENDED


@pytest.mark.parametrize(("signal", "ends"), [(SIGKILL, True), (SIGTERM, False)])
def test_sigkill_ends_a_stopped_process_and_others_wait_for_its_continuation(signal, ends):
    driver = asleep()
    kill(driver, SIGSTOP)
    kill(driver, signal)
    pass_time(driver, SECOND)
    assert (driver.row().status == -signal) == ends
    if not ends:
        assert driver.thread().td_inhibitors == TDI_SUSPENDED
        kill(driver, SIGCONT)
        pass_time(driver, SECOND)
        assert driver.row().status == -signal


def test_stopping_twice_and_continuing_who_is_not_stopped_changes_nothing():
    driver = asleep()
    kill(driver, SIGCONT)
    assert events(driver, Kind.PROC_CONTINUED) == []
    kill(driver, SIGSTOP)
    pass_time(driver, 1000)
    since = driver.thread().td_slptick
    pass_time(driver, SECOND)
    kill(driver, SIGSTOP)
    assert driver.thread().td_slptick == since
    assert [event.subject for event in events(driver, Kind.PROC_STOPPED)] == [100]


def test_a_vfork_child_is_not_stopped():
    driver = booted()
    driver.report(Trap(TrapOp.FORK, a=1, b=1, cookie=7))
    assert driver.dispatch.pid == 101
    kill(driver, SIGSTOP, 101)
    driver.report(elapsed_us=10)
    assert not driver.proc(101).p_flag & P_STOPPED_SIG


def test_a_parent_is_told_and_waits_on():
    driver = booted()
    driver.report(FORK)
    driver.report(Trap(TrapOp.WAIT, a=-1))
    assert driver.thread().td_wmesg == "wait"
    before = driver.thread().td_switches
    kill(driver, SIGSTOP, 101)
    driver.report(elapsed_us=10, limit_us=driver.dispatch.now_us + 1000)
    assert driver.thread().td_switches == before + 1
    assert driver.thread().td_wmesg == "wait"


def test_nobody_left_to_continue_it_is_a_deadlock_that_says_so():
    driver = booted()
    kill(driver, SIGSTOP)
    driver.report(elapsed_us=10)
    assert driver.dispatch.kind is DispatchKind.DEADLOCK
    assert "prog1 (pid 100) is stopped" in driver.dispatch.reason


def test_a_group_stops_and_continues_at_its_times():
    driver = Driver()
    program = SpawnRequest("p", 1, 0, 0, IMAGE, stop_us=SECOND, continue_us=20 * SECOND)
    driver.m.core.spawn([program, SpawnRequest("q", 2, 30 * SECOND, 0, IMAGE)])
    driver.next()
    driver.report(FORK)
    while driver.dispatch.now_us < SECOND:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    while driver.dispatch.now_us < 20 * SECOND:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    stopped = {event.subject: event.time_us for event in events(driver, Kind.PROC_STOPPED)}
    continued = {event.subject: event.time_us for event in events(driver, Kind.PROC_CONTINUED)}
    assert stopped.keys() == continued.keys() == {100, 101}
    assert all(SECOND <= at < SECOND + 1000 for at in stopped.values())
    assert set(continued.values()) == {20 * SECOND}


def test_a_suspended_thread_does_not_keep_its_process_from_ending():
    driver = booted()
    driver.report(Trap(TrapOp.THR_NEW, cookie=9))
    first, second = driver.proc().p_threads
    kill(driver, SIGSTOP)
    driver.report(sleep(60 * SECOND))
    suspended = [td for td in (first, second) if td.td_inhibitors & TDI_SUSPENDED]
    assert len(suspended) == 2
    kill(driver, SIGKILL)
    driver.next()
    assert driver.row().status == -SIGKILL


def test_an_exit_does_not_wait_for_a_thread_that_is_suspended():
    driver = booted()
    driver.report(Trap(TrapOp.THR_NEW, cookie=9))
    sleeper = driver.m.core.k.s.threads[driver.dispatch.tid]
    driver.report(sleep(60 * SECOND))
    kill(driver, SIGSTOP)
    assert sleeper.td_inhibitors == TDI_SLEEPING | TDI_SUSPENDED
    driver.report(EXIT)
    assert driver.dispatch.kind is DispatchKind.FINISHED
    assert driver.row().status == 0


def test_a_program_on_another_processor_stops_too():
    driver = booted((1, 0), (2, 0), ncpu=2)
    while len(driver.m.core.k.s.allproc) < 6:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    other = 201 - driver.dispatch.pid
    kill(driver, SIGSTOP, other)
    pass_time(driver, 10_000)
    assert driver.thread(other).td_inhibitors == TDI_SUSPENDED


@pytest.mark.parametrize(("pid", "signal"), [(100, 0), (100, 32), (1, SIGSTOP), (2, SIGKILL), (99, SIGSTOP)])
def test_who_and_what_is_refused(pid, signal):
    driver = booted()
    with pytest.raises(Refused):
        kill(driver, signal, pid)
    driver.report(EXIT)
    assert driver.row().status == 0


def test_vmtotal_counts_each_thread_once_where_vmstat_shows_it():
    def total(driver):
        found = {setting.name: setting.value for setting in driver.m.core.sysctl_get().settings}
        return [found[f"vm.vmtotal.{name}"] for name in ("t_rq", "t_dw", "t_sl", "t_sw")]

    driver = booted((1, 0), (2, 0), (3, 0))
    driver.report(sleep(60 * SECOND))
    driver.fault(20 * SECOND)
    assert total(driver) == [1, 1, 1, 0]
    pass_time(driver, 3 * SECOND)
    driver.m.core.swapout_procs(VM_SWAP_NORMAL)
    assert total(driver) == [1, 1, 0, 1]
    kill(driver, SIGSTOP, driver.dispatch.pid)
    driver.report(elapsed_us=10, limit_us=driver.dispatch.now_us + 100)
    assert total(driver) == [0, 1, 0, 1]
