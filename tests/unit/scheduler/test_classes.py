"""Classes of rtprio(2): priorities, slices, the run queue's order, swapping; and RLIMIT_RSS."""

from __future__ import annotations

import pytest
from driver import FORK, IMAGE, SECOND, Driver, sleep

from services.ports.common import Stop
from services.ports.scheduler import DispatchKind, SpawnRequest
from services.runtime.errors import Refused
from services.scheduler.glue_swap import Skip, SwapoutScan, _why_not
from services.scheduler.proc_flags import PRI_FIFO, PRI_IDLE, PRI_REALTIME, PRI_TIMESHARE, PVM, VM_SWAP_NORMAL
from services.scheduler.runq import STATCLOCK_US
from services.scheduler.vm_daemon import _enforce_limits, limits_bind

CLASSES = (PRI_REALTIME, PRI_FIFO, PRI_TIMESHARE, PRI_IDLE)


def of_classes(*classes, rtprio=0, rss_limit=0):
    """A machine with a program of each class, all started at once; the first to run is dispatched."""
    driver = Driver()
    programs = [
        SpawnRequest(f"p{n}", n + 1, 0, 0, IMAGE, pri_class=pri_class, rtprio=rtprio, rss_limit=rss_limit)
        for n, pri_class in enumerate(classes)
    ]
    driver.m.core.spawn(programs)
    driver.next()
    return driver


def run_to(driver, pid, others=None):
    """Let slices pass, or the others do something, until a process has the processor."""
    for _ in range(100):
        if driver.dispatch.pid == pid:
            return
        driver.report(others, elapsed_us=driver.dispatch.budget_us)
    raise AssertionError(f"pid {pid} never ran")


@pytest.mark.parametrize(
    ("pri_class", "rtprio", "priority"),
    [(PRI_REALTIME, 0, 48), (PRI_FIFO, 31, 79), (PRI_TIMESHARE, 9, 140), (PRI_IDLE, 0, 224), (PRI_IDLE, 31, 255)],
)
def test_the_priority_of_a_class(pri_class, rtprio, priority):
    driver = of_classes(pri_class, rtprio=rtprio)
    td = driver.thread()
    assert (td.td_pri_class, td.td_user_pri, td.td_priority) == (pri_class, priority, priority)


@pytest.mark.parametrize(("field", "value"), [("pri_class", 1), ("pri_class", 5), ("pri_class", 0), ("rtprio", 32)])
def test_a_class_or_priority_that_does_not_exist_is_refused(field, value):
    with pytest.raises(Refused, match=field):
        Driver().m.core.spawn([SpawnRequest("p", 1, **{field: value})])


def test_realtime_runs_before_timesharing_and_idle_only_when_nobody_else_does():
    driver = of_classes(PRI_IDLE, PRI_TIMESHARE, PRI_REALTIME)
    run_to(driver, 102)
    for _ in range(5):
        driver.report(elapsed_us=driver.dispatch.budget_us)
        assert driver.dispatch.pid == 102
    driver.report(sleep(SECOND))
    for _ in range(5):
        assert driver.dispatch.pid == 101
        driver.report(elapsed_us=driver.dispatch.budget_us)
    driver.report(sleep(SECOND))
    assert driver.dispatch.pid == 100


@pytest.mark.parametrize("pri_class", [PRI_REALTIME, PRI_FIFO, PRI_IDLE])
def test_equals_of_a_class_take_turns_and_keep_their_priority(pri_class):
    driver = of_classes(pri_class, rtprio=8)
    driver.report(FORK)
    before = driver.thread().td_user_pri
    turns = []
    for _ in range(40):
        turns.append(driver.dispatch.pid)
        driver.report(elapsed_us=driver.dispatch.budget_us)
    assert min(turns.count(100), turns.count(101)) > 10
    assert driver.thread().td_user_pri == before


def test_a_preempted_idle_thread_is_the_next_of_its_queue_and_a_timesharing_one_the_last():
    for pri_class, follows in ((PRI_IDLE, "the preempted"), (PRI_TIMESHARE, "the other")):
        driver = of_classes(pri_class, pri_class, PRI_REALTIME)
        run_to(driver, 102)
        driver.report(sleep(30_000))
        run_to(driver, 101)
        driver.report(elapsed_us=STATCLOCK_US)
        while driver.dispatch.pid != 102:
            preempted = driver.dispatch.pid
            driver.report(elapsed_us=driver.dispatch.budget_us)
        driver.report(sleep(SECOND))
        assert (driver.dispatch.pid == preempted) == (follows == "the preempted")


def test_a_sleep_gives_its_priority_to_a_timesharing_thread_alone():
    for pri_class in CLASSES:
        driver = of_classes(pri_class, PRI_TIMESHARE)
        run_to(driver, 100, sleep(SECOND))
        user = driver.thread().td_user_pri
        driver.fault(5_000)
        assert driver.thread().td_priority == (PVM if pri_class == PRI_TIMESHARE else user)


def test_a_child_is_of_its_parents_class():
    driver = of_classes(PRI_REALTIME, rtprio=7)
    driver.report(FORK)
    child = driver.thread(101)
    assert (child.td_pri_class, child.td_user_pri, child.td_priority) == (PRI_REALTIME, 55, 55)
    assert child.td_slice_us == STATCLOCK_US


@pytest.mark.parametrize("pri_class", CLASSES)
def test_realtime_is_never_swapped_out_and_idle_may_be(pri_class):
    driver = of_classes(pri_class, PRI_TIMESHARE)
    run_to(driver, 100, sleep(SECOND))
    driver.report(sleep(20 * SECOND))
    until = driver.dispatch.now_us + 3 * SECOND
    while driver.dispatch.now_us < until:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    why = _why_not(driver.m.core.k, driver.proc(), SwapoutScan(VM_SWAP_NORMAL))
    assert (why and why[0]) == (Skip.REALTIME if pri_class in (PRI_REALTIME, PRI_FIFO) else None)


def test_a_process_over_its_limit_comes_down_to_it_and_one_below_is_left_alone():
    for resident, expected in ((7, []), (8, [8]), (9, [8])):
        driver = of_classes(PRI_TIMESHARE, rss_limit=8)
        driver.m.physmem.sizes[driver.proc().p_vmspace] = resident
        assert limits_bind(driver.m.core.k)
        _enforce_limits(driver.m.core.k)
        assert driver.m.physmem.limits == expected


def test_a_child_has_its_parents_limit_and_no_limit_is_none():
    driver = of_classes(PRI_TIMESHARE, rss_limit=8)
    driver.report(FORK)
    assert driver.proc(101).p_rss_limit == 8
    driver = of_classes(PRI_TIMESHARE)
    driver.m.physmem.sizes[driver.proc().p_vmspace] = 10**9
    _enforce_limits(driver.m.core.k)
    assert driver.m.physmem.named("map_deactivate") == []
    assert not limits_bind(driver.m.core.k)


def test_a_limited_process_that_waits_to_come_in_is_left_alone():
    driver = of_classes(PRI_TIMESHARE, PRI_TIMESHARE, rss_limit=8)
    run_to(driver, 100)
    driver.report(sleep(20 * SECOND))
    driver.report(elapsed_us=4 * SECOND, stop=Stop.YIELD)
    driver.m.core.swapout_procs(VM_SWAP_NORMAL)
    driver.m.physmem.sizes[driver.proc(101).p_vmspace] = 7
    _enforce_limits(driver.m.core.k)
    assert driver.m.physmem.limits == [0]
    driver.m.core.wake_thread(driver.thread().td_tid)
    driver.m.physmem.limits.clear()
    _enforce_limits(driver.m.core.k)
    assert driver.m.physmem.limits == []
    assert driver.dispatch.kind is DispatchKind.RUN
