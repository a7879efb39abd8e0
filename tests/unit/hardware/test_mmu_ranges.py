"""Ranges of page table entries, against what one entry after the other would come to."""

from hypothesis import given
from hypothesis import strategies as st

from hardware_sim.mmu import PG_A, PG_G, PG_M, PG_MANAGED, PG_RW, PG_V, PG_W, PG_X, VPN_BITS, Mmu
from hardware_sim.mmu_ranges import absent_entries, copy_range, enter_all

USER = PG_V | PG_MANAGED
FRAMES = 8
PARENT, CHILD = 1, 2
VPNS = [0, 1, 5, 510, 511, 512, 1023, 1024, (1 << 18) - 1, 1 << 18, (1 << 27) + 7, (1 << 36) - 1]
ENDS = sorted({vpn + more for vpn in VPNS for more in (0, 1)})
bits = st.sets(st.sampled_from([PG_RW, PG_A, PG_M, PG_W, PG_X])).map(lambda some: PG_V | sum(some))
entries = st.dictionaries(
    st.sampled_from(VPNS), st.tuples(st.integers(0, FRAMES - 1), bits, st.sampled_from([PG_MANAGED, PG_G])), max_size=12
)


def two_spaces(held):
    """Page tables whose parent has the entries; a pool so small that it must grow."""
    mmu = Mmu(FRAMES, tables=4, tlb_entries=1024)
    mmu.create(PARENT)
    mmu.create(CHILD)
    ptes = {vpn: frame << 12 | flags | kind for vpn, (frame, flags, kind) in held.items()}
    for vpn, pte in ptes.items():
        mmu.enter(PARENT, vpn, pte)
    return mmu, ptes


@given(entries, st.sampled_from(ENDS), st.sampled_from(ENDS))
def test_a_copied_range_has_the_managed_entries_unused_and_not_wired(held, start, end):
    mmu, ptes = two_spaces(held)
    copy_range(mmu, CHILD, PARENT, start, end)
    for vpn in VPNS:
        pte = ptes.get(vpn, 0)
        assert mmu.pte(PARENT, vpn) == pte
        copied = start <= vpn < end and pte & PG_MANAGED
        assert mmu.pte(CHILD, vpn) == (pte & ~(PG_W | PG_A | PG_M) if copied else 0)
    assert mmu.wired(CHILD) == 0
    assert mmu.check() == []


@given(entries, st.sampled_from(VPNS), st.integers(0, 62))
def test_absent_entries_are_free_slots_of_tables_that_are_there(held, start, pages):
    mmu, ptes = two_spaces(held)
    pages = min(pages, (1 << VPN_BITS) - start)
    tables = {vpn >> 9 for vpn in ptes}
    expected = sum(1 << i for i in range(pages) if (start + i) >> 9 in tables and start + i not in ptes)
    assert absent_entries(mmu, PARENT, start, start + pages) == expected


def test_entries_far_apart_are_set_together_with_tables_of_their_own():
    mmu, _ = two_spaces({})
    vpns = [i << 18 for i in range(40)]
    enter_all(mmu, PARENT, vpns, [(i % FRAMES) << 12 | USER for i in range(40)])
    assert [mmu.pte(PARENT, vpn) >> 12 for vpn in vpns] == [i % FRAMES for i in range(40)]
    assert (mmu.resident(PARENT), mmu.check()) == (40, [])


def test_entries_are_set_together():
    mmu, _ = two_spaces({5: (0, USER, 0)})
    enter_all(mmu, PARENT, [6, 8], [1 << 12 | USER, 2 << 12 | USER | PG_X])
    assert [mmu.pte(PARENT, vpn) for vpn in (5, 6, 7, 8)] == [USER, 1 << 12 | USER, 0, 2 << 12 | USER | PG_X]
    assert (mmu.mappings(1), mmu.resident(PARENT), mmu.check()) == ([(PARENT, 6)], 3, [])
