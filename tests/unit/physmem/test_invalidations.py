"""What the pmap tells of translations that other processors may hold: as often as pmap.c asks for a shoot-down."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_side import SPACE, anonymous, page_side, resident

from services.physmem.pmap import (
    KERNEL_PMAP,
    pmap_advise,
    pmap_clear_modify,
    pmap_enter,
    pmap_pinit,
    pmap_protect,
    pmap_qenter,
    pmap_qremove,
    pmap_remove,
    pmap_remove_all,
    pmap_remove_write,
    pmap_ts_referenced,
    pmap_unwire,
    tell_invalidations,
)
from services.ports.common import Shootdown

R, W = 1, 2
VPN = 0x7F0000000
OTHER = 2


@pytest.fixture
def vm():
    return two_spaces()


def two_spaces():
    side = page_side()
    side.ncpu = 2
    pmap_pinit(side, OTHER)
    return side


@pytest.fixture
def m(vm):
    return resident(vm, anonymous(vm, 1), 0, dirty=False)


def told(vm):
    """What is told now, by address space."""
    tell_invalidations(vm)
    return {entry.vmspace: entry.count for entry in vm.ctx.take_upcalls().shootdowns}


def enter(vm, m, space=SPACE, vpn=VPN, access=W):
    pmap_enter(vm, space, vpn, m, R | W, False, access)


def test_a_new_mapping_is_nobodys_business(vm, m):
    enter(vm, m)
    assert told(vm) == {}


def test_a_mapping_that_was_used_and_is_replaced_is(vm, m):
    enter(vm, m)
    enter(vm, m)
    assert told(vm) == {SPACE: 1}
    enter(vm, m, access=0)
    enter(vm, m)
    assert told(vm) == {SPACE: 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda vm: pmap_remove(vm, SPACE, VPN, VPN + 9),
        lambda vm: pmap_protect(vm, SPACE, VPN, VPN + 9, R),
        lambda vm: pmap_protect(vm, SPACE, VPN, VPN + 9, 0),
        lambda vm: pmap_advise(vm, SPACE, VPN, VPN + 9),
    ],
)
def test_a_range_is_one_shoot_down_and_one_that_changes_nothing_is_none(vm, m, change):
    for page in range(9):
        enter(vm, m, vpn=VPN + page)
    change(vm)
    assert told(vm) == {SPACE: 1}
    change(vm)
    assert told(vm) == {}


def test_the_end_of_a_wiring_changes_no_translation(vm, m):
    pmap_enter(vm, SPACE, VPN, m, R | W, True, W)
    pmap_unwire(vm, SPACE, VPN, VPN + 1)
    assert told(vm) == {}


@pytest.mark.parametrize("change", [pmap_remove_all, pmap_remove_write, pmap_ts_referenced, pmap_clear_modify])
def test_a_page_is_one_shoot_down_for_each_mapping_that_changes(vm, m, change):
    enter(vm, m)
    enter(vm, m, vpn=VPN + 1)
    enter(vm, m, space=OTHER)
    change(vm, m)
    assert told(vm) == {SPACE: 2, OTHER: 1}
    change(vm, m)
    assert told(vm) == {}


def test_kernel_mappings_are_invalidated_when_they_go_or_are_replaced(vm, m):
    va = vm.arch.kernel_min
    pmap_qenter(vm, va, [m, m])
    assert told(vm) == {}
    pmap_qenter(vm, va, [m])
    assert told(vm) == {KERNEL_PMAP: 1}
    pmap_qremove(vm, va, 2)
    assert told(vm) == {KERNEL_PMAP: 1}


def test_one_processor_has_nobody_to_tell(vm, m):
    vm.ncpu = 1
    enter(vm, m)
    pmap_remove_all(vm, m)
    tell_invalidations(vm)
    assert not vm.ctx.upcalls
    vm.ncpu = 2
    assert told(vm) == {}


def test_up_calls_of_several_answers_are_told_one_after_the_other(vm, m):
    for _ in range(2):
        enter(vm, m)
        pmap_remove_all(vm, m)
        tell_invalidations(vm)
    assert vm.ctx.take_upcalls().shootdowns == [Shootdown(SPACE, 1)] * 2


ACTS = st.tuples(
    st.sampled_from(["enter", "use", "remove", "clean", "age", "all"]), st.integers(0, 1), st.integers(0, 3)
)


@settings(max_examples=60, deadline=None)
@given(acts=st.lists(ACTS, max_size=40))
def test_they_are_those_of_a_table_of_mappings(acts):
    vm = two_spaces()
    m = resident(vm, anonymous(vm, 1), 0, dirty=False)
    mapped: dict[tuple[int, int], str] = {}
    expected: Counter[int] = Counter()
    for act, which, page in acts:
        space, at = (SPACE, OTHER)[which], (which, page)
        if act in ("enter", "use"):
            if mapped.get(at) in ("used", "read"):
                expected[space] += 1
            enter(vm, m, space, VPN + page, access=W if act == "use" else 0)
            mapped[at] = "used" if act == "use" else "fresh"
        elif act == "remove":
            pmap_remove(vm, space, VPN + page, VPN + page + 1)
            expected[space] += mapped.pop(at, None) is not None
        elif act == "all":
            pmap_remove_all(vm, m)
            expected.update((SPACE, OTHER)[of] for of, _ in mapped)
            mapped.clear()
        elif act == "clean":
            pmap_clear_modify(vm, m)
            expected.update((SPACE, OTHER)[of] for (of, _), state in mapped.items() if state == "used")
            mapped = {of: "read" if state == "used" else state for of, state in mapped.items()}
        else:
            pmap_advise(vm, space, VPN + page, VPN + page + 1)
            expected[space] += mapped.get(at) in ("used", "read")
            if at in mapped:
                mapped[at] = "fresh"
    assert told(vm) == {space: count for space, count in expected.items() if count}
