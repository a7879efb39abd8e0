"""Threads of a process: thr_new, thr_exit, joins, and what remains when one of them ends the process."""

from driver import EXIT, IMAGE, SECOND, SELECT, Driver, booted, events, sleep

from services.ports.scheduler import DispatchKind, Trap, TrapOp
from services.runtime.events import Kind
from services.scheduler.proc_flags import P_HADTHREADS, P_SINGLE_EXIT, VM_SWAP_NORMAL

THR_EXIT = Trap(TrapOp.THR_EXIT)


def new(cookie):
    return Trap(TrapOp.THR_NEW, a=cookie, cookie=cookie)


def join(cookie):
    return Trap(TrapOp.THR_JOIN, a=cookie)


def run_of(driver, cookie, trap=None, **report):
    """Let slices run out until the thread of a stream has the processor; its slice ends with a trap."""
    for _ in range(20):
        if driver.dispatch.cookie == cookie:
            return driver.report(trap, **report)
        driver.report(elapsed_us=driver.dispatch.budget_us)
    raise AssertionError(f"stream {cookie} never ran")


def test_a_thread_runs_its_own_stream_in_the_same_address_space():
    driver = booted()
    main = driver.dispatch
    driver.report(new(7))
    run_of(driver, 1, join(7))
    d = driver.dispatch
    assert (d.kind, d.pid, d.vmspace, d.cookie) == (DispatchKind.RUN, main.pid, main.vmspace, 7)
    assert d.tid != main.tid
    assert driver.proc().p_flag & P_HADTHREADS
    assert driver.row().wmesg == "umtxn"
    assert [t.td_tid for t in driver.proc().p_threads] == [main.tid, d.tid]


def test_a_join_ends_with_the_thread_whose_use_stays_with_the_process():
    driver = booted()
    driver.report(new(7))
    run_of(driver, 1, join(7))
    driver.report(elapsed_us=50, minor=3, major=2)
    before = driver.row()
    driver.report(THR_EXIT)
    assert driver.dispatch.cookie == 1
    after = driver.row()
    assert (after.minor_faults, after.major_faults) == (before.minor_faults, before.major_faults) == (3, 2)
    assert after.cpu_us > before.cpu_us
    assert len(driver.proc().p_threads) == 1
    assert [e.b for e in events(driver, Kind.THREAD_EXIT)] == [1]
    driver.report(join(7))
    assert driver.dispatch.cookie == 1, "it has ended already"


def test_stacks_of_ended_threads_go_back_before_the_next_thread_is_made():
    driver = booted()
    for cookie in (7, 8):
        driver.report(new(cookie))
        run_of(driver, 1, join(cookie))
        run_of(driver, cookie, THR_EXIT)
    first, second = (e.subject for e in events(driver, Kind.THREAD_NEW))
    calls = driver.m.kstack.calls
    assert calls.index(("vm_thread_dispose", [first])) + 1 == calls.index(("vm_thread_new", [second]))
    assert list(driver.m.core.k.s.zombie_threads) == [second]
    driver.report(EXIT)
    assert driver.m.core.k.s.zombie_threads == {}
    assert driver.m.kstack.calls[-1] == ("vm_thread_dispose", [second])


def test_the_last_thread_of_a_process_ends_it():
    driver = booted()
    assert driver.report(THR_EXIT).kind is DispatchKind.FINISHED
    assert (driver.row().state, driver.row().status) == ("ended", 0)


def turn(number):
    return Trap(TrapOp.THR_TURN, a=number)


def taking_turns():
    """The first thread of a process has made thread 7, which has the turn, and waits for its own."""
    driver = booted()
    driver.report(Trap(TrapOp.THR_NEW, a=7, b=1, cookie=70))
    run_of(driver, 1, turn(0))
    assert driver.dispatch.cookie == 70
    return driver


def test_threads_that_take_turns_run_one_at_a_time():
    driver = taking_turns()
    for cookie, following, runs in ((70, 0, 1), (1, 7, 70), (70, 0, 1)):
        assert driver.dispatch.cookie == cookie
        assert driver.report(turn(following)).cookie == runs
    assert driver.report(EXIT).kind is DispatchKind.FINISHED


def test_a_turn_that_came_back_before_it_was_given_away_is_not_lost():
    driver = booted()
    driver.report(Trap(TrapOp.THR_NEW, a=7, b=1, cookie=70))
    run_of(driver, 70, turn(0))
    assert driver.dispatch.cookie == 1
    driver.report(turn(0))
    assert driver.dispatch.cookie == 1


def test_who_ends_hands_the_turn_on_and_it_is_never_with_nobody():
    driver = taking_turns()
    assert driver.report(Trap(TrapOp.THR_EXIT, a=99)).cookie == 1, "there is no thread 99"
    assert driver.report(turn(7)).cookie == 1, "thread 7 has ended"


def test_who_waits_for_its_turn_ends_with_its_process():
    driver = taking_turns()
    assert driver.report(EXIT).kind is DispatchKind.FINISHED


def test_an_exit_ends_all_threads():
    driver = booted()
    for cookie in (7, 8, 9):
        run_of(driver, 1, new(cookie))
    run_of(driver, 7, sleep(60 * SECOND))
    run_of(driver, 8, join(9))
    before = driver.dispatch.now_us
    assert run_of(driver, 1, Trap(TrapOp.EXIT, a=3 << 8)).kind is DispatchKind.FINISHED
    assert driver.dispatch.now_us < before + SECOND
    assert len(events(driver, Kind.THREAD_EXIT)) == 3
    assert driver.row().status == 3
    assert {td.td_pid for td in driver.m.core.k.s.threads.values()} == {0, 1, 2, 3}
    assert all(refs == 0 for vm, refs in driver.m.physmem.refs.items() if vm > 2)


def test_two_threads_that_exit_at_once_end_the_process_once():
    driver = booted()
    driver.report(new(7))
    run_of(driver, 1, sleep(SECOND, SELECT))
    run_of(driver, 7, EXIT)
    assert driver.dispatch.kind is DispatchKind.FINISHED
    assert len(events(driver, Kind.PROC_EXIT)) == 1


def test_who_waits_for_the_thread_that_ends_the_process_ends_too():
    driver = booted()
    driver.report(new(7))
    run_of(driver, 1, new(8))
    run_of(driver, 8, join(7))
    run_of(driver, 1, sleep(SECOND))
    assert run_of(driver, 7, EXIT).kind is DispatchKind.FINISHED
    assert driver.row().state == "ended"


def test_a_fault_that_reads_a_page_is_completed_before_its_thread_ends():
    driver = booted()
    driver.report(new(7))
    for _ in range(5):
        if driver.dispatch.cookie == 7:
            break
        driver.report(elapsed_us=driver.dispatch.budget_us)
    driver.fault(3 * SECOND)
    assert run_of(driver, 1, EXIT).cookie == 7
    assert driver.dispatch.budget_us == 1
    assert driver.dispatch.resume_op
    assert driver.report().kind is DispatchKind.FINISHED


def test_exec_leaves_one_thread():
    driver = booted()
    driver.report(new(7))
    run_of(driver, 7, sleep(60 * SECOND))
    run_of(driver, 1, Trap(TrapOp.EXEC, name="other", regions=IMAGE))
    assert (driver.row().name, driver.dispatch.cookie) == ("other", 1)
    assert len(driver.proc().p_threads) == 1
    assert not driver.proc().p_flag & P_SINGLE_EXIT
    assert driver.dispatch.now_us < SECOND


def test_without_address_space_for_its_stack_there_is_no_thread():
    driver = booted()
    driver.m.kstack.no_kva = True
    driver.report(new(7))
    assert driver.report(join(7)).cookie == 1
    assert len(driver.proc().p_threads) == 1
    assert not driver.proc().p_flag & P_HADTHREADS


def test_a_thread_whose_stack_waits_for_memory_comes_later():
    driver = Driver()
    driver.spawn((1, 0))
    driver.next()
    driver.m.kstack.short_of_memory = True
    driver.report(new(7))
    run_of(driver, 1, join(7))
    assert driver.dispatch.cookie == 7


def test_all_threads_of_a_process_are_swapped_out_and_come_back():
    driver = booted()
    driver.report(new(7))
    run_of(driver, 1, sleep(20 * SECOND))
    run_of(driver, 7, sleep(30 * SECOND), limit_us=5 * SECOND)
    tids = [td.td_tid for td in driver.proc().p_threads]
    assert driver.m.core.swapout_procs(VM_SWAP_NORMAL).swapped_out == [100]
    assert driver.m.kstack.calls[-1] == ("vm_thread_swapout", tids)
    driver.next()
    assert driver.dispatch.cookie == 1
    assert driver.row().swaps == 1
    run_of(driver, 1, THR_EXIT)
    assert driver.dispatch.cookie == 7
    assert driver.row().swaps == 1, "of the first thread, which has ended"
