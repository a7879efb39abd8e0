"""Reservation of swap: who is charged for what, and who is refused when vm.overcommit says so."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from map_side import BASE, FIRST, PAGE, STORE, MapSide, record, runs

from services.physmem.swap_reserve import swap_release, swap_reserve
from services.ports.common import Setting, Stop
from services.ports.physmem import KernReturn, MapOp, MapOpKind
from services.runtime.errors import KernelPanic
from services.runtime.events import Kind, unpack

OK, SHORT = KernReturn.SUCCESS, KernReturn.RESOURCE_SHORTAGE


def change(side, space, kind, first, pages, **fields):
    op = MapOp(MapOpKind[kind], BASE + first * PAGE, pages * PAGE, **fields)
    return side.core.map_ops(space, [op], 0).results[0]


def reserved(side):
    """Pages that are reserved; all books agree."""
    assert side.core.check().violations == []
    (value,) = (s.value for s in side.core.sysctl_get().settings if s.name == "vm.swap_reserved")
    return value // PAGE


def stores(first, pages):
    return runs(*(record(FIRST + first + i, STORE) for i in range(pages)))


def test_private_writable_memory_is_charged_as_it_is_mapped():
    side = MapSide()
    space = side.space(4)
    assert reserved(side) == 4
    assert change(side, space, "INSERT", 4, 3, prot=3) == OK  # extends the entry
    assert reserved(side) == 7
    assert change(side, space, "INSERT", 20, 5, prot=1) == OK
    assert change(side, space, "INSERT", 30, 2, prot=3, file="data", file_pages=9) == OK
    assert change(side, space, "INSERT", 40, 2, prot=3, file="data", file_pages=9, shared=True) == OK
    assert change(side, space, "INSERT", 50, 2, prot=5, file="data", file_pages=9) == OK
    assert reserved(side) == 9
    side.run(space, stores(0, 7))  # the charge goes over to the object
    side.run(space, stores(30, 2))
    assert reserved(side) == 9
    side.core.vmspace_free([space])
    assert reserved(side) == 0


def test_what_becomes_writable_is_charged_then_and_once():
    side = MapSide()
    space = side.space(8, prot=1)
    assert reserved(side) == 0
    assert change(side, space, "PROTECT", 2, 3, prot=3) == OK
    assert reserved(side) == 8  # all of the object: parts of it cannot be told later
    assert change(side, space, "PROTECT", 0, 8, prot=1) == OK
    assert change(side, space, "PROTECT", 0, 8, prot=3) == OK
    assert reserved(side) == 8
    assert change(side, space, "INSERT", 20, 4, prot=1, file="data", file_pages=9) == OK
    assert change(side, space, "PROTECT", 21, 2, prot=3) == OK
    assert reserved(side) == 10


def test_what_nobody_can_reach_any_more_is_free():
    side = MapSide()
    space = side.space(10)
    assert change(side, space, "REMOVE", 6, 4) == OK
    assert reserved(side) == 6
    assert change(side, space, "REMOVE", 2, 2) == OK  # in the middle: as in C the object stays charged
    assert reserved(side) == 6
    assert change(side, space, "REMOVE", 0, 6) == OK
    assert reserved(side) == 0


def test_a_fork_charges_both_sides_for_their_copies():
    side = MapSide()
    space = side.space(4)
    side.run(space, stores(0, 4))
    child = side.fork(space)
    assert reserved(side) == 12  # the object, and what each side may write from now on
    side.run(child, stores(0, 4))
    assert reserved(side) == 12
    side.core.vmspace_free([child])
    assert reserved(side) == 8
    side.run(space, stores(0, 4))
    assert reserved(side) == 4


def test_untouched_and_wired_memory_of_a_fork():
    side = MapSide()
    space = side.space(4)
    child = side.fork(space)
    assert reserved(side) == 8
    side.core.vmspace_free([child])
    assert reserved(side) == 4
    assert change(side, space, "WIRE", 0, 4) == OK
    side.core.vmspace_fork(space)
    assert reserved(side) == 8


def test_overcommit_refuses_what_swap_cannot_take():
    side = MapSide(swap_pages=10)
    space = side.space(8)
    side.core.sysctl_set(Setting("vm.overcommit", 1))
    assert change(side, space, "INSERT", 20, 3, prot=3) == SHORT
    assert change(side, space, "INSERT", 20, 3, prot=1) == OK
    assert change(side, space, "PROTECT", 20, 3, prot=3) == SHORT
    assert change(side, space, "INSERT", 40, 2, prot=3) == OK
    assert reserved(side) == 10
    refusals = [e for e in unpack(side.core.events(0, 1000).records) if e.kind == Kind.SWAP_RESERVE]
    assert [(e.subject, e.a, e.b) for e in refusals] == [(3 * PAGE, 8 * PAGE, 10 * PAGE)] * 2
    side.core.sysctl_set(Setting("vm.overcommit", 5))  # memory counts as well
    assert change(side, space, "INSERT", 60, 100, prot=3) == OK
    cnt = side.vm.cnt
    rest = 10 + cnt.v_page_count - cnt.v_free_reserved - cnt.v_wire_count - reserved(side)
    assert change(side, space, "INSERT", 300, rest + 1, prot=3) == SHORT
    assert change(side, space, "INSERT", 300, rest, prot=3) == OK


def test_a_fork_that_is_refused_leaves_nothing_of_the_child():
    side = MapSide(swap_pages=10)
    space = side.space(4)
    side.run(space, stores(0, 4))
    side.core.sysctl_set(Setting("vm.overcommit", 1))
    assert side.core.vmspace_fork(space).error == 12
    assert reserved(side) == 8  # as in C what the parent copies on write stays charged
    assert list(side.vm.spaces) == [space]
    side.run(space, stores(0, 4))
    assert reserved(side) == 4


def test_a_first_write_that_is_refused_kills():
    side = MapSide(swap_pages=4)
    space = side.space(2, file="data", file_pages=4)
    entry = side.vm.space(space).map.entries[0]
    swap_release(side.vm, entry.size)
    entry.charged = False
    side.core.sysctl_set(Setting("vm.overcommit", 1))
    other = side.space(3)
    outcome = side.access(space, stores(0, 1)).outcome
    assert (outcome.stop, outcome.kern_error) == (Stop.SIGNAL, SHORT)
    side.core.vmspace_free([other])
    side.run(space, stores(0, 1))
    assert reserved(side) == 2


def test_shared_segments_are_charged_from_their_birth_to_their_end():
    side = MapSide(swap_pages=8)
    side.core.sysctl_set(Setting("vm.overcommit", 1))
    segment = side.core.shmget(0, 5 * PAGE, 0).shmid
    assert side.core.shmget(0, 4 * PAGE, 0).error == 12
    space = side.space()
    assert side.core.shmat(space, segment, BASE, 0).error == 0
    assert reserved(side) == 5
    child = side.core.vmspace_fork(space).vmspace
    assert reserved(side) == 5
    side.core.shmfork(space, child)
    side.core.shmctl_rmid(segment)
    side.core.vmspace_free([space, child])
    assert reserved(side) == 0


def test_what_is_not_reserved_cannot_be_released():
    vm = MapSide().vm
    with pytest.raises(KernelPanic, match="swap_reserved < decr"):
        swap_release(vm, PAGE)
    with pytest.raises(KernelPanic, match="swap_release: & PAGE_MASK"):
        swap_release(vm, 1)
    with pytest.raises(KernelPanic, match="swap_reserve: & PAGE_MASK"):
        swap_reserve(vm, 1)


def test_entries_that_differ_in_their_charge_alone_stay_apart():
    side = MapSide()
    space = side.space(2, prot=1)
    assert change(side, space, "INSERT", 2, 2, prot=3) == OK
    assert change(side, space, "PROTECT", 2, 2, prot=1) == OK
    assert [entry.charged for entry in side.vm.space(space).map.entries] == [False, True]
    assert reserved(side) == 2


def test_a_charge_that_is_lost_is_found():
    side = MapSide()
    side.space(3)
    side.vm.swap_reserved += PAGE
    assert any("vm.swap_reserved is 16384" in sentence for sentence in side.core.check().violations)


changes = st.tuples(
    st.sampled_from(["INSERT", "INSERT", "REMOVE", "PROTECT", "WRITE", "FORK", "EXIT"]),
    st.integers(0, 12),
    st.integers(1, 6),
    st.sampled_from([1, 3]),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(changes, max_size=25), limit=st.sampled_from([0, 0, 1, 5]))
def test_the_books_agree_whatever_is_mapped(steps, limit):
    side = MapSide(pages=256, swap_pages=40)
    side.core.sysctl_set(Setting("vm.overcommit", limit))
    spaces = [side.space()]
    for kind, first, pages, prot, flag in steps:
        space = spaces[first % len(spaces)]
        if kind == "FORK":
            child = side.core.vmspace_fork(space)
            spaces += [] if child.error else [child.vmspace]
        elif kind == "EXIT" and len(spaces) > 1:
            spaces.remove(space)
            side.core.vmspace_free([space])
        elif kind == "WRITE":
            side.core.access(space, stores(first, pages), 0, 10**9, 0, 0)
            side.complete()
        elif kind == "INSERT":
            change(side, space, kind, first, pages, prot=prot, shared=flag)
        elif kind != "EXIT":
            change(side, space, kind, first, pages, prot=prot)
        assert side.core.check().violations == []
    side.core.vmspace_free(spaces)
    assert reserved(side) == 0
