"""Faults: zero-fill, copy on write, page-in, shortage, errors; contents compared with an independent shadow."""

import random

import numpy as np
import pytest
from map_side import BASE, EXEC, FIRST, LOAD, PAGE, STORE, MapSide, record, runs

from hardware_sim.cpu import COSTS
from services.physmem.page_array import VPB_SINGLE_EXCLUSIVER, VPB_UNBUSIED
from services.physmem.state import OBJ_MIGHTBEDIRTY
from services.ports.common import Stop
from services.ports.physmem import KernReturn, MapOp, MapOpKind


def counter(side, name):
    side.core.sysctl_get()
    return side.ctx.counters[f"vm.stats.vm.{name}"]


def test_first_store_makes_a_page_of_zeros_with_the_stamp_in_it():
    side = MapSide()
    space = side.space(4)
    outcome = side.run(space, runs(record(FIRST, STORE), record(FIRST, LOAD | STORE)))
    assert (outcome.minor, outcome.major) == (1, 0)
    m = next(iter(side.vm.objects)).resident[0]
    assert side.vm.pages.dirty[m] == side.vm.bits_all
    words = side.vm.ram.words[m]
    assert words[:6].tolist() == [7, 1, 0, 2, space << 40 | FIRST, 0]
    assert words[511] == 2
    assert words[5:511].sum() == 0
    assert counter(side, "v_zfod") == counter(side, "v_vm_faults") == 1
    assert outcome.elapsed_us == COSTS.zero_fill_us
    side.verify(space)


def test_load_maps_a_page_that_a_later_store_may_write_without_a_fault():
    side = MapSide()
    space = side.space(1)
    outcome = side.run(space, runs(record(FIRST, LOAD), record(FIRST, STORE)))
    assert outcome.minor == 1
    side.verify(space)


@pytest.mark.parametrize(
    ("vpn", "kinds", "prot", "error"),
    [
        (FIRST + 9, LOAD, 3, KernReturn.INVALID_ADDRESS),
        (FIRST, STORE, 1, KernReturn.PROTECTION_FAILURE),
        (FIRST, EXEC, 3, KernReturn.PROTECTION_FAILURE),
        (FIRST, LOAD, 0, KernReturn.PROTECTION_FAILURE),
        (FIRST, LOAD, 2, KernReturn.PROTECTION_FAILURE),
    ],
)
def test_illegal_reference_is_a_signal_and_has_no_effect(vpn, kinds, prot, error):
    side = MapSide()
    space = side.space(4, prot=prot)
    outcome = side.access(space, runs(record(vpn, kinds))).outcome
    assert (outcome.stop, outcome.kern_error, outcome.fault_va) == (Stop.SIGNAL, error, vpn * PAGE)
    assert (outcome.next_record, outcome.elapsed_us) == (0, 0)
    assert side.vm.cnt.v_free_count == side.vm.pages.count
    side.verify(space)


def test_pages_of_an_unfaultable_entry_cannot_be_brought_in():
    side = MapSide()
    space = side.space(2, unfaultable=True)
    outcome = side.access(space, runs(record(FIRST, LOAD))).outcome
    assert (outcome.stop, outcome.kern_error) == (Stop.SIGNAL, KernReturn.FAILURE)


def test_fork_copies_what_either_side_writes_and_nothing_else():
    side = MapSide()
    parent = side.space(8)
    side.run(parent, runs(*[record(FIRST + i, STORE) for i in range(8)]))
    child = side.fork(parent)
    free = side.vm.cnt.v_free_count
    side.run(child, runs(*[record(FIRST + i, LOAD) for i in range(8)]))
    assert side.vm.cnt.v_free_count == free
    side.run(child, runs(record(FIRST + 1, STORE), record(FIRST + 1, STORE)))
    side.run(parent, runs(record(FIRST + 2, STORE), record(FIRST + 1, STORE)))
    side.verify(parent, child)
    assert counter(side, "v_cow_faults") == 3
    side.core.vmspace_free([parent])
    side.run(child, runs(*[record(FIRST + i, LOAD | STORE) for i in range(8)]))
    side.verify(child)
    side.core.vmspace_free([child])
    assert side.vm.cnt.v_free_count == side.vm.pages.count
    assert len(side.vm.objects) == 0


def test_last_reader_of_a_backing_object_takes_its_page_instead_of_copying_it():
    side = MapSide()
    parent = side.space(2)
    side.run(parent, runs(record(FIRST, STORE)))
    child = side.fork(parent)
    side.run(child, runs(record(FIRST + 1, STORE)))
    behind = side.vm.objects[1]
    behind.paging_in_progress += 1  # keeps the parent's exit from collapsing the chain
    side.vm.pages.busy_lock[behind.resident[0]] = VPB_SINGLE_EXCLUSIVER
    side.core.vmspace_free([parent])
    side.vm.pages.busy_lock[behind.resident[0]] = VPB_UNBUSIED
    behind.paging_in_progress -= 1
    used = side.vm.pages.count - side.vm.cnt.v_free_count
    side.run(child, runs(record(FIRST, STORE)))
    assert counter(side, "v_cow_optim") == 1
    assert side.vm.pages.count - side.vm.cnt.v_free_count == used
    side.verify(child)


def test_pages_come_back_from_swap_with_their_neighbours():
    side = MapSide()
    space = side.space(32)
    side.run(space, runs(*[record(FIRST + i, STORE) for i in range(32)]))
    side.evict(space)
    assert side.vm.cnt.v_free_count == side.vm.pages.count
    assert len(side.pager.swap) == 32
    outcome = side.run(space, runs(record(FIRST + 4, LOAD | STORE)))
    assert (outcome.minor, outcome.major) == (0, 1)
    assert side.sleeps == ["swread"]
    assert side.pager.calls.count("get_pages_start") == 1
    assert sorted(next(iter(side.vm.objects)).resident) == list(range(12))  # 4 before, 7 behind
    assert side.shadow.pages_checked == 1
    assert (1, 4) in side.pager.swap  # not yet told
    side.verify(space)
    assert (1, 4) not in side.pager.swap  # dirtied by the fault: its block is free
    assert (1, 5) in side.pager.swap
    assert counter(side, "v_io_faults") == 1


def test_pages_that_never_were_are_made_without_asking_the_pager():
    side = MapSide()
    space = side.space(100)
    side.run(space, runs(record(FIRST, STORE), record(FIRST + 40, STORE)))
    side.evict(space)
    assert side.core.vmspace_info([space]).spaces[0].swap_count == 2 * 32 + 1
    asked = len(side.pager.calls)
    assert side.run(space, runs(*[record(FIRST + i, LOAD | STORE) for i in range(1, 40)])).minor == 39
    assert len(side.pager.calls) == asked
    side.verify(space)


def test_window_grows_while_faults_are_sequential():
    side = MapSide(pages=2048)
    space = side.space(200)
    side.pager.max_read = 64
    side.run(space, runs(*[record(FIRST + i, STORE) for i in range(200)]))
    side.evict(space)
    side.run(space, runs(*[record(FIRST + i, LOAD) for i in range(200)]))
    windows = []
    for i in range(200):
        if side.vm.objects[1].resident.get(i) is not None:
            windows.append(i)
    assert windows == list(range(200))
    starts = side.pager.calls.count("get_pages_start")
    assert starts < 200 // 16
    side.verify(space)


def test_shadowed_page_is_read_from_the_object_behind():
    side = MapSide()
    parent = side.space(4)
    side.run(parent, runs(*[record(FIRST + i, STORE) for i in range(4)]))
    child = side.fork(parent)
    side.run(child, runs(record(FIRST, STORE)))
    side.evict(parent)
    side.evict(child)
    side.run(child, runs(*[record(FIRST + i, LOAD) for i in range(4)]))
    side.run(child, runs(record(FIRST + 3, STORE)))
    side.run(parent, runs(record(FIRST + 3, LOAD | STORE)))
    side.verify(parent, child)


def test_unreadable_page_kills_the_thread():
    side = MapSide()
    space = side.space(2)
    side.run(space, runs(record(FIRST, STORE)))
    side.evict(space)
    side.pager.broken.add((1, 0))
    outcome = side.access(space, runs(record(FIRST, LOAD))).outcome
    assert outcome.stop is Stop.SUSPENDED
    side.complete()
    outcome = side.access(space, runs(record(FIRST, LOAD)), op=outcome.suspension.op).outcome
    assert (outcome.stop, outcome.kern_error) == (Stop.SIGNAL, KernReturn.FAILURE)
    assert side.vm.reads == {}
    assert side.core.check().violations == []


def test_file_page_is_read_once_and_shared_by_all_who_map_it():
    side = MapSide()
    first, second = side.space(), side.space()
    for space in (first, second):
        side.map(space, 4, prot=5, file="prog", file_pages=4)
    assert side.run(first, runs(record(FIRST, EXEC))).major == 1
    assert side.sleeps == ["vnread"]
    assert side.run(second, runs(record(FIRST, EXEC), record(FIRST + 1, LOAD))).major == 0
    assert side.pager.calls.count("get_pages_start") == 1
    side.verify(first, second)


def test_what_is_stored_in_a_shared_file_is_written_and_read_back():
    side = MapSide()
    writer, reader = (side.space(8, file="data", file_pages=8, shared=True) for _ in range(2))
    for space in (writer, reader):
        side.shadow.share(space, FIRST, 8)
    side.run(writer, runs(*[record(FIRST + i, STORE) for i in range(4)]))
    (obj,) = side.vm.objects
    assert obj.flags & OBJ_MIGHTBEDIRTY
    stored = [side.vm.ram.read(obj.resident[i], 0, PAGE) for i in range(4)]
    side.evict(writer)
    side.evict(reader)
    assert (obj.resident, obj.cached) == ({}, {})
    assert set(side.pager.file_contents) == {(1, i) for i in range(4)}
    assert side.run(reader, runs(*[record(FIRST + i, LOAD) for i in range(8)])).major == 1
    assert [side.vm.ram.read(obj.resident[i], 0, PAGE) for i in range(4)] == stored
    assert not vm_dirty(side, obj)
    side.run(writer, runs(record(FIRST + 1, STORE)))
    assert vm_dirty(side, obj) == [1]
    assert side.vm.ram.read(obj.resident[1], 24, 8) == (2).to_bytes(8, "little"), "the version counts on"
    side.verify(writer, reader)


def vm_dirty(side, obj):
    return [i for i in sorted(obj.resident) if side.vm.pages.dirty[obj.resident[i]]]


def test_private_mapping_of_a_file_is_copied_on_write():
    side = MapSide()
    space, other = side.space(), side.space()
    side.map(space, 4, file="data", file_pages=4)
    side.map(other, 4, file="data", file_pages=4)
    side.run(space, runs(record(FIRST + 2, LOAD), record(FIRST + 2, STORE), record(FIRST + 3, STORE)))
    side.run(other, runs(record(FIRST + 2, LOAD)))
    side.verify(space, other)
    stamps = np.frombuffer(side.core.vmspace_stamps(space).vpns, np.uint64)
    assert stamps.tolist() == [FIRST + 2, FIRST + 3]


def test_page_behind_the_end_of_a_file_cannot_be_had():
    side = MapSide()
    space = side.space()
    side.map(space, 4, file="short", file_pages=2)
    outcome = side.access(space, runs(record(FIRST + 2, LOAD))).outcome
    assert (outcome.stop, outcome.kern_error) == (Stop.SIGNAL, KernReturn.PROTECTION_FAILURE)
    assert "get_pages_start" not in side.pager.calls


def test_second_thread_waits_for_the_page_that_the_first_one_reads():
    side = MapSide()
    space = side.space(1)
    side.run(space, runs(record(FIRST, STORE)))
    side.evict(space)
    data = runs(record(FIRST, LOAD))
    first = side.access(space, data).outcome.suspension
    second = side.access(space, data).outcome.suspension
    assert (first.wmesg, second.wmesg) == ("swread", "vmpfw")
    assert first.channel == second.channel
    assert first.op != second.op
    side.complete()
    assert first.channel in side.wakeups
    assert side.access(space, data, op=second.op).outcome.stop is Stop.SUSPENDED  # the reader has it still
    assert side.access(space, data, op=first.op).outcome.major == 1
    assert side.access(space, data, op=second.op).outcome.minor == 1
    side.verify(space)


def test_woken_too_early_the_fault_sleeps_again_under_the_same_id():
    side = MapSide()
    space = side.space(1)
    side.run(space, runs(record(FIRST, STORE)))
    side.evict(space)
    data = runs(record(FIRST, LOAD))
    op = side.access(space, data).outcome.suspension.op
    again = side.access(space, data, op=op).outcome
    assert (again.stop, again.suspension.op) == (Stop.SUSPENDED, op)
    side.complete()
    assert side.access(space, data, op=op).outcome.stop is Stop.END


def test_range_unmapped_during_the_read_is_an_invalid_address_afterwards():
    side = MapSide()
    space = side.space(4)
    side.run(space, runs(*[record(FIRST + i, STORE) for i in range(4)]))
    side.evict(space)
    data = runs(record(FIRST, LOAD))
    op = side.access(space, data).outcome.suspension.op
    assert side.core.map_ops(space, [MapOp(MapOpKind.REMOVE, BASE, 4 * PAGE)], 0).results == [KernReturn.SUCCESS]
    side.complete()
    outcome = side.access(space, data, op=op).outcome
    assert (outcome.stop, outcome.kern_error) == (Stop.SIGNAL, KernReturn.INVALID_ADDRESS)
    assert side.vm.cnt.v_free_count == side.vm.pages.count
    assert len(side.vm.objects) == 0
    assert side.core.check().violations == []


def test_range_replaced_during_the_read_gives_the_new_page():
    side = MapSide()
    space = side.space(4)
    side.run(space, runs(*[record(FIRST + i, STORE) for i in range(4)]))
    side.evict(space)
    data = runs(record(FIRST, LOAD))
    op = side.access(space, data).outcome.suspension.op
    side.map(space, 4, replace=True)
    side.shadow.unmapped(space, FIRST, 4)
    side.complete()
    outcome = side.access(space, data, op=op).outcome
    assert (outcome.stop, outcome.minor) == (Stop.END, 1)
    side.verify(space)


@pytest.mark.parametrize("completed", [False, True])
def test_address_space_freed_while_a_fault_sleeps_leaves_nothing_behind(completed):
    side = MapSide()
    space = side.space(4)
    side.run(space, runs(*[record(FIRST + i, STORE) for i in range(4)]))
    child = side.fork(space)
    side.evict(space)
    side.access(child, runs(record(FIRST, STORE)))
    if completed:
        side.complete()
    side.core.vmspace_free([child])
    side.complete()
    assert side.vm.ops == side.vm.reads == {}
    side.run(space, runs(record(FIRST, LOAD)))
    side.verify(space)


def test_fault_waits_for_memory_at_a_users_priority():
    side = MapSide(pages=128)
    space = side.space(200)
    data = runs(*[record(FIRST + i, STORE) for i in range(200)])
    outcome = side.access(space, data).outcome
    assert outcome.stop is Stop.YIELD  # the daemon is wanted first
    side.settle()
    while outcome.stop is Stop.YIELD:
        outcome = side.access(space, data, outcome.next_record).outcome
    assert outcome.stop is Stop.SUSPENDED
    assert (outcome.suspension.channel, outcome.suspension.priority, outcome.suspension.wmesg) == (
        "v_free_count",
        120,
        "pfault",
    )
    assert side.vm.cnt.v_free_count == side.vm.cnt.v_free_severe - 1 > side.vm.cnt.v_free_reserved
    assert side.core.check().violations == []


def test_how_references_are_cut_into_batches_changes_nothing():
    digests = set()
    for size in (1, 7, 1000):
        side = MapSide()
        space = side.space(40)
        data = [record(FIRST + i * 7 % 40, STORE if i % 3 else LOAD, refs=3, instructions=137) for i in range(400)]
        phase = elapsed = 0
        for at in range(0, len(data), size):
            side.ctx.now_us = elapsed
            outcome = side.core.access(space, runs(*data[at : at + size]), 0, 10**9, phase, 0).outcome
            assert outcome.stop is Stop.END
            phase, elapsed = outcome.phase, elapsed + outcome.elapsed_us
        digest = side.core.digest()
        digests.add((digest.events, digest.event_count, digest.state, elapsed, phase))
    assert len(digests) == 1


def test_budget_ends_the_slice_at_a_record_boundary():
    side = MapSide()
    space = side.space(4)
    data = runs(*[record(FIRST + i, LOAD, instructions=1000) for i in range(4)])
    outcome = side.access(space, data, budget_us=COSTS.zero_fill_us + 1).outcome
    assert (outcome.stop, outcome.next_record) == (Stop.BUDGET, 1)
    assert outcome.elapsed_us == COSTS.zero_fill_us + 10
    outcome = side.access(space, data, start=1, budget_us=COSTS.zero_fill_us).outcome
    assert (outcome.stop, outcome.next_record) == (Stop.BUDGET, 1)  # the fault used it up; the record is still to come


@pytest.mark.parametrize("seed", range(6))
def test_contents_survive_pressure_forks_and_unmapping(seed):
    """Several address spaces on a machine far too small for them: every page holds what was stored last."""
    rng = random.Random(seed)
    side = MapSide(pages=140)
    spaces = [side.space(60)]
    for _ in range(60):
        space = rng.choice(spaces)
        what = rng.random()
        if what < 0.12 and len(spaces) < 5:
            spaces.append(side.fork(space))
        elif what < 0.2 and len(spaces) > 1:
            spaces.remove(space)
            side.core.vmspace_free([space])
            side.shadow.freed(space)
        elif what < 0.3:
            start, pages = rng.randrange(60), rng.randrange(1, 20)
            side.map(space, pages, BASE + start * PAGE, replace=True)
            side.shadow.unmapped(space, FIRST + start, pages)
        else:
            start = rng.randrange(60)
            kinds = [rng.choice([LOAD, STORE, LOAD | STORE]) for _ in range(40)]
            side.run(space, runs(*[record(FIRST + (start + i) % 60, kind) for i, kind in enumerate(kinds)]))
        assert side.core.check().violations == []
    assert "swread" in side.sleeps
    side.verify(*spaces)
    for space in spaces:
        side.core.vmspace_free([space])
    side.complete()
    assert (len(side.vm.objects), side.pager.swap) == (0, {})
    assert side.vm.cnt.v_free_count == side.vm.pages.count
