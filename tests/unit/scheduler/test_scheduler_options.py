"""Build options of the scheduler: NO_SWAPPING, SWAP_DEBUG, INVARIANTS, KSTACK_USAGE_PROF, and vm.panic_on_oom."""

from __future__ import annotations

import pytest
from driver import SECOND, booted, sleep
from fakes import machine

from services.ports.common import VM_OOM_MEM, Setting, Stop
from services.ports.scheduler import ProcState, ThreadState
from services.runtime.errors import KernelPanic, Reason, Refused
from services.runtime.events import Kind, unpack
from services.scheduler.glue_swap import SwapoutScan, prele, swapclear, swapout
from services.scheduler.proc_flags import (
    P_INMEM,
    P_SWAPPINGOUT,
    TDF_CANSWAP,
    TDI_SLEEPING,
    TDI_SWAPPED,
    VM_SWAP_NORMAL,
    Prs,
    Tds,
)

OUT = ProcState(
    101, "out", int(Prs.NORMAL), 0, threads=[ThreadState(100_100, int(Tds.INHIBITED), TDF_CANSWAP, TDI_SWAPPED)]
)


def kinds(m):
    return [event.kind for event in unpack(m.core.events(0, 100_000).records)]


def names(m):
    return {setting.name for setting in m.core.sysctl_get().settings}


def slept(**config):
    """A machine whose only program has slept for three seconds of a hundred, while a second one ran."""
    driver = booted((1, 0), (2, 0), **config)
    driver.report(sleep(100 * SECOND))
    for _ in range(31):
        driver.report(elapsed_us=100_000)
    return driver


def test_without_swapping_there_is_no_vmdaemon_no_threshold_and_no_swapout_procs():
    m = machine(no_swapping=True)
    assert "vmdaemon" not in {row.name for row in m.core.processes().processes}
    assert not {"vm.swap_idle_threshold1", "vm.swap_idle_threshold2"} & names(m)
    before = m.core.digest()
    with pytest.raises(Refused) as refused:
        m.core.swapout_procs(VM_SWAP_NORMAL)
    assert (refused.value.reason, refused.value.reason.status) == (Reason.NOT_BUILT, "FAILED_PRECONDITION")
    with pytest.raises(Refused) as refused:
        m.core.sysctl_set(Setting("vm.swap_idle_threshold1", 1))
    assert refused.value.reason is Reason.UNKNOWN_SYSCTL
    assert m.core.digest() == before


def test_faultin_without_swapping_panics_about_a_process_that_is_out_and_leaves_others():
    m = machine(no_swapping=True, bare=True)
    m.core.place([ProcState(102, "in", int(Prs.NORMAL), P_INMEM), OUT], [])
    assert m.core.faultin([102], [], 0).swapped_in == []
    with pytest.raises(KernelPanic) as panic:
        m.core.faultin([101], [], 0)
    assert str(panic.value) == "faultin: proc swapped out with NO_SWAPPING!"
    assert (panic.value.function, panic.value.line) == ("faultin", 689)


@pytest.mark.parametrize("debug", [True, False])
def test_swap_debug_tells_about_every_swapout(debug):
    driver = slept(swap_debug=debug)
    assert driver.m.core.swapout_procs(VM_SWAP_NORMAL).swapped_out == [100]
    assert kinds(driver.m).count(Kind.SWAP_DEBUG) == int(debug)


def test_stack_use_is_profiled_only_where_the_kernel_is_built_for_it():
    profiled, plain = slept(), slept(without_kstack_usage_prof=True)
    for driver in (profiled, plain):
        for _ in range(40):
            driver.report(sleep(1), elapsed_us=999)
    assert profiled.m.kstack.named("intr_prof_stack_use")
    assert not plain.m.kstack.named("intr_prof_stack_use")
    assert plain.m.core.digest() == profiled.m.core.digest()


def test_a_lost_swapout_race_is_a_failed_kassert_or_goes_on_without_invariants():
    for off in (False, True):
        driver = slept(without_invariants=off)
        k, p = driver.m.core.k, driver.proc(100)
        p.p_flag = (p.p_flag & ~P_INMEM) | P_SWAPPINGOUT
        scan = SwapoutScan(VM_SWAP_NORMAL)
        scan.count_resident(k, [p.p_vmspace])
        if off:
            assert swapout(k, p, scan) == 0
            assert p.p_flag & (P_INMEM | P_SWAPPINGOUT) == 0
        else:
            with pytest.raises(KernelPanic, match=r"swapout: lost a swapout race\?"):
                swapout(k, p, scan)
            assert p.p_flag & P_SWAPPINGOUT


def test_a_hold_released_twice_is_a_failed_kassert_or_a_negative_count_without_invariants():
    for off in (False, True):
        driver = booted(without_invariants=off)
        k, p = driver.m.core.k, driver.proc(100)
        if off:
            prele(k, p)
            assert p.p_lock == -1
        else:
            with pytest.raises(KernelPanic, match="PHOLD not held"):
                prele(k, p)
            assert p.p_lock == 0


def test_swapclear_ignores_a_wanted_swapper_without_invariants(monkeypatch):
    monkeypatch.setattr("services.scheduler.glue_swap.setrunnable", lambda _k, _td: True)
    for off in (False, True):
        m = machine(bare=True, without_invariants=off)
        m.core.place([OUT], [])
        p = m.core.k.proc(101)
        if off:
            swapclear(m.core.k, p)
            assert p.p_flag & P_INMEM
        else:
            with pytest.raises(KernelPanic, match="not waking up swapper") as panic:
                swapclear(m.core.k, p)
            assert panic.value.line == 1029


def test_a_panic_that_is_no_kassert_stays_without_invariants():
    m = machine(bare=True, without_invariants=True)
    inactive = ThreadState(100_100, int(Tds.INACTIVE), 0, TDI_SLEEPING)
    m.core.place([ProcState(101, "odd", int(Prs.NORMAL), P_INMEM, threads=[inactive])], [])
    with pytest.raises(KernelPanic, match=r"setrunnable\(2\)"):
        m.core.setrunnable(100_100)


@pytest.mark.parametrize("panics", [0, 1])
def test_out_of_memory_panics_instead_of_killing_if_asked(panics):
    driver = booted((1, 0))
    driver.m.core.sysctl_set(Setting("vm.panic_on_oom", panics))
    assert Setting("vm.panic_on_oom", panics) in driver.m.core.sysctl_get().settings
    driver.m.physmem.sizes[driver.proc(100).p_vmspace] = 5
    driver.m.physmem.oom, driver.m.physmem.needed = VM_OOM_MEM, True
    driver.m.ctx.upcalls.pagedaemon_wanted = True
    if panics:
        with pytest.raises(KernelPanic, match="out of swap space"):
            driver.report(stop=Stop.YIELD, elapsed_us=10)
    else:
        driver.report(stop=Stop.YIELD, elapsed_us=10)
    assert (Kind.OOM_KILL in kinds(driver.m)) == (panics == 0)
