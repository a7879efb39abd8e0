"""Priorities and load: the figures of sched_4bsd.c and kern_synch.c."""

from __future__ import annotations

from driver import SECOND, booted

from services.scheduler.proc_flags import PSOCK
from services.scheduler.runq import FSCALE, estcpulim, loadav, sched_exit, schedcpu, updatepri


def test_the_load_of_a_busy_minute_nears_the_number_of_runnable_threads():
    k = booted((1, 0)).m.core.k
    k.s.ldavg = [0, 0, 0]
    runnable = len(k.s.runq) + 1
    k.set_time(k.s.loadav_due_us)
    loadav(k)
    assert k.s.ldavg == [runnable * (FSCALE - kept) for kept in (1884, 2014, 2036)]
    k.set_time(k.s.now_us + 300 * SECOND)
    loadav(k)
    assert 0.98 * runnable * FSCALE < k.s.ldavg[0] <= runnable * FSCALE
    assert k.s.ldavg[2] < k.s.ldavg[1] < k.s.ldavg[0]


def test_a_second_at_a_load_of_one_leaves_two_thirds_and_without_load_nothing():
    driver = booted((1, 0))
    k, td = driver.m.core.k, driver.thread()
    for load, left in ((FSCALE, 600_000), (4 * FSCALE, 800_000), (0, 0)):
        k.s.ldavg[0], td.td_estcpu_us = load, 900_000
        k.set_time(k.s.now_us + SECOND)
        updatepri(k, td)
        assert td.td_estcpu_us == left


def test_schedcpu_moves_a_runnable_thread_and_leaves_a_sleeper_to_its_wakeup():
    driver = booted((1, 0), (2, 0))
    k = driver.m.core.k
    driver.report(elapsed_us=10)
    other = driver.thread(201 - driver.dispatch.pid)
    other.td_estcpu_us, other.td_priority = 900_000, 200
    k.s.runq = [(200 // 4, k.next_seq(), other.td_tid)]
    sleeper = driver.thread(1)
    before = sleeper.td_estcpu_at_us
    k.set_time(k.s.schedcpu_due_us)
    schedcpu(k)
    assert other.td_estcpu_us == 0
    assert other.td_priority == other.td_user_pri == 140
    assert [entry[0] for entry in k.s.runq] == [140 // 4]
    assert sleeper.td_estcpu_at_us == before


def test_a_parent_answers_for_its_child_up_to_the_limit():
    driver = booted((1, 0), (2, 0))
    driver.report(elapsed_us=10)
    parent, child = driver.thread(100), driver.thread(101)
    parent.td_estcpu_us, child.td_estcpu_us = 1000, 500
    sched_exit(driver.m.core.k, parent, child)
    assert parent.td_estcpu_us == 1500
    child.td_estcpu_us = limit = estcpulim(driver.m.core.k, 1 << 60)
    sched_exit(driver.m.core.k, parent, child)
    assert parent.td_estcpu_us == limit


def test_a_kernel_priority_outlives_schedcpu():
    driver = booted((1, 0))
    k, td = driver.m.core.k, driver.thread()
    td.td_priority = PSOCK
    k.set_time(k.s.schedcpu_due_us)
    schedcpu(k)
    assert td.td_priority == PSOCK
