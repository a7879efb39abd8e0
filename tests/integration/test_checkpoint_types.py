"""A checkpoint with a right checksum and a value that its field cannot hold is refused whole, by the value's path."""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from enum import Enum

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from services.compose import compose_local
from services.ports.common import Answers
from services.ports.kstack import KstackBoot, ThreadStack
from services.ports.pager import PagerBoot, SwapDisk
from services.ports.physmem import MapOp, MapOpKind, PhysmemBoot
from services.ports.scheduler import SchedulerBoot, SpawnRequest
from services.runtime.context import Context
from services.runtime.counters import MemoryBoard
from services.runtime.errors import Reason, Refused
from services.runtime.snapshot import decode, encode, form_of, seal, unseal

SERVICES = ("pager", "physmem", "kstack", "scheduler")


def children(value):
    """(name, part, setter) of everything that a value holds; tuples cannot be set in place."""
    if isinstance(value, dict):
        for key, part in list(value.items()):
            yield f"[{key!r}]", part, lambda new, key=key: value.__setitem__(key, new)
    elif isinstance(value, list | deque):
        for at, part in enumerate(list(value)):
            yield f"[{at}]", part, lambda new, at=at: value.__setitem__(at, new)
    elif form_of(type(value)) and not isinstance(value, tuple | Enum):
        for name in form_of(type(value)).fields:
            yield f".{name}", getattr(value, name), lambda new, name=name: object.__setattr__(value, name, new)


def places(root, path):
    """(path, value, setter) of all values below a root, each object once."""
    todo, seen, found = [(path, root)], set(), []
    while todo:
        path, value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        for name, part, setter in children(value):
            found.append((path + name, part, setter))
            if not isinstance(part, int | str | bytes):
                todo.append((path + name, part))
    return found


@pytest.fixture(scope="module")
def machine():
    """A small machine that has a little of everything, and each service's checkpoint taken apart."""
    ctx = Context("tester")
    kernel = compose_local(ctx, MemoryBoard(), allow_inject=True)
    try:
        kernel.pager.boot(PagerBoot(swap_devices=[SwapDisk(128)], page_count=96, allow_inject=True))
        kernel.physmem.boot(PhysmemBoot(ram_pages=96, allow_inject=True))
        kernel.kstack.boot(KstackBoot(allow_inject=True))
        kernel.scheduler.boot(SchedulerBoot(page_count=96, allow_inject=True))
        space = kernel.physmem.vmspace_alloc(0, 0).vmspace
        kernel.physmem.map_ops(space, [MapOp(MapOpKind.INSERT, 0x10000, 0x4000)], 0)
        kernel.physmem.access(space, np.array([16 << 27 | 2 << 24 | 4097], np.uint64).tobytes(), 0, 1000, 0, 0)
        kernel.physmem.vm_imgact_map_page("prog", 4, 0, 0, 0)
        kernel.kstack.vm_thread_new([ThreadStack(9001), ThreadStack(9002)], 0)
        kernel.kstack.vm_thread_dispose([9002])
        kernel.scheduler.spawn([SpawnRequest("prog", 1, 5)])
        kernel.pager.inject([Answers("disk_read_error", [0, 1])])
        whole = {}
        for name, core in zip(SERVICES, kernel.cores, strict=True):
            registry = core._checkpoint.registry
            whole[name] = getattr(kernel, name), decode(unseal(core.checkpoint_save(0).data), registry), registry
        yield whole
    finally:
        kernel.close()


def load(port, state, registry):
    image = seal(encode(state, registry))
    port.checkpoint_load(0, len(image), image)


def wrong_values(value):
    """Values of other types than this one; None is not among them, for which many fields have a use."""
    others = [7, "x", b"x", 1.5, {}, True, np.zeros(3, np.float32), (1, 2)]
    if isinstance(value, int) and not isinstance(value, bool | Enum):
        return [other for other in others if isinstance(other, bool) or not isinstance(other, int)]
    if isinstance(value, float):
        return [other for other in others if isinstance(other, bool) or not isinstance(other, int | float)]
    return [other for other in others if type(other) is not type(value)]


@pytest.mark.parametrize("service", SERVICES)
def test_what_was_written_fits(machine, service):
    port, state, registry = machine[service]
    load(port, state, registry)
    port.checkpoint_load(0, 0, b"")


@pytest.mark.parametrize("service", SERVICES)
@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 1 << 40), wrong=st.integers(0, 1 << 40))
def test_a_value_of_another_type_is_refused_by_its_path_and_changes_nothing(machine, service, place, wrong):
    port, state, registry = machine[service]
    where = [found for found in places(state, service) if found[1] is not None]
    path, value, put = where[place % len(where)]
    others = wrong_values(value)
    note(f"{path} becomes {others[wrong % len(others)]!r}")
    before = port.digest()
    put(others[wrong % len(others)])
    try:
        with pytest.raises(Refused) as refused:
            load(port, state, registry)
    finally:
        put(value)
    assert refused.value.reason is Reason.FIELD_OUT_OF_RANGE
    assert port.digest() == before
    with pytest.raises(Refused, match="loaded whole"):
        port.checkpoint_commit()


@pytest.mark.parametrize(
    ("service", "end", "wrong", "expected"),
    [
        ("scheduler", r"core\.allproc\[1\]\.p_flag$", "x", "int"),
        ("scheduler", r"core\.allproc\[1\]\.p_state$", 1, "Prs"),
        ("scheduler", r"core\.config\.hz$", 1 << 31, "int32"),
        ("scheduler", r"\.td_wake_swapped$", 0, "bool"),
        ("scheduler", r"core\.spawns\[0\]$", (1, 2), "3 values"),
        ("kstack", r"core\.cache\[0\]$", None, "int"),
        ("kstack", r"ctx\.held\['ticks'\]$", "late", "int"),
        ("physmem", r"core\.frames$", np.zeros((2, 2), np.int64), "an array of int64 with 1 dimension"),
        ("physmem", r"core\.frames$", np.zeros(1, np.int32), "an array of int64 with 1 dimension"),
        ("physmem", r"core\.contents$", b"short", "4096 bytes for each"),
        ("physmem", r"core\.arch$", "vax", "vax"),
        ("physmem", r"core\.pages\.free_frames$", np.full(96, 96, np.int32), "frames below 96"),
        ("physmem", r"core\.pages\.free_frames$", np.zeros(95, np.int32), "arrays of 96 frames"),
        ("physmem", r"core\.rest\['spaces'\]\[1\]\.refcnt$", 2.0, "int"),
        ("pager", r"core\.devices\[0\]\.contents$", b"x", "4096 bytes for each"),
        ("pager", r"core\.devices\[0\]\.blist\.bitmap$", np.zeros(1, np.uint32), "a bitmap of"),
        ("pager", r"core\.meta\._counts$", bytearray(3), "entries for each of 3"),
    ],
)
def test_the_refusal_names_what_would_be_right(machine, service, end, wrong, expected):
    port, state, registry = machine[service]
    found = next(place for place in places(state, service) if re.search(end, place[0]))
    _, value, put = found
    put(wrong)
    try:
        with pytest.raises(Refused) as refused:
            load(port, state, registry)
    finally:
        put(value)
    assert expected in refused.value.expected
    assert refused.value.field.startswith(f"{service}.")


def test_every_field_of_every_class_has_a_type(machine):
    for _, _, registry in machine.values():
        for form in registry.forms.values():
            if dataclasses.is_dataclass(form.cls) or hasattr(form.cls, "CHECKPOINTED"):
                assert set(form.fields) <= set(form.cls.__annotations__) | set().union(
                    *(getattr(base, "__annotations__", {}) for base in form.cls.__mro__)
                )
