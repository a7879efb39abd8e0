"""Situations in memory: stacks, image files and address spaces placed, the scripted pager, evictions, refusals."""

import pytest
from map_side import MapSide

from services.physmem.page_busy import vm_page_xunbusy
from services.ports.common import Answers
from services.ports.pager import VmPager
from services.ports.physmem import (
    IcacheSync,
    ImageMapping,
    PageQueue,
    PageRequest,
    PageState,
    PageValid,
    PhysmemBoot,
    PlacedFile,
    PlacedStack,
    SwapStack,
)
from services.runtime.errors import KernelPanic, Reason, Refused

ALL, PARTIAL, NONE = PageValid.ALL, PageValid.PARTIAL, PageValid.NONE
FILL = int(VmPager.OK)
KEEP_BUSY, FILL_NONE, FILL_TWO, REPLACE_FIRST, VANISH_FIRST = 1 << 3, 1 << 4, 3 << 4, 1 << 10, 1 << 42


def stacks_of(side, *stacks):
    return side.core.place(list(stacks), [], []).stacks


def shown(side, stack):
    (pages,) = side.core.object_pages([stack]).objects
    return pages.mapped, pages.valid, pages.dirty, pages.wired, pages.queue, pages.busy


def pages_of(side, file="prog"):
    return side.core.image_pages([file]).files[0].pages


def script(side, *answers, after=FILL):
    side.core.inject([Answers("vm_pager_get_pages", list(answers), after, has_after=True)])


def test_a_stack_is_placed_as_it_is_described():
    side = MapSide()
    pages = [
        PageState(0, ALL, dirty=True),
        PageState(1, PARTIAL, queue=PageQueue.ACTIVE),
        PageState(3, NONE, queue=PageQueue.NONE, busy=True),
        PageState(4, ALL, wired=2),
    ]
    plain, mapped = stacks_of(side, PlacedStack(5, pages), PlacedStack(5, pages, mapped=True))
    assert shown(side, plain) == (".....", "VP-IV", "D.-..", "00-02", "IA-NN", "..-X.")
    assert shown(side, mapped)[0] == "MM.MM"
    assert mapped.ks - plain.ks >= 5 * 4096
    assert (side.vm.cnt.v_wire_count, side.vm.cnt.v_inactive_count, side.vm.cnt.v_active_count) == (2, 2, 2)


def test_a_file_and_address_spaces_are_placed_as_they_are_described():
    side = MapSide()
    pages = [
        PageState(2, ALL, True, 0, 3, PageQueue.ACTIVE, False, 5),
        PageState(9, PARTIAL, False, 1, 0, PageQueue.NONE),
    ]
    placed = side.core.place([], [PlacedFile("prog", 4, pages)], [3, 0])
    assert pages_of(side) == pages
    assert [side.core.vmspace_info([space]).spaces[0].refcnt for space in placed.vmspaces] == [3, 0]
    side.core.set_page("prog", 2, NONE, False)
    assert pages_of(side)[0] == PageState(2, NONE, False, 0, 3, PageQueue.ACTIVE, False, 5)


@pytest.mark.parametrize(
    ("stacks", "files", "field"),
    [
        ([PlacedStack(0)], [], "stacks[0].size"),
        ([PlacedStack(33)], [], "stacks[0].size"),
        ([PlacedStack(2), PlacedStack(1, [PageState(1)])], [], "stacks[1].pages[0].pindex"),
        ([PlacedStack(2, [PageState(1), PageState(1)])], [], "stacks[0].pages[1].pindex"),
        ([PlacedStack(2, [PageState(1, wired=1 << 16)])], [], "stacks[0].pages[0].wired"),
        ([], [PlacedFile("a", 1, [PageState(0, held=1 << 16)])], "files[0].pages[0].held"),
        ([], [PlacedFile("", 1)], "files[0].file"),
        ([], [PlacedFile("a", 1), PlacedFile("a", 1)], "files[0].file"),
        ([], [PlacedFile("known", 1)], "files[0].file"),
        ([], [PlacedFile("a", 2000, [PageState(i) for i in range(2000)])], "stacks"),
    ],
)
def test_what_cannot_be_is_refused_whole(stacks, files, field):
    side = MapSide()
    side.core.place([], [PlacedFile("known", 1)], [])
    objects, free = len(side.vm.objects), side.vm.cnt.v_free_count
    with pytest.raises(Refused) as refused:
        side.core.place(stacks or [PlacedStack(1, [PageState(0)])], files, [1])
    assert refused.value.field == field
    assert (len(side.vm.objects), side.vm.cnt.v_free_count, side.vm.spaces) == (objects, free, {})


def test_situations_are_placed_only_where_that_is_allowed():
    side = MapSide()
    side.core.boot(PhysmemBoot(ram_pages=64))
    for call in (
        lambda: side.core.place([], [], []),
        lambda: side.core.set_page("prog", 0, ALL, False),
        lambda: side.core.evict(1, []),
    ):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.reason is Reason.INJECTION_REFUSED


def test_unknown_files_pages_and_objects_are_not_found():
    side = MapSide()
    side.core.place([], [PlacedFile("prog", 4)], [])
    for call in (
        lambda: side.core.set_page("other", 0, ALL, False),
        lambda: side.core.set_page("prog", 0, ALL, False),
        lambda: side.core.evict(99, [0]),
        lambda: side.core.image_pages(["other"]),
    ):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.reason is Reason.UNKNOWN_ID


def test_the_page_daemon_takes_what_nobody_uses():
    side = MapSide()
    pages = [
        PageState(0, ALL, dirty=True),
        PageState(1, ALL, wired=1),
        PageState(2, ALL, held=1),
        PageState(3, ALL, busy=True),
        PageState(5, NONE, queue=PageQueue.NONE),
    ]
    (stack,) = stacks_of(side, PlacedStack(6, pages))
    free = side.vm.cnt.v_free_count
    assert side.core.evict(stack.obj, [5, 4, 3, 2, 1, 0]).pindexes == [5, 0]
    assert shown(side, stack)[1] == "-VVV--"
    assert side.vm.cnt.v_free_count == free + 2
    assert side.core.evict(stack.obj, [0, 5]).pindexes == []


def test_a_scripted_pager_fills_and_replaces_and_what_it_keeps_busy_is_released():
    side = MapSide()
    dirty = [PageState(i, ALL, dirty=True) for i in range(2)]
    (stack,) = stacks_of(side, PlacedStack(5, dirty))
    script(side, FILL | KEEP_BUSY | REPLACE_FIRST)
    answer = side.core.stack_swapin([SwapStack(stack, pid=9)], 0)
    assert answer.page_requests == [PageRequest(0, 2, 3, VmPager.OK)]
    assert answer.pcbs == [b""]
    assert shown(side, stack) == ("MMMMM", "VVVVV", "DD...", "11111", "NNNNN", ".....")
    assert side.vm.objects[stack.obj].replaced == {2: 1}


def test_registers_come_back_from_a_page_that_the_pager_did_not_give():
    side = MapSide()
    (stack,) = stacks_of(side, PlacedStack(2, [PageState(i, ALL, wired=1) for i in range(2)], mapped=True))
    side.core.stack_swapout([SwapStack(stack, b"registers".ljust(72), 9)])
    assert side.core.evict(stack.obj, [0]).pindexes == [0]
    script(side)
    answer = side.core.stack_swapin([SwapStack(stack, pid=9)], 0)
    assert answer.page_requests == [PageRequest(0, 0, 1, VmPager.OK)]
    assert answer.pcbs[0].endswith(b"registers".ljust(72))


def test_a_scripted_pager_that_fails_is_the_panic_of_a_swap_in():
    side = MapSide()
    (stack,) = stacks_of(side, PlacedStack(2))
    script(side, int(VmPager.ERROR))
    with pytest.raises(KernelPanic, match="cannot get kstack for proc: 9"):
        side.core.stack_swapin([SwapStack(stack, pid=9)], 0)


def test_the_generation_of_a_page_counts_replacements_until_it_is_thrown_away():
    side = MapSide()
    side.core.place([], [PlacedFile("prog", 4, [PageState(1, PARTIAL)])], [])
    script(side, FILL | REPLACE_FIRST, FILL | REPLACE_FIRST, int(VmPager.FAIL) | REPLACE_FIRST)

    def map_page():
        answer = side.core.vm_imgact_map_page("prog", 4, 4096, 0, 0)
        return answer.mapping, answer.generation, [request.result for request in answer.page_requests]

    assert map_page() == (1, 1, [VmPager.OK])
    assert map_page() == (2, 1, [])
    side.core.set_page("prog", 1, PARTIAL, False)
    assert map_page() == (3, 2, [VmPager.OK])
    side.core.set_page("prog", 1, NONE, False)
    assert map_page() == (0, 0, [VmPager.FAIL])
    assert pages_of(side) == []
    assert map_page() == (4, 0, [VmPager.OK])
    assert side.core.image_pages([]).mappings == [ImageMapping(mapping, 1) for mapping in (1, 2, 3, 4)]


def test_a_page_that_somebody_holds_is_replaced_by_one_that_is_held_as_well():
    side = MapSide()
    side.core.place([], [PlacedFile("prog", 1, [PageState(0, PARTIAL, held=1)])], [])
    script(side, FILL | REPLACE_FIRST)
    assert side.core.vm_imgact_map_page("prog", 1, 0, 0, 0).generation == 1
    assert pages_of(side) == [PageState(0, ALL, False, 0, 2, PageQueue.ACTIVE, False, 1)]


def test_a_page_that_vanishes_under_the_pager_gives_no_mapping():
    side = MapSide()
    side.core.place([], [PlacedFile("prog", 4)], [])
    script(side, FILL | VANISH_FIRST)
    answer = side.core.vm_imgact_map_page("prog", 4, 0, 7, 0)
    assert (answer.mapping, answer.pins, len(answer.page_requests)) == (0, 7, 1)
    assert pages_of(side) == []


def test_what_a_run_lacks_is_asked_for_again_page_by_page():
    side = MapSide()
    (stack,) = stacks_of(side, PlacedStack(4))
    script(side, FILL | FILL_TWO | KEEP_BUSY, FILL | FILL_NONE, FILL | FILL_NONE)
    answer = side.core.stack_swapin([SwapStack(stack, pid=9)], 0)
    assert [(request.first, request.count) for request in answer.page_requests] == [(0, 4), (2, 2), (3, 1)]
    assert shown(side, stack) == ("MMMM", "VVII", "....", "1111", "NNNN", "....")


def test_what_reaches_the_instruction_cache_is_answered():
    side = MapSide()
    space = side.space()
    assert side.core.vm_sync_icache(space, (1 << 64) - 1, 3) == IcacheSync(space, (1 << 64) - 1, 3)


def test_a_page_that_the_pager_leaves_neither_valid_nor_busy_is_asserted(monkeypatch):
    def forgetful(vm, _obj, _first, ma):
        vm.pages.valid[ma[0]] = vm.bits_all
        vm_page_xunbusy(vm, ma[1])
        return VmPager.OK

    monkeypatch.setattr("services.physmem.kstack_pages.get_pages_scripted", forgetful)
    side = MapSide()
    (stack,) = stacks_of(side, PlacedStack(4))
    with pytest.raises(KernelPanic, match=r"vm_page_assert_xbusied: page \d+ not exclusive busy") as panic:
        side.core.stack_swapin([SwapStack(stack, pid=9)], 0)
    assert (panic.value.function, panic.value.line) == ("vm_thread_swapin", 584)
