"""Kernel address space: orders, best fit as the C scans for it, imports, alignment, exact frees."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from map_side import PAGE, MapSide

from services.physmem.vm_kern import kva_alloc, kva_free
from services.physmem.vmem import Arena, size_to_order
from services.ports.common import Answers
from services.ports.physmem import AccessCheck
from services.runtime.errors import KernelPanic


@pytest.mark.parametrize(("quanta", "order"), [(1, 0), (32, 31), (33, 31), (63, 31), (64, 32), (128, 33)])
def test_orders_of_sizes(quanta, order):
    assert size_to_order(quanta) == order


def test_recently_freed_ranges_of_a_list_are_taken_first():
    arena = Arena(PAGE)
    arena.add(0x100000, 64 * PAGE)
    taken = [arena.alloc(5 * PAGE) for _ in range(8)]
    for index in (1, 5, 3):  # no two are neighbours
        arena.release(taken[index], 5 * PAGE)
    assert [arena.alloc(5 * PAGE) for _ in range(3)] == [taken[3], taken[5], taken[1]]


def test_larger_lists_are_scanned_upward_and_the_first_fit_wins():
    arena = Arena(PAGE)
    arena.add(0, 1000 * PAGE)
    holes = [arena.alloc(size * PAGE) for size in (40, 1, 60, 1, 50, 1)]
    for index, size in ((0, 40), (2, 60), (4, 50)):
        arena.release(holes[index], size * PAGE)
    # 40, 60 and 50 pages share a list: the last one freed that is large enough is taken, not the smallest
    assert arena.alloc(45 * PAGE) == holes[4]
    assert arena.alloc(45 * PAGE) == holes[2]


def test_free_neighbours_join_but_not_across_spans():
    arena = Arena(PAGE)
    arena.add(PAGE, 4 * PAGE)
    arena.add(5 * PAGE, 4 * PAGE)
    parts = [arena.alloc(2 * PAGE) for _ in range(4)]
    for start in parts:
        arena.release(start, 2 * PAGE)
    assert arena.free == {PAGE: 4 * PAGE, 5 * PAGE: 4 * PAGE}
    assert arena.alloc(5 * PAGE) == 0


def test_aligned_allocations_leave_the_rest_free():
    arena = Arena(PAGE)
    arena.add(PAGE, 16 * PAGE)
    assert arena.alloc(4 * PAGE, 2 * PAGE) == 2 * PAGE
    assert arena.free == {PAGE: PAGE, 6 * PAGE: 11 * PAGE}


@pytest.mark.parametrize("size", [PAGE, 3 * PAGE])
def test_a_free_of_another_size_panics(size):
    arena = Arena(PAGE)
    arena.add(PAGE, 16 * PAGE)
    start = arena.alloc(2 * PAGE)
    with pytest.raises(KernelPanic):
        arena.release(start, size)


def test_imports_come_from_kernel_map_and_are_mapped_there_for_good():
    side = MapSide()
    vm = side.vm
    addr = kva_alloc(vm, 5 * PAGE)
    assert addr == vm.arch.kernel_min
    (entry,) = vm.kernel_map.entries
    assert (entry.start, entry.end) == (vm.arch.kernel_min, vm.arch.kernel_min + (2 << 20))
    kva_free(vm, addr, 5 * PAGE)
    assert (vm.arena.in_use, len(vm.kernel_map.entries)) == (0, 1)
    assert side.core.kernacc([AccessCheck(addr + PAGE * 400, 8, 3)]).ok == [True]
    kva_alloc(vm, 4 << 20)
    assert side.core.check().violations == []


def test_a_full_kernel_map_gives_no_address_space():
    side = MapSide(kernel_min=0xFFFFFE0000000000, kernel_max=0xFFFFFE0000000000 + (4 << 20))
    assert [bool(kva_alloc(side.vm, 2 << 20)) for _ in range(3)] == [True, True, False]


def test_scripted_failures_take_their_turn():
    side = MapSide()
    side.core.inject([Answers("kva_alloc", [1, 0])])
    assert [bool(kva_alloc(side.vm, PAGE)) for _ in range(3)] == [True, False, True]


class ArenaMachine(RuleBasedStateMachine):
    """Allocations never overlap, and everything free can be had again."""

    segments = Bundle("segments")

    def __init__(self):
        super().__init__()
        self.arena, self.live, self.total = Arena(PAGE), {}, 0

    @rule(pages=st.integers(1, 300))
    def add(self, pages):
        self.arena.add((self.total + 1000) * PAGE, pages * PAGE)
        self.total += pages + 1000 if pages % 2 else pages

    @rule(target=segments, pages=st.integers(1, 80), align=st.sampled_from([1, 1, 2, 8]))
    def alloc(self, pages, align):
        start = self.arena.alloc(pages * PAGE, align * PAGE)
        if start == 0:
            fits = [
                f for f, s in self.arena.free.items() if -(-f // (align * PAGE)) * align * PAGE + pages * PAGE <= f + s
            ]
            assert fits == []
            return multiple()
        assert start % (align * PAGE) == 0
        for other, size in self.live.items():
            assert start + pages * PAGE <= other or other + size <= start
        self.live[start] = pages * PAGE
        return start

    @rule(start=consumes(segments))
    def release(self, start):
        self.arena.release(start, self.live.pop(start))

    @invariant()
    def books_balance(self):
        arena = self.arena
        assert arena.busy == self.live
        assert arena.in_use == sum(self.live.values())
        assert sum(arena.free.values()) + arena.in_use == sum(arena.spans.values())
        for start, size in arena.free.items():
            assert start + size not in arena.free or start + size in arena.spans


TestArenaMachine = ArenaMachine.TestCase
TestArenaMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
