"""vm_pageout_oom: whom it looks at, how it measures, whom it kills."""

from __future__ import annotations

import pytest
from driver import SECOND, booted, events, sleep

from services.ports.common import VM_OOM_MEM, VM_OOM_SWAPZ, Stop
from services.runtime.events import Kind
from services.scheduler.proc_flags import P_INEXEC, P_PROTECTED, P_WEXIT, P_WKILLED, TDI_SLEEPING, TDI_SWAPPED, Prs
from services.scheduler.vm_oom import vm_pageout_oom

FIRST, SECOND_ONE, RUNNING = 100, 101, 102


def three():
    """Two programs asleep, the third runs; the first is the largest."""
    driver = booted((1, 0), (2, 0), (3, 0))
    driver.report(sleep(100 * SECOND))
    driver.report(sleep(100 * SECOND))
    driver.m.physmem.sizes |= {driver.proc(FIRST).p_vmspace: 9, driver.proc(SECOND_ONE).p_vmspace: 5}
    return driver


def killed(driver, shortage=VM_OOM_MEM):
    """Whom a call kills; 0: nobody."""
    vm_pageout_oom(driver.m.core.k, shortage)
    return max((p.p_pid for p in driver.m.core.k.s.allproc.values() if p.p_sig), default=0)


def test_the_largest_in_memory_and_swap_is_killed():
    driver = three()
    driver.m.physmem.swap_counts[driver.proc(SECOND_ONE).p_vmspace] = 5
    assert killed(driver) == SECOND_ONE
    assert [(event.subject, event.a) for event in events(driver, Kind.OOM_KILL)] == [(SECOND_ONE, 10)]
    assert driver.proc(SECOND_ONE).p_flag & P_WKILLED


def test_a_full_swap_zone_counts_pages_in_swap_alone():
    driver = three()
    driver.m.physmem.swap_counts[driver.proc(SECOND_ONE).p_vmspace] = 2
    assert killed(driver, VM_OOM_SWAPZ) == SECOND_ONE


def test_a_full_swap_zone_without_anything_in_swap_kills_nobody():
    assert killed(three(), VM_OOM_SWAPZ) == 0


def test_of_equals_the_newest_is_killed():
    driver = three()
    driver.m.physmem.sizes[driver.proc(SECOND_ONE).p_vmspace] = 9
    assert killed(driver) == SECOND_ONE


def test_a_process_whose_map_is_locked_is_passed_over_and_no_lock_is_kept():
    driver = three()
    driver.m.physmem.locked.add(driver.proc(FIRST).p_vmspace)
    assert killed(driver) == SECOND_ONE
    locked = [v for asked in driver.m.physmem.named("vm_map_trylock") for v in asked]
    given_back = [v for asked in driver.m.physmem.named("vm_map_unlock") for v in asked]
    assert sorted(given_back) == sorted(set(locked) - driver.m.physmem.locked)


@pytest.mark.parametrize("flag", [P_INEXEC, P_PROTECTED, P_WEXIT, P_WKILLED])
def test_who_is_spared_by_a_flag(flag):
    driver = three()
    driver.proc(FIRST).p_flag |= flag
    assert killed(driver) == SECOND_ONE


def test_a_process_in_creation_and_one_that_waits_for_the_swapper_are_passed_over():
    driver = three()
    driver.proc(FIRST).p_state = Prs.NEW
    driver.thread(SECOND_ONE).td_inhibitors = TDI_SWAPPED
    assert killed(driver) == RUNNING
    driver.proc(RUNNING).p_sig = 0
    driver.thread(SECOND_ONE).td_inhibitors = TDI_SWAPPED | TDI_SLEEPING
    assert killed(driver) == SECOND_ONE


def test_the_killed_gets_the_best_nice_at_once():
    driver = booted((1, 0), (2, 0), (3, 0))
    driver.report(elapsed_us=driver.dispatch.budget_us)
    driver.m.physmem.sizes[driver.proc(FIRST).p_vmspace] = 9
    queue = {tid: queue for queue, _, tid in driver.m.core.k.s.runq}[driver.thread(FIRST).td_tid]
    assert killed(driver) == FIRST
    assert driver.proc(FIRST).p_nice == -20
    better = {tid: queue for queue, _, tid in driver.m.core.k.s.runq}[driver.thread(FIRST).td_tid]
    assert better < queue
    assert driver.m.core.check().violations == []


def test_the_zone_is_served_before_the_vote():
    driver = three()
    spaces = driver.proc(FIRST).p_vmspace, driver.proc(SECOND_ONE).p_vmspace
    driver.m.physmem.swap_counts[spaces[1]] = 3
    driver.m.physmem.oom, driver.m.physmem.needed = VM_OOM_MEM | VM_OOM_SWAPZ, True
    driver.m.ctx.upcalls.pagedaemon_wanted = True
    driver.report(stop=Stop.YIELD, elapsed_us=10)
    kills = events(driver, Kind.OOM_KILL)
    assert [(event.subject, event.b) for event in kills][:2] == [(SECOND_ONE, VM_OOM_SWAPZ), (FIRST, VM_OOM_MEM)]
