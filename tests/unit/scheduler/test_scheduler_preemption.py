"""What other threads and interrupts do at a preemption point: what the locks allow, and what it does."""

import pytest
from driver import SECOND, booted, sleep

from services.runtime.env import no_preemption
from services.runtime.events import Kind, unpack
from services.runtime.preemption import Act, PreemptStream
from services.scheduler.preemption import SchedulerPreemption
from services.scheduler.proc_flags import P_INMEM, P_SWAPPINGOUT, P_SYSTEM, P_WEXIT
from services.scheduler.runq import sched_add
from services.scheduler.state import ForkFrame, Thread

NORMAL = 1
UNLOCKED, PROC_LOCKED, MAP_TRYLOCK, ALLPROC_LOCKED = "faultin:700", "swapout:1075", "swapout_procs:900", "swapout:1079"
USERS = (100, 101)


@pytest.fixture
def driver():
    """One program sleeps, another runs."""
    driver = booted((1, 0), (2, 0))
    driver.report(sleep(100 * SECOND))
    assert driver.dispatch.pid == 101
    return driver


def preemption(driver):
    return SchedulerPreemption(lambda: driver.m.core.k)


def possible(driver, point=UNLOCKED, seed=1):
    """What may happen, by act."""
    return {choice.act: choice for choice in preemption(driver).possible(point, PreemptStream(seed))}


def held(driver):
    return {pid for pid in USERS if driver.proc(pid).p_lock}


def let_hold(driver, point=UNLOCKED):
    """Somebody holds a process; its id."""
    pid = possible(driver, point)[Act.HOLD].run()
    assert driver.m.core.check().violations == []
    return pid


@pytest.mark.parametrize(
    ("point", "acts"),
    [
        (UNLOCKED, {Act.INTERRUPT, Act.WAKEUP, Act.HOLD}),
        (ALLPROC_LOCKED, {Act.INTERRUPT, Act.WAKEUP, Act.HOLD}),
        (MAP_TRYLOCK, {Act.INTERRUPT, Act.WAKEUP, Act.HOLD, Act.LOCK_MAP}),
        (PROC_LOCKED, {Act.INTERRUPT, Act.WAKEUP}),
    ],
)
def test_who_wants_a_lock_that_is_held_waits(driver, point, acts):
    assert set(possible(driver, point)) == acts


def test_nothing_happens_while_a_function_is_called_from_outside(driver):
    driver.m.core.k.record = []
    assert possible(driver) == {}


@pytest.mark.parametrize("flag", [P_SWAPPINGOUT, P_SYSTEM, P_WEXIT])
def test_who_goes_out_or_ends_and_the_kernels_own_are_not_held(driver, flag):
    for seed in range(1, 9):
        assert possible(driver, seed=seed)[Act.HOLD].run() in USERS
    for pid in USERS:
        driver.proc(pid).p_flag |= flag
    assert not {Act.HOLD, Act.LOCK_MAP} & set(possible(driver, MAP_TRYLOCK))


def test_a_hold_lasts_a_while_and_the_processor_comes_back(driver):
    running = driver.m.core.k.s.curthread
    pid = let_hold(driver)
    assert held(driver) == {pid}
    assert driver.m.core.k.s.curthread == running
    driver.report(elapsed_us=60_000)
    assert held(driver) == set()


def test_a_hold_brings_in_who_is_out(driver):
    driver.report(elapsed_us=3 * SECOND)
    driver.m.core.swapout_procs(NORMAL)
    assert driver.proc(100).p_flag & P_INMEM == 0
    driver.proc(101).p_flag |= P_WEXIT
    assert let_hold(driver) == 100
    assert driver.proc(100).p_flag & P_INMEM


def test_an_interrupt_lets_time_pass_and_ends_sleeps_that_are_due():
    driver = booted((1, 0), (2, 0))
    driver.report(sleep(30_000))
    thread = driver.thread(100)
    assert thread.td_wchan
    before = driver.m.core.k.s.now_us
    passed = 0
    while thread.td_wchan and passed < SECOND:
        passed += possible(driver)[Act.INTERRUPT].run()
    assert not thread.td_wchan
    assert driver.m.core.k.s.now_us == before + passed
    assert driver.m.core.check().violations == []


def test_a_wakeup_proves_nothing(driver):
    for seed in range(1, 30):
        sleepers = {td.td_tid for td in driver.m.core.k.s.threads.values() if td.td_wchan}
        woken = possible(driver, seed=seed)[Act.WAKEUP].run()
        left = {td.td_tid for td in driver.m.core.k.s.threads.values() if td.td_wchan}
        assert len(sleepers - left) == woken > 0
        driver.report(elapsed_us=2_000)  # it looks, and sleeps again or goes on


def test_a_map_that_is_locked_at_the_moment_of_the_try_saves_its_process(driver):
    driver.report(elapsed_us=3 * SECOND)
    driver.proc(101).p_flag |= P_WEXIT
    lock_map, env = possible(driver, MAP_TRYLOCK)[Act.LOCK_MAP].run, driver.m.ctx.env
    assert lock_map() == driver.proc(100).p_vmspace
    env.preempt, env.preempts = (lambda point: lock_map() if point == MAP_TRYLOCK else None), True
    driver.m.core.swapout_procs(NORMAL)
    assert driver.proc(100).p_flag & P_INMEM
    env.preempt, env.preempts = no_preemption, False
    driver.m.core.swapout_procs(NORMAL)
    assert driver.proc(100).p_flag & P_INMEM == 0


def ready(driver, frame):
    """A thread of the running program's that is inside the kernel and wants the processor."""
    k = driver.m.core.k
    k.s.last_tid += 1
    td = Thread(k.s.last_tid, 101, td_frame=frame, td_priority=90)
    k.s.threads[td.td_tid] = td
    driver.proc(101).p_threads.append(td)
    sched_add(k, td)
    return td


def test_who_wants_allproc_lock_goes_on_where_it_is_free_alone(driver):
    td = ready(driver, ForkFrame(0, 0))
    assert Act.SWITCH in possible(driver, UNLOCKED)
    assert Act.SWITCH not in possible(driver, ALLPROC_LOCKED)
    td.td_frame = None
    assert Act.SWITCH not in possible(driver, UNLOCKED), "user mode is not inside the kernel"


def test_who_is_preempted_keeps_its_locks():
    driver = booted((1, 0), (2, 0))
    ready(driver, ForkFrame(0, 0))
    others = preemption(driver)
    others._preempted.append((1, True))
    stream = PreemptStream(1)
    assert Act.SWITCH not in {choice.act for choice in others.possible(UNLOCKED, stream)}
    others._preempted[0] = (1, False)
    assert Act.SWITCH in {choice.act for choice in others.possible(UNLOCKED, stream)}


def swapping(seed):
    """A machine on which processes go out and come in while others do this and that; its events."""
    driver = booted((1, 0), (2, 0), (3, 0), preempt_seed=seed)
    for _ in range(12):
        driver.report(sleep(2_500_000), elapsed_us=10_000)
        driver.report(elapsed_us=2 * SECOND)
        driver.m.core.k.s.vm_pageout_req_swapout = NORMAL
        driver.m.ctx.wakeup("vm_daemon_needed")
        driver.report(elapsed_us=1_000)
    return driver, driver.m.core.events(0, 1 << 20).records


@pytest.mark.parametrize("seed", range(1, 7))
def test_processes_go_out_and_come_in_whatever_others_do(seed):
    driver, records = swapping(seed)
    assert driver.m.core.stats().swapouts > 0
    happened = {event.outcome for event in unpack(records) if event.kind == Kind.PREEMPT}
    assert happened & {Act.INTERRUPT, Act.WAKEUP, Act.HOLD, Act.SWITCH}
    assert swapping(seed)[1] == records, "a seed decides everything"
