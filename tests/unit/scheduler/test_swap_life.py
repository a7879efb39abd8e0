"""Whole processes out and in on a machine that runs: vmdaemon, swapper, kicks, holds, over fakes."""

from __future__ import annotations

import numpy as np
import pytest
from driver import EXIT, FAR_US, SECOND, SELECT, booted, events, sleep

from services.ports.common import VM_OOM_MEM, Answers, Outcome, Setting, Stop, Upcalls
from services.ports.scheduler import DispatchKind, Left, Trap, TrapOp
from services.runtime.errors import KernelPanic, Refused
from services.runtime.events import Kind
from services.scheduler import glue_swap, vm_daemon
from services.scheduler.inspect import check_state
from services.scheduler.proc_flags import P_INMEM, P_SWAPPINGIN, P_SWAPPINGOUT, TDF_SWAPINREQ, TDI_SLEEPING, TDI_SWAPPED
from services.scheduler.sleepq import sleepq_remove

NORMAL, IDLE = 1, 2


def asleep(seconds=100, **config):
    """One program that sleeps long and another that runs."""
    driver = booted((1, 0), (2, 0), **config)
    driver.report(sleep(seconds * SECOND))
    assert driver.dispatch.pid == 101
    return driver


def pass_time(driver, seconds):
    """The second program computes."""
    until = driver.dispatch.now_us + seconds * SECOND
    while driver.dispatch.now_us < until:
        driver.report(elapsed_us=driver.dispatch.budget_us)


def test_the_page_daemon_asks_and_the_vmdaemon_swaps_out():
    driver = asleep()
    pass_time(driver, 3)
    driver.m.physmem.swap_request = NORMAL
    driver.m.physmem.needed = True
    driver.m.ctx.upcalls.pagedaemon_wanted = True
    driver.report(stop=Stop.YIELD)
    driver.m.physmem.needed = driver.m.physmem.swap_request = 0
    assert driver.proc().p_flag & P_INMEM == 0
    assert driver.thread().td_inhibitors == TDI_SLEEPING | TDI_SWAPPED
    assert driver.thread().ru_nswap == 1
    assert driver.m.kstack.named("vm_thread_swapout") == [[driver.thread().td_tid]]
    assert driver.m.physmem.named("map_deactivate")[0] == [driver.proc().p_vmspace]
    assert driver.m.physmem.named("vm_map_trylock")[0] == driver.m.physmem.named("vm_map_unlock")[0]
    assert driver.m.core.stats().swapouts == 1
    assert driver.m.core.processes().swapped == 1
    assert driver.row().state == "swapped"


def test_a_woken_process_comes_back_by_the_swapper():
    driver = asleep(seconds=5)
    pass_time(driver, 3)
    driver.m.core.swapout_procs(NORMAL)
    driver.m.kstack.read_us = 8000
    while driver.dispatch.pid != 100:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    assert driver.m.core.stats().swapins == 1
    assert driver.thread().td_inhibitors == 0
    assert driver.m.kstack.named("vm_thread_swapin") == [([100100], 0), ([100100], 1)]
    latency = np.frombuffer(driver.m.core.stats().wakeup_swapped, "<i8")
    assert len(latency) == 1
    assert 8000 < latency[0] < 9000
    assert len(events(driver, Kind.SWAPPER_PICK)) == 1
    assert events(driver, Kind.FAULTIN_DONE)[0].a >= 8000


def test_one_kstack_call_for_all_processes_and_one_trylock():
    driver = booted(*((n, 0) for n in range(1, 9)))
    for _ in range(7):
        driver.report(sleep(100 * SECOND))
    pass_time(driver, 3)
    driver.m.core.swapout_procs(NORMAL)
    assert [len(tids) for tids in driver.m.kstack.named("vm_thread_swapout")] == [7]
    assert [len(spaces) for spaces in driver.m.physmem.named("vm_map_trylock")] == [7]
    assert driver.m.core.stats().swapouts == 7
    assert check_state(driver.m.core.k)[0] == []
    done = events(driver, Kind.SWAPOUT_DONE)[0]
    assert (done.a, done.b) == (7, 12)


def test_skips_are_recorded_with_their_line():
    driver = asleep()
    driver.m.core.k.s.scripted = True
    pass_time(driver, 3)
    driver.m.core.swapout_procs(NORMAL)
    skips = {event.subject: event.outcome for event in events(driver, Kind.SWAPOUT_SKIP)}
    assert skips[101] in (glue_swap.Skip.UNSAFE, glue_swap.Skip.SLEPT_TOO_SHORT)
    assert skips[1] == glue_swap.Skip.SYSTEM
    assert len(events(driver, Kind.SWAPOUT_SKIP)) == len(skips)


def test_select_is_not_swappable():
    driver = booted((1, 0), (2, 0))
    driver.report(Trap(TrapOp.SYSCALL, SELECT, 100 * SECOND))
    pass_time(driver, 3)
    driver.m.core.swapout_procs(NORMAL)
    assert driver.m.core.stats().swapouts == 0


@pytest.mark.parametrize(("seconds", "out"), [(10, 0), (11, 1)])
def test_idle_swapping_needs_more_than_the_threshold(seconds, out):
    driver = asleep()
    slept = driver.m.ctx.ticks - driver.thread().td_slptick
    driver.m.core.k.set_time(driver.m.core.k.s.now_us + (seconds * 1000 - slept) * 1000)
    driver.m.core.swapout_procs(IDLE)
    assert driver.m.core.stats().swapouts == out


def test_the_threshold_is_a_sysctl():
    driver = asleep()
    pass_time(driver, 3)
    driver.m.core.sysctl_set(Setting("vm.swap_idle_threshold1", 5))
    driver.m.core.swapout_procs(NORMAL)
    assert driver.m.core.stats().swapouts == 0
    driver.m.core.sysctl_set(Setting("vm.swap_idle_threshold1", -1))
    driver.m.core.swapout_procs(NORMAL)
    assert driver.m.core.stats().swapouts == 1


def test_a_locked_map_saves_its_process():
    driver = asleep()
    pass_time(driver, 3)
    driver.m.physmem.locked.add(driver.proc().p_vmspace)
    driver.m.core.swapout_procs(NORMAL)
    assert driver.m.core.stats().swapouts == 0
    assert driver.m.physmem.named("vm_map_trylock") == [[driver.proc().p_vmspace]]
    assert driver.m.physmem.named("vm_map_unlock") == []


def test_only_maps_that_decide_something_are_asked_for():
    driver = booted((1, 0), (2, 0))
    driver.report(sleep(100 * SECOND))
    driver.m.core.swapout_procs(NORMAL)
    assert driver.m.physmem.named("vm_map_trylock") == []
    driver.m.core.k.s.scripted = True
    driver.m.core.swapout_procs(NORMAL)
    assert sorted(driver.m.physmem.named("vm_map_trylock")[0]) == sorted({p.p_vmspace for p in _users(driver)})


def test_a_process_that_stays_for_the_same_reason_is_told_once():
    driver = booted((1, 0), (2, 0))
    driver.report(sleep(100 * SECOND))
    for _ in range(3):
        driver.m.core.swapout_procs(NORMAL)
    skips = [event.subject for event in events(driver, Kind.SWAPOUT_SKIP)]
    assert len(skips) == len(set(skips)) == len(driver.m.core.k.s.allproc)
    pass_time(driver, 3)
    driver.m.core.swapout_procs(NORMAL)
    assert driver.proc().p_flag & P_INMEM == 0
    for _ in range(2):
        driver.m.core.swapout_procs(NORMAL)
    told = [event.outcome for event in events(driver, Kind.SWAPOUT_SKIP) if event.subject == driver.proc().p_pid]
    assert told[-1] == glue_swap.Skip.NOT_INMEM
    assert told.count(glue_swap.Skip.NOT_INMEM) == 1


def test_the_rss_pass_leaves_drained_processes_alone_until_they_are_back():
    driver = asleep(seconds=5)
    pass_time(driver, 3)
    k, p = driver.m.core.k, driver.proc()
    driver.m.core.swapout_procs(NORMAL)
    vm_daemon._enforce_limits(k)
    vm_daemon._enforce_limits(k)
    assert driver.m.physmem.named("map_deactivate") == [[p.p_vmspace]]
    assert k.s.vmspaces[p.p_vmspace].vm_drained
    driver.m.core.faultin([p.p_pid], [], 0)
    assert not k.s.vmspaces[p.p_vmspace].vm_drained


def test_a_shared_map_is_locked_once():
    driver = booted((1, 0), (2, 0))
    driver.report(Trap(TrapOp.FORK, a=1, b=1, cookie=7))
    driver.m.core.k.s.scripted = True
    driver.m.core.swapout_procs(NORMAL)
    assert sorted(driver.m.physmem.named("vm_map_trylock")[0]) == sorted({p.p_vmspace for p in _users(driver)})


def _users(driver):
    return [p for p in driver.m.core.k.s.allproc.values() if p.p_pid >= 100]


def test_without_stack_swap_states_change_and_stacks_stay():
    driver = asleep(seconds=5, stack_swap=False)
    pass_time(driver, 3)
    driver.m.core.swapout_procs(NORMAL)
    assert driver.proc().p_flag & P_INMEM == 0
    while driver.dispatch.pid != 100:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    assert driver.m.kstack.named("vm_thread_swapout") == driver.m.kstack.named("vm_thread_swapin") == []


def test_other_registers_than_were_saved_are_a_panic():
    driver = asleep(seconds=5)
    pass_time(driver, 3)
    driver.m.core.swapout_procs(NORMAL)
    driver.m.kstack.forget = True
    with pytest.raises(KernelPanic, match="other registers"):
        pass_time(driver, 5)


def test_the_swapper_waits_for_memory_and_goes_on_when_it_is_freed():
    driver = asleep(seconds=5)
    pass_time(driver, 3)
    driver.m.core.swapout_procs(NORMAL)
    driver.m.physmem.counters["vm.stats.vm.v_free_min"] = 5000
    pass_time(driver, 4)
    assert driver.thread().td_flags & TDF_SWAPINREQ
    assert driver.m.core.k.s.threads[100000].td_wchan == "v_free_count"
    driver.m.physmem.counters["vm.stats.vm.v_free_min"] = 100
    driver.m.physmem.free_memory(1000)
    driver.report(elapsed_us=10)
    assert driver.m.core.stats().swapins == 1
    assert events(driver, Kind.SWAPPER_WAIT)


def test_a_kick_before_the_swapper_sleeps_is_lost_for_ten_seconds():
    driver = asleep()
    pass_time(driver, 3)
    k, td = driver.m.core.k, driver.thread()

    def wake(point):
        if point == "swapper:793" and td.td_wchan:
            sleepq_remove(k, td)

    k.ctx.env.preempt = wake
    driver.m.core.swapout_procs(NORMAL)
    lost = driver.dispatch.now_us
    while driver.m.core.stats().swapins == 0:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    assert [event.subject for event in events(driver, Kind.KICK_PROC0)] == [0], "nobody slept there"
    assert 10 * SECOND <= driver.dispatch.now_us - lost < 11 * SECOND


def test_kick_proc0_makes_the_swapper_look():
    driver = asleep()
    before = len(events(driver, Kind.SWAPPER_SLEEP))
    driver.m.core.kick_proc0()
    driver.report()
    assert len(events(driver, Kind.SWAPPER_SLEEP)) == before + 1


def test_faultin_from_outside_brings_a_sleeping_process_in_and_lets_it_go():
    driver = asleep()
    pass_time(driver, 3)
    driver.m.core.swapout_procs(NORMAL)
    driver.m.kstack.read_us = 3000
    call = driver.m.core.faultin([100], [], 0)
    assert (call.left, call.swapped_in, len(call.sleeps)) == (Left.SLEEP, [], 1)
    driver.report(elapsed_us=10)
    assert (driver.proc().p_lock, driver.proc().p_flag & (P_INMEM | P_SWAPPINGIN)) == (1, P_SWAPPINGIN)
    driver.report(elapsed_us=5000)
    assert driver.proc().p_lock == 0
    assert driver.proc().p_flag & P_INMEM
    assert driver.thread().td_inhibitors == TDI_SLEEPING
    with pytest.raises(Refused, match="pid"):
        driver.m.core.faultin([4711], [], 0)


def test_swapout_procs_refuses_other_bits():
    with pytest.raises(Refused, match="action"):
        asleep().m.core.swapout_procs(4)


def test_scripted_answers_make_swapout_busy():
    driver = asleep()
    pass_time(driver, 3)
    tid = driver.thread().td_tid
    driver.m.core.inject([Answers(f"thread_safetoswapout:{tid}", [1, 0, 0])])
    driver.m.core.swapout_procs(NORMAL)
    assert len(events(driver, Kind.SWAPOUT_BUSY)) == 1
    assert driver.proc().p_flag & P_INMEM
    assert driver.thread().ru_nswap == 0


def test_a_process_is_on_its_way_out_while_its_stacks_go():
    driver = asleep()
    pass_time(driver, 3)
    flags = {}
    driver.m.ctx.env.preempt = lambda point: flags.update({point: driver.proc().p_flag})
    driver.m.core.swapout_procs(NORMAL)
    assert flags["swapout:1079"] & (P_INMEM | P_SWAPPINGOUT) == P_SWAPPINGOUT
    assert driver.proc().p_flag & (P_INMEM | P_SWAPPINGOUT) == 0


def test_a_scan_that_would_not_end_is_noticed():
    driver = asleep()
    pass_time(driver, 3)
    driver.m.core.inject([Answers(f"thread_safetoswapout:{driver.thread().td_tid}", [1, 0], cycle=True)])
    driver.m.core.swapout_procs(NORMAL)
    assert events(driver, Kind.SWAPOUT_DONE)[0].outcome == 1
    assert len(events(driver, Kind.SWAPOUT_BUSY)) == 101


def test_a_scan_gets_on_when_a_process_goes_out_between_vain_retries():
    driver = booted((1, 0), (2, 0), (3, 0))
    for _ in range(2):
        driver.report(sleep(100 * SECOND))
    pass_time(driver, 3)
    unsafe_when_marked = [1, 0] * 60
    driver.m.core.inject(
        [
            Answers(f"thread_safetoswapout:{driver.thread(100).td_tid}", unsafe_when_marked * 2),
            Answers(f"vm_map_trylock:{driver.proc(101).p_vmspace}", [0] * 60),
        ]
    )
    driver.m.core.swapout_procs(NORMAL)
    assert events(driver, Kind.SWAPOUT_DONE)[0].outcome == 0
    assert len(events(driver, Kind.SWAPOUT_BUSY)) == 120
    assert [event.subject for event in events(driver, Kind.SWAPOUT)] == [101, 100]


def test_a_scan_gets_on_when_the_clock_moves_between_vain_retries():
    driver = asleep()
    pass_time(driver, 3)
    k = driver.m.core.k
    k.s.scripted = True
    driver.m.core.inject([Answers(f"thread_safetoswapout:{driver.thread().td_tid}", [1, 0] * 120)])

    def preempt(point):
        if point == "swapout_procs:988" and len(events(driver, Kind.SWAPOUT_BUSY)) == 60:
            k.set_time(k.s.now_us + 1000)

    driver.m.ctx.env.preempt = preempt
    driver.m.core.swapout_procs(NORMAL)
    assert events(driver, Kind.SWAPOUT_DONE)[0].outcome == 0
    assert len(events(driver, Kind.SWAPOUT_BUSY)) == 120
    assert driver.proc().p_flag & P_INMEM == 0


def test_out_of_memory_kills_the_largest_and_wakes_it():
    driver = booted((1, 0), (2, 0), (3, 0))
    driver.report(sleep(100 * SECOND))
    driver.report(sleep(100 * SECOND))
    driver.m.physmem.sizes |= {driver.proc(100).p_vmspace: 5, driver.proc(101).p_vmspace: 9}
    driver.m.physmem.oom, driver.m.physmem.needed = VM_OOM_MEM, True
    driver.m.ctx.upcalls.pagedaemon_wanted = True
    driver.report(stop=Stop.YIELD, elapsed_us=10)
    driver.m.physmem.oom, driver.m.physmem.needed = 0, False
    driver.report(elapsed_us=10)
    kill = events(driver, Kind.OOM_KILL)[0]
    assert (kill.subject, kill.a) == (101, 9)
    assert driver.row(101).status == -9
    assert driver.row(100).state == "sleep"


def test_a_killed_waiter_for_memory_does_not_go_on_with_its_fault():
    driver = booted((1, 0), (2, 0))
    driver.pfault()
    driver.m.physmem.oom, driver.m.physmem.needed = VM_OOM_MEM, True
    driver.m.physmem.sizes[driver.proc(100).p_vmspace] = 50
    driver.m.ctx.upcalls.pagedaemon_wanted = True
    driver.report(stop=Stop.YIELD, elapsed_us=10)
    driver.m.physmem.oom, driver.m.physmem.needed = 0, False
    driver.report(elapsed_us=10)
    assert driver.row(100).status == -9


def test_programs_that_wait_for_memory_for_ever_are_a_deadlock():
    driver = booted()
    driver.pfault()
    assert driver.dispatch.kind is DispatchKind.DEADLOCK
    assert "prog1 (pid 100) waits for v_free_count (pfault)" in driver.dispatch.reason


def test_the_page_daemon_scans_once_a_second_when_idle():
    driver = asleep(seconds=50)
    driver.report(EXIT)
    scans = driver.m.physmem.named("pageout_scan")
    assert set(scans) == {0}
    assert 44 <= len(scans) <= 57


def test_the_page_daemon_drains_stacks_when_lowmem_is_due():
    driver = asleep()
    driver.m.physmem.lowmem = driver.m.physmem.needed = True
    driver.m.ctx.upcalls.pagedaemon_wanted = True
    driver.report(stop=Stop.YIELD, elapsed_us=10)
    assert driver.m.kstack.named("lowmem")
    assert driver.m.physmem.named("pageout_scan")[-2:] == [1, 2] or driver.m.physmem.named("pageout_scan")[-1] == 1


def test_vmdaemon_is_woken_at_most_about_once_a_second():
    driver = asleep()
    pass_time(driver, 2)
    for _ in range(20):
        driver.m.ctx.upcalls.swap_request = NORMAL
        driver.report(elapsed_us=10_000)
    assert len(events(driver, Kind.SWAPOUT_DONE)) == 1


def test_the_vmdaemon_serves_a_request_once():
    driver = asleep()
    for request in (NORMAL, IDLE):
        pass_time(driver, 2)
        driver.m.ctx.upcalls.swap_request = request
        driver.report(elapsed_us=10_000)
    assert [event.subject for event in events(driver, Kind.SWAPOUT_DONE)] == [NORMAL, IDLE]


def test_the_outcome_of_a_run_is_the_same_twice():
    def run():
        driver = asleep(seconds=20)
        driver.m.kstack.read_us = 5000
        for at in range(60):
            if at % 7 == 0:
                driver.m.ctx.upcalls.swap_request = NORMAL
            if driver.dispatch.kind is DispatchKind.RUN:
                driver.report(sleep(3 * SECOND) if at % 3 == 0 else None, elapsed_us=driver.dispatch.budget_us)
        return driver.m.core.digest()

    assert run() == run()


def test_reports_after_the_end_are_refused():
    driver = booted()
    driver.report(EXIT)
    with pytest.raises(Refused):
        driver.m.core.report(driver.dispatch.tid, Outcome(), Trap(), Upcalls(), FAR_US)


def vote_to_kill(driver, pid):
    """The page daemon votes; process `pid` is the largest."""
    driver.m.physmem.oom, driver.m.physmem.needed = VM_OOM_MEM, True
    driver.m.physmem.sizes[driver.proc(pid).p_vmspace] = 50
    driver.m.ctx.upcalls.pagedaemon_wanted = True
    driver.report(stop=Stop.YIELD, elapsed_us=10)
    driver.m.physmem.oom, driver.m.physmem.needed = 0, False


def test_a_killed_process_that_is_swapped_out_comes_in_to_die():
    driver = asleep()
    pass_time(driver, 3)
    driver.m.core.swapout_procs(NORMAL)
    vote_to_kill(driver, 100)
    driver.report(elapsed_us=1000)
    assert driver.m.core.stats().swapins == 1
    assert driver.row(100).status == -9


def test_a_killed_process_completes_its_page_read_first():
    driver = booted((1, 0), (2, 0))
    driver.fault(50_000)
    assert driver.dispatch.pid == 101
    vote_to_kill(driver, 100)
    while driver.dispatch.pid == 101:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    assert (driver.dispatch.pid, driver.dispatch.resume_op, driver.dispatch.budget_us) == (100, 1, 1)
    driver.report(elapsed_us=1)
    assert driver.row(100).status == -9


def test_the_killed_are_not_killed_again_and_init_never():
    driver = booted((1, 0))
    driver.fault(SECOND)
    driver.m.physmem.oom, driver.m.physmem.needed = VM_OOM_MEM, True
    driver.m.ctx.upcalls.pagedaemon_wanted = True
    driver.report(stop=Stop.YIELD, elapsed_us=10, limit_us=driver.dispatch.now_us + 3 * SECOND)
    assert [event.subject for event in events(driver, Kind.OOM_KILL)] == [100]


def test_a_swapped_process_that_is_waited_for_is_brought_in_once():
    driver = asleep(seconds=4)
    pass_time(driver, 3)
    driver.m.core.swapout_procs(NORMAL)
    driver.m.kstack.read_us = 300_000
    driver.m.core.faultin([100], [], 0)
    driver.report(elapsed_us=10)
    pass_time(driver, 2)
    assert driver.m.core.stats().swapins == 1
    assert len(driver.m.kstack.named("vm_thread_swapin")) == 2
    assert driver.proc().p_lock == 0


def test_a_child_that_ends_brings_its_swapped_out_parent_in():
    driver = booted()
    driver.report(Trap(TrapOp.FORK, a=1, cookie=7))
    driver.report(Trap(TrapOp.WAIT, a=7))
    pass_time(driver, 3)
    driver.m.core.swapout_procs(NORMAL)
    assert driver.proc().p_flag & P_INMEM == 0
    before = driver.dispatch.now_us
    driver.report(EXIT)
    assert driver.dispatch.pid == 100
    assert driver.dispatch.now_us - before < SECOND // 10
    assert len(events(driver, Kind.KICK_PROC0)) == 1
