"""The shadow of page contents: what it accepts, and that every kind of damage is told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.integrity import Shadow
from clients.trace import KIND_LOAD, KIND_STORE, pack_run

SEED = 77


def runs(*pages_and_kinds):
    return np.array([pack_run(vpn, kinds, 1, 1) for vpn, kinds in pages_and_kinds], np.uint64)


def stamp(version, vmspace, vpn, *, seed=SEED, copy=None, written=True):
    writer = vmspace << 40 | vpn if written and version else 0
    return [seed if version else 0, 9, 9, version, writer, version if copy is None else copy]


def observed(*rows):
    return np.array([[index, vpn, *words] for index, vpn, words in rows], np.uint64).tobytes()


def verify(shadow, vmspace, pages):
    vpns = sorted(pages)
    shadow.verify(
        vmspace,
        np.array(vpns, np.uint64).tobytes(),
        np.array([pages[vpn] for vpn in vpns], np.uint64).reshape(-1, 6).tobytes(),
    )


def stored(vmspace=1, vpn=5, times=3):
    shadow = Shadow(SEED)
    shadow.executed(vmspace, runs(*[(vpn, KIND_STORE)] * times, (vpn, KIND_LOAD)), 0, times + 1, b"")
    return shadow


def test_versions_count_store_records_alone():
    shadow = stored(times=3)
    verify(shadow, 1, {5: stamp(3, 1, 5)})
    assert (shadow.pages_checked, shadow.mismatch_count) == (1, 0)


@pytest.mark.parametrize(
    "words",
    [
        stamp(2, 1, 5),
        stamp(4, 1, 5),
        stamp(3, 1, 5, copy=2),
        stamp(3, 2, 5),
        stamp(3, 1, 6),
        stamp(3, 1, 5, seed=SEED + 1),
        [0] * 6,
    ],
    ids=["older", "newer", "torn", "other space", "other page", "other machine", "zeroed"],
)
def test_damage_is_told(words):
    shadow = stored(times=3)
    verify(shadow, 1, {5: words})
    assert shadow.mismatch_count == 1
    assert shadow.mismatches[0].vpn == 5
    assert shadow.mismatches[0].expected_version == 3


def test_a_lost_page_is_told():
    shadow = stored()
    verify(shadow, 1, {})
    assert str(shadow.mismatches[0]) == "address space 1, page 0x5: version 0, expected 3 (the page is lost)"


def test_a_page_read_back_is_compared_as_it_stood_before_its_record():
    shadow = Shadow(SEED)
    batch = runs((5, KIND_STORE), (5, KIND_STORE), (6, KIND_LOAD), (5, KIND_STORE))
    seen = observed((1, 5, stamp(1, 1, 5)), (2, 6, stamp(0, 1, 6)), (2, 5, stamp(2, 1, 5)), (4, 5, stamp(3, 1, 5)))
    shadow.executed(1, batch, 0, 4, seen)
    assert (shadow.pages_checked, shadow.mismatch_count) == (4, 0)
    shadow.executed(1, batch, 0, 1, observed((0, 5, stamp(4, 1, 5))))
    assert shadow.mismatch_count == 1


def test_only_the_executed_part_of_a_batch_counts():
    shadow = Shadow(SEED)
    batch = runs((5, KIND_STORE), (5, KIND_STORE), (5, KIND_STORE))
    shadow.executed(1, batch, 0, 1, b"")
    shadow.executed(1, batch, 1, 2, b"")
    verify(shadow, 1, {5: stamp(2, 1, 5)})
    assert shadow.mismatch_count == 0


def test_a_child_has_its_parents_pages_until_it_stores():
    shadow = stored(times=3)
    shadow.forked(1, 2)
    shadow.executed(1, runs((5, KIND_STORE)), 0, 1, b"")
    verify(shadow, 2, {5: stamp(3, 1, 5)})
    shadow.executed(2, runs((5, KIND_STORE)), 0, 1, b"")
    verify(shadow, 2, {5: stamp(4, 2, 5)})
    verify(shadow, 1, {5: stamp(4, 1, 5)})
    assert shadow.mismatch_count == 0


def test_a_page_mapped_anew_is_fresh():
    shadow = stored(times=3)
    shadow.unmapped(1, 4, 2)
    verify(shadow, 1, {})
    shadow.executed(1, runs((5, KIND_STORE)), 0, 1, b"")
    verify(shadow, 1, {5: stamp(1, 1, 5)})
    assert shadow.mismatch_count == 0


def test_shared_ranges_are_not_compared():
    shadow = stored()
    shadow.share(1, 5, 1)
    verify(shadow, 1, {5: stamp(9, 2, 5)})
    verify(shadow, 1, {})
    assert (shadow.pages_checked, shadow.mismatch_count) == (0, 0)


def test_a_freed_space_is_forgotten():
    shadow = stored()
    shadow.freed(1)
    verify(shadow, 1, {})
    assert (shadow.pages_checked, shadow.mismatch_count) == (0, 0)


def test_the_first_mismatches_are_kept_and_all_are_counted():
    shadow = Shadow(SEED, keep=2)
    shadow.executed(1, runs(*[(vpn, KIND_STORE) for vpn in range(5)]), 0, 5, b"")
    verify(shadow, 1, {})
    assert (len(shadow.mismatches), shadow.mismatch_count) == (2, 5)


def test_the_table_grows_without_losing_a_page():
    shadow = Shadow(SEED)
    pages = [vpn * 977 for vpn in range(5000)]
    shadow.executed(1, runs(*[(vpn, KIND_STORE) for vpn in pages * 2]), 0, 10_000, b"")
    verify(shadow, 1, {vpn: stamp(2, 1, vpn) for vpn in pages})
    assert (shadow.pages_checked, shadow.mismatch_count) == (5000, 0)


SPACES, VPNS = st.integers(1, 3), st.integers(0, 7)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("store"), SPACES, VPNS),
        st.tuples(st.just("fork"), SPACES, SPACES),
        st.tuples(st.just("unmap"), SPACES, VPNS),
        st.tuples(st.just("read back"), SPACES, VPNS),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_it_agrees_with_a_plain_model(steps):
    shadow = Shadow(SEED)
    model = {1: {}, 2: {}, 3: {}}
    for what, space, other in steps:
        if what == "store":
            shadow.executed(space, runs((other, KIND_STORE)), 0, 1, b"")
            model[space][other] = (model[space].get(other, (0, 0))[0] + 1, space)
        elif what == "fork" and space != other:
            shadow.forked(space, other)
            model[other] = dict(model[space])
        elif what == "unmap":
            shadow.unmapped(space, other, 2)
            model[space] = {vpn: v for vpn, v in model[space].items() if vpn not in (other, other + 1)}
        elif what == "read back":
            version, writer = model[space].get(other, (0, 0))
            shadow.executed(space, runs(), 0, 0, observed((0, other, stamp(version, writer, other))))
    for space, pages in model.items():
        verify(shadow, space, {vpn: stamp(version, writer, vpn) for vpn, (version, writer) in pages.items()})
    assert shadow.mismatch_count == 0
