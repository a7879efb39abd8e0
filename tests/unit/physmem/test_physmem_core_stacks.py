"""Kernel stacks: construction, destruction, swap-out and swap-in, kernel memory."""

import pytest
from map_side import FIRST, PAGE, STORE, MapSide, record, runs

from hardware_sim.cpu import Pcb
from services.physmem.kstack_pages import stack_swapin
from services.physmem.ops import StackSwapinOp
from services.physmem.page_busy import vm_page_xbusy
from services.physmem.vm_page import vm_page_cache_free
from services.ports.common import Answers, Status
from services.ports.physmem import KmemRange, KmemWrite, PageRequest, StackPages, SwapStack
from services.runtime.errors import KernelPanic, Reason, Refused

PCB = Pcb(tid=5, pid=9, references=1234).pack()


def build(side, *sizes):
    """Stacks of these sizes."""
    answer = side.core.stack_create(list(sizes), 0)
    assert answer.status is Status.DONE
    return [built.stack for built in answer.stacks]


def shown(side, *stacks):
    return side.core.object_pages(list(stacks)).objects


def counts(side):
    cnt = side.vm.cnt
    return cnt.v_free_count, cnt.v_wire_count, cnt.v_inactive_count, side.vm.arena.in_use, len(side.vm.objects)


def page_out(side):
    """Have the page daemon write and free whatever is inactive."""
    target, side.vm.cnt.v_free_target = side.vm.cnt.v_free_target, 2 * side.vm.pages.count
    while side.vm.cnt.v_inactive_count:
        side.core.pageout_scan(2)
        side.complete()
    side.vm.cnt.v_free_target = target
    for obj in side.vm.objects:
        vm_page_cache_free(side.vm, obj)


def swap_in(side, stacks):
    """Bring stacks in, with all sleeps; pcbs and page requests."""
    request = [SwapStack(stack, pid=9) for stack in stacks]
    answer = side.core.stack_swapin(request, 0)
    while answer.status is Status.SUSPENDED:
        side.sleeps.append(answer.suspension.wmesg)
        side.complete()
        if answer.suspension.wmesg == "vmwait":
            side.pageout(passes=2)
        answer = side.core.stack_swapin(request, answer.suspension.op)
    return answer.pcbs, answer.page_requests


def test_a_stack_is_the_reference_says_it_is_and_its_end_undoes_it():
    side = MapSide()
    before = counts(side)
    answer = side.core.stack_create([4], 0)
    (built,) = answer.stacks
    assert (built.kva_bytes, built.complete, built.stack.pages) == (20480, True, 4)
    (pages,) = shown(side, built.stack)
    assert (pages.valid, pages.dirty, pages.wired, pages.queue, pages.busy, pages.mapped) == (
        "VVVV", "....", "1111", "NNNN", "....", "MMMM"
    )  # fmt: skip
    assert counts(side) == (before[0] - 4, before[1] + 4, before[2], before[3] + 20480, before[4] + 1)
    freed = side.vm.cnt.v_tfree
    assert side.core.stack_destroy([built.stack]).kva_bytes == 20480
    assert counts(side) == before
    assert side.vm.cnt.v_tfree == freed + 4
    assert shown(side, built.stack)[0].exists is False
    assert side.core.check().violations == []


def test_guard_pages_are_not_mapped_and_stacks_keep_apart():
    side = MapSide()
    first, second = build(side, 4, 2)
    for stack in (first, second):
        with pytest.raises(Refused):
            side.core.kmem_read([KmemRange(stack.ks - 1, 1)])
    assert second.ks == first.ks + 5 * PAGE


@pytest.mark.parametrize(("arch", "kva", "align"), [("mips", 16384, 2), ("powerpc64", 36864, 1), ("sparc64", 40960, 1)])
def test_architectures_differ_in_guard_and_alignment(arch, kva, align):
    side = MapSide(arch=arch)
    pages = side.vm.arch.kstack_pages
    answer = side.core.stack_create([pages, 1, pages], 0)
    assert answer.stacks[0].kva_bytes == kva
    for built in answer.stacks[::2]:
        base = built.stack.ks - side.vm.kstack_guard_pages * side.vm.arch.page_size
        assert base % (align * side.vm.arch.page_size) == 0


def test_without_address_space_the_object_goes_and_the_next_stack_is_tried():
    side = MapSide()
    side.core.inject([Answers("kva_alloc", [1, 0, 1])])
    answer = side.core.stack_create([4, 4, 2], 0)
    assert [bool(built.stack.ks) for built in answer.stacks] == [True, False, True]
    assert [built.kva_bytes for built in answer.stacks] == [20480, 0, 3 * PAGE]
    assert len(side.vm.objects) == 2
    assert side.core.check().violations == []


def test_construction_sleeps_for_memory_with_what_it_has():
    side = MapSide(pages=64)
    answer = side.core.stack_create([4] * 8, 0)
    assert answer.status is Status.SUSPENDED
    assert (answer.suspension.channel, answer.suspension.priority, answer.suspension.wmesg) == (
        "v_free_count",
        84,
        "vmwait",
    )
    assert answer.stacks[-1].complete is False
    assert side.core.check().violations == []
    done = len(answer.stacks) - 1
    side.core.stack_destroy([answer.stacks[0].stack])
    again = side.core.stack_create([], answer.suspension.op)
    assert again.suspension.op == answer.suspension.op
    assert len(again.stacks) == done + 2
    assert [built.stack.ks for built in again.stacks[: done + 1]] == [built.stack.ks for built in answer.stacks]
    assert side.core.check().violations == []


def test_swapped_out_the_pages_are_dirty_unwired_and_inactive():
    side = MapSide()
    (stack,) = build(side, 4)
    before = counts(side)
    side.core.stack_swapout([SwapStack(stack, PCB, 9)])
    (pages,) = shown(side, stack)
    assert (pages.valid, pages.dirty, pages.wired, pages.queue, pages.mapped) == (
        "VVVV",
        "DDDD",
        "0000",
        "IIII",
        "....",
    )
    assert counts(side)[:3] == (before[0], before[1] - 4, before[2] + 4)
    pcbs, requests = swap_in(side, [stack])
    assert (pcbs, requests) == ([PCB], [])
    assert shown(side, stack)[0].dirty == "DDDD"  # not laundered: still dirty
    assert counts(side)[:3] == before[:3]


def test_paged_out_stacks_come_back_with_their_contents():
    side = MapSide()
    stacks = build(side, 4, 2, 8)
    for i, stack in enumerate(stacks):
        side.core.kmem_write([KmemWrite(stack.ks, bytes([i + 1]) * (stack.pages * PAGE))])
    pcbs = [Pcb(tid=i).pack() for i in range(3)]
    side.core.stack_swapout([SwapStack(stack, pcb, 9) for stack, pcb in zip(stacks, pcbs, strict=True)])
    free = side.vm.cnt.v_free_count
    page_out(side)
    assert side.vm.cnt.v_free_count == free + 14
    found, requests = swap_in(side, stacks)
    assert found == pcbs
    assert requests == [PageRequest(0, 0, 4), PageRequest(1, 0, 2), PageRequest(2, 0, 8)]
    assert side.sleeps == ["swread"] * 3
    for i, stack in enumerate(stacks):
        data = side.core.kmem_read([KmemRange(stack.ks, stack.pages * PAGE)]).data[0]
        assert data[: -len(pcbs[i])] == bytes([i + 1]) * (stack.pages * PAGE - len(pcbs[i]))
    assert [side.vm.objects[stack.obj].paging_in_progress for stack in stacks] == [0, 0, 0]
    assert [(p.dirty, p.wired, p.mapped) for p in shown(side, stacks[0])] == [("....", "1111", "MMMM")]
    assert side.core.check().violations == []


def test_scattered_blocks_are_read_run_by_run():
    side = MapSide()
    (stack,) = build(side, 4)
    side.core.stack_swapout([SwapStack(stack, PCB, 9)])
    page_out(side)
    side.pager.max_read = 2
    _, requests = swap_in(side, [stack])
    assert requests == [PageRequest(0, 0, 4), PageRequest(0, 2, 2)]


def test_swap_in_waits_for_pages_that_are_being_written():
    side = MapSide()
    (stack,) = build(side, 4)
    side.core.stack_swapout([SwapStack(stack, PCB, 9)])
    side.vm.cnt.v_free_target = 2 * side.vm.pages.count
    side.core.pageout_scan(2)
    assert swap_in(side, [stack]) == ([PCB], [])
    assert set(side.sleeps) == {"pgrbwt"}
    assert side.core.check().violations == []


def test_panics_name_the_c_function_and_line():
    side = MapSide()
    first, second, third = build(side, 4, 4, 4)
    for stack in (first, second):
        side.core.lose_page(stack.obj, 1)
    with pytest.raises(KernelPanic, match=r"^vm_thread_dispose: kstack already missing\?$") as panic:
        side.core.stack_destroy([first])
    assert (panic.value.function, panic.value.line) == ("vm_thread_stack_dispose", 423)
    with pytest.raises(KernelPanic, match=r"^vm_thread_swapout: kstack already missing\?$"):
        side.core.stack_swapout([SwapStack(second, PCB, 9)])
    side.core.stack_swapout([SwapStack(third, PCB, 9)])
    side.core.lose_page(third.obj, 2)
    with pytest.raises(KernelPanic, match=r"^vm_thread_swapin: cannot get kstack for proc: 9$"):
        swap_in(side, [third])


def test_a_device_that_fails_panics_too():
    side = MapSide()
    (stack,) = build(side, 4)
    side.core.stack_swapout([SwapStack(stack, PCB, 42)])
    page_out(side)
    side.pager.broken.add((stack.obj, 0))
    with pytest.raises(KernelPanic, match=r"^vm_thread_swapin: cannot get kstack for proc: 9$"):
        swap_in(side, [stack])


def script(result=0, keep_busy=0, filled=-1, replace=(), vanish=()):
    """A scripted answer of vm_pager_get_pages."""
    bits = result | keep_busy << 3 | (filled + 1) << 4
    return bits | sum(1 << 10 + i for i in replace) | sum(1 << 42 + i for i in vanish)


@pytest.mark.parametrize(
    ("answers", "requests", "queue"),
    [
        ([script()], [PageRequest(0, 0, 4)], "NNNN"),
        ([script(filled=1), script()], [PageRequest(0, 0, 4), PageRequest(0, 1, 3)], "NNNN"),
        ([script(filled=2, keep_busy=1), script(keep_busy=1)], [PageRequest(0, 0, 4), PageRequest(0, 2, 2)], "NNNN"),
        ([script(replace=(0, 3))], [PageRequest(0, 0, 4)], "NNNN"),
    ],
)
def test_scripted_pager_answers_are_applied_page_by_page(answers, requests, queue):
    side = MapSide()
    (stack,) = build(side, 4)
    side.core.stack_swapout([SwapStack(stack, PCB, 9)])
    for m in list(side.vm.objects[stack.obj].resident.values()):
        side.vm.pages.valid[m] = side.vm.pages.dirty[m] = 0
    side.core.inject([Answers("vm_pager_get_pages", answers)])
    assert swap_in(side, [stack])[1] == requests
    (pages,) = shown(side, stack)
    assert (pages.valid, pages.wired, pages.queue, pages.busy, pages.mapped) == ("VVVV", "1111", queue, "....", "MMMM")
    assert side.core.check().violations == []


@pytest.mark.parametrize("idle", range(4))
def test_a_page_of_a_run_that_is_not_busy_is_a_failed_assertion(idle):
    side = MapSide()
    (stack,) = build(side, 4)
    side.core.stack_swapout([SwapStack(stack, PCB, 9)])
    frames = [side.vm.objects[stack.obj].resident[i] for i in range(4)]
    for i, m in enumerate(frames):
        side.vm.pages.valid[m] = 0
        if i != idle:
            vm_page_xbusy(side.vm, m)
    with pytest.raises(KernelPanic, match=f"^vm_page_assert_xbusied: page {frames[idle]} not exclusive busy$"):
        stack_swapin(side.vm, StackSwapinOp([SwapStack(stack, pid=9)], frames=frames))


def test_kernel_memory_is_read_and_written_across_pages():
    side = MapSide()
    (stack,) = build(side, 2)
    side.core.kmem_write([KmemWrite(stack.ks + PAGE - 3, b"abcdef"), KmemWrite(stack.ks, b"xy")])
    assert side.core.kmem_read([KmemRange(stack.ks + PAGE - 4, 8), KmemRange(stack.ks, 2)]).data[0][1:7] == b"abcdef"
    before = side.core.digest().state
    with pytest.raises(Refused):
        side.core.kmem_write([KmemWrite(stack.ks, b"no"), KmemWrite(stack.ks + 2 * PAGE - 1, b"no")])
    assert side.core.digest().state == before


def test_unknown_stacks_are_refused():
    side = MapSide()
    (stack,) = build(side, 2)
    for wrong in (
        StackPages(99, stack.ks, 2),
        StackPages(stack.obj, stack.ks + PAGE, 2),
        StackPages(stack.obj, stack.ks, 3),
    ):
        with pytest.raises(Refused) as refused:
            side.core.stack_destroy([stack, wrong])
        assert refused.value.reason is Reason.UNKNOWN_ID
    with pytest.raises(Refused):
        side.core.stack_create([0], 0)
    assert shown(side, stack)[0].exists


def test_stack_pages_are_never_taken_for_user_memory():
    side = MapSide(pages=160)
    stacks = build(side, *[4] * 8)
    for i, stack in enumerate(stacks):
        side.core.kmem_write([KmemWrite(stack.ks, bytes([i + 1]) * (4 * PAGE))])
    space = side.space(120)
    side.core.stack_swapout([SwapStack(stack, b"", 9) for stack in stacks[:4]])
    for _ in range(3):
        side.run(space, runs(*[record(FIRST + i, STORE) for i in range(120)]))
    swap_in(side, stacks[:4])
    for i, stack in enumerate(stacks):
        assert side.core.kmem_read([KmemRange(stack.ks, 4 * PAGE)]).data[0] == bytes([i + 1]) * (4 * PAGE)
    side.verify(space)
