"""Snapshots: what is read is what was written, and nothing that is damaged is read."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from pathlib import PurePath
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime.limits import CHECKPOINT_OF_MEMORY
from services.runtime.snapshot import (
    VERSION,
    Node,
    Registry,
    SnapshotError,
    SnapshotTooLarge,
    decode,
    encode,
    seal,
    unseal,
)


class Colour(IntEnum):
    RED = 1
    BLUE = 2


class Word(Enum):
    YES = "yes"


class Pair(NamedTuple):
    first: int
    second: str


@dataclass(slots=True)
class Leaf:
    number: int
    colour: Colour = Colour.RED


@dataclass(frozen=True, slots=True)
class Tree:
    name: str
    leaves: list[Leaf]
    by_name: dict[str, Leaf] = field(default_factory=dict)
    pair: Pair | None = None
    again: Tree | None = None


class Cells:
    CHECKPOINTED = ("cells", "_used")

    def __init__(self, size):
        self.cells, self._used = np.zeros(size, np.uint16), 0
        self.bind()

    def bind(self):
        self.view = self.cells.data


class Stranger:
    pass


REGISTRY = Registry(Tree, Word, Cells)
INTS = st.integers() | st.integers(-3, 3) | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**5000])
SCALARS = (
    st.none() | st.booleans() | INTS | st.floats(allow_nan=False) | st.text() | st.binary() | st.sampled_from(Colour)
)
KEYS = INTS | st.text() | st.binary() | st.sampled_from(Colour) | st.tuples(INTS, st.text())
LEAVES = st.builds(Leaf, INTS, st.sampled_from(Colour))
VALUES = st.recursive(
    SCALARS | LEAVES | st.lists(st.integers(-(2**64), 2**64)) | st.dictionaries(INTS, st.none() | INTS),
    lambda inner: (
        st.lists(inner) | st.dictionaries(KEYS, inner) | st.lists(inner).map(tuple) | st.lists(inner).map(deque)
    ),
    max_leaves=20,
)


def read(value, registry=REGISTRY):
    return decode(unseal(seal(encode(value, registry))), registry)


def shape(value):
    """A value with the classes in it, since 1 == True == 1.0 == Colour.RED."""
    if isinstance(value, dict):
        return dict, [(shape(key), shape(part)) for key, part in value.items()]
    if isinstance(value, (list, tuple, deque)):
        return type(value), [shape(part) for part in value]
    if isinstance(value, Leaf):
        return Leaf, shape(value.number), shape(value.colour)
    return type(value), value


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_what_is_read_is_what_was_written(value):
    assert shape(read(value)) == shape(value)
    assert encode(read(value), REGISTRY) == encode(value, REGISTRY)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "bool", "uint16", "int32", "int64", "uint64", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 4)])
def test_arrays_keep_type_shape_and_values_and_may_be_written(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    found = read(array)
    assert (found.dtype, found.shape, found.tolist()) == (array.dtype, array.shape, array.tolist())
    assert found.flags.writeable
    assert found.flags.owndata or found.base.flags.writeable


def test_scalars_of_numpy_stay_what_they_are():
    found = read([np.int64(-5), np.uint8(7), np.bool_(True)])
    assert [(type(value), int(value)) for value in found] == [(np.int64, -5), (np.uint8, 7), (np.bool_, 1)]


def test_queues_and_bytes_that_change_and_base_names():
    found = read([deque([1, 2], maxlen=2), bytearray(b"ab"), PurePath("/home/somebody/x.vmtrace")])
    assert (found[0], found[0].maxlen, found[1]) == (deque([1, 2]), 2, bytearray(b"ab"))
    assert found[2] == PurePath("x.vmtrace")


def test_objects_and_containers_that_occur_twice_are_one():
    leaf, numbers = Leaf(5, Colour.BLUE), [1, 2, 3, 4, 5]
    tree = Tree("oak", [leaf, leaf], {"a": leaf}, Pair(1, "x"))
    found, first, second = read([tree, numbers, numbers])
    assert found.leaves[0] is found.leaves[1] is found.by_name["a"]
    assert first is second
    assert found == tree
    assert isinstance(found.pair, Pair)


def test_an_object_may_hold_itself():
    tree = Tree("ring", [])
    object.__setattr__(tree, "again", tree)
    found = read(tree)
    assert found.again is found


def test_listed_attributes_come_back_and_views_are_made_anew():
    cells = Cells(4)
    cells.cells[2], cells._used = 9, 1
    found = read({"cells": cells})["cells"]
    found.view[0] = 3
    assert (found.cells.tolist(), found._used) == ([3, 0, 9, 0], 1)


def test_enumerations_of_text():
    assert read(Word.YES) is Word.YES


@pytest.mark.parametrize("value", [Stranger(), {1, 2}, lambda: 0, np.zeros(2, complex), object, 1j])
def test_what_has_no_place_is_not_written(value):
    with pytest.raises(TypeError, match="no place in a snapshot"):
        encode([value], REGISTRY)


def test_an_unknown_class_is_refused_and_can_be_looked_at():
    data = encode(Tree("oak", [Leaf(1)]), REGISTRY)
    with pytest.raises(SnapshotError, match="'Tree', which has no place"):
        decode(data, Registry(Leaf))
    node = decode(data, None)
    assert isinstance(node, Node)
    assert (node.type, node["name"], node["leaves"][0]["colour"]) == ("Tree", "oak", "Colour(1)")


def test_other_fields_are_another_version():
    @dataclass
    class Leaf:
        number: int
        weight: int = 0

    with pytest.raises(SnapshotError, match="Leaf is of another version of this program: colour, weight"):
        decode(encode(globals()["Leaf"](1), REGISTRY), Registry(Leaf))


def test_two_classes_of_one_name_are_not_registered():
    other = type("Leaf", (), {"CHECKPOINTED": ()})
    with pytest.raises(TypeError, match="two classes are named Leaf"):
        Registry(Leaf, other)


def test_a_class_is_not_taken_for_another_kind():
    data = encode(Leaf(1), REGISTRY)
    for tag in b"en":
        with pytest.raises(SnapshotError):
            decode(bytes((tag,)) + data[1:], REGISTRY)
    with pytest.raises(SnapshotError):
        decode(b"o" + encode(Pair(1, "x"), REGISTRY)[1:], REGISTRY)


def test_deep_nesting_is_refused():
    with pytest.raises(SnapshotError, match="nested too deeply"):
        decode(b"l\x01\x00\x00\x00\x00" * 500 + b"N", REGISTRY)


def test_every_cut_and_every_changed_byte_is_noticed():
    sealed = seal(encode([Tree("oak", [Leaf(1), Leaf(2)]), list(range(50))], REGISTRY))
    for size in range(len(sealed)):
        with pytest.raises(SnapshotError):
            unseal(sealed[:size])
    for at in range(len(sealed)):
        with pytest.raises(SnapshotError):
            unseal(sealed[:at] + bytes((sealed[at] ^ 0x10,)) + sealed[at + 1 :])
    with pytest.raises(SnapshotError, match="checksum"):
        unseal(sealed + b"x")


def test_a_newer_version_is_refused_by_its_number():
    sealed = seal(b"N")
    newer = sealed[:8] + (VERSION + 1).to_bytes(2, "little") + sealed[10:]
    with pytest.raises(SnapshotError, match=rf"version {VERSION + 1}, this program reads {VERSION}"):
        unseal(newer)


def test_damage_behind_a_right_checksum_is_refused_or_harmless():
    data = encode(
        [Tree("oak", [Leaf(1), Leaf(2)], {"a": Leaf(3)}, Pair(4, "y")), list(range(9)), np.arange(5), {1: Word.YES}],
        REGISTRY,
    )
    chance = random.Random(1)
    refused = 0
    for _ in range(600):
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            decode(bytes(damaged[: chance.randrange(len(damaged)) if chance.random() < 0.2 else None]), REGISTRY)
        except SnapshotError:
            refused += 1
    assert refused > 300


@pytest.mark.parametrize("value", [np.zeros(1000, np.int64), b"x" * 8000, list(range(1000))], ids=["a", "y", "L"])
def test_what_there_is_no_memory_for_is_neither_written_nor_read(monkeypatch, value):
    sealed = seal(encode(value, REGISTRY))
    assert len(sealed) < 4000
    monkeypatch.setattr("services.runtime.snapshot.memory_left", lambda: 4000 * CHECKPOINT_OF_MEMORY)
    with pytest.raises(SnapshotTooLarge, match="more than 4000 bytes"):
        encode(value, REGISTRY)
    with pytest.raises(SnapshotTooLarge, match="at most 4000 are read"):
        unseal(sealed)


def test_what_would_grow_beyond_the_memory_when_it_is_read_is_refused(monkeypatch):
    """Eight bytes of a packed number are forty of a list."""
    data = encode(list(range(1 << 60, (1 << 60) + 2_000_000)), REGISTRY)
    assert len(data) < 20 << 20
    monkeypatch.setattr("services.runtime.snapshot.memory_left", lambda: 64 << 20)
    with pytest.raises(SnapshotTooLarge, match="needs more than the memory that is left"):
        decode(data, REGISTRY)
    monkeypatch.undo()
    assert len(decode(data, REGISTRY)) == 2_000_000


def test_a_mapping_that_can_only_be_read_is_a_dict_of_its_own_wherever_it_occurs():
    shared = MappingProxyType({1: 2})
    first, second = decode(encode([shared, shared], Registry()), Registry())
    assert first == second == {1: 2}
    assert type(first) is dict
    assert first is not second
