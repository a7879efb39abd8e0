"""TLB shoot-downs: whom they interrupt, and who waits how long."""

from __future__ import annotations

import pytest
from driver import Driver, booted
from fakes import machine
from hypothesis import given
from hypothesis import strategies as st

from services.ports.common import Shootdown, Upcalls
from services.scheduler import smp
from services.scheduler.shootdown import IPIS, SHOOTDOWNS, curpmap, targets, tlb_shootdowns
from services.scheduler.state import Cpu

COSTS = {"shootdown_ns": 1000, "ipi_ns": 200}


def counted(driver):
    counters = driver.m.ctx.counters
    return counters.get(SHOOTDOWNS, 0), counters.get(IPIS, 0)


def computing(ncpu):
    """A program on each processor; the spaces of the present one's and of the others', by processor."""
    driver = booted(*((n + 1, 0) for n in range(ncpu)), ncpu=ncpu, **COSTS)
    s = driver.m.core.k.s
    while sum(curpmap(s, cpu) != s.vmspace0 for cpu in smp.registers(s)) < ncpu:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    return driver, [curpmap(s, cpu) for cpu in smp.registers(s)]


def reported(driver, *shootdowns):
    """Time that the thread has run when its slice of 100 us came with shoot-downs."""
    td = driver.m.core.k.s.threads[driver.dispatch.tid]
    before = td.td_runtime_us
    driver.report(elapsed_us=100, upcalls=Upcalls(shootdowns=list(shootdowns)))
    return td.td_runtime_us - before


def test_one_processor_interrupts_nobody_and_pays_nothing():
    driver = booted(ncpu=1, **COSTS)
    assert reported(driver, Shootdown(0, 5), Shootdown(driver.dispatch.vmspace, 5)) == 100
    assert counted(driver) == (0, 0)


def test_ones_own_address_space_is_on_no_other_processor():
    driver, _ = computing(2)
    assert reported(driver, Shootdown(driver.dispatch.vmspace, 5)) == 100
    assert counted(driver) == (0, 0)


def test_a_space_that_runs_elsewhere_interrupts_that_processor():
    driver, spaces = computing(4)
    elsewhere = spaces[(driver.dispatch.cpu + 1) % 4]
    assert reported(driver, Shootdown(elsewhere, 5)) == 100 + 5 * 1 + 5 * 200 // 1000
    assert counted(driver) == (5, 5)


def test_the_kernels_map_is_everywhere():
    driver, _ = computing(4)
    assert reported(driver, Shootdown(0, 10)) == 100 + 10 + 10 * 3 * 200 // 1000
    assert counted(driver) == (10, 30)


def test_idle_processors_hear_only_of_the_kernels_map():
    driver = booted(ncpu=8, **COSTS)
    s = driver.m.core.k.s
    assert targets(s, driver.dispatch.vmspace) == 0
    assert targets(s, 0) == 7


def test_the_time_is_whole_microseconds_and_nothing_of_it_is_lost():
    driver, _ = computing(2)
    assert reported(driver, Shootdown(0, 1)) == 102
    assert driver.m.core.k.s.owed_ns == 0


@pytest.mark.parametrize("ncpu", [1, 2, 5])
def test_a_shoot_down_is_taken_from_the_up_calls_once(ncpu):
    k = machine(ncpu=ncpu, **COSTS).core.k
    k.ctx.upcalls = Upcalls(wakeups=["x"], shootdowns=[Shootdown(0, 2)])
    tlb_shootdowns(k)
    tlb_shootdowns(k)
    assert k.ctx.upcalls == Upcalls(wakeups=["x"])
    assert k.s.owed_ns == (2 * (1000 + (ncpu - 1) * 200) if ncpu > 1 else 0)


PLACES = st.sampled_from(["idle", "idle first", "first", "second", "last first", "last second", "gone"])


@given(places=st.lists(PLACES, min_size=1, max_size=8), data=st.data())
def test_it_interrupts_whom_a_list_of_the_processors_says(places, data):
    driver = Driver(machine(ncpu=len(places)))
    driver.spawn((1, 0), (2, 0))
    driver.next()
    while len(driver.m.core.k.s.allproc) < 6:
        driver.report(elapsed_us=driver.dispatch.budget_us)
    k = driver.m.core.k
    s, tds = k.s, {"first": driver.thread(100).td_tid, "second": driver.thread(101).td_tid}
    spaces = {name: driver.proc(pid).p_vmspace for name, pid in (("first", 100), ("second", 101))}
    s.cpu = data.draw(st.integers(0, len(places) - 1))
    s.cpus = [
        Cpu(place.startswith("idle"), curthread=tds.get(place, 0), lastthread=tds.get(place.split()[-1], 4711))
        for place in places
    ]
    others = [place for number, place in enumerate(places) if number != s.cpu]
    for name, space in spaces.items():
        assert targets(s, space) == sum(place in (name, f"last {name}") for place in others)
    assert targets(s, 0) == len(others)
