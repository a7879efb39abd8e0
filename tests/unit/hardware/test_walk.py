import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_sim.mmu import (
    OP_CLEAR_ACCESSED,
    OP_CLEAR_MODIFIED,
    OP_REMOVE_WRITE,
    PG_A,
    PG_M,
    PG_MANAGED,
    PG_RW,
    PG_V,
    PG_X,
    Mmu,
)
from hardware_sim.ram import Ram
from hardware_sim.walk import EXEC, LOAD, STORE, WalkStop, walk

BASE = 0x7F00000FF
PAGES = 8
SEED = 0xABCDEF
FOREVER = 1 << 40


def record(vpn, kinds, refs=1, instrs=1):
    return vpn << 27 | kinds << 24 | refs << 12 | instrs


class Machine:
    """A few mapped pages: page i is frame i, owned by object 100 + i at index 200 + i."""

    def __init__(self, prots, tlb_entries=8):
        self.mmu, self.ram = Mmu(PAGES, tlb_entries=tlb_entries), Ram(PAGES)
        self.owner, self.pindex = np.arange(PAGES) + 100, np.arange(PAGES) + 200
        for space in (1, 2):
            self.mmu.create(space)
            for i, bits in enumerate(prots):
                if bits is not None:
                    self.mmu.enter(space, BASE + i, i << 12 | PG_V | PG_MANAGED | bits)

    def walk(self, runs, space=1, start=0, budget_us=FOREVER, phase=0, mips=10):
        packed = np.array(runs, np.uint64)
        return walk(
            self.mmu, self.ram, self.owner, self.pindex, space, packed, start, budget_us, phase, mips, SEED
        )  # fmt: skip


def naive(prots, words, runs, space, start, budget_us, phase, mips):
    """The walk as the format describes it: (next, stop, elapsed, phase, references, calls, fault)."""
    total, references, calls = phase, 0, 0
    for i in range(start, len(runs)):
        if total // mips >= budget_us:
            return i, WalkStop.BUDGET, total // mips, total % mips, references, calls, (0, 0)
        vpn, kinds, refs, instrs = runs[i] >> 27, runs[i] >> 24 & 7, runs[i] >> 12 & 4095, runs[i] & 4095
        if kinds == 0:
            calls += refs
        else:
            page = vpn - BASE
            bits = prots[page] if 0 <= page < len(prots) else None
            denied = bits is None or (kinds & STORE and not bits & PG_RW) or (kinds & EXEC and not bits & PG_X)
            if denied:
                return i, WalkStop.FAULT, total // mips, total % mips, references, calls, (vpn, kinds)
            references += refs
            if kinds & STORE:
                words[page, :3] = SEED, 100 + page, 200 + page
                words[page, 3] += np.uint64(1)
                words[page, 4] = space << 40 | vpn
                words[page, 511] = words[page, 3]
        total += instrs
    return len(runs), WalkStop.END, total // mips, total % mips, references, calls, (0, 0)


PROTS = st.lists(st.sampled_from([None, 0, PG_RW, PG_X, PG_RW | PG_X]), min_size=PAGES, max_size=PAGES)
RECORDS = st.lists(
    st.builds(
        record,
        st.integers(BASE - 1, BASE + PAGES),
        st.integers(0, 7),
        st.integers(0, 4095),
        st.integers(0, 4095),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(PROTS, RECORDS, st.integers(0, 2000), st.integers(0, 99), st.integers(1, 100), st.integers(0, 3))
def test_walk_does_what_the_format_says(prots, runs, budget_us, phase, mips, start):
    start = min(start, len(runs))
    machine = Machine(prots)
    for space in (1, 2, 1):
        words = machine.ram.words.copy()
        expected = naive(prots, words, runs, space, start, budget_us, phase % mips, mips)
        got = machine.walk(runs, space, start, budget_us, phase % mips, mips)
        assert got[:6] == expected[:6]
        assert (got.fault_vpn, got.access) == expected[6]
        assert (machine.ram.words == words).all()
        assert machine.mmu.check() == []


@settings(max_examples=50, deadline=None)
@given(RECORDS, st.integers(1, 60))
def test_cutting_a_batch_changes_nothing(runs, cut):
    whole, pieces = Machine([PG_RW | PG_X] * PAGES), Machine([PG_RW | PG_X] * PAGES)
    end = whole.walk(runs)
    first = pieces.walk(runs[:cut])
    assert first.next_record == min(cut, len(runs)) or first.stop == WalkStop.FAULT
    if first.stop == WalkStop.END:
        rest = pieces.walk(runs[cut:], phase=first.phase)
        assert first.elapsed_us + rest.elapsed_us == end.elapsed_us
        assert (rest.phase, rest.stop) == (end.phase, end.stop)
        assert first.references + rest.references == end.references
    assert (whole.ram.words == pieces.ram.words).all()
    assert (whole.mmu.state.tables == pieces.mmu.state.tables).all()


def entry(machine, page, space=1):
    return machine.mmu.pte(space, BASE + page)


def test_loads_set_accessed_and_stores_set_modified():
    machine = Machine([PG_RW] * PAGES)
    machine.walk([record(BASE, LOAD), record(BASE + 1, STORE)])
    assert entry(machine, 0) & (PG_A | PG_M) == PG_A
    assert entry(machine, 1) & (PG_A | PG_M) == PG_A | PG_M
    assert entry(machine, 2) & (PG_A | PG_M) == 0


def test_first_store_behind_a_load_hit_sets_modified():
    machine = Machine([PG_RW] * PAGES)
    machine.walk([record(BASE, LOAD), record(BASE, STORE)])
    assert entry(machine, 0) & PG_M


def test_bits_that_the_kernel_clears_are_set_again():
    machine = Machine([PG_RW] * PAGES)
    machine.walk([record(BASE, STORE)])
    machine.mmu.frame_op(0, OP_CLEAR_ACCESSED)
    machine.mmu.frame_op(0, OP_CLEAR_MODIFIED)
    assert entry(machine, 0) & (PG_A | PG_M) == 0
    machine.walk([record(BASE, STORE)])
    assert entry(machine, 0) & (PG_A | PG_M) == PG_A | PG_M


def test_a_store_faults_after_write_access_was_taken():
    machine = Machine([PG_RW] * PAGES)
    machine.walk([record(BASE, STORE)])
    machine.mmu.frame_op(0, OP_REMOVE_WRITE)
    got = machine.walk([record(BASE, LOAD), record(BASE, STORE, 7, 9)])
    assert (got.stop, got.next_record, got.references, got.phase) == (WalkStop.FAULT, 1, 1, 1)
    assert (got.fault_vpn, got.access) == (BASE, STORE)
    assert machine.ram.words[0, 3] == 1


def test_hits_do_not_walk_the_tables():
    machine = Machine([PG_RW | PG_X] * PAGES)
    assert machine.walk([record(BASE, LOAD)] * 5).tlb_misses == 1
    assert machine.walk([record(BASE, EXEC)] * 5).tlb_misses == 0
    assert machine.walk([record(BASE, LOAD)] * 5, space=2).tlb_misses == 1


def test_torn_pages_are_counted_at_the_load_that_misses():
    machine = Machine([PG_RW] * PAGES)
    machine.ram.words[3, 3] = 5
    assert machine.walk([record(BASE + 3, LOAD)] * 2).torn == 1
    assert machine.walk([record(BASE + 2, LOAD)]).torn == 0


def test_in_kernel_records_take_time_and_touch_nothing():
    machine = Machine([None] * PAGES)
    got = machine.walk([record(0, 0, 3, 25), record(0, 0, 1, 10)], mips=10)
    assert (got.stop, got.kernel_calls, got.references) == (WalkStop.END, 4, 0)
    assert (got.elapsed_us, got.phase) == (3, 5)


def test_no_budget_executes_nothing():
    machine = Machine([PG_RW] * PAGES)
    got = machine.walk([record(BASE, STORE)], budget_us=0)
    assert (got.stop, got.next_record) == (WalkStop.BUDGET, 0)
    assert not machine.ram.words.any()
