import pytest
from page_side import SPACE, anonymous, give_block, has_block, page_side, resident, sound, take

from services.physmem.page_array import (
    PG_UNHOLDFREE,
    PG_WINATCFLS,
    PGA_REFERENCED,
    PQ_ACTIVE,
    PQ_INACTIVE,
    PQ_NONE,
)
from services.physmem.page_busy import (
    vm_page_busied,
    vm_page_busy_sleep,
    vm_page_sbusied,
    vm_page_sbusy,
    vm_page_sunbusy,
    vm_page_xbusied,
    vm_page_xbusy,
    vm_page_xunbusy,
)
from services.physmem.pmap import pmap_enter
from services.physmem.state import ObjectType, publish
from services.physmem.vm_object import vm_object_allocate
from services.physmem.vm_page import (
    VM_ALLOC_COUNT_SHIFT,
    VM_ALLOC_IFCACHED,
    VM_ALLOC_IFNOTCACHED,
    VM_ALLOC_IGN_SBUSY,
    VM_ALLOC_INTERRUPT,
    VM_ALLOC_NOBUSY,
    VM_ALLOC_NOOBJ,
    VM_ALLOC_NORMAL,
    VM_ALLOC_NOWAIT,
    VM_ALLOC_SBUSY,
    VM_ALLOC_SYSTEM,
    VM_ALLOC_WIRED,
    VM_ALLOC_ZERO,
    vm_page_activate,
    vm_page_alloc,
    vm_page_cache,
    vm_page_cache_free,
    vm_page_count_min,
    vm_page_count_severe,
    vm_page_count_target,
    vm_page_deactivate,
    vm_page_dirty,
    vm_page_free,
    vm_page_free_all,
    vm_page_grab,
    vm_page_hold,
    vm_page_insert,
    vm_page_lookup,
    vm_page_remove,
    vm_page_rename,
    vm_page_requeue,
    vm_page_test_dirty,
    vm_page_try_to_cache,
    vm_page_undirty,
    vm_page_unhold,
    vm_page_unwire,
    vm_page_wire,
    vm_pager_page_unswapped,
    vm_paging_needed,
    vm_paging_target,
    vm_wait,
    vm_waitpfault,
)
from services.ports.common import Suspension
from services.runtime.errors import KernelPanic

THRESHOLDS = [  # pages, reserved, severe, min, wakeup, target, inactive target
    (1024, 43, 45, 47, 44, 59, 88),
    (1999, 44, 48, 52, 55, 76, 114),
    (4096, 55, 64, 74, 77, 131, 196),
    (16384, 71, 111, 151, 165, 391, 586),
    (65536, 135, 298, 461, 506, 1439, 2158),
    (262144, 391, 1045, 1700, 1870, 5627, 8440),
    (1048576, 1415, 4035, 6656, 7315, 22379, 33568),
]


@pytest.mark.parametrize("row", THRESHOLDS)
def test_thresholds_at_boot(row):
    vm = page_side(row[0])
    cnt = vm.cnt
    assert (
        cnt.v_page_count, cnt.v_free_reserved, cnt.v_free_severe, cnt.v_free_min,
        vm.tun.vm_pageout_wakeup_thresh, cnt.v_free_target, cnt.v_inactive_target,
    ) == row  # fmt: skip
    assert (cnt.v_free_count, cnt.v_interrupt_free_min, cnt.v_pageout_free_min) == (row[0], 2, 34)
    assert vm.tun.vm_page_max_wired == row[0] // 3
    assert vm.vm_pageout_page_count == (8 if row[0] < 2000 else 16)


def test_larger_pages_need_fewer_for_a_pageout():
    assert page_side(4096, name="sparc64").cnt.v_pageout_free_min == 18


def test_predicates_are_strict():
    vm = page_side()
    for value, predicate in (
        (vm.cnt.v_free_severe, vm_page_count_severe),
        (vm.cnt.v_free_min, vm_page_count_min),
        (vm.cnt.v_free_target, vm_page_count_target),
        (vm.tun.vm_pageout_wakeup_thresh, vm_paging_needed),
    ):
        vm.cnt.v_free_count, vm.cnt.v_cache_count = value - 1, 1
        assert not predicate(vm)
        vm.cnt.v_cache_count = 0
        assert predicate(vm)
    assert vm_paging_target(vm) == vm.cnt.v_free_target - vm.tun.vm_pageout_wakeup_thresh + 1


@pytest.mark.parametrize(("class_", "floor"), [(VM_ALLOC_NORMAL, 43), (VM_ALLOC_SYSTEM, 2), (VM_ALLOC_INTERRUPT, 0)])
def test_each_class_stops_at_its_floor(class_, floor):
    vm = page_side()
    object_ = anonymous(vm, 1024)
    for pindex in range(1024 - floor):
        assert vm_page_alloc(vm, object_, pindex, class_) is not None
    assert vm.cnt.v_free_count == floor
    assert vm_page_alloc(vm, object_, 2000, class_) is None
    assert vm.vm_pageout_deficit == 1
    vm_page_alloc(vm, object_, 2000, class_ | 5 << VM_ALLOC_COUNT_SHIFT)
    assert vm.vm_pageout_deficit == 6
    assert sound(vm) is True


def test_the_page_daemon_allocates_as_system():
    vm = page_side()
    object_ = anonymous(vm, 1024)
    take(vm, object_, 1024 - 43)
    assert vm_page_alloc(vm, object_, 1000, VM_ALLOC_NORMAL) is None
    vm.in_pagedaemon = True
    assert vm_page_alloc(vm, object_, 1000, VM_ALLOC_NORMAL) is not None


def test_allocation_below_the_wakeup_threshold_wants_the_page_daemon_once():
    vm = page_side()
    object_ = anonymous(vm, 1024)
    take(vm, object_, 1024 - 44)
    assert not vm.ctx.take_upcalls().pagedaemon_wanted
    take(vm, object_, 1, first=1000)
    assert vm.ctx.take_upcalls().pagedaemon_wanted
    assert vm.vm_pages_needed
    assert vm_page_alloc(vm, object_, 1001, VM_ALLOC_NORMAL) is None
    assert not vm.ctx.take_upcalls().pagedaemon_wanted


def test_a_new_page_is_as_the_flags_say():
    vm = page_side()
    object_, pages = anonymous(vm, 16), vm.pages
    plain = vm_page_alloc(vm, object_, 0, VM_ALLOC_NORMAL)
    assert vm_page_xbusied(vm, plain)
    assert (pages.wire_count[plain], pages.queue[plain], pages.valid[plain]) == (0, PQ_NONE, 0)
    assert (pages.object[plain], pages.pindex[plain]) == (object_.id, 0)
    wired = vm_page_alloc(vm, object_, 1, VM_ALLOC_WIRED | VM_ALLOC_NOBUSY)
    assert not vm_page_busied(vm, wired)
    assert (pages.wire_count[wired], vm.cnt.v_wire_count) == (1, 1)
    shared = vm_page_alloc(vm, object_, 2, VM_ALLOC_SBUSY)
    assert vm_page_sbusied(vm, shared)
    vm_page_sunbusy(vm, shared)
    orphan = vm_page_alloc(vm, None, 0, VM_ALLOC_NOOBJ | VM_ALLOC_WIRED)
    assert pages.object[orphan] == 0
    assert not vm_page_busied(vm, orphan)
    assert sound(vm) is True


def test_inconsistent_requests_panic():
    vm = page_side()
    object_ = anonymous(vm, 16)
    with pytest.raises(KernelPanic, match="inconsistent object/req"):
        vm_page_alloc(vm, None, 0, VM_ALLOC_NORMAL)
    with pytest.raises(KernelPanic, match="inconsistent object/req"):
        vm_page_alloc(vm, object_, 0, VM_ALLOC_NOBUSY | VM_ALLOC_SBUSY)
    vm_page_alloc(vm, object_, 0, VM_ALLOC_NORMAL)
    with pytest.raises(KernelPanic, match="already allocated"):
        vm_page_alloc(vm, object_, 0, VM_ALLOC_NORMAL)


def test_waiters_are_woken_when_memory_is_back_above_min():
    vm = page_side()
    object_ = anonymous(vm, 1024)
    take(vm, object_, 1024 - 43)
    sleep = vm_wait(vm)
    assert (sleep.channel, sleep.priority, sleep.wmesg, sleep.timeout_ticks) == ("v_free_count", 84, "vmwait", 0)
    fault = vm_waitpfault(vm)
    assert (fault.channel, fault.priority, fault.wmesg) == ("v_free_count", 120, "pfault")
    vm.ctx.take_upcalls()
    for pindex in range(4):
        assert vm.ctx.take_upcalls().wakeups == []
        vm_page_free(vm, object_.resident[pindex])
    assert vm.ctx.take_upcalls().wakeups == ["v_free_count"]
    assert not vm.vm_pages_needed


# Busy


def test_exclusive_busy():
    vm = page_side()
    m = resident(vm, anonymous(vm, 1), 0)
    vm_page_xbusy(vm, m)
    with pytest.raises(KernelPanic, match="already exclusive busy"):
        vm_page_xbusy(vm, m)
    with pytest.raises(KernelPanic, match="is xbusy"):
        vm_page_sbusy(vm, m)
    sleep = vm_page_busy_sleep(vm, m, "vmpfw")
    assert (sleep.channel, sleep.priority, sleep.wmesg) == (f"page:{m}", 84, "vmpfw")
    assert vm.pages.busy_lock[m] == 6
    vm_page_xunbusy(vm, m)
    assert vm.pages.busy_lock[m] == 1
    assert vm.ctx.take_upcalls().wakeups == [f"page:{m}"]
    with pytest.raises(KernelPanic, match="is not xbusy"):
        vm_page_xunbusy(vm, m)


def test_the_last_sharer_wakes_who_waits():
    vm = page_side()
    m = resident(vm, anonymous(vm, 1), 0)
    vm_page_sbusy(vm, m)
    vm_page_sbusy(vm, m)
    assert vm.pages.busy_lock[m] == 17
    vm_page_busy_sleep(vm, m, "pgrbwt")
    vm_page_sunbusy(vm, m)
    assert vm.ctx.take_upcalls().wakeups == []
    vm_page_sunbusy(vm, m)
    assert vm.ctx.take_upcalls().wakeups == [f"page:{m}"]
    assert vm.pages.busy_lock[m] == 1
    with pytest.raises(KernelPanic, match="is not sbusy"):
        vm_page_sunbusy(vm, m)


# Grab


def test_grab_of_a_resident_page():
    vm = page_side()
    object_ = anonymous(vm, 4)
    m = resident(vm, object_, 0)
    assert vm_page_grab(vm, object_, 0, VM_ALLOC_NORMAL) == m
    assert vm_page_xbusied(vm, m)
    assert vm_page_grab(vm, object_, 0, VM_ALLOC_NOWAIT) is None
    sleep = vm_page_grab(vm, object_, 0, VM_ALLOC_WIRED)
    assert isinstance(sleep, Suspension)
    assert (sleep.channel, sleep.wmesg) == (f"page:{m}", "pgrbwt")
    assert vm.pages.aflags[m] & PGA_REFERENCED
    assert vm.pages.wire_count[m] == 0
    vm_page_xunbusy(vm, m)
    assert vm_page_grab(vm, object_, 0, VM_ALLOC_WIRED | VM_ALLOC_NOBUSY) == m
    assert vm_page_grab(vm, object_, 0, VM_ALLOC_WIRED | VM_ALLOC_NOBUSY) == m
    assert (vm.pages.wire_count[m], vm.pages.queue[m], vm_page_busied(vm, m)) == (2, PQ_NONE, False)
    vm_page_sbusy(vm, m)
    assert vm_page_grab(vm, object_, 0, VM_ALLOC_IGN_SBUSY | VM_ALLOC_SBUSY) == m
    assert vm.pages.busy_lock[m] == 17
    assert isinstance(vm_page_grab(vm, object_, 0, VM_ALLOC_SBUSY), Suspension)


def test_grab_of_an_absent_page_sleeps_for_memory():
    vm = page_side()
    object_ = anonymous(vm, 1024)
    m = vm_page_grab(vm, object_, 0, VM_ALLOC_NOBUSY | VM_ALLOC_WIRED)
    assert vm.pages.wire_count[m] == 1
    vm.ram.words[vm.pages.free[vm.cnt.v_free_count - 1]] = 5
    zeroed = vm_page_grab(vm, object_, 1, VM_ALLOC_ZERO)
    assert not vm.ram.words[zeroed].any()
    take(vm, object_, 1022 - 43, first=2)
    assert vm_page_grab(vm, object_, 1023, VM_ALLOC_NOWAIT) is None
    sleep = vm_page_grab(vm, object_, 1023, VM_ALLOC_NORMAL)
    assert isinstance(sleep, Suspension)
    assert (sleep.channel, sleep.wmesg) == ("v_free_count", "vmwait")
    assert vm.vm_pages_needed


# Queues, wiring, holding


def test_activate_and_deactivate():
    vm = page_side()
    pages = vm.pages
    a, b = (resident(vm, anonymous(vm, 1), 0) for _ in "ab")
    assert (pages.queued(PQ_ACTIVE), pages.act_count[a]) == ([a, b], 5)
    pages.act_count[a] = 2
    vm_page_activate(vm, a)
    assert (pages.queued(PQ_ACTIVE), pages.act_count[a]) == ([a, b], 5)
    pages.act_count[a] = 9
    vm_page_activate(vm, a)
    assert pages.act_count[a] == 9
    vm_page_requeue(vm, a)
    assert pages.queued(PQ_ACTIVE) == [b, a]
    pages.flags[a] |= PG_WINATCFLS
    vm_page_deactivate(vm, a)
    vm_page_deactivate(vm, b)
    vm_page_deactivate(vm, a)
    assert pages.queued(PQ_INACTIVE) == [a, b]
    assert not pages.flags[a] & PG_WINATCFLS
    assert (vm.cnt.v_active_count, vm.cnt.v_inactive_count) == (0, 2)
    vm_page_wire(vm, a)
    vm_page_activate(vm, a)
    vm_page_deactivate(vm, a)
    assert pages.queue[a] == PQ_NONE
    with pytest.raises(KernelPanic, match="not queued"):
        vm_page_requeue(vm, a)


def test_wire_and_unwire():
    vm = page_side()
    pages = vm.pages
    m = resident(vm, anonymous(vm, 1), 0)
    vm_page_wire(vm, m)
    vm_page_wire(vm, m)
    assert (vm.cnt.v_wire_count, pages.queue[m]) == (1, PQ_NONE)
    pages.flags[m] |= PG_WINATCFLS
    vm_page_unwire(vm, m, PQ_INACTIVE)
    assert (vm.cnt.v_wire_count, pages.queue[m]) == (1, PQ_NONE)
    vm_page_unwire(vm, m, PQ_INACTIVE)
    assert (vm.cnt.v_wire_count, pages.queue[m]) == (0, PQ_INACTIVE)
    assert not pages.flags[m] & PG_WINATCFLS
    with pytest.raises(KernelPanic, match="vm_page_unwire: page's wire count is zero"):
        vm_page_unwire(vm, m, PQ_ACTIVE)
    vm_page_wire(vm, m)
    with pytest.raises(KernelPanic, match="invalid queue"):
        vm_page_unwire(vm, m, PQ_NONE)


def test_an_orphan_is_unwired_to_no_queue():
    vm = page_side()
    m = vm_page_alloc(vm, None, 0, VM_ALLOC_NOOBJ | VM_ALLOC_WIRED)
    vm_page_unwire(vm, m, PQ_ACTIVE)
    assert vm.pages.queue[m] == PQ_NONE
    vm_page_free(vm, m)
    assert sound(vm) is True


def test_dirty_and_undirty():
    vm = page_side()
    m = resident(vm, anonymous(vm, 1), 0, dirty=False, vpn=9)
    vm_page_test_dirty(vm, m)
    assert vm.pages.dirty[m] == 0
    pmap_enter(vm, SPACE, 9, m, 3, wired=False, access=2)
    vm_page_test_dirty(vm, m)
    assert vm.pages.dirty[m] == 0xFF
    vm_page_undirty(vm, m)
    assert vm.pages.dirty[m] == 0
    vm.pages.valid[m] = 0x7F
    with pytest.raises(KernelPanic, match="vm_page_dirty: page is invalid!"):
        vm_page_dirty(vm, m)


# Free


def test_free_resets_the_page_and_its_owner():
    vm = page_side()
    object_ = anonymous(vm, 1)
    m = resident(vm, object_, 0)
    vm_page_free(vm, m)
    assert vm_page_lookup(vm, object_, 0) is None
    assert (vm.cnt.v_free_count, vm.cnt.v_tfree, vm.cnt.v_active_count) == (1024, 1, 0)
    assert (vm.pages.object[m], vm.pages.valid[m], vm.pages.dirty[m]) == (0, 0, 0)
    assert vm_page_alloc(vm, object_, 0, VM_ALLOC_NORMAL) == m
    assert sound(vm) is True


def test_what_must_not_be_freed():
    vm = page_side()
    object_ = anonymous(vm, 4)
    wired, shared, mapped = (resident(vm, object_, i, vpn=i if i == 2 else None) for i in range(3))
    vm_page_wire(vm, wired)
    with pytest.raises(KernelPanic, match="vm_page_free: freeing wired page"):
        vm_page_free(vm, wired)
    vm_page_sbusy(vm, shared)
    with pytest.raises(KernelPanic, match="freeing busy page"):
        vm_page_free(vm, shared)
    with pytest.raises(KernelPanic, match="freeing mapped page"):
        vm_page_free(vm, mapped)


def test_freeing_an_exclusively_busy_page_wakes_who_waits():
    vm = page_side()
    object_ = anonymous(vm, 1)
    m = vm_page_alloc(vm, object_, 0, VM_ALLOC_NORMAL)
    vm_page_busy_sleep(vm, m, "pgrbwt")
    vm_page_free(vm, m)
    assert vm.ctx.take_upcalls().wakeups == [f"page:{m}"]
    assert vm.pages.busy_lock[m] == 1


def test_a_held_page_is_freed_by_its_last_unhold():
    vm = page_side()
    object_ = anonymous(vm, 1)
    m = resident(vm, object_, 0)
    vm_page_hold(vm, m)
    vm_page_hold(vm, m)
    vm_page_free(vm, m)
    assert vm.pages.flags[m] & PG_UNHOLDFREE
    assert (vm.cnt.v_free_count, object_.resident) == (1023, {})
    assert sound(vm) is True
    vm_page_unhold(vm, m)
    assert vm.cnt.v_free_count == 1023
    vm_page_unhold(vm, m)
    assert vm.cnt.v_free_count == 1024
    assert vm.pages.flags[m] == 0
    with pytest.raises(KernelPanic, match="hold count"):
        vm_page_unhold(vm, m)


def test_many_are_freed_at_once_as_one_by_one():
    one, many = page_side(), page_side()
    for vm in (one, many):
        object_ = anonymous(vm, 8)
        for i in range(8):
            resident(vm, object_, i, vpn=100 + i if i % 2 else None)
        vm_page_deactivate(vm, object_.resident[3])
        vm_page_wire(vm, object_.resident[4])
        vm_page_hold(vm, object_.resident[5])
        vm_page_xbusy(vm, object_.resident[6])
        frames = [object_.resident.pop(i) for i in range(8)]
        if vm is many:
            assert vm_page_free_all(vm, frames) == frames[4:7]
            object_.resident.update({4: frames[4], 5: frames[5], 6: frames[6]})
        else:
            object_.resident.update(enumerate(frames))
            vm.mmu.clear_range(SPACE, 0, 200, 1)
            for m in frames[:4] + frames[7:]:
                vm_page_free(vm, m)
        assert sound(vm) is True
    assert one.cnt == many.cnt
    assert one.pages.free_frames.tolist() == many.pages.free_frames.tolist()
    assert one.pages.queued(PQ_ACTIVE) == many.pages.queued(PQ_ACTIVE)


# Residency


def test_insert_remove_rename():
    vm = page_side()
    a, b = anonymous(vm, 4), anonymous(vm, 4)
    m = resident(vm, a, 1, dirty=False)
    with pytest.raises(KernelPanic, match="already inserted"):
        vm_page_insert(vm, m, b, 0)
    give_block(vm, m)
    vm_page_rename(vm, m, b, 3)
    assert (a.resident, b.resident) == ({}, {3: m})
    assert (vm.pages.dirty[m], vm.pages.oflags[m]) == (0xFF, 0)
    vm_page_wire(vm, m)
    vm_page_remove(vm, m)
    vm_page_remove(vm, m)
    assert (b.resident, vm.pages.object[m]) == ({}, 0)
    assert sound(vm) is True


def test_a_swap_block_is_given_back_once():
    vm = page_side()
    object_ = anonymous(vm, 4)
    m = resident(vm, object_, 2)
    vm_pager_page_unswapped(vm, m)
    assert vm.unswapped == []
    give_block(vm, m)
    vm_pager_page_unswapped(vm, m)
    vm_pager_page_unswapped(vm, m)
    assert [(entry.obj, entry.first, entry.count) for entry in vm.unswapped] == [(object_.id, 2, 1)]


# Cached pages


def cached(vm, object_, pindex, fill):
    m = resident(vm, object_, pindex, fill, dirty=False)
    give_block(vm, m)
    assert vm_page_cache(vm, m)
    return m


def swap_object(vm, size):
    object_ = anonymous(vm, size)
    object_.type = ObjectType.SWAP
    return object_


def test_a_cached_page_comes_back_with_its_contents():
    vm = page_side()
    object_ = swap_object(vm, 8)
    m = cached(vm, object_, 5, 77)
    assert (vm.cnt.v_cache_count, vm.cnt.v_tcached, vm.cnt.v_free_count) == (1, 1, 1023)
    assert vm_page_lookup(vm, object_, 5) is None
    assert sound(vm) is True
    assert vm_page_alloc(vm, object_, 5, VM_ALLOC_IFNOTCACHED) is None
    assert vm_page_alloc(vm, object_, 6, VM_ALLOC_IFCACHED) is None
    assert vm_page_grab(vm, object_, 5, VM_ALLOC_ZERO) == m
    assert vm.pages.valid[m] == 0xFF
    assert int(vm.ram.words[m, 0]) == 77
    assert has_block(vm, m)
    assert (vm.cnt.v_cache_count, vm.cnt.v_reactivated) == (0, 1)
    assert sound(vm) is True


def test_cached_pages_are_taken_when_no_page_is_free_the_oldest_first():
    vm = page_side()
    object_, other = swap_object(vm, 8), anonymous(vm, 1024)
    first, second = cached(vm, object_, 0, 1), cached(vm, object_, 1, 2)
    for pindex in range(1022):
        assert vm_page_alloc(vm, other, pindex, VM_ALLOC_INTERRUPT) not in (first, second)
    assert vm.cnt.v_free_count == 0
    assert vm_page_alloc(vm, other, 1022, VM_ALLOC_INTERRUPT) == first
    assert vm.pages.valid[first] == 0
    assert not has_block(vm, first)
    assert object_.cached == {1: second}
    assert sound(vm) is True


def test_pages_that_could_not_be_read_again_are_freed_instead():
    vm = page_side()
    object_ = swap_object(vm, 8)
    lost = resident(vm, object_, 0, dirty=False)
    assert not vm_page_cache(vm, lost)
    invalid = resident(vm, object_, 1, dirty=False)
    vm.pages.valid[invalid] = 0
    give_block(vm, invalid)
    assert not vm_page_cache(vm, invalid)
    assert vm.cnt.v_free_count == 1024
    file = vm_object_allocate(vm, ObjectType.VNODE, 4, file=1)
    assert vm_page_cache(vm, resident(vm, file, 0, dirty=False))
    assert vm.cnt.v_cache_count == 1


def test_what_must_not_be_cached():
    vm = page_side()
    object_ = swap_object(vm, 8)
    busy, held, wired, dirty, mapped = (
        resident(vm, object_, i, dirty=i == 3, vpn=i if i == 4 else None) for i in range(5)
    )
    vm_page_xbusy(vm, busy)
    vm_page_hold(vm, held)
    vm_page_wire(vm, wired)
    for m in (busy, held, wired):
        assert not vm_page_try_to_cache(vm, m)
        with pytest.raises(KernelPanic, match="attempting to cache busy page"):
            vm_page_cache(vm, m)
    assert not vm_page_try_to_cache(vm, dirty)
    with pytest.raises(KernelPanic, match="is dirty"):
        vm_page_cache(vm, dirty)
    with pytest.raises(KernelPanic, match="is mapped"):
        vm_page_cache(vm, mapped)
    assert vm_page_try_to_cache(vm, mapped)


def test_try_to_cache_gives_up_a_page_that_a_mapping_modified():
    vm = page_side()
    m = resident(vm, swap_object(vm, 1), 0, dirty=False, vpn=3)
    pmap_enter(vm, SPACE, 3, m, 3, wired=False, access=2)
    assert not vm_page_try_to_cache(vm, m)
    assert vm.pages.dirty[m] == 0xFF


def test_cached_pages_of_a_range_are_freed():
    vm = page_side()
    object_ = swap_object(vm, 8)
    for i in range(6):
        cached(vm, object_, i, i)
    vm_page_cache_free(vm, object_, 1, 3)
    assert sorted(object_.cached) == [0, 3, 4, 5]
    vm_page_cache_free(vm, object_)
    assert (vm.cnt.v_cache_count, vm.cnt.v_free_count) == (0, 1024)
    assert sound(vm) is True


def test_counters_are_published_as_c_u_ints():
    vm = page_side()
    vm.cnt.v_tfree = (1 << 32) + 3
    publish(vm)
    assert vm.ctx.counters["vm.stats.vm.v_tfree"] == 3
    assert vm.ctx.counters["vm.stats.vm.v_free_count"] == 1024
    assert "vm.stats.vm.v_free_severe" not in vm.ctx.counters
