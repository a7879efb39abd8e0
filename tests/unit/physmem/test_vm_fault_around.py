"""vm_fault_prefault and pmap_copy: who maps what without a fault of its own."""

from hypothesis import given, settings
from hypothesis import strategies as st
from map_side import BASE, FIRST, LOAD, PAGE, STORE, MapSide, record, runs

from hardware_sim.mmu import PG_A, PG_RW
from services.physmem.page_array import PG_DOOMED, PQ_ACTIVE, PQ_INACTIVE
from services.physmem.state import ObjectType
from services.physmem.vm_fault_around import vm_fault_dontneed, vm_fault_prefault

SIZE = 24
"""Pages of the entry."""


def touch(pages, kinds=LOAD, first=FIRST):
    return runs(*[record(first + i, kinds) for i in pages])


def mapped(side, space, pages=SIZE):
    """Offsets of pages that are mapped."""
    return {i for i in range(pages) if side.vm.mmu.pte(space, FIRST + i)}


def unmapped_but_resident(pages=SIZE, ram=1024):
    """A space whose pages are all resident, and none of which is mapped."""
    side = MapSide(pages=ram)
    space = side.space(pages)
    side.run(space, touch(range(pages), STORE))
    side.vm.mmu.clear_range(space, FIRST, FIRST + pages, 1)
    return side, space


def test_a_minor_fault_maps_four_neighbours_on_each_side_read_only_and_unused():
    side, space = unmapped_but_resident()
    side.run(space, touch([0]))
    side.vm.mmu.clear_range(space, FIRST, FIRST + 1, 1)
    side.run(space, touch([12]))
    assert mapped(side, space) == {1, 2, 3, 4, *range(8, 17)}
    assert not side.vm.mmu.pte(space, FIRST + 11) & (PG_A | PG_RW)
    assert side.run(space, touch(range(8, 17))).minor == 0
    assert side.run(space, touch([13], STORE)).minor == 1
    side.verify(space)


def test_neighbours_end_with_the_entry():
    side, space = unmapped_but_resident()
    side.run(space, touch([2]))
    assert mapped(side, space) == set(range(7))


def test_a_page_of_zeros_brings_no_neighbours():
    side, space = unmapped_but_resident()
    side.map(space, 1, start=BASE + SIZE * PAGE)
    assert side.run(space, touch([SIZE], STORE)).minor == 1
    assert mapped(side, space, SIZE + 1) == {SIZE}


def test_a_copied_page_brings_neighbours():
    side = MapSide()
    parent = side.space(SIZE)
    side.run(parent, touch(range(SIZE), STORE))
    child = side.fork(parent)
    side.vm.mmu.clear_range(child, FIRST, FIRST + SIZE, 1)
    assert side.run(child, touch([10], STORE)).minor == 1
    assert mapped(side, child) == set(range(6, 15)), "a DEFAULT object shows the pages of the one behind it"


def test_a_read_maps_its_window():
    side, space = unmapped_but_resident()
    side.evict(space)
    outcome = side.run(space, touch([10]))
    assert (outcome.major, outcome.minor) == (1, 0)
    assert mapped(side, space) == set(range(2, 18)), "8 in front, the page, 7 behind"
    assert side.run(space, touch(range(2, 18))).minor == 0
    side.verify(space)


def test_a_lone_page_that_was_read_brings_no_neighbours():
    side = MapSide()
    space = side.space(SIZE)
    side.run(space, touch([10], STORE))
    side.evict(space)
    side.run(space, touch([9, 11], STORE))
    side.vm.mmu.clear_range(space, FIRST, FIRST + SIZE, 1)
    assert side.run(space, touch([10])).major == 1
    assert mapped(side, space) == {10}


def test_a_child_maps_what_its_parent_maps_and_writes_need_a_copy():
    side = MapSide()
    parent = side.space(SIZE)
    side.map(parent, 2, start=BASE + SIZE * PAGE, shared=True)
    side.shadow.share(parent, FIRST + SIZE, 2)
    side.run(parent, touch(range(SIZE + 2), STORE))
    child = side.fork(parent)
    assert mapped(side, child, SIZE + 2) == set(range(SIZE + 2))
    assert side.core.vmspace_info([child]).spaces[0].resident == SIZE + 2
    assert side.run(child, touch(range(SIZE + 2))).minor == 0
    assert side.run(child, touch([SIZE, SIZE + 1], STORE)).minor == 0, "shared memory is writable at once"
    assert side.run(child, touch([3, 4], STORE)).minor == 2
    assert side.run(parent, touch([3], STORE)).minor == 1
    side.verify(parent, child)


def test_a_page_that_goes_when_its_write_ends_is_not_mapped():
    side, space = unmapped_but_resident()
    m = side.vm.objects[1].resident[11]
    side.vm.pages.flags[m] |= PG_DOOMED
    side.run(space, touch([10]))
    assert mapped(side, space) == {9, 10}, "page 9 comes before page 11, which ends it"


def test_a_file_that_is_mapped_anew_shows_its_first_resident_pages_at_once():
    side = MapSide(pages=2048)
    reader = side.space(200, file="lib", file_pages=200)
    side.run(reader, touch([*range(40, 60), *range(90, 110)]))
    (obj,) = (obj for obj in side.vm.objects if obj.type == ObjectType.VNODE)
    side.vm.pages.valid[obj.resident[41]] = 0
    some, all_, blind, later = (side.space() for _ in range(4))
    side.map(some, 200, file="lib", file_pages=200)
    side.map(all_, 200, file="lib", file_pages=200, prefault=True)
    side.map(blind, 200, file="lib", file_pages=200, prot=0)
    side.map(later, 60, file="lib", file_pages=200, offset_pages=80, prot=7)
    shown = set(obj.resident) - {41}
    assert len(shown) > 40
    assert mapped(side, some, 200) == {i for i in shown if i < 96}
    assert mapped(side, all_, 200) == shown
    assert mapped(side, blind, 200) == set()
    assert mapped(side, later, 60) == {i - 80 for i in shown if 80 <= i < 140}
    assert not side.vm.mmu.pte(later, FIRST + 20) & (PG_RW | PG_A)
    side.vm.pages.valid[obj.resident[41]] = side.vm.bits_all
    assert side.run(all_, touch(sorted(shown))).minor == 0
    assert side.run(all_, touch([50], STORE)).minor == 1
    side.verify(reader, some, all_, later)


def sequential_reader(pages, **region):
    """Read pages of a large file one by one, in a machine that has memory for all of them."""
    side = MapSide(pages=4096)
    space = side.space(pages, file="big", file_pages=pages, **region)
    side.run(space, touch(range(pages)))
    return side, space, next(obj for obj in side.vm.objects if obj.type == ObjectType.VNODE)


def deactivated(side, obj):
    return {i for i, m in obj.resident.items() if side.vm.pages.queue[m] == PQ_INACTIVE}


def test_a_sequential_reader_leaves_a_superpage_behind_at_once():
    start = BASE // PAGE  # 16 pages above a multiple of 512
    side, space, obj = sequential_reader(1100)
    left = deactivated(side, obj)
    assert set(range(512 - start % 512)) <= left, "the cluster before the one that the reader was about to leave"
    active = {i for i in range(1024 - start % 512, 1100) if side.vm.pages.queue[obj.resident[i]] == PQ_ACTIVE}
    assert active, "pages that faulted in the last cluster are active"
    assert not [i for i in range(512 - start % 512) if side.vm.mmu.pte(space, start + i) & PG_A]
    assert not active & left
    side.verify(space)


def test_what_was_written_in_it_is_dirty():
    side, space = unmapped_but_resident(pages=600, ram=2048)
    side.run(space, touch([100], STORE))
    frames = side.vm.objects[1].resident
    side.vm.pages.np.dirty[list(frames.values())] = 0
    entry = side.vm.space(space).map.entries[0]
    vm_fault_dontneed(side.vm, side.vm.space(space).map, entry, side.vm.objects[1], BASE + 597 * PAGE, 31)
    assert deactivated(side, side.vm.objects[1]) == set()
    near = BASE // PAGE % 512
    last = (BASE + (1024 - near - 32) * PAGE) if near else 0
    entry.end = BASE + 1100 * PAGE
    vm_fault_dontneed(side.vm, side.vm.space(space).map, entry, side.vm.objects[1], last, 31)
    assert deactivated(side, side.vm.objects[1]) == set(range(512 - near))
    assert [i for i in range(600) if side.vm.pages.dirty[frames[i]]] == [100]


def naive_prefault(at, backward, forward, present, start, end, page_of):
    """The loop over addresses in the order of the C code: (offset, frame) of each page that it maps."""
    found = []
    for i in range(2 * max(backward, forward)):
        neighbour = at + (i // 2 + 1) * (-1 if i % 2 == 0 else 1)
        if neighbour > at + forward or neighbour < max(at - backward, start) or neighbour >= end:
            continue
        if neighbour in present:
            continue
        m = page_of(neighbour)
        if m is None:
            break
        found.append((neighbour, m))
    return found


@settings(max_examples=60, deadline=None)
@given(
    at=st.integers(0, SIZE - 1),
    backward=st.integers(0, 8),
    forward=st.integers(0, 31),
    gone=st.sets(st.integers(0, SIZE - 1), max_size=4),
    invalid=st.sets(st.integers(0, SIZE - 1), max_size=3),
    written=st.sets(st.integers(0, SIZE - 1), max_size=6),
    swap=st.booleans(),
    kept=st.sets(st.integers(0, SIZE - 1), max_size=8),
)
def test_neighbours_are_those_of_the_c_loop(at, backward, forward, gone, invalid, written, swap, kept):
    side = MapSide()
    parent = side.space(SIZE)
    side.run(parent, touch(range(SIZE), STORE))
    space = side.fork(parent)
    if written:
        side.run(space, touch(sorted(written), STORE))
    entry = side.vm.space(space).map.entries[0]
    top, behind = side.vm.objects[entry.object], side.vm.objects[1]
    if swap:
        top.type = ObjectType.SWAP
    for i in range(SIZE):
        if i not in kept | {at}:
            side.vm.mmu.clear_range(space, FIRST + i, FIRST + i + 1, 1)
    for i in gone:
        behind.resident.pop(i, None)
    for i in invalid & set(behind.resident):
        side.vm.pages.valid[behind.resident[i]] = 0
    present = mapped(side, space)

    def page_of(i):
        if i in top.resident:
            return top.resident[i]
        return None if top is not behind and top.type == ObjectType.SWAP else behind.resident.get(i)

    found = naive_prefault(at, backward, forward, present, 0, SIZE, page_of)
    expected = {i: m for i, m in found if side.vm.pages.valid[m]}
    vm_fault_prefault(side.vm, side.vm.space(space).map, entry, BASE + at * PAGE, backward, forward)
    after = mapped(side, space)
    assert after - present == set(expected)
    assert all(side.vm.mmu.pte(space, FIRST + i) >> 12 == m for i, m in expected.items())
