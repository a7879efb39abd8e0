"""What others do with memory at a preemption point: when it is possible, and what it does."""

import pytest
from map_side import FIRST, LOAD, STORE, MapSide, record, runs

from services.physmem.page_array import PQ_INACTIVE
from services.physmem.preemption import MemoryPreemption
from services.physmem.vm_page import vm_page_deactivate, vm_paging_target
from services.runtime.events import Kind, unpack
from services.runtime.preemption import Act, PreemptStream

PAGES = 6


def possible(machine, seed=1):
    """What may happen, by act."""
    preemption = MemoryPreemption(lambda: machine.vm)
    return {choice.act: choice for choice in preemption.possible("faultin:700", PreemptStream(seed))}


def inactive(clean):
    """A machine whose only address space has pages that are inactive and unreferenced, and were written to swap or not.

    Returns:
        The machine, the address space and the frames.
    """
    machine = MapSide()
    vmspace = machine.space(PAGES)
    machine.run(vmspace, runs(*(record(FIRST + i, STORE) for i in range(PAGES))))
    if clean:
        machine.evict(vmspace)
        machine.run(vmspace, runs(*(record(FIRST + i, LOAD) for i in range(PAGES))))
    (obj,) = [obj for obj in machine.vm.objects if obj.anonymous and obj.resident and obj.id not in machine.vm.stacks]
    frames = list(obj.resident.values())
    for m in frames:
        vm_page_deactivate(machine.vm, m)
    return machine, vmspace, frames


def test_an_idle_machine_can_only_be_scanned_and_woken():
    assert set(possible(MapSide())) == {Act.SCAN, Act.WAKEUP}


def test_a_wakeup_proves_nothing():
    machine = MapSide()
    machine.settle()
    free = machine.vm.cnt.v_free_count
    assert possible(machine)[Act.WAKEUP].run() == free
    machine.settle()
    assert machine.wakeups == ["v_free_count"]
    assert machine.vm.cnt.v_free_count == free


def test_a_clean_inactive_page_is_reclaimed_and_may_be_used_for_something_else():
    machine, vmspace, frames = inactive(clean=True)
    assert set(possible(machine)) == {Act.SCAN, Act.WAKEUP, Act.RECLAIM}
    obj = machine.vm.pages.object[frames[0]]
    assert possible(machine)[Act.RECLAIM].run() == obj
    assert len(machine.vm.objects[obj].cached) == 1
    assert len(machine.vm.objects[obj].resident) == PAGES - 1
    assert possible(machine)[Act.UNCACHE].run() == obj
    assert not machine.vm.objects[obj].cached
    assert Act.UNCACHE not in possible(machine)
    machine.run(vmspace, runs(*(record(FIRST + i, STORE) for i in range(PAGES))))
    machine.verify(vmspace)


def test_a_dirty_page_is_not_reclaimed():
    machine, vmspace, frames = inactive(clean=False)
    for seed in range(1, 20):
        possible(machine, seed)[Act.RECLAIM].run()
    assert all(machine.vm.pages.queue[m] == PQ_INACTIVE for m in frames)
    machine.verify(vmspace)


@pytest.mark.parametrize("seed", range(1, 5))
def test_the_page_daemon_is_asked_for_more_than_it_is_short_of(seed):
    machine = MapSide()
    machine.vm.cnt.v_free_target += -vm_paging_target(machine.vm)
    assert vm_paging_target(machine.vm) == 0
    assert possible(machine, seed)[Act.SCAN].run() == 0, "there is nothing to write"
    scan = unpack(machine.core.events(0, 10_000).records)[-1]
    assert (scan.kind, scan.subject) == (Kind.PAGEOUT_SCAN, 1)
    assert 1 <= scan.a <= 64, "pages that it lacks, all of them others' deficit"
    assert machine.vm.vm_pageout_deficit == 0
    assert machine.settle().swap_request, "whole processes are to go since pages did not do"


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_wiring_amid_others_loses_no_page(seed):
    machine = MapSide(preempt_seed=seed)
    vmspace = machine.space(PAGES)
    data = runs(*(record(FIRST + i, STORE) for i in range(PAGES)))
    machine.run(vmspace, data)
    for _ in range(8):
        addr, length = FIRST * 4096, PAGES * 4096
        assert machine.core.vslock(vmspace, addr, length, 0).error == 0
        machine.core.vsunlock(vmspace, addr, length)
        machine.pageout(passes=2)
        machine.run(vmspace, data)
    happened = [event for event in unpack(machine.core.events(0, 10_000).records) if event.kind == Kind.PREEMPT]
    assert {event.subject for event in happened} == {220}, "the line of vsunlock"
    assert len({event.outcome for event in happened}) > 1
    machine.verify(vmspace)
