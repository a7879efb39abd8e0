"""The clock's C integers and the saved registers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_sim.clock import INT_MAX, INT_MIN, c_div, c_int, c_uint, initial_ticks, ticks_at
from hardware_sim.cpu import COSTS, Pcb

WORD = st.integers(0, 2**64 - 1)


def test_ticks_begin_ten_minutes_before_they_wrap():
    assert initial_ticks(1000) == INT_MAX - 600_000
    assert ticks_at(initial_ticks(1000), 1000, 600_000_000) == INT_MAX
    assert ticks_at(initial_ticks(1000), 1000, 600_001_000) == INT_MIN
    assert ticks_at(0, 100, 19_999) == 1


@given(st.integers(-(2**40), 2**40))
def test_c_widths(value):
    assert INT_MIN <= c_int(value) <= INT_MAX
    assert c_uint(c_int(value)) == c_uint(value) == value % 2**32


@pytest.mark.parametrize(("a", "b", "quotient"), [(7, 2, 3), (-7, 2, -3), (7, -2, -3), (-7, -2, 3), (0, 5, 0)])
def test_division_is_toward_zero(a, b, quotient):
    assert c_div(a, b) == quotient


@given(st.builds(Pcb, *[WORD] * 9))
def test_registers_come_back_as_they_were_saved(pcb):
    saved = pcb.pack()
    assert len(saved) == 128
    assert Pcb.unpack(saved) == pcb


@given(st.builds(Pcb, *[WORD] * 9), st.integers(0, 127), st.integers(1, 255))
def test_a_damaged_pcb_is_noticed(pcb, at, change):
    saved = bytearray(pcb.pack())
    saved[at] ^= change
    with pytest.raises(ValueError, match="PCB"):
        Pcb.unpack(bytes(saved))


def test_a_short_pcb_is_refused():
    with pytest.raises(ValueError, match="128 bytes"):
        Pcb.unpack(b"")


def test_costs_are_positive():
    assert all(getattr(COSTS, name) > 0 for name in COSTS.__dataclass_fields__)
