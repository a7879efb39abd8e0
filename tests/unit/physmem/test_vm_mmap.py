"""mlock, munlock, mlockall, munlockall: errors in C's order, limits, roll-back, MCL_FUTURE."""

import pytest
from map_side import BASE, FIRST, LOAD, PAGE, STORE, MapSide, record, runs

from services.physmem.glue import EINVAL, ENOMEM
from services.physmem.vm_mmap import EAGAIN, MCL_CURRENT, MCL_FUTURE
from services.ports.common import Setting, Status
from services.ports.physmem import KernReturn, MapOp, MapOpKind, WiredRange

NO_LIMIT = (1 << 63) - 1
TOP = (1 << 64) - 1


@pytest.fixture
def side():
    return MapSide(pages=256)


def wired(side, space):
    return [(entry.start, entry.end, entry.count, entry.user) for entry in side.core.wired_ranges(space).ranges]


def mlock(side, space, pages, start=BASE, memlock=NO_LIMIT):
    return side.core.mlock(space, start, pages * PAGE, memlock, 0).error


def test_bytes_are_wired_by_whole_pages(side):
    space = side.space(8)
    assert side.core.mlock(space, BASE + 5, 4096, NO_LIMIT, 0).error == 0
    assert wired(side, space) == [(BASE, BASE + 2 * PAGE, 0, True)]
    assert side.vm.cnt.v_wire_count == 2
    side.verify()


def test_errors_come_in_the_order_of_the_c_code(side):
    space = side.space(8)
    limit = side.vm.tun.vm_page_max_wired
    assert side.core.mlock(space, TOP, 2, 0, 0).error == EINVAL
    assert mlock(side, space, limit + 1, memlock=0) == ENOMEM
    assert mlock(side, space, 4) == 0
    assert mlock(side, space, limit - 3, memlock=(limit + 1) * PAGE - 1) == ENOMEM
    assert mlock(side, space, limit - 3, memlock=(limit + 1) * PAGE) == EAGAIN
    assert mlock(side, space, limit - 4) == ENOMEM, "a hole behind the entry"
    assert wired(side, space) == [(BASE, BASE + 4 * PAGE, 0, True)]
    side.verify()


def test_the_limit_counts_what_is_wired_twice(side):
    """As in C: pmap_wired_count and the range are added, though they overlap."""
    space = side.space(8)
    assert mlock(side, space, 4, memlock=4 * PAGE) == 0
    assert mlock(side, space, 4, memlock=7 * PAGE) == ENOMEM
    assert mlock(side, space, 4, memlock=8 * PAGE) == 0


def test_no_limit_of_max_wired_if_it_is_negative(side):
    space = side.space(8)
    side.core.sysctl_set(Setting("vm.max_wired", -1))
    assert mlock(side, space, 8) == 0


def test_a_second_mlock_adds_nothing_and_vslock_its_own_wiring(side):
    space = side.space(4)
    assert mlock(side, space, 4) == mlock(side, space, 4) == 0
    assert side.core.vslock(space, BASE, PAGE, 0).error == 0
    assert wired(side, space) == [(BASE, BASE + PAGE, 1, True), (BASE + PAGE, BASE + 4 * PAGE, 0, True)]
    assert side.core.munlock(space, BASE, 4 * PAGE).error == 0
    assert wired(side, space) == [(BASE, BASE + PAGE, 1, False)]
    side.core.vsunlock(space, BASE, PAGE)
    assert wired(side, space) == []
    assert side.vm.cnt.v_wire_count == 0
    side.verify()


def test_the_kernel_cannot_take_the_programs_wiring_off(side):
    space = side.space(4)
    mlock(side, space, 4)
    side.core.vsunlock(space, BASE, 4 * PAGE)
    assert wired(side, space) == [(BASE, BASE + 4 * PAGE, 0, True)]


def test_a_failure_leaves_what_was_wired_before(side):
    space = side.space(2)
    side.map(space, 2, start=BASE + 2 * PAGE, prot=0)
    assert mlock(side, space, 1) == 0
    assert mlock(side, space, 4) == ENOMEM
    assert wired(side, space) == [(BASE, BASE + PAGE, 0, True)]
    assert side.vm.cnt.v_wire_count == 1
    side.verify()


def test_munlock_needs_no_wiring_but_no_hole(side):
    space = side.space(2)
    assert side.core.munlock(space, BASE, 2 * PAGE).error == 0
    assert side.core.munlock(space, BASE, 3 * PAGE).error == ENOMEM
    assert side.core.munlock(space, TOP, 2).error == EINVAL


def test_mlockall_passes_over_holes_and_what_may_not_be_accessed(side):
    space = side.space(2)
    side.map(space, 2, start=BASE + 4 * PAGE, prot=0)
    side.map(space, 2, start=BASE + 8 * PAGE, prot=1)
    assert side.core.mlockall(space, MCL_CURRENT, NO_LIMIT, 0).error == 0
    assert wired(side, space) == [
        (BASE, BASE + 2 * PAGE, 0, True),
        (BASE + 8 * PAGE, BASE + 10 * PAGE, 0, True),
    ]
    assert side.core.munlockall(space).error == 0
    assert wired(side, space) == []
    side.verify()


@pytest.mark.parametrize("how", [0, 4, 7])
def test_mlockall_knows_two_flags(side, how):
    assert side.core.mlockall(side.space(1), how, NO_LIMIT, 0).error == EINVAL


def test_mlockall_is_limited_by_all_that_is_mapped_unless_old_mlock(side):
    space = side.space(4)
    assert side.core.mlockall(space, MCL_CURRENT, 4 * PAGE - 1, 0).error == ENOMEM
    side.core.sysctl_set(Setting("vm.old_mlock", 1))
    assert side.core.mlockall(space, MCL_CURRENT, 4 * PAGE - 1, 0).error == 0


def test_mlockall_that_fails_is_eagain_and_changes_nothing(side):
    space = side.space(2)
    side.map(space, 2, start=BASE + 4 * PAGE, unfaultable=True)
    assert side.core.mlockall(space, MCL_CURRENT, NO_LIMIT, 0).error == EAGAIN
    assert wired(side, space) == []
    side.verify()


def test_what_is_mapped_after_mcl_future_is_wired_within_the_limit(side):
    space = side.space(2)
    assert side.core.mlockall(space, MCL_FUTURE, 3 * PAGE, 0).error == 0
    assert wired(side, space) == []
    side.map(space, 3, start=BASE + 8 * PAGE)
    assert wired(side, space) == [(BASE + 8 * PAGE, BASE + 11 * PAGE, 0, True)]
    op = MapOp(MapOpKind.INSERT, BASE + 16 * PAGE, PAGE)
    assert side.core.map_ops(space, [op], 0).results == [KernReturn.NO_SPACE]
    side.map(side.fork(space), 1, start=BASE + 16 * PAGE)
    assert side.core.munlockall(space).error == 0
    side.map(space, 1, start=BASE + 16 * PAGE)
    assert wired(side, space) == []
    side.verify()


def test_mapping_succeeds_where_the_wiring_fails(side):
    space = side.space(2)
    side.core.mlockall(space, MCL_FUTURE, NO_LIMIT, 0)
    side.map(space, 2, start=BASE + 8 * PAGE, prot=0)
    side.map(space, 2, start=BASE + 12 * PAGE, unfaultable=True)
    assert wired(side, space) == []
    side.verify()


def test_munmap_takes_the_programs_wiring_along(side):
    space = side.space(4)
    mlock(side, space, 4)
    op = MapOp(MapOpKind.REMOVE, BASE + PAGE, 2 * PAGE)
    assert side.core.map_ops(space, [op], 0).results == [KernReturn.SUCCESS]
    assert side.core.wired_ranges(space).ranges == [
        WiredRange(BASE, BASE + PAGE, 0, True),
        WiredRange(BASE + 3 * PAGE, BASE + 4 * PAGE, 0, True),
    ]
    assert side.vm.cnt.v_wire_count == 2
    side.core.vmspace_free([space])
    assert side.vm.cnt.v_wire_count == 0
    side.verify()


def test_a_child_has_its_own_pages_which_are_not_wired(side):
    space = side.space(4)
    side.run(space, runs(*(record(FIRST + page, STORE) for page in range(4))))
    mlock(side, space, 4)
    child = side.fork(space)
    assert wired(side, child) == []
    assert side.core.munlockall(child).error == 0
    side.run(child, runs(record(FIRST, STORE)))
    side.run(space, runs(record(FIRST, STORE), record(FIRST + 1, STORE)))
    side.verify(space, child)
    assert side.vm.cnt.v_wire_count == 4


def test_pages_in_swap_are_read_and_then_stay(side):
    space = side.space(8)
    side.run(space, runs(*(record(FIRST + page, STORE) for page in range(8))))
    side.evict(space)
    answer = side.core.mlock(space, BASE, 8 * PAGE, NO_LIMIT, 0)
    while answer.status is Status.SUSPENDED:
        assert side.core.suspended().operations[0].function == "vm_mlock"
        side.complete()
        answer = side.core.mlock(space, BASE, 8 * PAGE, NO_LIMIT, answer.suspension.op)
    assert answer.error == 0
    side.evict(space)
    assert side.core.vmspace_info([space]).spaces[0].resident == 8
    before = side.vm.cnt.v_io_faults
    side.run(space, runs(*(record(FIRST + page, LOAD) for page in range(8))))
    assert side.vm.cnt.v_io_faults == before
    side.verify(space)


def test_a_store_after_mprotect_copies_what_the_program_wired(side):
    space = side.space(4)
    side.run(space, runs(*(record(FIRST + page, STORE) for page in range(4))))
    child = side.fork(space)
    side.core.map_ops(space, [MapOp(MapOpKind.PROTECT, BASE, 4 * PAGE, prot=1)], 0)
    assert mlock(side, space, 4) == 0
    side.core.map_ops(space, [MapOp(MapOpKind.PROTECT, BASE, 4 * PAGE, prot=3)], 0)
    side.run(space, runs(*(record(FIRST + page, STORE) for page in range(4))))
    side.verify(space, child)
    assert wired(side, space) == [(BASE, BASE + 4 * PAGE, 0, True)]
    assert side.vm.cnt.v_wire_count == 4
