import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hardware_sim.mmu import (
    OP_CLEAR_ACCESSED,
    OP_CLEAR_MODIFIED,
    OP_QUERY,
    OP_REMOVE,
    OP_REMOVE_WRITE,
    PG_A,
    PG_G,
    PG_M,
    PG_MANAGED,
    PG_RW,
    PG_V,
    PG_W,
    PG_X,
    SPACES_MAX,
    Mmu,
)

USER = PG_V | PG_MANAGED
FRAMES = 6
VPNS = [0, 1, 511, 512, 513, (1 << 27) - 1, 1 << 27, (1 << 36) - 1]


def pte(frame, bits=USER | PG_RW):
    return frame << 12 | bits


class MmuMachine(RuleBasedStateMachine):
    """Page tables against a dict of entries."""

    def __init__(self):
        super().__init__()
        self.mmu = Mmu(FRAMES, tables=4, tlb_entries=16)
        self.model = {}
        self.spaces = {0}

    vpns = st.sampled_from(VPNS)
    frames = st.integers(0, FRAMES - 1)

    @rule(space=st.integers(1, 3))
    def create(self, space):
        if space not in self.spaces:
            self.mmu.create(space)
            self.spaces.add(space)

    @rule(space=st.integers(1, 3))
    def destroy(self, space):
        if space in self.spaces and not any(key[0] == space for key in self.model):
            self.mmu.destroy(space)
            self.spaces.discard(space)

    @rule(
        space=st.integers(0, 3),
        vpn=vpns,
        frame=frames,
        bits=st.sampled_from([0, PG_RW, PG_RW | PG_M, PG_A | PG_X, PG_W]),
    )
    def enter(self, space, vpn, frame, bits):
        if space in self.spaces:
            entry = pte(frame, bits | (USER if space else PG_V | PG_G))
            assert self.mmu.enter(space, vpn, entry) == self.model.get((space, vpn), 0)
            self.model.pop((space, vpn), None)
            self.model[space, vpn] = entry

    @rule(space=st.integers(0, 3), ends=st.tuples(vpns, vpns), bits=st.sampled_from([PG_V, PG_RW | PG_M, PG_W, 0]))
    def clear_range(self, space, ends, bits):
        if space in self.spaces:
            start, end = min(ends), max(ends)
            hit = sorted(key for key in self.model if key[0] == space and start <= key[1] < end)
            assert self.mmu.clear_range(space, start, end, bits).tolist() == [self.model[key] for key in hit]
            for key in hit:
                self.model[key] &= ~bits
                if bits & PG_V:
                    del self.model[key]

    @rule(
        frame=frames, op=st.sampled_from([OP_REMOVE, OP_REMOVE_WRITE, OP_CLEAR_ACCESSED, OP_CLEAR_MODIFIED, OP_QUERY])
    )
    def frame_op(self, frame, op):
        keys = [key for key, entry in self.model.items() if entry >> 12 == frame and entry & PG_MANAGED]
        entries = [self.model[key] for key in keys]
        seen = int(np.bitwise_or.reduce(np.array(entries, np.uint64))) if entries else 0
        assert self.mmu.frame_op(frame, op) == (seen, sum(bool(entry & PG_A) for entry in entries))
        clear = {OP_REMOVE_WRITE: PG_RW | PG_M, OP_CLEAR_ACCESSED: PG_A, OP_CLEAR_MODIFIED: PG_M}.get(op, 0)
        for key in keys:
            self.model[key] &= ~clear
            if op == OP_REMOVE:
                del self.model[key]

    @invariant()
    def same_entries(self):
        for space in self.spaces:
            for vpn in VPNS:
                assert self.mmu.pte(space, vpn) == self.model.get((space, vpn), 0)
            mine = [entry for key, entry in self.model.items() if key[0] == space]
            assert self.mmu.resident(space) == sum(bool(entry & PG_MANAGED) for entry in mine)
            assert self.mmu.wired(space) == sum(bool(entry & PG_W) for entry in mine)
        for frame in range(FRAMES):
            keys = {key for key, entry in self.model.items() if entry >> 12 == frame and entry & PG_MANAGED}
            mapped = self.mmu.mappings(frame)
            assert set(mapped) == keys
            assert len(mapped) == len(keys)
        assert self.mmu.check() == []


TestMmuMachine = MmuMachine.TestCase
TestMmuMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_tables_are_given_back():
    mmu = Mmu(4, tables=8)
    free = mmu.state.pool[1]
    mmu.create(1)
    for vpn in VPNS:
        mmu.enter(1, vpn, pte(1))
    assert mmu.state.pool[1] < free
    mmu.frame_op(1, OP_REMOVE)
    mmu.destroy(1)
    assert mmu.state.pool[1] + len(VPNS) >= free
    assert not mmu.state.tables.any()


def test_a_large_range_is_cleared_in_pieces():
    mmu = Mmu(20000)
    for vpn in range(10000):
        mmu.enter(0, vpn, pte(vpn))
    old = mmu.clear_range(0, 5, 9995, PG_V)
    assert len(old) == 9990
    assert (old >> np.uint64(12)).tolist() == list(range(5, 9995))
    assert mmu.resident(0) == 10


def test_address_spaces_are_made_and_ended_in_order():
    mmu = Mmu(1)
    with pytest.raises(ValueError, match="exists"):
        mmu.create(0)
    with pytest.raises(ValueError, match=str(SPACES_MAX - 1)):
        mmu.create(SPACES_MAX)
    mmu.create(5)
    mmu.enter(5, 1, pte(0))
    with pytest.raises(ValueError, match="still maps pages"):
        mmu.destroy(5)
    with pytest.raises(ValueError, match="does not exist"):
        mmu.destroy(6)


@pytest.mark.parametrize(
    ("corrupt", "sentence"),
    [
        (lambda state: state.spaces.__setitem__((1, 1), 9), "a resident count differs"),
        (lambda state: state.spaces.__setitem__((1, 2), 9), "a wired count differs"),
        (lambda state: state.pv_head.__setitem__(0, 0), "not the head of its list"),
        (lambda state: state.links.__setitem__((slice(None), 1), 77), "are not a list"),
        (lambda state: state.meta.__setitem__((slice(1, 3), 3), 8), "counts other entries"),
        (lambda state: state.tlb.__setitem__((0, 0), 1 << 39 | 3 << 3 | 1), "TLB entry 0"),
    ],
)
def test_check_finds_damage(corrupt, sentence):
    mmu = Mmu(4)
    mmu.create(1)
    mmu.enter(1, 3, pte(0))
    mmu.enter(1, 4, pte(0))
    assert mmu.check() == []
    corrupt(mmu.state)
    assert any(sentence in line for line in mmu.check())
