import pytest
from page_side import SPACE, anonymous, end_writes, give_block, has_block, page_side, resident, sound

from services.physmem.page_array import PG_DOOMED
from services.physmem.page_busy import vm_page_xbusy
from services.physmem.pmap import pmap_page_is_mapped
from services.physmem.state import NOTHING, OBJ_ONEMAPPING, ObjectType, vm_pager_flush
from services.physmem.vm_object import (
    vm_object_allocate,
    vm_object_coalesce,
    vm_object_collapse,
    vm_object_deallocate,
    vm_object_page_remove,
    vm_object_pip_add,
    vm_object_pip_wakeup,
    vm_object_reference,
    vm_object_shadow,
    vm_object_split,
)
from services.physmem.vm_page import VM_ALLOC_NORMAL, vm_page_alloc, vm_page_cache, vm_page_deactivate, vm_page_wire
from services.physmem.vm_pageout import pageout_scan
from services.runtime.errors import KernelPanic


@pytest.fixture
def vm():
    return page_side()


def shadowed(vm, size=4, offset=0):
    """A backing object that has two references, and a shadow in front of it."""
    backing = anonymous(vm, size + offset)
    vm_object_reference(vm, backing)
    shadow, at = vm_object_shadow(vm, backing, offset, size)
    assert (at, shadow.backing, shadow.backing_offset) == (0, backing.id, offset)
    return shadow, backing


def swapped(vm, object_, pindex, fill):
    """Page out a page: it is in swap and no longer resident."""
    object_.type, object_.own("swapped")[pindex] = ObjectType.SWAP, None
    vm.pager.swap[object_.id, pindex] = fill.to_bytes(8, "little") * 512


def first_words(vm, object_):
    return {pindex: int(vm.ram.words[m, 0]) for pindex, m in sorted(object_.resident.items())}


def test_objects_have_ids_that_count_up(vm):
    a, b = anonymous(vm, 4), vm_object_allocate(vm, ObjectType.VNODE, 9, file=3)
    assert (a.id, b.id, b.file, a.ref_count) == (1, 2, 3, 1)
    assert (a.flags, b.flags) == (OBJ_ONEMAPPING, 0)
    vm_object_deallocate(vm, a)
    assert anonymous(vm, 1).id == 3
    assert len(vm.objects) == 2


def test_the_last_reference_frees_pages_and_swap(vm):
    object_ = anonymous(vm, 4)
    resident(vm, object_, 0, vpn=5)
    wired = resident(vm, object_, 1)
    vm_page_wire(vm, wired)
    swapped(vm, object_, 2, 7)
    give_block(vm, resident(vm, object_, 3, dirty=False))
    vm_page_cache(vm, object_.resident[3])
    vm_object_reference(vm, object_)
    vm_object_deallocate(vm, object_)
    assert object_.id in vm.objects
    vm_object_deallocate(vm, object_)
    assert object_.id not in vm.objects
    assert (vm.cnt.v_free_count, vm.cnt.v_pfree, vm.cnt.v_cache_count) == (1023, 1, 0)
    assert (vm.pages.object[wired], vm.pages.wire_count[wired]) == (0, 1)
    assert vm.dealloced == [object_.id]
    vm_pager_flush(vm)
    assert vm.pager.swap == {}
    assert sound(vm) is True


def test_a_file_keeps_its_pages_without_references(vm):
    file = vm_object_allocate(vm, ObjectType.VNODE, 4, file=1)
    resident(vm, file, 0, dirty=False)
    vm_object_deallocate(vm, file)
    assert (file.ref_count, len(file.resident)) == (0, 1)
    assert vm.objects.referenced[file.id] == 0
    vm_object_reference(vm, file)
    assert vm.objects.referenced[file.id] == 1
    assert sound(vm) is True


def test_too_many_deallocations_panic(vm):
    file = vm_object_allocate(vm, ObjectType.VNODE, 4, file=1)
    vm_object_deallocate(vm, file)
    with pytest.raises(KernelPanic, match="deallocated too many times"):
        vm_object_deallocate(vm, file)


def test_an_object_that_is_being_written_ends_with_the_write(vm):
    object_ = anonymous(vm, 4)
    busy, idle = resident(vm, object_, 0), resident(vm, object_, 1)
    vm_page_deactivate(vm, busy)
    vm.vm_pageout_deficit = 1100
    pageout_scan(vm, 2)
    assert object_.paging_in_progress == 1
    vm_object_deallocate(vm, object_)
    assert list(object_.resident) == [0]
    assert vm.pages.object[idle] == 0
    vm_pager_flush(vm)
    assert vm.pager.swap
    end_writes(vm)
    assert object_.id not in vm.objects
    vm_pager_flush(vm)
    assert vm.pager.swap == {}
    assert vm.cnt.v_free_count + vm.cnt.v_cache_count == 1024
    assert sound(vm) is True


def test_a_write_that_outlives_its_object_leaves_nothing_cached(vm):
    object_ = anonymous(vm, 4)
    vm_page_deactivate(vm, resident(vm, object_, 0))
    vm.vm_pageout_deficit = 1100
    pageout_scan(vm, 2)
    vm_object_deallocate(vm, object_)
    vm.cnt.v_free_severe = 2000
    end_writes(vm)
    assert (vm.cnt.v_tcached, vm.cnt.v_cache_count, vm.cnt.v_free_count) == (1, 0, 1024)
    assert sound(vm) is True


def test_pip_is_balanced(vm):
    object_ = anonymous(vm, 4)
    vm_object_pip_add(vm, object_, 2)
    vm_object_pip_wakeup(vm, object_, 2)
    with pytest.raises(KernelPanic, match="underflow"):
        vm_object_pip_wakeup(vm, object_)


def test_removing_a_range(vm):
    object_ = anonymous(vm, 100)
    for i in (0, 1, 2, 50, 99):
        resident(vm, object_, i, vpn=i)
    swapped(vm, object_, 60, 1)
    swapped(vm, object_, 3, 1)
    vm_page_wire(vm, object_.resident[50])
    vm_object_page_remove(vm, object_, 1, 99)
    assert sorted(object_.resident) == [0, 50, 99]
    wired = object_.resident[50]
    assert (vm.pages.valid[wired], vm.pages.dirty[wired]) == (0, 0)
    assert not pmap_page_is_mapped(vm, wired)
    assert vm.mmu.resident(SPACE) == 2
    vm_pager_flush(vm)
    assert vm.pager.swap == {}
    vm_object_page_remove(vm, object_, 0, 1)
    assert sorted(object_.resident) == [50, 99]
    assert sound(vm) is True


def test_a_removed_page_that_is_being_written_goes_with_its_block_when_the_write_ends(vm):
    object_ = anonymous(vm, 8)
    for i in range(4):
        vm_page_deactivate(vm, resident(vm, object_, i, vpn=i))
    vm.vm_pageout_deficit = 1100
    pageout_scan(vm, 2)
    vm_object_page_remove(vm, object_, 1, 3)
    assert sorted(object_.resident) == [0, 1, 2, 3]
    assert vm.pages.flags[object_.resident[1]] & PG_DOOMED
    vm_pager_flush(vm)
    assert sorted(vm.pager.swap) == [(object_.id, i) for i in range(4)]
    end_writes(vm)
    vm_pager_flush(vm)
    assert sorted(object_.resident) == [0, 3]
    assert sorted(vm.pager.swap) == [(object_.id, 0), (object_.id, 3)]
    assert sound(vm) is True


def test_a_source_without_other_references_needs_no_shadow(vm):
    object_ = anonymous(vm, 4)
    assert vm_object_shadow(vm, object_, 1, 2) == (object_, 1)
    file = vm_object_allocate(vm, ObjectType.VNODE, 4, file=1)
    shadow, offset = vm_object_shadow(vm, file, 1, 2)
    assert (shadow.backing, shadow.backing_offset, offset, shadow.size) == (file.id, 1, 0, 2)
    assert (file.shadow_count, list(file.shadows)) == (1, [shadow.id])


def test_the_last_shadow_takes_over_what_it_lacks(vm):
    shadow, backing = shadowed(vm, size=4, offset=2)
    for i in range(7):
        backing.size = 7
        resident(vm, backing, i, fill=100 + i, vpn=i)
    resident(vm, shadow, 1, fill=500)
    vm_object_deallocate(vm, backing)
    assert backing.id not in vm.objects
    assert first_words(vm, shadow) == {0: 102, 1: 500, 2: 104, 3: 105}
    assert (shadow.backing, shadow.ref_count, vm.objects.collapses) == (0, 1, 1)
    assert all(vm.pages.dirty[m] == 0xFF for m in shadow.resident.values())
    assert vm.cnt.v_free_count == 1020
    assert sound(vm) is True


def test_collapse_moves_swap_blocks_and_keeps_the_newer_page(vm):
    shadow, backing = shadowed(vm, size=6)
    swapped(vm, backing, 0, 10)
    swapped(vm, backing, 1, 11)
    swapped(vm, shadow, 1, 21)
    swapped(vm, shadow, 2, 22)
    resident(vm, backing, 2, fill=12)
    kept = resident(vm, backing, 3, fill=13, dirty=False)
    give_block(vm, kept)
    swapped(vm, backing, 3, 13)
    vm_object_deallocate(vm, backing)
    vm_pager_flush(vm)
    assert shadow.type == ObjectType.SWAP
    assert first_words(vm, shadow) == {3: 13}
    assert not has_block(vm, kept)
    swap = {key: int.from_bytes(page[:8], "little") for key, page in vm.pager.swap.items()}
    assert swap == {(shadow.id, 0): 10, (shadow.id, 1): 21, (shadow.id, 2): 22}
    assert sound(vm) is True


def test_a_shadow_that_takes_over_swap_blocks_has_swap_metadata(vm):
    shadow, backing = shadowed(vm)
    swapped(vm, backing, 0, 10)
    vm_object_deallocate(vm, backing)
    assert shadow.type == ObjectType.SWAP
    assert list(vm.pager.swap) == [(shadow.id, 0)]
    vm_object_deallocate(vm, shadow)
    vm_pager_flush(vm)
    assert vm.pager.swap == {}


def test_collapse_waits_for_paging_and_busy_pages(vm):
    shadow, backing = shadowed(vm)
    m = resident(vm, backing, 0)
    vm_page_xbusy(vm, m)
    vm_object_pip_add(vm, backing)
    vm_object_deallocate(vm, backing)
    assert (shadow.backing, shadow.resident) == (backing.id, {})
    vm_object_pip_wakeup(vm, backing)
    vm_object_collapse(vm, shadow)
    assert shadow.backing == backing.id
    vm.pages.busy_lock[m] = 1
    vm_object_collapse(vm, shadow)
    assert (shadow.backing, shadow.resident) == (0, {0: m})
    assert sound(vm) is True


def test_while_pages_are_under_way_those_that_are_not_busy_go_over(vm):
    shadow, backing = shadowed(vm, size=6, offset=1)
    idle, busy, hidden, outside = (resident(vm, backing, i, fill=i) for i in (1, 2, 3, 0))
    unfilled = vm_page_alloc(vm, shadow, 3, VM_ALLOC_NORMAL)
    kept = resident(vm, backing, 4)
    mine = resident(vm, shadow, 2, fill=99)
    vm_page_xbusy(vm, busy)
    for i, m in ((1, idle), (2, busy), (3, hidden)):
        swapped(vm, backing, i, i)
        assert has_block(vm, m)
    vm_object_pip_add(vm, backing)
    vm_object_deallocate(vm, backing)
    assert shadow.backing == backing.id
    assert shadow.resident == {0: idle, 2: mine, 3: unfilled}
    assert backing.resident == {2: busy, 4: kept}
    assert (sorted(backing.swapped), int(vm.pages.dirty[idle])) == ([2], vm.bits_all)
    assert [int(vm.pages.object[m]) for m in (hidden, outside)] == [0, 0]
    vm.pages.valid[unfilled] = vm.bits_all
    for m in (busy, unfilled):
        vm.pages.busy_lock[m] = 1
    vm_object_pip_wakeup(vm, backing)
    vm_object_collapse(vm, shadow)
    assert (shadow.backing, sorted(shadow.resident)) == (0, [0, 1, 2, 3])
    assert sound(vm) is True


def test_collapse_goes_on_down_the_chain(vm):
    middle, bottom = shadowed(vm, size=4, offset=1)
    vm_object_reference(vm, middle)
    top, _ = vm_object_shadow(vm, middle, 1, 2)
    resident(vm, bottom, 2, fill=2)
    resident(vm, middle, 2, fill=30)
    vm_object_deallocate(vm, middle)
    assert (top.backing, top.backing_offset) == (bottom.id, 2)
    assert list(bottom.shadows) == [top.id]
    vm_object_deallocate(vm, bottom)
    assert first_words(vm, top) == {0: 2, 1: 30}
    assert (vm.objects.collapses, len(vm.objects), top.backing) == (2, 1, 0)
    assert sound(vm) is True


def test_a_hidden_backing_object_is_bypassed(vm):
    shadow, backing = shadowed(vm, size=2)
    resident(vm, backing, 0)
    vm_object_collapse(vm, shadow)
    assert shadow.backing == backing.id
    resident(vm, shadow, 0)
    vm_object_collapse(vm, shadow)
    assert (shadow.backing, backing.ref_count, backing.shadow_count) == (0, 1, 0)
    assert vm.objects.bypasses == 1
    assert sound(vm) is True


def test_a_page_that_the_shadow_has_in_swap_hides_the_one_behind_it(vm):
    shadow, backing = shadowed(vm, size=2)
    resident(vm, backing, 0)
    resident(vm, backing, 1)
    resident(vm, shadow, 0)
    shadow.type, shadow.swapped = ObjectType.SWAP, {1: None}
    vm_object_collapse(vm, shadow)
    assert (shadow.backing, sorted(shadow.resident), vm.objects.bypasses) == (0, [0], 1)


def test_terminating_a_shadow_drops_its_reference_on_the_backing_object(vm):
    shadow, backing = shadowed(vm)
    vm_object_deallocate(vm, shadow)
    assert (backing.ref_count, backing.shadow_count, backing.shadows) == (1, 0, {})
    assert backing.flags & OBJ_ONEMAPPING


def test_a_range_gets_an_object_of_its_own(vm):
    backing = anonymous(vm, 20)
    shadow, offset = vm_object_shadow(vm, referenced(vm, backing), 10, 8)
    vm_object_reference(vm, shadow)
    kept, moved = resident(vm, shadow, 1), resident(vm, shadow, 3, dirty=False)
    new = vm_object_split(vm, shadow, 2, 4)
    assert (offset, new.size, new.resident, shadow.resident) == (0, 4, {1: moved}, {1: kept})
    assert (new.backing, new.backing_offset, backing.shadow_count) == (backing.id, 12, 2)
    assert (shadow.ref_count, new.ref_count, backing.ref_count) == (1, 1, 3)
    assert vm.pages.dirty[moved] == vm.bits_all
    assert vm_object_split(vm, new, 0, 2) is new, "nobody else refers to it"
    assert sound(vm) is True


def referenced(vm, object_):
    vm_object_reference(vm, object_)
    return object_


def test_a_range_takes_its_swap_blocks_and_cached_pages_along(vm):
    object_ = anonymous(vm, 8)
    vm_object_reference(vm, object_)
    object_.type = ObjectType.SWAP
    frames = [resident(vm, object_, i, vpn=None, dirty=False) for i in range(8)]
    for i, m in enumerate(frames):
        vm.pager.swap[object_.id, i] = bytes([i])
        give_block(vm, m)
    for i in (3, 6):
        assert vm_page_cache(vm, frames[i])
    new = vm_object_split(vm, object_, 2, 4)
    assert (new.type, sorted(new.resident), new.cached) == (ObjectType.SWAP, [0, 2, 3], {1: frames[3]})
    assert sorted(object_.resident) == [0, 1, 7]
    assert (sorted(new.swapped), sorted(object_.swapped), object_.cached) == (
        [0, 1, 2, 3],
        [0, 1, 6, 7],
        {6: frames[6]},
    )
    assert {key: page[0] for key, page in vm.pager.swap.items()} == {
        **{(new.id, i): i + 2 for i in range(4)}, **{(object_.id, i): i for i in (0, 1, 6, 7)},
    }  # fmt: skip
    assert sound(vm) is True


def test_a_range_with_a_busy_page_keeps_its_object(vm):
    object_ = anonymous(vm, 8)
    vm_object_reference(vm, object_)
    vm_page_xbusy(vm, resident(vm, object_, 3))
    assert vm_object_split(vm, object_, 2, 4) is object_
    assert vm_object_split(vm, object_, 4, 4) is not object_


def test_coalesce(vm):
    object_ = anonymous(vm, 4)
    stale = resident(vm, object_, 3)
    assert vm_object_coalesce(vm, object_, 3, 5, reserved=False)
    assert (object_.size, object_.resident) == (8, {})
    assert vm.pages.object[stale] == 0
    vm_object_reference(vm, object_)
    assert not vm_object_coalesce(vm, object_, 5, 5, reserved=False)
    assert vm_object_coalesce(vm, object_, 8, 1, reserved=False)
    resident(vm, object_, 0)
    shadow, _ = vm_object_shadow(vm, object_, 0, 4)
    assert not vm_object_coalesce(vm, shadow, 4, 1, reserved=False)
    assert not vm_object_coalesce(vm, vm_object_allocate(vm, ObjectType.VNODE, 4, file=1), 4, 1, reserved=False)


@pytest.mark.parametrize("name", ["cached", "shadows", "replaced", "swapped"])
def test_objects_share_the_empty_mapping_until_they_write_their_own(vm, name):
    one, other = anonymous(vm, 1), anonymous(vm, 1)
    assert getattr(one, name) is getattr(other, name) is NOTHING
    with pytest.raises(TypeError, match="does not support item assignment"):
        getattr(one, name)[0] = 1
    one.own(name)[0] = 1
    assert (one.own(name), getattr(one, name), getattr(other, name)) == ({0: 1}, {0: 1}, {})
