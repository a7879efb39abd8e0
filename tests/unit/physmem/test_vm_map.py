"""Address maps: entries, clipping, joining, coalescing, locks, protection, removal."""

import pytest
from map_side import BASE, EXEC, FIRST, LOAD, PAGE, STORE, MapSide, record, runs

from services.ports.common import Status, Stop
from services.ports.physmem import KernReturn, MapOp, MapOpKind
from services.runtime.errors import KernelPanic, Reason, Refused

OK = KernReturn.SUCCESS


def op(kind, first, pages, **fields):
    """A change of `pages` pages from page `first` of the tests' range on."""
    return MapOp(MapOpKind[kind], BASE + first * PAGE, pages * PAGE, **fields)


def change(side, space, *ops):
    answer = side.core.map_ops(space, list(ops), 0)
    assert answer.status is Status.DONE
    return answer.results


def entries(side, space):
    """First page, end, protection and object of every entry."""
    map_ = side.vm.space_map(space)
    return [((e.start - BASE) // PAGE, (e.end - BASE) // PAGE, e.protection, e.object) for e in map_.entries]


def test_insert_refuses_what_is_taken_or_out_of_bounds():
    side = MapSide()
    space = side.core.vmspace_alloc(BASE, BASE + 16 * PAGE).vmspace
    assert change(
        side, space, op("INSERT", 4, 4), op("INSERT", 7, 2), op("INSERT", 0, 20), op("INSERT", 2, 0), op("INSERT", 3, 6)
    ) == [OK, KernReturn.NO_SPACE, KernReturn.INVALID_ADDRESS, KernReturn.INVALID_ADDRESS, KernReturn.NO_SPACE]
    assert entries(side, space) == [(4, 8, 3, 0)]


def test_adjacent_anonymous_memory_extends_the_entry_and_its_object():
    side = MapSide()
    space = side.space(4)
    side.run(space, runs(record(FIRST, STORE)))
    change(side, space, op("INSERT", 4, 4))
    assert entries(side, space) == [(0, 8, 3, 1)]
    assert side.vm.objects[1].size == 8
    change(side, space, op("INSERT", 8, 2, prot=1))  # the object can grow, the entry cannot
    assert entries(side, space) == [(0, 8, 3, 1), (8, 10, 1, 1)]
    assert side.vm.objects[1].ref_count == 2
    side.verify(space)


def test_protect_splits_entries_and_joins_them_again():
    side = MapSide()
    space = side.space(10)
    side.run(space, runs(*[record(FIRST + i, STORE) for i in range(10)]))
    change(side, space, op("PROTECT", 3, 4, prot=1))
    assert [e[:3] for e in entries(side, space)] == [(0, 3, 3), (3, 7, 1), (7, 10, 3)]
    assert side.access(space, runs(record(FIRST + 3, STORE))).outcome.stop is Stop.SIGNAL
    assert side.access(space, runs(record(FIRST + 3, LOAD))).outcome.minor == 0
    change(side, space, op("PROTECT", 0, 10, prot=3))
    assert entries(side, space) == [(0, 10, 3, 1)]
    assert side.vm.objects[1].ref_count == 1
    assert side.access(space, runs(record(FIRST + 3, STORE))).outcome.stop is Stop.END
    side.verify(space)


def test_protection_without_rights_unmaps_the_pages_but_keeps_them():
    side = MapSide()
    space = side.space(2)
    side.run(space, runs(record(FIRST, STORE)))
    change(side, space, op("PROTECT", 0, 2, prot=0))
    assert side.core.vmspace_info([space]).spaces[0].resident == 0
    assert side.access(space, runs(record(FIRST, LOAD))).outcome.kern_error == KernReturn.PROTECTION_FAILURE
    change(side, space, op("PROTECT", 0, 2, prot=3))
    side.run(space, runs(record(FIRST, LOAD | STORE)))
    side.verify(space)


def test_removing_the_middle_frees_its_pages():
    side = MapSide()
    space = side.space(10)
    side.run(space, runs(*[record(FIRST + i, STORE) for i in range(10)]))
    free = side.vm.cnt.v_free_count
    change(side, space, op("REMOVE", 4, 3), op("REMOVE", 4, 3))
    assert entries(side, space) == [(0, 4, 3, 1), (7, 10, 3, 1)]
    assert side.vm.cnt.v_free_count == free + 3
    side.shadow.unmapped(space, FIRST + 4, 3)
    side.verify(space)
    change(side, space, op("REMOVE", 0, 10))
    assert (len(side.vm.objects), side.vm.cnt.v_free_count) == (0, side.vm.pages.count)


def test_replacing_a_range_gives_fresh_pages():
    side = MapSide()
    space = side.space(4)
    side.run(space, runs(*[record(FIRST + i, STORE) for i in range(4)]))
    assert change(side, space, op("INSERT", 1, 2, replace=True)) == [OK]
    side.shadow.unmapped(space, FIRST + 1, 2)
    side.run(space, runs(*[record(FIRST + i, LOAD | STORE) for i in range(4)]))
    side.verify(space)


def test_shared_memory_is_the_same_for_parent_and_child():
    side = MapSide()
    space = side.space(2, shared=True)
    child = side.core.vmspace_fork(space).vmspace
    side.shadow.share(space, FIRST, 2)
    side.shadow.share(child, FIRST, 2)
    side.run(space, runs(record(FIRST, STORE)))
    side.run(child, runs(record(FIRST, STORE)))
    m = side.vm.objects[entries(side, space)[0][3]].resident[0]
    assert int(side.vm.ram.words[m][3]) == 2
    assert side.core.check().violations == []


def test_parts_of_a_file_keep_their_offsets():
    side = MapSide()
    space = side.space()
    side.map(space, 8, prot=5, file="prog", file_pages=20, offset_pages=10)
    change(side, space, op("PROTECT", 2, 3, prot=1), op("REMOVE", 3, 1))
    side.run(space, runs(record(FIRST + 6, EXEC)))
    assert 16 in side.vm.objects[side.vm.files["prog"]].resident
    assert side.core.check().violations == []


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("start", MapOp(MapOpKind.INSERT, BASE + 1, PAGE)),
        ("size", MapOp(MapOpKind.INSERT, BASE, PAGE + 1)),
        ("size", MapOp(MapOpKind.INSERT, (1 << 64) - PAGE, 2 * PAGE)),
        ("prot", MapOp(MapOpKind.PROTECT, BASE, PAGE, prot=8)),
    ],
)
def test_callers_mistakes_are_refused_and_change_nothing(field, bad):
    side = MapSide()
    space = side.space(1)
    before = side.core.digest().state
    with pytest.raises(Refused) as refused:
        side.core.map_ops(space, [op("INSERT", 4, 1), bad], 0)
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_OUT_OF_RANGE, f"ops[1].{field}")
    assert side.core.digest().state == before


def test_trylock_takes_a_map_once_and_others_wait_for_it():
    side = MapSide()
    space = side.space(2)
    stamp = side.core.vmspace_info([space]).spaces[0].timestamp
    assert side.core.vm_map_trylock([space, space]).locked == [True, False]
    assert side.core.vmspace_info([space]).spaces[0].timestamp == stamp + 1
    sleep = side.access(space, runs(record(FIRST, LOAD))).outcome.suspension
    assert (sleep.channel, sleep.wmesg, sleep.priority) == (f"map:{space}", "vmmaps", 84)
    change_ = side.core.map_ops(space, [op("REMOVE", 1, 1)], 0).suspension
    wiring = side.core.vslock(space, BASE, PAGE, 0).suspension
    assert change_.channel == wiring.channel == sleep.channel
    with pytest.raises(KernelPanic):
        side.core.vmspace_fork(space)
    side.core.vm_map_unlock([space])
    side.settle()
    assert side.wakeups == [f"map:{space}"]
    assert side.access(space, runs(record(FIRST, LOAD)), op=sleep.op).outcome.minor == 1
    assert side.core.map_ops(space, [], change_.op).results == [OK]
    assert side.core.vslock(space, BASE, PAGE, wiring.op).error == 0
    with pytest.raises(KernelPanic):
        side.core.vm_map_unlock([space])


def test_unmapping_wired_memory_waits_until_it_is_unwired():
    side = MapSide()
    space = side.space(4)
    assert side.core.vslock(space, BASE + PAGE, PAGE, 0).error == 0
    answer = side.core.map_ops(space, [op("REMOVE", 0, 4), op("INSERT", 0, 1)], 0)
    assert (answer.status, answer.results) == (Status.SUSPENDED, [])
    again = side.core.map_ops(space, [], answer.suspension.op)
    assert (again.status, again.suspension.op) == (Status.SUSPENDED, answer.suspension.op)
    side.core.vsunlock(space, BASE + PAGE, PAGE)
    side.settle()
    assert f"map:{space}" in side.wakeups
    assert side.core.map_ops(space, [], again.suspension.op).results == [OK, OK]
    assert side.vm.cnt.v_wire_count == 0
    assert side.core.check().violations == []


def test_bounds_clip_later_ranges_and_leave_entries_alone():
    side = MapSide()
    space = side.space(8)
    change(side, space, op("BOUNDS", 0, 4), op("WIRE", 0, 8))
    assert [(r.start, r.end, r.count) for r in side.core.wired_ranges(space).ranges] == [(BASE, BASE + 4 * PAGE, 1)]


def test_an_operation_id_is_good_for_its_own_method_only():
    side = MapSide()
    space = side.space(4)
    side.core.vslock(space, BASE, PAGE, 0)
    sleeping = side.core.map_ops(space, [op("REMOVE", 0, 4)], 0).suspension.op
    with pytest.raises(Refused) as refused:
        side.core.vslock(space, BASE, PAGE, sleeping)
    assert refused.value.reason is Reason.UNKNOWN_ID
    assert side.core.map_ops(space, [], sleeping).status is Status.SUSPENDED
