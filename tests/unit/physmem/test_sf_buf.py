"""The pool of kernel mappings of an architecture that does not map all memory."""

import pytest
from map_side import PAGE, MapSide

from hardware_sim.arch import arch
from services.physmem.pmap import pmap_extract, vpn_of
from services.physmem.sf_buf import nsfbufs
from services.ports.common import Status

PLACES = 2


@pytest.fixture
def side():
    side = MapSide(arch="i386")
    side.vm.sf_pool.nsfbufs = PLACES
    return side


def once(side, page, op=0):
    """One call for a page of a file."""
    return side.core.vm_imgact_map_page("prog", 8, page * PAGE, 0, op)


def mapped(side, page):
    """The mapping of a page, which is read if need be."""
    answer = once(side, page)
    if answer.status is Status.SUSPENDED:
        side.complete()
        answer = once(side, page, answer.suspension.op)
    assert answer.status is Status.DONE
    assert answer.mapping
    return answer.mapping


def address(side, mapping):
    """Where it is mapped."""
    sf = side.vm.sf_bufs[mapping]
    assert pmap_extract(side.vm, 0, vpn_of(side.vm, sf.kva)) == sf.frame
    return sf.kva


def free(side, mapping):
    side.core.vm_imgact_unmap_page(mapping, 1)


@pytest.mark.parametrize(
    ("name", "pages", "size"),
    [
        ("amd64", 1 << 20, 0),
        ("i386", 1024, 512 + 32 * 16),
        ("i386", 512 * 100, 512 + 100 * 16),
        ("i386", 512 * 400, 512 + 386 * 16),
    ],
)
def test_the_size_of_the_pool(name, pages, size):
    assert nsfbufs(arch(name), pages) == size


def test_a_mapping_is_used_again_while_it_lasts(side):
    first = mapped(side, 0)
    second = mapped(side, 0)
    kva = address(side, first)
    assert address(side, second) == kva
    free(side, first)
    assert side.vm.sf_pool.nsfbufsused == 1
    free(side, second)
    assert (side.vm.sf_pool.nsfbufsused, side.vm.sf_pool.nsfbufspeak) == (0, 1)
    assert address(side, mapped(side, 0)) == kva
    side.verify()


def test_the_place_that_is_free_for_longest_goes_first(side):
    one, two = mapped(side, 1), mapped(side, 2)
    places = address(side, one), address(side, two)
    free(side, two)
    free(side, one)
    assert address(side, mapped(side, 3)) == places[1]
    assert address(side, mapped(side, 1)) == places[0], "it was mapped there still"
    assert side.vm.arena.in_use == PLACES * PAGE
    side.verify()


def test_who_finds_no_place_waits_for_one(side):
    one, _ = mapped(side, 1), mapped(side, 2)
    asleep = once(side, 3)
    side.complete()
    asleep = once(side, 3, asleep.suspension.op)
    assert (asleep.status, asleep.suspension.wmesg) == (Status.SUSPENDED, "sfbufa")
    (told,) = side.core.suspended().operations
    assert (told.function.split()[0], told.wmesg) == ("vm_imgact_map_page", "sfbufa")
    side.settle()
    side.wakeups.clear()
    again = once(side, 3, asleep.suspension.op)
    assert again.status is Status.SUSPENDED
    free(side, one)
    side.settle()
    assert side.wakeups.count("sf_buf_freelist") == 1
    answer = once(side, 3, again.suspension.op)
    assert answer.status is Status.DONE
    free(side, answer.mapping)
    side.settle()
    assert side.wakeups.count("sf_buf_freelist") == 1, "nobody waits any more"
    side.verify()


def test_a_page_that_is_freed_may_stay_mapped_in_a_place_that_nobody_uses(side):
    free(side, mapped(side, 1))
    frame = side.vm.sf_pool.bufs[0].m
    assert side.core.evict(1, [1]).pindexes == [1]
    assert frame not in side.vm.objects[1].resident.values()
    assert side.vm.sf_pool.bufs[0].m == frame
    assert side.core.check().violations == []


def test_without_address_space_the_pool_stays_as_large_as_it_is(side):
    one = mapped(side, 1)
    side.vm.kernel_map.max_offset = side.vm.kernel_map.min_offset
    side.vm.arena.free.clear()
    side.vm.arena.orders.clear()
    free(side, one)
    assert mapped(side, 2)
    assert len(side.vm.sf_pool.bufs) == 1
