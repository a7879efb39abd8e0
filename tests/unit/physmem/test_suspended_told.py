"""Suspended operations say which function sleeps, for what, and since when."""

from map_side import FIRST, STORE, MapSide, record, runs

from services.physmem.vm_page import vm_page_cache_free
from services.ports.common import Status
from services.ports.physmem import SwapStack
from services.runtime.limits import SUSPENDED_TOLD_MAX


def test_a_stack_waits_for_memory_until_a_wakeup():
    side = MapSide(pages=64)
    assert side.core.suspended().total == 0
    answer = side.core.stack_create([4] * 8, 0)
    told = side.core.suspended()
    (row,) = told.operations
    assert (told.total, row.op, row.function) == (1, answer.suspension.op, "vm_thread_new (vm_glue.c:323-409)")
    assert row.subject.endswith(" of 8")
    assert (row.channel, row.priority, row.wmesg, row.until_us) == ("v_free_count", 84, "vmwait", 0)


def test_a_swap_in_waits_for_the_disk_with_a_timeout_and_is_gone_when_it_is_done():
    side = MapSide()
    stack = side.core.stack_create([4], 0).stacks[0].stack
    side.core.stack_swapout([SwapStack(stack, bytes(64), 9)])
    side.vm.cnt.v_free_target = 2 * side.vm.pages.count
    while side.vm.cnt.v_inactive_count:
        side.core.pageout_scan(2)
        side.complete()
    vm_page_cache_free(side.vm, side.vm.objects[stack.obj])
    side.vm.ctx.now_us = 5_000_000
    request = [SwapStack(stack, pid=9)]
    answer = side.core.stack_swapin(request, 0)
    (row,) = side.core.suspended().operations
    assert (row.function, row.wmesg) == ("vm_thread_swapin (vm_glue.c:569-606)", "swread")
    assert (row.subject, row.channel) == (f"process 9, page 0 of stack object {stack.obj}", answer.suspension.channel)
    assert (row.since_us, row.until_us) == (5_000_000, 25_000_000)
    while answer.status is Status.SUSPENDED:
        side.complete()
        answer = side.core.stack_swapin(request, answer.suspension.op)
    assert side.core.suspended().total == 0


def test_a_space_that_goes_away_takes_its_sleeping_faults_along():
    side = MapSide()
    space = side.space(4)
    side.run(space, runs(record(FIRST, STORE)))
    side.evict(space)
    side.access(space, runs(record(FIRST, STORE)))
    (row,) = side.core.suspended().operations
    assert (row.function, row.subject) == ("vm_fault", f"address space {space}, address {FIRST << 12:#x}")
    side.core.vmspace_free([space])
    assert side.core.suspended().total == len(side.vm.sleeps) == 0


def test_no_more_are_told_than_the_limit():
    side = MapSide(pages=64)
    for _ in range(SUSPENDED_TOLD_MAX + 2):
        assert side.core.stack_create([4] * 16, 0).status is Status.SUSPENDED
    told = side.core.suspended()
    assert (len(told.operations), told.total) == (SUSPENDED_TOLD_MAX, SUSPENDED_TOLD_MAX + 2)
