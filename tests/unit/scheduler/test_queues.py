"""Sleep queues, setrunnable, the run queue, sysctls and the invariants that notice damage."""

from __future__ import annotations

import pytest
from driver import SECOND, booted, sleep

from services.ports.common import Setting
from services.runtime.errors import KernelPanic, Refused
from services.scheduler.proc_flags import (
    PSOCK,
    PVM,
    TDF_CANSWAP,
    TDF_INMEM,
    TDF_SWAPINREQ,
    TDF_TIMEOUT,
    TDI_LOCK,
    TDI_SLEEPING,
    TDI_SUSPENDED,
    TDI_SWAPPED,
    Prs,
    Tds,
    pri_is_realtime,
)
from services.scheduler.runq import SLICE_US, sched_choose
from services.scheduler.sleepq import (
    msleep,
    sched_sleep,
    setrunnable,
    td_clr_inhib,
    td_set_inhib,
    thread_safetoswapout,
    tick_us,
    wakeup,
)


@pytest.fixture
def driver():
    return booted((1, 0), (2, 0))


@pytest.mark.parametrize(
    ("priority", "swappable"), [(PVM, False), (0, False), (103, False), (PSOCK, True), (116, True)]
)
def test_sleep_priority_decides_canswap(driver, priority, swappable):
    td = driver.thread()
    msleep(driver.m.core.k, td, "x", priority, "x")
    assert thread_safetoswapout(driver.m.core.k, td) is swappable
    assert td.td_slptick == driver.m.ctx.ticks


def test_a_suspended_thread_is_swappable_at_any_priority(driver):
    td = driver.thread()
    td_set_inhib(driver.m.core.k, td, TDI_SUSPENDED)
    sched_sleep(driver.m.core.k, td, 0)
    assert td.td_flags & TDF_CANSWAP


def test_wakeup_is_for_all_in_order_and_ends_canswap(driver):
    k = driver.m.core.k
    k.s.runq.clear()
    for pid in (101, 100):
        msleep(k, driver.thread(pid), "x", PSOCK, "x")
    wakeup(k, "x")
    woken = [entry for entry in sorted(k.s.runq) if entry[2] in (100100, 100101)]
    assert [tid for _, _, tid in woken] == [100101, 100100]
    assert not driver.thread().td_flags & TDF_CANSWAP
    assert driver.thread().td_slptick == 0
    assert k.s.sleepqs.get("x") is None


def test_a_second_sleep_of_a_sleeper_is_a_panic(driver):
    msleep(driver.m.core.k, driver.thread(), "x", PVM, "x")
    with pytest.raises(KernelPanic, match="already on a sleep queue"):
        msleep(driver.m.core.k, driver.thread(), "y", PVM, "y")


def test_a_wakeup_before_the_timeout_leaves_a_stale_timer_that_does_nothing(driver):
    k, td = driver.m.core.k, driver.thread()
    driver.report(elapsed_us=10)
    running = driver.dispatch.pid
    other = driver.thread(100 if running == 101 else 101)
    k.s.runq = [entry for entry in k.s.runq if entry[2] != other.td_tid]
    msleep(k, other, "x", PSOCK, "x", timeout_us=5000)
    wakeup(k, "x")
    driver.report(elapsed_us=10_000)
    assert not other.td_flags & TDF_TIMEOUT
    assert td.td_timeout == 0


def test_setrunnable_asks_once_for_the_swapper(driver):
    k, td = driver.m.core.k, driver.thread(101)
    k.s.runq = [entry for entry in k.s.runq if entry[2] != td.td_tid]
    td.td_flags = 0
    td.td_inhibitors, td.td_state = TDI_SWAPPED, Tds.INHIBITED
    assert setrunnable(k, td) is True
    assert td.td_flags & TDF_SWAPINREQ
    assert setrunnable(k, td) is False
    td_clr_inhib(k, td, TDI_SWAPPED)
    td.td_flags |= TDF_INMEM
    assert setrunnable(k, td) is False
    assert td.td_state is Tds.RUNQ


@pytest.mark.parametrize("inhibitors", [TDI_SLEEPING, TDI_LOCK, TDI_SWAPPED | TDI_SLEEPING])
def test_setrunnable_leaves_the_otherwise_inhibited_alone(driver, inhibitors):
    td = driver.thread(101)
    td.td_inhibitors, td.td_state = inhibitors, Tds.INHIBITED
    assert setrunnable(driver.m.core.k, td) is False
    assert td.td_state is Tds.INHIBITED


def test_setrunnable_panics(driver):
    driver.proc(101).p_state = Prs.ZOMBIE
    with pytest.raises(KernelPanic, match="setrunnable: pid 101 is a zombie"):
        setrunnable(driver.m.core.k, driver.thread(101))
    driver.thread(100).td_state = Tds.INACTIVE
    with pytest.raises(KernelPanic, match=r"setrunnable\(2\)"):
        setrunnable(driver.m.core.k, driver.thread(100))


def test_inhibitors_change_states_as_the_macros_do(driver):
    k, td = driver.m.core.k, driver.thread()
    td_clr_inhib(k, td, TDI_SWAPPED)
    assert td.td_state is Tds.RUNNING
    td_set_inhib(k, td, TDI_SLEEPING)
    td_set_inhib(k, td, TDI_SWAPPED)
    td_clr_inhib(k, td, TDI_SLEEPING)
    assert td.td_state is Tds.INHIBITED
    td_clr_inhib(k, td, TDI_SWAPPED)
    assert td.td_state is Tds.CAN_RUN


def test_tick_timeouts_end_at_ticks(driver):
    k = driver.m.core.k
    k.set_time(1_234_567)
    assert (k.s.now_us + tick_us(k, 10)) % 1000 == 0
    assert tick_us(k, 10) == 9433


@pytest.mark.parametrize(("pri_class", "realtime"), [(1, False), (2, True), (3, False), (4, False), (10, True)])
def test_realtime_classes(pri_class, realtime):
    assert pri_is_realtime(pri_class) is realtime


def test_sysctls(driver):
    core = driver.m.core
    names = [setting.name for setting in core.sysctl_get().settings]
    assert names == sorted(names)
    assert Setting("kern.hz", 1000) in core.sysctl_get().settings
    assert Setting("vm.swap_idle_threshold2", 10) in core.sysctl_get().settings
    core.sysctl_set(Setting("vm.swap_idle_threshold2", -(2**31)))
    assert Setting("vm.swap_idle_threshold2", -(2**31)) in core.sysctl_get().settings
    with pytest.raises(Refused, match="value"):
        core.sysctl_set(Setting("vm.swap_idle_threshold2", 2**31))
    with pytest.raises(Refused, match="unknown_sysctl"):
        core.sysctl_set(Setting("kern.hz", 100))


@pytest.mark.parametrize(
    ("damage", "noticed"),
    [
        (lambda d: d.m.core.k.s.runq.clear(), "not on the run queue"),
        (lambda d: setattr(d.thread(), "td_wchan", "x"), "on the sleep queue ''"),
        (lambda d: setattr(d.thread(), "td_inhibitors", TDI_LOCK), "has inhibitors 0x8"),
        (lambda d: setattr(d.thread(), "td_flags", 0), "is in memory, its tid"),
        (lambda d: setattr(d.proc(), "p_flag", 0), "is swapped out, its tid"),
        (lambda d: setattr(d.proc(), "p_flag", 0x70000000), "two swap states"),
        (lambda d: setattr(d.thread(), "td_kstack", 0), "no kernel stack"),
        (lambda d: d.m.kstack.stacks.popitem(), "the stack allocator says None"),
        (lambda d: setattr(d.m.core.k.s, "curthread", 0), "on the processor"),
        (lambda d: d.m.core.k.s.runq.append(d.m.core.k.s.runq[0]), "twice"),
        (lambda d: setattr(d.m.core.k.s.vmspaces[1], "vm_refcnt", 0), "has 0 references"),
    ],
)
def test_the_invariants_notice_damage(driver, damage, noticed):
    assert driver.m.core.check().violations == []
    damage(driver)
    assert any(noticed in violation for violation in driver.m.core.check().violations)


def test_time_asleep_is_counted_while_it_lasts(driver):
    driver.report(sleep(10 * SECOND), limit_us=driver.dispatch.now_us + SECOND)
    driver.report(elapsed_us=100_000)
    assert 90_000 < driver.row(100).sleep_us < 110_000 or 90_000 < driver.row(101).sleep_us < 110_000


def test_a_slice_that_is_over_gives_way_to_an_equal_and_one_that_is_not_does_not(driver):
    k = driver.m.core.k
    first, second = driver.thread(driver.dispatch.pid), driver.thread(201 - driver.dispatch.pid)
    for td in (first, second):
        td.td_estcpu_us, td.td_priority = 0, 140
    k.s.runq = [(140 // 4, 1, second.td_tid)]
    assert sched_choose(k) is first
    first.td_slice_us = 0
    assert sched_choose(k) is second
    assert first.td_slice_us == SLICE_US
    first.td_state, k.s.runq = Tds.RUNQ, [(120 // 4, 1, first.td_tid)]
    assert sched_choose(k) is first
