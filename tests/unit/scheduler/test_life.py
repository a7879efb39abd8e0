"""Lives of programs: spawn, fork, exec, wait, sleep, faults, exit, over fakes of the layers below."""

from __future__ import annotations

import numpy as np
import pytest
from driver import ACCEPT, EXIT, FAR_US, IMAGE, SECOND, SELECT, SYSINFO, Driver, booted, sleep
from fakes import machine

from services.ports.common import Outcome, Region, Stop, Upcalls
from services.ports.physmem import KernReturn
from services.ports.scheduler import DispatchKind, SpaceEvent, SpawnRequest, Trap, TrapOp
from services.runtime.errors import Refused
from services.runtime.events import Kind, unpack
from services.scheduler import syscalls
from services.scheduler.glue_swap import prele
from services.scheduler.proc_flags import TDF_CANSWAP, TDF_INMEM, Prs
from services.scheduler.runq import STATCLOCK_US


def kinds(driver):
    return [event.kind for event in unpack(driver.m.core.events(0, 1 << 20).records)]


def test_a_program_is_forked_and_executed_by_init():
    driver = booted()
    d = driver.dispatch
    assert (d.kind, d.pid, d.cookie, d.vmspace) == (DispatchKind.RUN, 100, 1, 4)
    assert driver.row().name == "prog1"
    assert driver.row().ppid == 1
    assert [(n.event, n.vmspace, n.parent) for n in driver.notices] == [
        (SpaceEvent.FORKED, 3, 2),
        (SpaceEvent.FREED, 3, 0),
    ]
    assert driver.m.physmem.named("map_ops") == [
        (4, [("INSERT", 0x400000, 0x4000), ("INSERT", 0x600000, 0x4000)]),
    ]


def test_exec_reads_the_image_through_vm_imgact_and_unpins():
    driver = Driver()
    driver.m.physmem.reads = True
    driver.spawn((1, 0))
    driver.next()
    assert driver.m.physmem.named("vm_imgact_map_page") == [("prog", 0), ("prog", 1)]
    assert driver.thread().td_pinned == 0
    assert driver.thread().td_runtime_us < 1000
    assert driver.dispatch.now_us > 5000


def test_an_image_without_the_magic_ends_the_program():
    driver = Driver()
    driver.m.physmem.header = b"#!/bin/sh"
    driver.spawn((1, 0))
    assert driver.next().kind is DispatchKind.FINISHED
    assert driver.row().status == -6


def test_an_image_that_cannot_be_mapped_ends_the_program_and_frees_the_new_space():
    driver = Driver()
    driver.m.physmem.map_result = KernReturn.NO_SPACE
    driver.spawn((1, 0))
    driver.next()
    assert driver.row().status == -6
    assert driver.m.physmem.refs == {1: 3, 2: 1, 3: 0, 4: 0}


def test_fork_wait_and_reap():
    driver = booted()
    driver.report(Trap(TrapOp.FORK, a=1, cookie=7))
    assert driver.dispatch.pid == 100
    driver.report(Trap(TrapOp.WAIT, a=7))
    assert (driver.dispatch.pid, driver.dispatch.cookie) == (101, 7)
    assert driver.row().wmesg == "wait"
    assert driver.thread().td_flags & TDF_CANSWAP
    driver.report(Trap(TrapOp.EXIT, a=3 << 8))
    assert driver.dispatch.pid == 100
    assert (driver.row(101).state, driver.row(101).status) == ("ended", 3)
    assert driver.report(EXIT).kind is DispatchKind.FINISHED
    assert driver.m.physmem.refs[1] == 3
    assert {vm: n for vm, n in driver.m.physmem.refs.items() if vm > 2} == {3: 0, 4: 0, 5: 0}


def test_waiting_for_a_child_that_is_not_there_returns_at_once():
    driver = booted()
    before = driver.dispatch.now_us
    assert driver.report(Trap(TrapOp.WAIT, a=-1)).pid == 100
    assert driver.dispatch.now_us - before < 1000


def test_a_parent_that_ends_first_leaves_its_children_to_init():
    driver = booted()
    driver.report(Trap(TrapOp.FORK, a=1, cookie=7))
    driver.report(EXIT)
    assert driver.row(101).ppid == 1
    assert driver.report(EXIT).kind is DispatchKind.FINISHED
    assert [driver.row(pid).state for pid in (100, 101)] == ["ended", "ended"]


def test_vfork_shares_the_space_and_holds_the_parent_until_exec():
    driver = booted()
    driver.report(Trap(TrapOp.FORK, a=1, b=1, cookie=7))
    assert (driver.dispatch.pid, driver.dispatch.vmspace) == (101, 4)
    assert driver.m.physmem.refs[4] == 2
    assert driver.row().wmesg == "ppwait"
    assert not driver.thread().td_flags & TDF_CANSWAP
    driver.report(Trap(TrapOp.EXEC, name="other", regions=IMAGE))
    assert driver.row().wmesg == ""
    assert driver.m.physmem.refs[4] == 1
    assert driver.m.ctx.counters["vm.stats.vm.v_vforks"] == 1
    assert driver.run_out().kind is DispatchKind.FINISHED
    assert SpaceEvent.FORKED not in [n.event for n in driver.notices[2:]]


def test_vfork_parent_goes_on_when_the_child_ends():
    driver = booted()
    driver.report(Trap(TrapOp.FORK, a=1, b=1, cookie=7))
    driver.report(EXIT)
    assert driver.dispatch.pid == 100
    assert driver.m.physmem.refs[4] == 1


def test_fork_waits_for_memory_with_rfmem_counted_and_the_parent_held():
    driver = booted()
    driver.m.physmem.counters["vm.v_free_severe"] = 2000
    driver.report(Trap(TrapOp.FORK, a=1, b=1, cookie=7), limit_us=driver.dispatch.now_us + 10_000)
    assert driver.dispatch.kind is DispatchKind.IDLE
    assert driver.m.physmem.refs[4] == 2
    assert driver.proc().p_lock == 1
    assert driver.proc(101).p_state is Prs.NEW
    driver.m.physmem.counters["vm.v_free_severe"] = 50
    driver.m.physmem.free_memory(1000)
    driver.next()
    assert driver.dispatch.pid == 101
    assert driver.m.physmem.refs[4] == 2
    assert driver.proc().p_lock == 0


def test_a_fork_without_kernel_address_space_fails_and_pauses():
    driver = booted()
    driver.m.kstack.no_kva = True
    before = driver.dispatch.now_us
    driver.report(Trap(TrapOp.FORK, a=1, cookie=7))
    assert driver.dispatch.pid == 100
    assert SECOND // 2 - 1000 < driver.dispatch.now_us - before < SECOND // 2 + 1000
    assert driver.report(Trap(TrapOp.WAIT, a=7)).pid == 100


def test_a_fork_without_memory_for_the_map_keeps_the_stack_for_the_next():
    driver = booted()
    driver.m.physmem.no_vmspace = True
    driver.report(Trap(TrapOp.FORK, a=1, cookie=7))
    driver.m.physmem.no_vmspace = False
    stacks = len(driver.m.kstack.named("vm_thread_new"))
    driver.report(Trap(TrapOp.FORK, a=1, cookie=8))
    assert len(driver.m.kstack.named("vm_thread_new")) == stacks
    assert len(driver.m.core.k.s.allproc) == 6


def test_process_churn_reuses_thread_and_stack_of_the_process_zone():
    driver = booted()
    for cookie in range(10, 15):
        driver.report(Trap(TrapOp.FORK, a=1, cookie=cookie))
        driver.report(Trap(TrapOp.WAIT, a=cookie))
        driver.report(EXIT)
        assert driver.dispatch.pid == 100
    assert len(driver.m.kstack.named("vm_thread_new")) == 3


def test_nanosleep_checks_its_argument_and_is_swappable():
    driver = booted()
    before = driver.dispatch.now_us
    driver.report(sleep(2 * SECOND, addr=0x7000), limit_us=before + SECOND)
    assert driver.dispatch.kind is DispatchKind.IDLE
    assert driver.m.physmem.named("useracc") == [(4, 0x7000, 16)]
    assert driver.thread().td_flags & TDF_CANSWAP
    assert driver.row().wmesg == "nanslp"
    driver.next()
    assert 0.9 * 2 * SECOND <= driver.dispatch.now_us - before <= 1.1 * 2 * SECOND + 1000
    assert driver.thread().td_slptick == 0


def test_nanosleep_on_a_bad_address_does_not_sleep():
    driver = booted()
    driver.m.physmem.access_ok = False
    before = driver.dispatch.now_us
    driver.report(sleep(2 * SECOND, addr=0x7000))
    assert driver.dispatch.now_us - before < 1000


@pytest.mark.parametrize(("number", "swappable"), [(SELECT, False), (ACCEPT, True)])
def test_which_calls_sleep_swappably(number, swappable):
    driver = booted()
    driver.report(Trap(TrapOp.SYSCALL, number, SECOND), limit_us=driver.dispatch.now_us + SECOND // 2)
    assert bool(driver.thread().td_flags & TDF_CANSWAP) is swappable


def test_sysctl_wires_and_unwires_the_buffer():
    driver = booted()
    driver.report(Trap(TrapOp.SYSCALL, SYSINFO, -1, 0x5000, 112))
    assert driver.m.physmem.named("vslock") == driver.m.physmem.named("vsunlock") == [(0x5000, 112)]
    driver.m.physmem.access_ok = False
    driver.report(Trap(TrapOp.SYSCALL, SYSINFO, -1, 0x5000, 112))
    assert len(driver.m.physmem.named("vsunlock")) == 1


def test_map_calls_change_the_map_and_give_notice():
    driver = booted()
    driver.notices.clear()
    driver.report(Trap(TrapOp.MMAP, regions=[Region(0x9000, 2, 3)]))
    driver.report(Trap(TrapOp.MPROTECT, 0x9000, 1, 1))
    driver.report(Trap(TrapOp.MUNMAP, 0x9000, 2))
    assert [ops for _, ops in driver.m.physmem.named("map_ops")[1:]] == [
        [("INSERT", 0x9000000, 0x2000)],
        [("PROTECT", 0x9000000, 0x1000)],
        [("REMOVE", 0x9000000, 0x2000)],
    ]
    unmapped = [(n.event, n.vmspace, n.start_vpn, n.npages) for n in driver.notices]
    assert unmapped == [(SpaceEvent.UNMAPPED, 4, 0x9000, 2)] * 2


def test_the_heap_grows_and_shrinks():
    driver = booted()
    driver.report(Trap(TrapOp.BRK, 0x610, regions=[Region(0x604, 12, 3)]))
    driver.report(Trap(TrapOp.BRK, 0x608))
    assert driver.m.physmem.named("map_ops")[2] == (4, [("REMOVE", 0x608000, 0x8000)])


def test_a_fault_that_reads_a_page_sleeps_unswappably_and_is_resumed():
    driver = booted()
    driver.fault(4000, elapsed_us=0)
    assert (driver.dispatch.pid, driver.dispatch.resume_op) == (100, 1)
    driver.report()
    assert driver.dispatch.resume_op == 0
    latencies = np.frombuffer(driver.m.core.stats().major_fault, "<i8")
    assert len(latencies) == 1
    assert 4000 <= latencies[0] <= 4100
    assert driver.thread().td_switches == 2


def test_a_fault_that_sleeps_twice_is_one_fault():
    driver = booted()
    driver.fault(4000, elapsed_us=0)
    driver.fault(3000, elapsed_us=0)
    driver.report()
    assert np.frombuffer(driver.m.core.stats().major_fault, "<i8")[0] >= 7000


def test_a_wait_for_memory_is_no_page_read():
    driver = booted()
    asleep = driver.m.physmem.start_io("v_free_count", 2000)
    asleep.wmesg = "pfault"
    driver.report(stop=Stop.SUSPENDED, suspension=asleep, next_record=0)
    driver.report()
    assert driver.m.core.stats().major_fault == b""


@pytest.mark.parametrize(("code", "signal"), [(KernReturn.PROTECTION_FAILURE, 10), (KernReturn.INVALID_ADDRESS, 11)])
def test_a_failed_fault_kills(code, signal):
    driver = booted()
    assert driver.report(stop=Stop.SIGNAL, kern_error=int(code), fault_va=0x1234).kind is DispatchKind.FINISHED
    assert driver.row().status == -signal
    assert Kind.SIGNAL in kinds(driver)


def test_threads_of_equal_priority_share_the_processor_in_slices():
    driver = booted((1, 0), (2, 0), (3, 0))
    seen = []
    for _ in range(9):
        seen.append(driver.dispatch.pid)
        driver.report(elapsed_us=driver.dispatch.budget_us)
    assert set(seen) == {100, 101, 102}
    assert all(seen.count(pid) >= 2 for pid in (100, 101, 102))


def test_a_nice_program_gets_less():
    driver = Driver()
    driver.spawn((1, 0), nice=20)
    driver.spawn((2, 0))
    driver.next()
    used = {100: 0, 101: 0}
    for _ in range(200):
        used[driver.dispatch.pid] += driver.dispatch.budget_us
        driver.report(elapsed_us=driver.dispatch.budget_us)
    assert used[101] > 2 * used[100] > 0


def test_a_slice_ends_where_the_next_timer_is_due():
    driver = booted((1, 0))
    driver.report(Trap(TrapOp.FORK, a=1, cookie=7))
    driver.report(sleep(50_000))
    assert driver.dispatch.pid == 101
    assert driver.dispatch.budget_us == STATCLOCK_US
    driver.report(elapsed_us=STATCLOCK_US)
    assert (driver.dispatch.pid, driver.dispatch.budget_us <= 55_000) == (101, True)
    driver.report(elapsed_us=driver.dispatch.budget_us)
    assert driver.dispatch.pid == 100


def test_idle_time_is_bounded_by_the_limit_and_counted():
    driver = booted()
    begun = driver.dispatch.now_us
    d = driver.report(sleep(100 * SECOND), limit_us=begun + 10 * SECOND)
    assert (d.kind, d.now_us) == (DispatchKind.IDLE, begun + 10 * SECOND)
    assert driver.m.core.stats().idle_us > 9 * SECOND


def test_how_idle_time_is_cut_changes_nothing():
    def digest(step_us):
        driver = booted((1, 0), (2, 5 * SECOND))
        d = driver.report(sleep(40 * SECOND), limit_us=driver.dispatch.now_us + step_us)
        while d.kind is not DispatchKind.FINISHED:
            d = driver.next(d.now_us + step_us) if d.kind is DispatchKind.IDLE else driver.report(EXIT)
        return driver.m.core.digest()

    assert digest(FAR_US) == digest(300_000)


def test_the_seed_perturbs_starts_and_sleeps_and_nothing_else_does():
    def end(seed):
        driver = booted((1, SECOND), seed=seed)
        start = driver.dispatch.now_us
        driver.report(sleep(10 * SECOND))
        driver.report(EXIT)
        return start, driver.m.core.digest()

    assert end(1) == end(1)
    assert end(1) != end(2)
    assert all(0.9 * SECOND <= end(seed)[0] <= 1.1 * SECOND + 1000 for seed in range(5))


def test_deadlock_says_who_waits_for_what():
    driver = booted()
    driver.report(Trap(TrapOp.FORK, a=1, b=1, cookie=7))
    suspension = driver.m.physmem.start_io("never", 10)
    driver.m.physmem.waiting[suspension.op] = "other"
    driver.report(stop=Stop.SUSPENDED, suspension=suspension)
    assert driver.dispatch.kind is DispatchKind.DEADLOCK
    assert "prog1 (pid 100) waits for ppwait:101 (ppwait)" in driver.dispatch.reason
    assert "prog1 (pid 101) waits for never (swread)" in driver.dispatch.reason


def test_processes_table_and_statistics():
    driver = booted((1, 0), (2, 0))
    table = driver.m.core.processes()
    assert [row.pid for row in table.processes][:4] == [0, 1, 2, 3]
    assert (table.running, table.swapped) == (2, 0)
    driver.run_out()
    row = driver.row()
    assert row.cpu_us > 0
    assert row.end_us > row.start_us
    assert driver.m.core.stats().now_us == driver.dispatch.now_us


def test_the_clock_interrupt_profiles_stacks_in_the_kernel_once_a_report():
    driver = booted()
    for _ in range(2000):
        driver.report(Trap(TrapOp.SYSCALL, 56, -1))
    calls = driver.m.kstack.named("intr_prof_stack_use")
    assert calls
    ks, sp = calls[0][0]
    assert ks + 4 * 4096 - sp in range(800, 2700)
    assert len(calls) < 400


def test_reports_that_nobody_asked_for_are_refused():
    driver = booted()
    with pytest.raises(Refused, match="tid"):
        driver.m.core.report(4711, Outcome(), Trap(), Upcalls(), 0)
    with pytest.raises(Refused, match="a report of the slice"):
        driver.m.core.next(0)
    with pytest.raises(Refused, match="nice"):
        driver.m.core.spawn([SpawnRequest(nice=21)])


def test_a_new_process_is_in_memory_and_at_the_head_of_the_list():
    driver = booted((1, 0), (2, 0))
    assert list(reversed(driver.m.core.k.s.allproc))[:2] == [101, 100]
    assert driver.thread().td_flags == TDF_INMEM


def test_a_fork_sleeps_for_the_memory_of_its_stack():
    driver = booted()
    driver.m.kstack.short_of_memory = True
    before = driver.dispatch.now_us
    driver.report(Trap(TrapOp.FORK, a=1, cookie=7))
    assert driver.dispatch.now_us > before + 2000
    assert driver.m.kstack.named("vm_thread_new")[-1] == [100101]
    assert driver.proc(101).p_cookie == 7


def test_a_fork_that_sleeps_for_its_stack_takes_that_one_even_if_another_was_given_back_meanwhile():
    driver = booted((1, 0), (2, 0))
    driver.m.kstack.short_of_memory = True
    driver.report(Trap(TrapOp.FORK, a=1, cookie=7))
    driver.m.kstack.short_of_memory = False
    assert driver.dispatch.pid == 101
    driver.report(EXIT, elapsed_us=10)
    assert driver.m.core.k.s.proc_zone, "the stack of the one that ended lies ready"
    driver.report(elapsed_us=10)
    assert driver.m.kstack.named("vm_thread_new")[-1] == [100102]
    assert driver.thread(102).td_tid == 100102


def test_an_exec_without_an_address_space_ends_the_program():
    driver = booted()
    driver.m.physmem.no_vmspace = True
    assert driver.report(Trap(TrapOp.EXEC, name="other", regions=IMAGE)).kind is DispatchKind.FINISHED
    assert driver.row().status == -6


def test_an_image_without_files_needs_no_header():
    driver = booted()
    calls = len(driver.m.physmem.named("vm_imgact_map_page"))
    driver.report(Trap(TrapOp.EXEC, name="anon", regions=[Region(0x600, 4, 3)]))
    assert driver.row().name == "anon"
    assert len(driver.m.physmem.named("vm_imgact_map_page")) == calls


def test_the_header_is_in_the_file_of_the_programs_name():
    driver = booted()
    files = [Region(0x300, 1, 5, "ld.so", 0, 9), Region(0x400, 4, 1, "tool", 0, 10), Region(0x404, 4, 5, "tool", 4, 10)]
    driver.report(Trap(TrapOp.EXEC, name="tool", regions=files))
    driver.report(Trap(TrapOp.EXEC, name="script", regions=files))
    assert [file for file, _ in driver.m.physmem.named("vm_imgact_map_page")[1:]] == ["tool", "ld.so"]


def test_exec_takes_the_resident_count_of_the_last_swap_out_along():
    driver = booted()
    spaces = driver.m.core.k.s.vmspaces
    before = driver.proc().p_vmspace
    spaces[before].vm_swrss = 5
    driver.report(Trap(TrapOp.EXEC, name="other", regions=IMAGE))
    assert driver.proc().p_vmspace != before
    assert spaces[driver.proc().p_vmspace].vm_swrss == 5


def test_a_segment_is_named_by_its_key_and_noted_once_it_is_attached():
    driver, shm = booted(), lambda number: Trap(TrapOp.SYSCALL, number, 5, 0x5000, 0x2000)
    space = driver.m.core.k.s.vmspaces[driver.proc().p_vmspace]
    driver.report(shm(syscalls.SHMAT))
    assert (driver.m.physmem.named("shmat"), space.vm_shm) == ([], False)
    driver.report(shm(syscalls.SHMGET))
    assert driver.m.physmem.named("shmget")[-1] == (5, 0x2000, 0o1000)
    driver.m.physmem.segments = {5}
    driver.report(shm(syscalls.SHMAT))
    assert (driver.m.physmem.named("shmat"), space.vm_shm) == ([(7, 0x5000)], True)
    driver.report(shm(syscalls.SHMDT))
    driver.report(shm(syscalls.SHMCTL))
    assert driver.m.physmem.named("shmdt") == [(0x5000,)]
    assert driver.m.physmem.named("shmctl_rmid") == [(7,)]
    child = driver.report(Trap(TrapOp.FORK, cookie=9))
    assert child.kind is DispatchKind.RUN
    assert len(driver.m.physmem.named("shmfork")) == 1
    assert [vm.vm_shm for vm in driver.m.core.k.s.vmspaces.values()].count(True) == 2


def test_mlock_and_its_kin_reach_the_map_with_the_programs_limit():
    driver = booted()
    driver.proc().p_memlock_limit = 3
    for number in (syscalls.MLOCK, syscalls.MUNLOCK, syscalls.MLOCKALL, syscalls.MUNLOCKALL):
        driver.report(Trap(TrapOp.SYSCALL, number, -1, 3, 112))
    calls = [call for call in driver.m.physmem.calls if "lock" in call[0]]
    limit = 3 * 4096
    assert calls == [("mlock", (3, 112, limit)), ("munlock", (3, 112)), ("mlockall", (3, limit)), ("munlockall", ())]
    driver.proc().p_memlock_limit = 0
    driver.report(Trap(TrapOp.SYSCALL, syscalls.MLOCKALL, -1, 1, 0))
    assert driver.m.physmem.named("mlockall")[-1] == (1, (1 << 63) - 1)


@pytest.mark.parametrize(
    ("method", "trap"),
    [
        ("map_ops", Trap(TrapOp.MUNMAP, 0x600, 1)),
        ("map_ops", Trap(TrapOp.EXEC, name="other", regions=IMAGE)),
        ("vslock", Trap(TrapOp.SYSCALL, SYSINFO, -1, 0x5000, 112)),
        ("mlock", Trap(TrapOp.SYSCALL, syscalls.MLOCK, -1, 0x5000, 112)),
        ("shmdt", Trap(TrapOp.SYSCALL, syscalls.SHMDT, -1, 0x5000)),
    ],
)
def test_calls_that_sleep_below_are_resumed(method, trap):
    driver = booted()
    calls = len(driver.m.physmem.named(method))
    driver.m.physmem.sleepy = {method}
    before = driver.dispatch.now_us
    assert driver.report(trap).pid == 100
    assert driver.dispatch.now_us > before + 1000
    assert len(driver.m.physmem.named(method)) == calls + 1


def test_an_exit_waits_for_who_holds_the_process():
    driver = booted()
    driver.proc().p_lock = 1
    driver.report(EXIT)
    assert driver.dispatch.kind is DispatchKind.DEADLOCK
    assert driver.row().wmesg == "exithold"
    prele(driver.m.core.k, driver.proc())
    assert driver.next().kind is DispatchKind.FINISHED


def test_a_wait_status_with_a_signal_is_a_kill():
    driver = booted()
    driver.report(Trap(TrapOp.EXIT, a=15))
    assert driver.row().status == -15


def test_boot_refuses_nonsense():
    for config in ({"hz": 0}, {"mips": 0}, {"page_size": -1}):
        with pytest.raises(Refused, match=next(iter(config))):
            machine(**config)


POKE = Trap(TrapOp.SYSCALL, 101, -1, 0x400010, 8)
"""ptrace(PT_WRITE_I)."""


def forked(nap_us):
    """A child that sleeps, and its parent on the processor."""
    driver = booted()
    driver.report(Trap(TrapOp.FORK, cookie=7))
    while driver.dispatch.pid != 101:
        driver.report(elapsed_us=100_000)
    driver.report(sleep(nap_us))
    assert driver.dispatch.pid == 100
    return driver


def test_a_debugger_makes_what_it_wrote_visible_to_the_processor():
    driver = forked(SECOND)
    driver.report(POKE)
    assert driver.m.physmem.named("vm_sync_icache") == [(driver.proc(101).p_vmspace, 0x400010, 8)]
    assert driver.m.physmem.named("useracc")[-1] == (driver.proc(101).p_vmspace, 0x400010, 8)
    assert driver.proc(101).p_lock == 0
    driver.m.physmem.access_ok = False
    driver.report(POKE)
    assert len(driver.m.physmem.named("vm_sync_icache")) == 1, "only where the map grants execution"


def test_a_debugger_brings_a_child_in_and_holds_it_until_it_has_written():
    driver = forked(60 * SECOND)
    for _ in range(31):
        driver.report(elapsed_us=100_000)
    assert driver.m.core.swapout_procs(1).swapped_out == [101]
    driver.m.kstack.read_us = 3000
    driver.report(POKE)
    assert driver.dispatch.kind is DispatchKind.RUN
    assert [args[1] for args in driver.m.kstack.named("vm_thread_swapin")] == [0, 1]
    assert driver.m.physmem.named("vm_sync_icache") == [(driver.proc(101).p_vmspace, 0x400010, 8)]
    assert (driver.proc(101).p_lock, driver.row(101).state) == (0, "sleep")


def test_a_debugger_without_a_child_writes_nothing():
    driver = booted()
    driver.report(POKE)
    assert driver.m.physmem.named("vm_sync_icache") == []
    assert driver.dispatch.pid == 100


def test_low_memory_frees_the_recycled_processes_behind_the_cached_stacks():
    driver = booted((1, 0), (2, 0))
    driver.report(EXIT)
    assert driver.dispatch.pid == 101
    (recycled,) = driver.m.core.k.s.proc_zone
    physmem = driver.m.physmem
    physmem.lowmem = physmem.needed = True
    driver.report(elapsed_us=10, upcalls=Upcalls(pagedaemon_wanted=True))
    assert driver.m.kstack.named("vm_thread_dispose") == [[recycled[0]]]
    calls = [name for name, _ in driver.m.kstack.calls]
    assert calls.index("lowmem") < calls.index("vm_thread_dispose")
    assert driver.m.core.k.s.proc_zone == []
