import pytest
from page_side import SPACE, anonymous, end_writes, give_block, has_block, page_side, resident, sound, take

from hardware_sim.cpu import COSTS
from services.physmem.page_array import (
    PG_WINATCFLS,
    PGA_REFERENCED,
    PQ_ACTIVE,
    PQ_INACTIVE,
)
from services.physmem.page_busy import vm_page_busied, vm_page_sbusied, vm_page_xbusy
from services.physmem.pmap import pmap_enter, pmap_page_is_mapped, pmap_resident_count, pmap_ts_referenced
from services.physmem.state import ObjectType
from services.physmem.vm_object import vm_object_allocate, vm_object_deallocate, vm_object_reference, vm_object_shadow
from services.physmem.vm_page import (
    vm_page_deactivate,
    vm_page_free,
    vm_page_hold,
    vm_page_unhold,
    vm_page_wire,
    vm_wait,
)
from services.physmem.vm_pageout import (
    VM_SWAP_IDLE,
    VM_SWAP_NORMAL,
    finish_write,
    pageout_begin,
    pageout_scan,
    pageout_wait_test,
    vm_pageout_map_deactivate_pages,
)
from services.ports.common import VM_OOM_MEM
from services.ports.pager import VmPager

W = 2


@pytest.fixture
def vm():
    return page_side()


def inactive(vm, object_, pindexes, fill=None, dirty=True, vpn=None):
    """Pages at the tail of the inactive queue, in order."""
    frames = []
    for i in pindexes:
        frames.append(resident(vm, object_, i, fill, dirty, None if vpn is None else vpn + i))
        vm_page_deactivate(vm, frames[-1])
    return frames


def short(vm, pages):
    """The next pass with a number above 0 is short of `pages` pages."""
    vm.vm_pageout_deficit = pages - (vm.cnt.v_free_target - vm.cnt.v_free_count - vm.cnt.v_cache_count)


def clean(vm, object_, pindexes, vpn=None):
    """Inactive clean pages that swap holds."""
    object_.type = ObjectType.SWAP
    frames = inactive(vm, object_, pindexes, dirty=False, vpn=vpn)
    for m in frames:
        give_block(vm, m)
    return frames


# Waiting and waking


def test_waiters_are_woken_above_min_and_the_daemon_rests_above_its_threshold(vm):
    filler = anonymous(vm, 1024)
    take(vm, filler, 1024 - 43)
    vm_wait(vm)
    vm.ctx.take_upcalls()
    assert pageout_wait_test(vm).needed
    assert vm.ctx.take_upcalls().wakeups == []
    vm.cnt.v_free_min, vm.tun.vm_pageout_wakeup_thresh = 40, 50
    assert pageout_wait_test(vm).needed
    assert vm.ctx.take_upcalls().wakeups == ["v_free_count"]
    vm.tun.vm_pageout_wakeup_thresh = 43
    assert not pageout_wait_test(vm).needed
    assert vm.ctx.take_upcalls().wakeups == ["v_free_count"]
    assert not pageout_wait_test(vm).needed
    assert vm.ctx.take_upcalls().wakeups == []


def test_lowmem_is_due_once_in_its_period_and_not_in_pass_0(vm):
    vm.ctx.ticks = 2**31 - 1 - 600_000
    assert not pageout_begin(vm, 0).lowmem
    assert pageout_begin(vm, 1).lowmem
    vm.ctx.ticks += 9_999
    assert not pageout_begin(vm, 2).lowmem
    vm.ctx.ticks += 1
    assert pageout_begin(vm, 2).lowmem
    assert vm.cnt.v_pdwakeups == 3


def test_the_lowmem_period_survives_the_wrap_of_ticks(vm):
    vm.lowmem_ticks = 2**31 - 1
    vm.ctx.ticks = -(2**31) + 9_998
    assert not pageout_begin(vm, 1).lowmem
    vm.ctx.ticks += 1
    assert pageout_begin(vm, 1).lowmem


# Inactive scan


def test_clean_pages_are_cached_and_unmapped(vm):
    object_ = anonymous(vm, 8)
    frames = clean(vm, object_, range(6), vpn=100)
    short(vm, 4)
    result = pageout_scan(vm, 1)
    assert (result.freed, result.page_shortage, result.scanned, result.laundered) == (4, 0, 4, 0)
    assert sorted(object_.cached) == [0, 1, 2, 3]
    assert vm.pages.queued(PQ_INACTIVE) == frames[4:]
    assert pmap_page_is_mapped(vm, frames[4])
    assert result.cost_us == 4 * COSTS.pageout_per_page_ns // 1000
    assert vm.cnt.v_pdpages == 4
    assert vm.ctx.upcalls.swap_request == 0
    assert sound(vm) is True


def test_invalid_pages_are_freed(vm):
    object_ = anonymous(vm, 2)
    (m,) = inactive(vm, object_, [0], dirty=False)
    vm.pages.valid[m] = 0
    short(vm, 1)
    assert pageout_scan(vm, 1).freed == 1
    assert (vm.cnt.v_dfree, vm.cnt.v_free_count) == (1, 1024)


def test_referenced_pages_are_activated(vm):
    object_ = anonymous(vm, 4)
    touched, flagged = clean(vm, object_, range(2), vpn=100)
    pmap_enter(vm, SPACE, 100, touched, 3, wired=False, access=1)
    vm.pages.aflags[flagged] |= PGA_REFERENCED
    short(vm, 2)
    result = pageout_scan(vm, 1)
    assert result.freed == 0
    assert vm.pages.queued(PQ_ACTIVE) == [touched, flagged]
    assert [vm.pages.act_count[m] for m in (touched, flagged)] == [8, 8]  # 5 + 1 + 3; the active scan takes 1
    assert vm.pages.aflags[flagged] & PGA_REFERENCED == 0
    assert sound(vm) is True


def test_a_referenced_page_of_an_unreferenced_object_goes_to_the_tail(vm):
    file = vm_object_allocate(vm, ObjectType.VNODE, 4, file=1)
    a, b = inactive(vm, file, range(2), dirty=False)
    vm_object_deallocate(vm, file)
    vm.pages.aflags[a] |= PGA_REFERENCED
    short(vm, 1)
    assert pageout_scan(vm, 1).freed == 1
    assert vm.pages.queued(PQ_INACTIVE) == [a]
    assert file.cached == {1: b}


def test_busy_and_held_pages_are_left_in_place(vm):
    object_ = anonymous(vm, 4)
    busy, held, third = clean(vm, object_, range(3))
    vm_page_xbusy(vm, busy)
    vm_page_hold(vm, held)
    short(vm, 3)
    result = pageout_scan(vm, 1)
    assert (result.freed, result.page_shortage) == (1, 2)
    assert vm.pages.queued(PQ_INACTIVE) == [busy, held]
    assert object_.cached == {2: third}
    vm_page_unhold(vm, held)


def test_dirty_pages_get_a_second_chance_in_the_first_pass(vm):
    object_ = anonymous(vm, 4)
    a, b = inactive(vm, object_, [0, 2])
    short(vm, 2)
    assert pageout_scan(vm, 1).laundered == 0
    assert vm.pages.flags[a] & vm.pages.flags[b] & PG_WINATCFLS
    short(vm, 2)
    assert pageout_scan(vm, 1).laundered == 2
    assert vm_page_sbusied(vm, a)
    assert vm.pages.queued(PQ_INACTIVE) == [a, b]
    assert sound(vm) is True


def test_a_later_pass_launders_at_once_and_finds_what_mappings_modified(vm):
    object_ = anonymous(vm, 4)
    (m,) = inactive(vm, object_, [1], fill=42, dirty=False, vpn=100)
    pmap_enter(vm, SPACE, 101, m, 3, wired=False, access=W)
    vm.mmu.frame_op(m, 2)
    short(vm, 1)
    result = pageout_scan(vm, 2)
    assert (result.laundered, result.page_shortage) == (1, 0)
    assert result.cost_us == 2 * COSTS.pageout_per_page_ns // 1000 + COSTS.launder_per_page_us
    assert vm.pager.swap[object_.id, 1][:8] == (42).to_bytes(8, "little")
    assert object_.type == ObjectType.SWAP
    assert not vm.mmu.pte(SPACE, 101) & 2
    assert object_.paging_in_progress == 1
    (started,) = vm.ctx.take_upcalls().ios
    assert started.due_us == 100
    finish_write(vm, [started.io])
    assert (vm.pages.dirty[m], object_.paging_in_progress, vm.writes) == (0, 0, {})
    assert has_block(vm, m)
    assert not vm_page_busied(vm, m)
    short(vm, 1)
    assert pageout_scan(vm, 2).freed == 1
    assert object_.cached == {1: m}
    assert sound(vm) is True


def test_max_launder_limits_the_first_pass(vm):
    vm.tun.vm_max_launder = 2
    for m in inactive(vm, anonymous(vm, 100), range(0, 100, 10)):
        vm.pages.flags[m] |= PG_WINATCFLS
    short(vm, 10)
    result = pageout_scan(vm, 1)
    assert (result.laundered, result.page_shortage) == (2, 8)
    assert vm.ctx.upcalls.swap_request == VM_SWAP_NORMAL


def test_all_writes_of_a_pass_are_one_call(vm):
    inactive(vm, anonymous(vm, 100), range(0, 100, 10))
    short(vm, 10)
    assert pageout_scan(vm, 2).laundered == 10
    assert vm.pager.calls.count("put_pages_start") == 1


def test_a_shortage_that_remains_asks_for_swapout_if_enabled(vm):
    vm.tun.vm_swap_enabled = 0
    short(vm, 5)
    assert pageout_scan(vm, 1).page_shortage == 5
    assert vm.ctx.upcalls.swap_request == 0
    vm.tun.vm_swap_enabled = 1
    short(vm, 5)
    pageout_scan(vm, 1)
    assert vm.ctx.upcalls.swap_request == VM_SWAP_NORMAL
    assert pageout_scan(vm, 0).page_shortage == 0


def test_the_deficit_counts_once(vm):
    vm.vm_pageout_deficit = 2000
    assert pageout_scan(vm, 1).page_shortage == 2000 + vm.cnt.v_free_target - 1024
    assert pageout_scan(vm, 1).page_shortage == vm.cnt.v_free_target - 1024


# Clusters


def runs(vm):
    return [(write.first, len(write.frames)) for write in vm.writes.values()]


def test_a_cluster_grows_to_both_sides_up_to_its_limit(vm):
    object_ = anonymous(vm, 100)
    vm_page_deactivate(vm, resident(vm, object_, 20))
    inactive(vm, object_, [i for i in range(10, 40) if i != 20])
    short(vm, 1)
    result = pageout_scan(vm, 2)
    assert result.laundered == 8
    assert runs(vm) == [(16, 8)]


def test_a_cluster_goes_backwards_again_if_nothing_follows(vm):
    object_ = anonymous(vm, 100)
    vm_page_deactivate(vm, resident(vm, object_, 20))
    inactive(vm, object_, range(10, 20))
    short(vm, 1)
    pageout_scan(vm, 2)
    assert runs(vm) == [(13, 8)]


@pytest.mark.parametrize("obstacle", ["absent", "busy", "clean", "active", "held", "wired"])
def test_a_cluster_stops_at_pages_that_may_not_join(vm, obstacle):
    object_ = anonymous(vm, 100)
    inactive(vm, object_, [3, 4, 5])
    m = object_.resident[5]
    if obstacle == "absent":
        vm_page_free(vm, m)
    elif obstacle == "busy":
        vm_page_xbusy(vm, m)
    elif obstacle == "clean":
        vm.pages.dirty[m] = 0
    elif obstacle == "active":
        vm.pages.aflags[m] |= PGA_REFERENCED
        short(vm, 3)
        pageout_scan(vm, 1)
    elif obstacle == "held":
        vm_page_hold(vm, m)
    else:
        vm_page_wire(vm, m)
    short(vm, 1)
    pageout_scan(vm, 2)
    assert runs(vm) == [(3, 2)]


def test_a_cluster_ends_with_the_object(vm):
    object_ = anonymous(vm, 5)
    inactive(vm, object_, range(5))
    object_.size = 3
    short(vm, 1)
    pageout_scan(vm, 2)
    assert runs(vm) == [(0, 3)]


# Writes that cannot be, or fail


def test_without_swap_space_pages_become_active_and_the_scan_goes_on(vm):
    vm.pager.swap_pages = 1
    object_ = anonymous(vm, 100)
    frames = inactive(vm, object_, range(0, 40, 10))
    file = vm_object_allocate(vm, ObjectType.VNODE, 4, file=1)
    (last,) = inactive(vm, file, [0], dirty=False)
    short(vm, 3)
    result = pageout_scan(vm, 2)
    assert result.laundered == 1
    assert (result.freed, result.page_shortage) == (1, 1)
    assert file.cached == {0: last}
    assert vm.pages.queued(PQ_ACTIVE) == frames[1:]
    assert all(vm.pages.dirty[m] == 0xFF and not vm_page_busied(vm, m) for m in frames[1:])
    assert object_.paging_in_progress == 1
    assert sound(vm) is True


def test_a_page_that_could_not_be_written_does_not_count_as_laundered(vm):
    vm.tun.vm_max_launder, vm.pager.swap_pages = 1, 0
    frames = inactive(vm, anonymous(vm, 100), range(0, 30, 10))
    for m in frames:
        vm.pages.flags[m] |= PG_WINATCFLS
    short(vm, 3)
    result = pageout_scan(vm, 1)
    assert (result.laundered, result.page_shortage, result.scanned) == (0, 3, 6)
    assert vm.pages.queued(PQ_ACTIVE) == frames


def test_a_failed_write_leaves_the_page_dirty_and_active(vm):
    object_ = anonymous(vm, 4)
    (m,) = inactive(vm, object_, [0])
    short(vm, 1)
    pageout_scan(vm, 2)
    (io,) = vm.writes
    vm.pager.writes[io] = VmPager.ERROR
    finish_write(vm, [io])
    assert (vm.pages.dirty[m], vm.pages.queue[m]) == (0xFF, PQ_ACTIVE)
    assert not vm_page_busied(vm, m)
    assert sound(vm) is True


def test_who_waits_for_a_page_is_woken_when_its_write_ends(vm):
    (m,) = inactive(vm, anonymous(vm, 4), [0])
    short(vm, 1)
    pageout_scan(vm, 2)
    vm.ctx.take_upcalls()
    vm.pages.busy_lock[m] |= 4
    end_writes(vm)
    assert vm.ctx.take_upcalls().wakeups == [f"page:{m}"]


def test_written_pages_are_cached_while_memory_is_severely_short(vm):
    object_ = anonymous(vm, 4)
    (m,) = inactive(vm, object_, [0], vpn=100)
    short(vm, 1)
    pageout_scan(vm, 2)
    take(vm, anonymous(vm, 1024), 1024 - 1 - 44)
    end_writes(vm)
    assert object_.cached == {0: m}
    assert sound(vm) is True


@pytest.mark.parametrize(("defer", "disable", "free", "laundered"), [(0, 1, 43, 0), (1, 0, 80, 0), (1, 0, 44, 1)])
def test_anonymous_pages_wait_if_told_to(vm, defer, disable, free, laundered):
    vm.tun.defer_swap_pageouts, vm.tun.disable_swap_pageouts = defer, disable
    inactive(vm, anonymous(vm, 4), [0])
    take(vm, anonymous(vm, 1024), 1024 - 1 - free)
    short(vm, 1)
    assert pageout_scan(vm, 2).laundered == laundered


@pytest.mark.parametrize("setting", ["defer_swap_pageouts", "disable_swap_pageouts"])
def test_dirty_file_pages_are_written_to_their_file_whatever_is_said_of_swap(vm, setting):
    setattr(vm.tun, setting, 1)
    vm.pager.vnode_open("data", 4)
    file = vm_object_allocate(vm, ObjectType.VNODE, 4, file=1)
    a, b = inactive(vm, file, range(2))
    short(vm, 2)
    assert pageout_scan(vm, 2).laundered == 2
    assert set(vm.pager.file_contents) == {(1, 0), (1, 1)}
    assert vm.pager.swap == {}
    end_writes(vm)
    assert [int(vm.pages.dirty[m]) for m in (a, b)] == [0, 0]
    assert (file.type, file.swapped, sound(vm)) == (ObjectType.VNODE, {}, True)
    short(vm, 2)
    assert pageout_scan(vm, 2).freed == 2
    assert sorted(file.cached) == [0, 1]


# Active scan


def active(vm, counts):
    object_ = anonymous(vm, len(counts))
    frames = [resident(vm, object_, i, vpn=200 + i) for i in range(len(counts))]
    for m, count in zip(frames, counts, strict=True):
        vm.pages.act_count[m] = count
    return frames


def test_active_pages_age_until_enough_are_inactive(vm):
    vm.cnt.v_inactive_target = 2
    a, b, c, d = active(vm, [1, 2, 0, 1])
    vm.pages.flags[a] |= PG_WINATCFLS
    short(vm, 0)
    vm.vm_pageout_deficit = vm.cnt.v_free_count - vm.cnt.v_free_target
    result = pageout_scan(vm, 1)
    assert (result.deactivated, result.scanned) == (2, 3)
    assert vm.pages.queued(PQ_INACTIVE) == [a, c]
    assert vm.pages.queued(PQ_ACTIVE) == [d, b]
    assert vm.pages.act_count[b] == 1
    assert not vm.pages.flags[a] & PG_WINATCFLS
    assert sound(vm) is True


def test_references_raise_the_score_up_to_its_maximum(vm):
    vm.cnt.v_inactive_target = 100
    a, b = active(vm, [1, 62])
    for i, m in enumerate((a, b)):
        pmap_enter(vm, SPACE, 200 + i, m, 3, wired=False, access=1)
    vm.vm_pageout_deficit = 2000
    assert pageout_scan(vm, 1).deactivated == 0
    assert [vm.pages.act_count[m] for m in (a, b)] == [5, 64]


def test_pass_0_visits_one_in_update_period(vm):
    vm.tun.vm_pageout_update_period = 4
    frames = active(vm, [1] * 8)
    result = pageout_scan(vm, 0)
    assert (result.scanned, result.deactivated) == (2, 2)
    assert vm.pages.queued(PQ_ACTIVE) == frames[2:]
    vm.tun.vm_pageout_update_period = 0
    vm.cnt.v_inactive_target = 2000
    assert pageout_scan(vm, 0).scanned == 6


# Requests and votes


def test_idle_swapout_is_asked_for_once_a_second(vm):
    vm.tun.vm_swap_idle_enabled = 1
    requests = []
    for now in (0, 999_999, 1_000_000):
        vm.ctx.now_us = now
        pageout_scan(vm, 0)
        requests.append(vm.ctx.take_upcalls().swap_request)
    assert requests == [VM_SWAP_IDLE, 0, VM_SWAP_IDLE]
    vm.tun.vm_swap_idle_enabled = 0
    vm.ctx.now_us = 5_000_000
    pageout_scan(vm, 0)
    assert vm.ctx.take_upcalls().swap_request == 0


@pytest.mark.parametrize(
    ("pass_", "free", "swap_pages", "vote"),
    [(2, 46, 63, True), (1, 46, 63, False), (2, 46, 64, False), (2, 47, 63, False)],
)
def test_a_vote_for_a_kill_needs_memory_and_swap_to_be_gone(pass_, free, swap_pages, vote):
    vm = page_side(swap_pages=swap_pages)
    take(vm, anonymous(vm, 1024), 1024 - free)
    pageout_scan(vm, pass_)
    assert vm.ctx.take_upcalls().oom == vote * VM_OOM_MEM


def test_memory_in_plenty_does_not_ask_for_the_state_of_swap(vm):
    vm.pager.swap_status = None
    pageout_scan(vm, 5)
    assert vm.ctx.take_upcalls().oom == 0


# Resident set limits


def mapped_object(vm, pages, vpn, counts=5):
    object_ = anonymous(vm, pages)
    frames = [resident(vm, object_, i, vpn=vpn + i) for i in range(pages)]
    for m in frames:
        vm.pages.act_count[m] = counts
    return object_, frames


def deactivate(vm, objects, desired, wired=False):
    vm_pageout_map_deactivate_pages(vm, SPACE, objects, desired, wired, 0, 1 << 36)


def test_limit_0_removes_every_mapping(vm):
    object_, frames = mapped_object(vm, 4, 100)
    deactivate(vm, [object_], 0)
    assert pmap_resident_count(vm, SPACE) == 0
    assert [vm.pages.act_count[m] for m in frames] == [3] * 4  # the biggest object is visited twice
    assert all(vm.pages.queue[m] == PQ_ACTIVE for m in frames)
    assert sound(vm) is True


def test_a_wired_entry_keeps_mappings(vm):
    object_, frames = mapped_object(vm, 2, 100)
    vm_page_wire(vm, frames[0])
    deactivate(vm, [object_], 0, wired=True)
    assert pmap_resident_count(vm, SPACE) == 2


def test_a_page_that_its_mapping_modified_is_dirty_without_it(vm):
    object_, (m, _) = mapped_object(vm, 2, 100, counts=1)
    vm.pages.dirty[m] = 0
    pmap_enter(vm, SPACE, 100, m, W | 1, wired=False, access=W)
    assert pmap_ts_referenced(vm, m) == 1
    deactivate(vm, [object_], 1)
    assert (pmap_page_is_mapped(vm, m), vm.pages.dirty[m]) == (False, vm.bits_all)


def test_unused_pages_of_the_biggest_object_go_first(vm):
    small, small_frames = mapped_object(vm, 2, 100, counts=1)
    big, big_frames = mapped_object(vm, 3, 200, counts=1)
    deactivate(vm, [small, big], 3)
    assert pmap_resident_count(vm, SPACE) == 3
    assert vm.pages.queued(PQ_INACTIVE) == big_frames[:2]
    assert vm.pages.queued(PQ_ACTIVE) == [*small_frames, big_frames[2]]


def test_used_pages_stay(vm):
    object_, (a, b, c) = mapped_object(vm, 3, 100, counts=1)
    vm_page_deactivate(vm, c)
    for i, m in enumerate((a, b, c)):
        pmap_enter(vm, SPACE, 100 + i, m, 3, wired=False, access=1)
    deactivate(vm, [object_], 1, wired=True)
    assert pmap_resident_count(vm, SPACE) == 3
    assert vm.pages.queued(PQ_ACTIVE) == [a, b, c]
    assert [vm.pages.act_count[m] for m in (a, b)] == [7, 7]  # raised to 5, + 3, - 1 on the second visit
    assert vm.pages.act_count[c] == 5  # raised to 5, + 1, - 1
    assert sound(vm) is True


def test_pages_that_others_map_alone_are_left(vm):
    object_, _ = mapped_object(vm, 2, 100, counts=1)
    other = anonymous(vm, 1)
    m = resident(vm, other, 0)
    deactivate(vm, [other, object_], 1)
    assert vm.pages.queue[m] == PQ_ACTIVE
    assert pmap_resident_count(vm, SPACE) == 1


def test_shared_objects_are_aged_but_not_unmapped(vm):
    object_, frames = mapped_object(vm, 1, 100, counts=1)
    for _ in range(2):
        vm_object_reference(vm, object_)
        vm_object_shadow(vm, object_, 0, 1)
    deactivate(vm, [object_], 0, wired=True)
    assert pmap_resident_count(vm, SPACE) == 1
    assert (vm.pages.queue[frames[0]], vm.pages.act_count[frames[0]]) == (PQ_ACTIVE, 0)


def test_objects_under_paging_are_left(vm):
    object_, _ = mapped_object(vm, 2, 100, counts=1)
    object_.paging_in_progress = 1
    deactivate(vm, [object_], 0, wired=True)
    assert pmap_resident_count(vm, SPACE) == 2
    object_.paging_in_progress = 0


def test_pages_behind_a_shadow_are_reached(vm):
    backing, _ = mapped_object(vm, 2, 100, counts=1)
    vm_object_reference(vm, backing)
    shadow, _ = vm_object_shadow(vm, backing, 0, 2)
    deactivate(vm, [shadow], 1, wired=True)
    assert pmap_resident_count(vm, SPACE) == 1
