"""Address spaces: what a fork copies, what replaced, wired and unfaultable ranges do, and a machine's checkpoint."""

import pytest
from fake_pager import FakePager
from map_side import BASE, FIRST, LOAD, PAGE, STORE, MapSide, record, runs

from services.physmem.core import PhysmemCore
from services.ports.common import Status, Stop
from services.ports.physmem import KernReturn, MapOp, MapOpKind, PhysmemBoot
from services.runtime.context import Context
from services.runtime.errors import Reason, Refused

OK = KernReturn.SUCCESS


def op(kind, first, pages, **fields):
    """A change of `pages` pages from page `first` of the tests' range on."""
    return MapOp(MapOpKind[kind], BASE + first * PAGE, pages * PAGE, **fields)


def change(side, space, *ops):
    answer = side.core.map_ops(space, list(ops), 0)
    assert answer.status is Status.DONE
    return answer.results


def stores(pages, first=0):
    return runs(*(record(FIRST + first + i, STORE) for i in range(pages)))


def shared(side, *spaces):
    for space in spaces:
        side.shadow.share(space, FIRST, 4)


def test_shared_memory_that_was_copied_on_write_is_one_again_after_a_fork():
    side = MapSide()
    space = side.space(4)
    side.run(space, stores(4))
    side.fork(space)
    entry = side.vm.space_map(space).entries[0]
    copied = entry.object
    entry.inheritance = 0  # minherit(2) INHERIT_SHARE
    child = side.core.vmspace_fork(space).vmspace
    shared(side, space, child)
    assert entry.object != copied, "the parent's side has a shadow that both share"
    assert side.vm.space_map(child).entries[0].object == entry.object
    side.run(child, stores(1))
    m = side.vm.objects[entry.object].resident[0]
    assert int(side.vm.ram.words[m][3]) == 2
    assert side.core.check().violations == []


def test_what_a_child_does_not_map_goes_with_the_parents_mapping():
    side = MapSide()
    parent = side.space(8)
    side.run(parent, runs(*[record(FIRST + i, STORE) for i in range(8)]))
    assert change(side, parent, op("PROTECT", 4, 4, prot=1)) == [OK], "two entries, one object"
    side.evict(parent)
    side.run(parent, runs(*[record(FIRST + i, LOAD) for i in range(4)]))
    child = side.fork(parent)
    first, second = (entry.object for entry in side.vm.space(child).map.entries)
    assert first != second
    side.verify(parent, child)
    side.run(child, runs(*[record(FIRST + i, LOAD) for i in range(8)], record(FIRST, STORE)))
    side.verify(parent, child)
    assert change(side, parent, op("REMOVE", 4, 4)) == [OK]
    side.shadow.unmapped(parent, FIRST + 4, 4)
    assert change(side, child, op("REMOVE", 4, 4)) == [OK]
    side.shadow.unmapped(child, FIRST + 4, 4)
    assert second not in side.vm.objects
    side.verify(parent, child)


def test_wired_memory_is_copied_at_the_fork_and_the_parents_stays_wired():
    side = MapSide()
    space = side.space(4)
    side.run(space, stores(4))
    assert side.core.vslock(space, BASE, 4 * PAGE, 0).error == 0
    child = side.fork(space)
    (info,) = side.core.vmspace_info([child]).spaces
    assert info.resident == 4, "it need not fault for them"
    side.run(child, stores(2))
    side.verify(space, child)
    assert side.vm.cnt.v_wire_count == 4
    side.core.vsunlock(space, BASE, 4 * PAGE)
    side.verify(space, child)


def test_a_fork_that_lacks_memory_for_wired_pages_fails_and_leaves_nothing():
    side = MapSide(pages=64)
    space = side.space(16)
    side.run(space, stores(16))
    assert side.core.vslock(space, BASE, 16 * PAGE, 0).error == 0
    other = side.space(40)
    side.access(other, stores(40))
    before = side.vm.cnt.v_free_count
    assert before - side.vm.cnt.v_free_reserved < 16
    assert side.core.vmspace_fork(space).vmspace == 0
    assert side.vm.cnt.v_free_count == before
    assert sorted(side.vm.spaces) == [space, other]
    assert side.core.check().violations == []


def test_an_address_space_that_ends_takes_its_own_sleepers_along_alone():
    side = MapSide()
    spaces = [side.space(2), side.space(2)]
    for space in spaces:
        side.run(space, stores(2))
        assert side.core.vslock(space, BASE, PAGE, 0).error == 0
    sleeping = [side.core.map_ops(space, [op("REMOVE", 0, 2)], 0).suspension.op for space in spaces]
    assert sorted(side.vm.ops) == sorted(sleeping)
    side.core.vmspace_free([spaces[0]])
    assert list(side.vm.ops) == [sleeping[1]]
    side.core.vsunlock(spaces[1], BASE, PAGE)
    assert side.core.map_ops(spaces[1], [], sleeping[1]).results == [OK]
    assert side.vm.cnt.v_wire_count == 0
    assert side.core.check().violations == []


def test_a_range_is_replaced_when_its_wiring_ends():
    side = MapSide()
    space = side.space(4)
    side.run(space, stores(4))
    assert side.core.vslock(space, BASE + PAGE, PAGE, 0).error == 0
    asleep = side.core.map_ops(space, [op("INSERT", 0, 4, replace=True)], 0)
    assert (asleep.status, asleep.results) == (Status.SUSPENDED, [])
    side.core.vsunlock(space, BASE + PAGE, PAGE)
    assert side.core.map_ops(space, [], asleep.suspension.op).results == [OK]
    side.shadow.unmapped(space, FIRST, 4)
    side.run(space, stores(4))
    side.verify(space)


def test_a_file_that_finds_no_space_is_not_referred_to():
    side = MapSide()
    space = side.space(2)
    assert change(side, space, op("INSERT", 1, 2, file="prog", file_pages=9)) == [KernReturn.NO_SPACE]
    obj = side.vm.objects[side.vm.files["prog"]]
    assert obj.ref_count == 1, "the file's own"
    assert side.core.check().violations == []


def test_a_shared_file_is_not_copied_on_write_and_grows_when_it_is_known_to_be_larger():
    side = MapSide()
    space = side.space()
    assert change(side, space, op("INSERT", 0, 2, file="data", file_pages=2, shared=True)) == [OK]
    obj = side.vm.objects[side.vm.files["data"]]
    assert change(side, space, op("INSERT", 4, 6, file="data", file_pages=6, shared=True)) == [OK]
    assert obj.size == 6
    shared(side, space)
    side.run(space, stores(1))
    assert int(side.vm.ram.words[obj.resident[0]][3]) == 1
    assert len(side.vm.objects) == 1, "no shadow was made"


def test_pages_that_were_made_unfaultable_cannot_be_brought_in_any_more():
    side = MapSide()
    space = side.space(6)
    side.run(space, stores(1))
    assert change(side, space, op("PROTECT", 0, 2, prot=3, unfaultable=True)) == [OK]
    side.run(space, stores(1))  # it is mapped
    outcome = side.access(space, stores(1, first=1)).outcome
    assert (outcome.stop, outcome.kern_error) == (Stop.SIGNAL, KernReturn.FAILURE)
    side.run(space, stores(1, first=2))
    side.verify(space)


def test_a_protection_beyond_the_most_that_is_allowed_makes_nothing_unfaultable():
    side = MapSide()
    space = side.space(2)
    side.vm.space_map(space).entries[0].max_protection = 1
    assert change(side, space, op("PROTECT", 0, 2, prot=3, unfaultable=True)) == [KernReturn.PROTECTION_FAILURE]
    assert change(side, space, op("PROTECT", 0, 0, prot=3)) == [OK], "nothing is nothing"
    side.run(space, runs(record(FIRST, LOAD)))
    assert side.core.check().violations == []


def test_a_wiring_that_reads_from_swap_goes_on_where_it_slept():
    side = MapSide()
    space = side.space(3)
    side.run(space, stores(3))
    side.evict(space)
    answer = side.core.map_ops(space, [op("WIRE", 0, 3)], 0)
    assert (answer.status, answer.results) == (Status.SUSPENDED, [])
    while answer.status is Status.SUSPENDED:
        side.complete()
        answer = side.core.map_ops(space, [], answer.suspension.op)
    assert answer.results == [OK]
    assert side.vm.cnt.v_wire_count == 3
    assert change(side, space, op("UNWIRE", 0, 3)) == [OK]
    side.verify(space)


def test_device_operations_that_are_not_under_way_do_not_end():
    side = MapSide()
    space = side.space(1)
    side.run(space, stores(1))
    side.evict(space)
    asleep = side.access(space, runs(record(FIRST, LOAD))).outcome.suspension
    io = side.ctx.upcalls.ios[0].io
    for ios, reason in (([io + 1000], Reason.UNKNOWN_ID), ([io, io], Reason.FIELD_OUT_OF_RANGE)):
        with pytest.raises(Refused) as refused:
            side.core.complete_io(ios)
        assert (refused.value.reason, refused.value.field) == (reason, "ios")
    side.complete()
    assert side.access(space, runs(record(FIRST, LOAD)), op=asleep.op).outcome.stop is Stop.END
    side.verify(space)


def test_a_machine_goes_on_from_its_checkpoint():
    side = MapSide()
    space = side.space(6)
    side.run(space, stores(6))
    saved = side.core.checkpoint_save(0)
    ctx = Context("physmem", inject_permitted=True)
    other = PhysmemCore(ctx, FakePager(ctx, 1 << 20))
    other.boot(PhysmemBoot(ram_pages=64, seed=1, allow_inject=True))
    other.checkpoint_load(0, saved.size, saved.data)
    other.checkpoint_commit()
    assert other.digest() == side.core.digest()
    assert other.check().violations == []
    for core in (side.core, other):
        child = core.vmspace_fork(space).vmspace
        assert core.access(child, stores(3), 0, 10**9, 0, 0).outcome.stop is Stop.END
        assert core.vslock(space, BASE, 2 * PAGE, 0).error == 0
    assert other.digest() == side.core.digest()


def test_a_closed_core_has_given_its_memory_back_and_may_be_closed_again():
    side = MapSide()
    side.core.close()
    assert not hasattr(side.core, "vm")
    side.core.close()
