"""procstat -a: each process is held while it is looked at, and comes in for it if it is out."""

from __future__ import annotations

from driver import EXIT, SECOND, booted, events, sleep

from services.runtime.events import Kind
from services.scheduler.proc_flags import P_INMEM, P_WEXIT, SIGKILL, VM_SWAP_NORMAL
from services.scheduler.state import ProcstatFrame

PROCSTAT = 156


def three_out(**config):
    """Three programs asleep and swapped out; the fourth has the processor."""
    driver = booted(*((n, 0) for n in (1, 2, 3, 4)), **config)
    for _ in range(3):
        driver.report(sleep(100 * SECOND))
    until = driver.dispatch.now_us + 3 * SECOND
    while driver.dispatch.now_us < until:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    driver.m.core.swapout_procs(VM_SWAP_NORMAL)
    assert driver.m.core.processes().swapped == 3
    return driver


def look(driver):
    """The fourth program looks at everybody, and is back."""
    driver.report(sleep(1000, PROCSTAT))


def test_who_is_out_comes_in_and_is_let_go_one_after_the_other():
    driver = three_out()
    driver.m.kstack.read_us = 5000
    look(driver)
    assert driver.dispatch.pid == 103
    assert driver.m.core.processes().swapped == 0
    assert [event.subject for event in events(driver, Kind.FAULTIN)] == [100, 101, 102]
    begun = [event.time_us for event in events(driver, Kind.FAULTIN)]
    done = [event.time_us for event in events(driver, Kind.FAULTIN_DONE)]
    assert all(before <= after for before, after in zip(done, begun[1:], strict=False))
    assert {driver.proc(pid).p_lock for pid in (100, 101, 102, 103)} == {0}
    assert driver.thread(100).td_wmesg == "nanslp", "it slept on"


def test_who_is_held_is_not_swapped_out():
    driver = three_out()
    driver.m.kstack.read_us = 50_000
    driver.report(sleep(1000, PROCSTAT), limit_us=driver.dispatch.now_us + 20_000)
    frame = driver.thread(103).td_frame
    assert isinstance(frame, ProcstatFrame)
    held = frame.faultin.pid
    assert driver.proc(held).p_lock == 2
    assert driver.m.core.swapout_procs(VM_SWAP_NORMAL).swapped_out == []


def test_who_ends_meanwhile_is_passed_over():
    driver = three_out()
    driver.proc(101).p_flag |= P_WEXIT
    look(driver)
    assert driver.proc(101).p_flag & P_INMEM == 0
    driver.proc(101).p_flag &= ~P_WEXIT
    assert driver.m.core.processes().swapped == 1


def test_a_signal_in_its_sleep_ends_it_before_it_looks():
    driver = three_out()
    driver.report(sleep(10 * SECOND, PROCSTAT), limit_us=driver.dispatch.now_us + SECOND)
    driver.m.core.kill([103], SIGKILL)
    driver.next(driver.dispatch.now_us + SECOND)
    assert driver.row(103).status == -SIGKILL
    assert events(driver, Kind.FAULTIN) == []


def test_on_two_processors_it_is_the_same():
    driver = three_out(ncpu=2)
    look(driver)
    assert driver.m.core.processes().swapped == 0
    driver.report(EXIT)
    assert driver.row(103).status == 0
