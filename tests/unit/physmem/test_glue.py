"""The access checks and wiring of vm_glue.c: widths, wraps, order of checks."""

import pytest
from map_side import BASE, FIRST, LOAD, PAGE, STORE, MapSide, record, runs

from services.ports.common import Answers, Setting, Status, Stop
from services.ports.physmem import KERNEL_SPACE, AccessCheck, KernReturn, MapOp, MapOpKind
from services.runtime.errors import KernelPanic

EINVAL, ENOMEM, EFAULT = 22, 12, 14
TOP = (1 << 64) - 1
INT_MIN = -(1 << 31)


def useracc(side, space, addr, length, rw):
    return side.core.useracc(space, [AccessCheck(addr, length, rw)]).ok[0]


def wired(side, space):
    return [((r.start - BASE) // PAGE, (r.end - BASE) // PAGE, r.count) for r in side.core.wired_ranges(space).ranges]


@pytest.mark.parametrize(
    ("addr", "length", "rw", "granted"),
    [
        (BASE, 1, 1, True),
        (BASE, 0, 7, True),  # an empty range checks no rights
        (BASE - PAGE, 0, 0, False),  # but must begin in an entry
        (BASE - 1, 0, 0, False),  # unaligned: the page is checked
        (BASE + 4 * PAGE - 1, 1, 3, True),
        (BASE + 4 * PAGE - 1, 2, 3, False),
        (BASE, 1, 4, False),
        (BASE + 100, -1, 1, False),
        (BASE, INT_MIN, 1, False),
        (TOP, 1, 1, False),
        (TOP, -1, 1, False),
    ],
)
def test_useracc(addr, length, rw, granted):
    side = MapSide()
    space = side.space(4)
    assert useracc(side, space, addr, length, rw) is granted


def test_equality_with_the_bound_is_allowed():
    side = MapSide()
    space = side.core.vmspace_alloc(BASE, BASE + 4 * PAGE).vmspace
    side.map(space, 4)
    assert useracc(side, space, BASE, 4 * PAGE, 3)
    assert not useracc(side, space, BASE, 4 * PAGE + 1, 3)


def test_kernacc_asks_kernel_map():
    side = MapSide()
    start = side.vm.arch.kernel_min
    side.core.map_ops(KERNEL_SPACE, [MapOp(MapOpKind.INSERT, start, PAGE, prot=1)], 0)
    checks = [
        AccessCheck(start, 8, 1),
        AccessCheck(start, 8, 2),
        AccessCheck(start + PAGE, 8, 1),
        AccessCheck(TOP, 8, 1),
    ]
    assert side.core.kernacc(checks).ok == [True, False, False, False]


@pytest.mark.parametrize(("rw", "shown"), [(8, "8"), (-1, "ffffffff"), (15, "f")])
def test_rights_that_do_not_exist_are_a_failed_assertion(rw, shown):
    side = MapSide()
    space = side.space(1)
    with pytest.raises(KernelPanic, match=f"illegal ``rw'' argument to useracc \\({shown}\\)") as panic:
        useracc(side, space, BASE, 1, rw)
    assert (panic.value.function, panic.value.line) == ("useracc", 163)
    with pytest.raises(KernelPanic, match=f"illegal ``rw'' argument to kernacc \\({shown}\\)"):
        side.core.kernacc([AccessCheck(BASE, 1, rw)])


@pytest.mark.parametrize(
    ("addr", "length", "error"),
    [
        (TOP, 2, EINVAL),
        (TOP - 4094, 4094, EINVAL),  # the rounded end wraps to 0
        (0, 1 << 63, ENOMEM),  # a huge bad range is too many pages first
        (BASE - 1, 2, EFAULT),
        (BASE + 4 * PAGE, 1, EFAULT),
        (BASE, 0, 0),
        (BASE + PAGE - 1, 2, 0),
    ],
)
def test_vslock_answers_in_the_order_of_its_checks(addr, length, error):
    side = MapSide()
    space = side.space(4)
    assert side.core.vslock(space, addr, length, 0).error == error
    assert side.core.check().violations == []


def test_pages_count_by_their_rounded_bounds_against_max_wired():
    side = MapSide()
    space = side.space(4)
    side.core.sysctl_set(Setting("vm.max_wired", 1))
    assert side.core.vslock(space, BASE + PAGE - 1, 2, 0).error == ENOMEM
    side.core.sysctl_set(Setting("vm.max_wired", 2))
    assert side.core.vslock(space, BASE + PAGE - 1, 2, 0).error == 0
    assert wired(side, space) == [(0, 2, 1)]
    side.core.sysctl_set(Setting("vm.max_wired", -1))  # an int against a vm_size_t: no limit
    assert side.core.vslock(space, BASE, 4 * PAGE, 0).error == 0
    assert wired(side, space) == [(0, 2, 2), (2, 4, 1)]


def test_wirings_nest_and_end_one_by_one():
    side = MapSide()
    space = side.space(6)
    for start, length in ((0, 4), (2, 4)):
        assert side.core.vslock(space, BASE + start * PAGE, length * PAGE, 0).error == 0
    assert wired(side, space) == [(0, 2, 1), (2, 4, 2), (4, 6, 1)]
    side.core.vsunlock(space, BASE, 4 * PAGE)
    side.core.vsunlock(space, BASE, 4 * PAGE)  # not wired throughout: ignored altogether
    assert wired(side, space) == [(2, 6, 1)]
    side.core.vsunlock(space, BASE + 2 * PAGE, 4 * PAGE)
    assert (wired(side, space), side.vm.cnt.v_wire_count) == ([], 0)
    assert len(side.vm.space_map(space).entries) == 1
    side.verify(space)


def test_unequal_wirings_that_become_equal_on_the_way_all_come_off():
    side = MapSide()
    space = side.space(2)
    for length in (1, 2):
        assert side.core.vslock(space, BASE, length * PAGE, 0).error == 0
    side.core.vsunlock(space, BASE, 2 * PAGE)
    assert wired(side, space) == [(0, 1, 1)]


def test_a_wiring_that_fails_at_its_end_is_undone_from_its_beginning():
    side = MapSide()
    space = side.space(4)
    side.map(space, 2, BASE + 4 * PAGE, unfaultable=True)
    side.map(space, 2, BASE + 6 * PAGE, prot=2)
    side.core.vslock(space, BASE + 2 * PAGE, PAGE, 0)
    for start, length in ((0, 6), (1, 3 + 1), (6, 1), (2, 8)):
        assert side.core.vslock(space, BASE + start * PAGE, length * PAGE, 0).error == EFAULT
        assert (wired(side, space), side.vm.cnt.v_wire_count) == ([(2, 3, 1)], 1)
    assert side.core.check().violations == []


def test_executing_is_right_enough_for_a_wiring():
    side = MapSide()
    space = side.space(2, prot=4)
    assert side.core.vslock(space, BASE, 2 * PAGE, 0).error == 0
    assert wired(side, space) == [(0, 2, 1)]


def test_a_hole_is_no_memory():
    side = MapSide()
    space = side.space(2)
    side.map(space, 2, BASE + 3 * PAGE)
    assert not useracc(side, space, BASE, 5 * PAGE, 0)
    assert useracc(side, space, BASE + 3 * PAGE, 2 * PAGE, 3)
    assert side.core.vslock(space, BASE, 5 * PAGE, 0).error == EFAULT
    assert wired(side, space) == []
    for page in (0, 3):
        assert side.core.vslock(space, BASE + page * PAGE, 2 * PAGE, 0).error == 0
    side.core.vsunlock(space, BASE, 5 * PAGE)
    assert wired(side, space) == [(0, 2, 1), (3, 5, 1)]


def test_scripted_results_of_the_wiring_stand_in_for_the_map():
    side = MapSide()
    space = side.space(2)
    side.core.inject([Answers("vm_map_wire", [KernReturn.PROTECTION_FAILURE, KernReturn.SUCCESS, -1])])
    assert [side.core.vslock(space, BASE, PAGE, 0).error for _ in range(3)] == [EFAULT, 0, 0]
    assert wired(side, space) == [(0, 1, 1)]


def test_wiring_memory_shared_copy_on_write_copies_it():
    side = MapSide()
    parent = side.space(3)
    side.run(parent, runs(*[record(FIRST + i, STORE) for i in range(3)]))
    child = side.fork(parent)
    assert side.core.vslock(parent, BASE, 3 * PAGE, 0).error == 0
    side.verify(parent, child)
    grandchild = side.fork(parent)  # wired writable memory is copied at once
    assert side.vm.space_map(parent).entries[0].eflags & 8 == 0
    side.run(parent, runs(record(FIRST, STORE)))
    side.run(grandchild, runs(record(FIRST + 1, STORE)))
    side.verify(parent, child, grandchild)
    assert wired(side, parent) == [(0, 3, 1)]
    assert wired(side, grandchild) == []


def test_a_wiring_moves_to_the_copy_when_a_read_only_page_becomes_writable():
    side = MapSide()
    space = side.space(1)
    side.run(space, runs(record(FIRST, STORE)))
    child = side.fork(space)
    protect = [MapOp(MapOpKind.PROTECT, BASE, PAGE, prot=prot) for prot in (1, 3)]
    side.core.map_ops(space, protect[:1], 0)
    assert side.core.vslock(space, BASE, PAGE, 0).error == 0
    side.core.map_ops(space, protect[1:], 0)
    side.run(space, runs(record(FIRST, STORE)))
    side.verify(space, child)
    assert side.vm.cnt.v_wire_count == 1
    side.core.vsunlock(space, BASE, PAGE)
    side.verify(space, child)


def test_wiring_sleeps_for_the_pages_that_must_be_read():
    side = MapSide()
    space = side.space(20)
    side.run(space, runs(*[record(FIRST + i, STORE) for i in range(20)]))
    side.evict(space)
    answer = side.core.vslock(space, BASE, 20 * PAGE, 0)
    sleeps = 0
    while answer.status is Status.SUSPENDED:
        assert side.core.check().violations == []
        sleeps += 1
        side.complete()
        answer = side.core.vslock(space, BASE, 20 * PAGE, answer.suspension.op)
    assert (answer.error, wired(side, space)) == (0, [(0, 20, 1)])
    assert 1 < sleeps < 5
    side.verify(space)


def test_a_page_that_cannot_be_read_undoes_the_whole_wiring():
    side = MapSide()
    space = side.space(24)
    side.run(space, runs(*[record(FIRST + i, STORE) for i in range(24)]))
    side.evict(space)
    side.pager.max_read = 1
    side.pager.broken.add((1, 20))
    answer = side.core.vslock(space, BASE, 24 * PAGE, 0)
    while answer.status is Status.SUSPENDED:
        side.complete()
        answer = side.core.vslock(space, BASE, 24 * PAGE, answer.suspension.op)
    assert (answer.error, wired(side, space), side.vm.cnt.v_wire_count) == (EFAULT, [], 0)
    assert side.core.check().violations == []


def test_other_threads_wait_for_an_entry_that_is_being_wired():
    side = MapSide()
    space = side.space(2)
    side.run(space, runs(record(FIRST, STORE)))
    side.evict(space)
    op = side.core.vslock(space, BASE, PAGE, 0).suspension.op
    fault = side.access(space, runs(record(FIRST, LOAD))).outcome.suspension
    assert fault.wmesg == "vmmaps"
    second = side.core.vslock(space, BASE, PAGE, 0).suspension
    assert second.wmesg == "vmmaps"
    child = side.fork(space)  # takes the entry for one that is not wired
    side.complete()
    assert side.core.vslock(space, BASE, PAGE, op).error == 0
    side.settle()
    assert f"map:{space}" in side.wakeups
    assert side.core.vslock(space, BASE, PAGE, second.op).error == 0
    assert side.access(space, runs(record(FIRST, LOAD)), op=fault.op).outcome.stop is Stop.END
    assert wired(side, space) == [(0, 1, 2)]
    side.verify(space, child)


@pytest.mark.parametrize("completed", [False, True])
def test_an_address_space_that_goes_during_a_wiring_leaves_nothing_behind(completed):
    side = MapSide()
    space = side.space(8)
    side.run(space, runs(*[record(FIRST + i, STORE) for i in range(8)]))
    side.evict(space)
    side.pager.max_read = 1
    answer = side.core.vslock(space, BASE, 8 * PAGE, 0)
    for _ in range(3):
        side.complete()
        answer = side.core.vslock(space, BASE, 8 * PAGE, answer.suspension.op)
    if completed:
        side.complete()
    side.core.vmspace_free([space])
    side.complete()
    assert (side.vm.ops, side.vm.reads, side.vm.cnt.v_wire_count, len(side.vm.objects)) == ({}, {}, 0, 0)
    assert side.core.check().violations == []


@pytest.mark.parametrize("arch", ["amd64", "powerpc"])
def test_instruction_cache_is_synchronised_for_any_range(arch):
    side = MapSide(arch=arch)
    space = side.space(2)
    side.run(space, runs(record(FIRST, STORE)))
    side.core.vm_sync_icache(space, BASE + 100, PAGE)
    side.core.vm_sync_icache(KERNEL_SPACE, side.vm.arch.kernel_min, 0)
    assert side.core.check().violations == []
