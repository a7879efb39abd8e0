"""Several processors: clocks of their own, one order, no thread in two places."""

from __future__ import annotations

import pytest
from driver import EXIT, FAR_US, FORK, SECOND, Driver, booted, events, sleep
from fakes import machine
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ports.scheduler import DispatchKind, SpawnRequest
from services.runtime.errors import Refused
from services.runtime.events import Kind
from services.scheduler import smp
from services.scheduler.proc_flags import P_SYSTEM, SIGCONT, SIGKILL, SIGSTOP
from services.scheduler.runq import FSCALE, STATCLOCK_US, estcpulim, loadav, resetpriority
from services.scheduler.sleepq import sleepq_remove
from services.scheduler.state import Cpu


def spinning(programs, **config):
    """Programs that compute, on a machine where all of them have been started."""
    driver = booted(*((n + 1, 0) for n in range(programs)), **config)
    while len(driver.m.core.k.s.allproc) < programs + 4:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    return driver


@pytest.mark.parametrize("ncpu", [0, 65])
def test_a_number_of_processors_that_is_none_is_refused(ncpu):
    with pytest.raises(Refused, match="ncpu"):
        machine(ncpu=ncpu)


def test_two_programs_compute_at_the_same_time():
    driver = spinning(2, ncpu=2)
    begun = driver.dispatch.now_us
    ran = {100: 0, 101: 0}
    while driver.dispatch.now_us < begun + SECOND:
        ran[driver.dispatch.pid] += driver.dispatch.budget_us
        driver.report(elapsed_us=driver.dispatch.budget_us)
    assert min(ran.values()) > 0.98 * SECOND
    busy = driver.m.core.stats().cpu_busy_us
    assert len(busy) == 2
    assert min(busy) > 0.98 * SECOND


def test_slices_are_short_only_while_another_processor_is_busy():
    driver = spinning(2, ncpu=2)
    for _ in range(10):
        assert driver.dispatch.budget_us <= smp.SKEW_US
        driver.report(elapsed_us=driver.dispatch.budget_us)
    driver.report(sleep(10 * SECOND))
    driver.report(elapsed_us=driver.dispatch.budget_us)
    assert driver.dispatch.budget_us > smp.SKEW_US


def test_the_processor_that_is_behind_goes_on():
    driver = spinning(2, ncpu=2)
    last = {0: 0, 1: 0}
    for _ in range(50):
        d = driver.dispatch
        last[d.cpu] = d.now_us
        assert d.now_us <= last[1 - d.cpu] + 2 * smp.SKEW_US
        driver.report(elapsed_us=d.budget_us)


def test_a_thread_that_left_a_processor_later_is_waited_for():
    driver = spinning(1, ncpu=2)
    td = driver.thread()
    k = driver.m.core.k
    before = k.s.idle_us
    td.td_runnable_us = k.s.now_us + 700
    assert smp.wait_for(k, td)
    assert (k.s.now_us, k.s.idle_us) == (td.td_runnable_us, before + 700)
    assert not smp.wait_for(k, td)


def test_ticks_do_not_go_back_with_a_processor_that_is_behind():
    k = spinning(1, ncpu=2).m.core.k
    begun, ticks = k.s.now_us, k.ticks
    k.set_time(begun + 7000)
    k.set_time(begun)
    assert (k.s.now_us, k.ticks) == (begun, ticks + 7)


def test_a_thread_is_runnable_no_earlier_than_it_left_its_processor():
    driver = spinning(2, ncpu=2)
    k, td = driver.m.core.k, driver.thread(driver.dispatch.pid)
    driver.report(sleep(SECOND))
    td.td_asleep_since_us = k.s.now_us + 500
    sleepq_remove(k, td)
    assert td.td_runnable_us == td.td_asleep_since_us
    assert td.td_sleep_us == 0
    other = driver.thread(driver.dispatch.pid)
    driver.m.core.kill([other.td_pid], SIGSTOP)
    left = driver.dispatch.now_us + 10
    driver.report(elapsed_us=10)
    k.set_time(left - 5)
    driver.m.core.kill([other.td_pid], SIGCONT)
    assert other.td_runnable_us == left


def test_the_first_idle_processor_takes_a_runnable_thread():
    driver = spinning(1, ncpu=4)
    here = driver.dispatch.cpu
    idle = [number for number, cpu in enumerate(smp.registers(driver.m.core.k.s)) if cpu.idle]
    assert idle == [number for number in range(4) if number != here]
    driver.report(FORK)
    cpus = {driver.dispatch.cpu}
    driver.report(elapsed_us=driver.dispatch.budget_us)
    cpus.add(driver.dispatch.cpu)
    assert cpus == {here, idle[0]}
    assert events(driver, Kind.SWITCH)[-1].b == idle[0]
    assert [number for number, cpu in enumerate(smp.registers(driver.m.core.k.s)) if cpu.idle] == idle[1:]


def test_load_and_priority_are_those_of_all_processors():
    driver = spinning(3, ncpu=2)
    k = driver.m.core.k
    k.s.ldavg = [0, 0, 0]
    k.set_time(k.s.loadav_due_us)
    loadav(k)
    assert k.s.ldavg[0] == 3 * (FSCALE - 1884)
    td = driver.thread()
    td.td_estcpu_us = 160 * STATCLOCK_US
    resetpriority(k, td)
    assert td.td_user_pri == 120 + 20 + 160 // 16
    assert estcpulim(k, 1 << 60) == (16 * 143 + 15) * STATCLOCK_US
    settings_ = {setting.name: setting.value for setting in driver.m.core.sysctl_get().settings}
    assert (settings_["hw.ncpu"], settings_["vm.loadavg.0"], settings_["vm.loadavg.fscale"]) == (2, k.s.ldavg[0], 2048)


def test_a_check_finds_a_thread_on_two_processors_and_one_on_none():
    driver = spinning(2, ncpu=2)
    s = driver.m.core.k.s
    other = 1 - s.cpu
    s.cpus[other].curthread = s.curthread
    assert any("on two processors" in text for text in driver.m.core.check().violations)
    s.cpus[other].curthread = 0
    assert any("is not on the processor" in text for text in driver.m.core.check().violations)


def test_idle_time_of_all_processors_is_counted():
    driver = spinning(1, ncpu=3)
    driver.report(sleep(5 * SECOND))
    stats = driver.m.core.stats()
    assert stats.idle_us + sum(stats.cpu_busy_us) == 3 * driver.m.core.k.s.latest_us
    assert stats.idle_us > 14 * SECOND


def test_one_processor_has_no_other():
    s = spinning(1).m.core.k.s
    assert s.cpus == [Cpu()]
    assert smp.registers(s)[0].now_us == s.now_us


SIGNALS = {"stop": SIGSTOP, "continue": SIGCONT, "kill": SIGKILL}
ACTIONS = st.sampled_from(["spin", "part", "sleep", "short", "fault", "fork", "exit", "stop", "continue", "kill"])


def act(driver, action):
    """One report."""
    budget = driver.dispatch.budget_us
    if action in SIGNALS:
        procs = [p.p_pid for p in driver.m.core.k.s.allproc.values() if not p.p_flag & P_SYSTEM]
        driver.m.core.kill(procs[:1] if action == "kill" else procs[1:], SIGNALS[action])
        action = "part"
    if action == "fault":
        driver.fault(300)
    elif action in ("spin", "part"):
        driver.report(elapsed_us=budget if action == "spin" else max(1, budget // 3))
    else:
        trap = {"sleep": sleep(30_000), "short": sleep(200), "fork": FORK, "exit": EXIT}[action]
        driver.report(trap, elapsed_us=max(1, budget // 2))


def history(ncpu, actions):
    """What was dispatched while programs did some things: (cpu, tid, start, budget), and the digest at the end."""
    driver = Driver(machine(ncpu=ncpu))
    driver.m.core.spawn([SpawnRequest(f"p{n}", n + 1, n * 400, regions=[]) for n in range(4)])
    driver.next(FAR_US)
    ran, ticks = [], []
    for action in actions:
        d = driver.dispatch
        if d.kind is not DispatchKind.RUN:
            break
        ran.append((d.cpu, d.tid, d.now_us))
        ticks.append(d.ticks)
        act(driver, action)
    assert ticks == sorted(ticks)
    return ran, driver.m.core.digest()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.lists(ACTIONS, max_size=60))
def test_no_thread_goes_back_in_time_and_no_processor_either(ncpu, actions):
    ran, digest = history(ncpu, actions)
    for member in (0, 1):
        latest: dict[int, int] = {}
        for entry in ran:
            assert entry[2] >= latest.get(entry[member], 0)
            latest[entry[member]] = entry[2]
    assert {cpu for cpu, _, _ in ran} <= set(range(ncpu))
    assert history(ncpu, actions) == (ran, digest)
