"""What checkpoints hold: every class of the cores' state, and every field of a context."""

from __future__ import annotations

import dataclasses
import inspect
from enum import Enum

import pytest

from services.kstack import state as kstack_state
from services.kstack.core import KstackCore
from services.pager import blist, swap_meta, swap_pager, vnode_pager
from services.pager.core import PagerCore
from services.physmem import machine, ops, page_array, vm_map, vmem
from services.physmem import state as physmem_state
from services.physmem.core import PhysmemCore
from services.ports.common import Answers, Upcalls
from services.runtime.checkpoint import Checkpoint, ContextState
from services.runtime.context import Context
from services.runtime.errors import Reason, Refused
from services.runtime.events import Kind
from services.runtime.limits import CHECKPOINT_OF_MEMORY
from services.runtime.snapshot import Registry, decode, encode, form_of
from services.scheduler import state as scheduler_state
from services.scheduler.core import SchedulerCore

NO_STATE = {"Vm", "Machine", "Sysctl", "SwapPager", "_HostWrite", "_PutRequest"}
"""Taken apart by hand, constant, or alive within one call only."""
CORES = {
    PagerCore: ((), (blist, swap_meta, swap_pager, vnode_pager)),
    PhysmemCore: ((None,), (machine, ops, page_array, physmem_state, vm_map, vmem)),
    KstackCore: ((None,), (kstack_state,)),
    SchedulerCore: ((None, None), (scheduler_state,)),
}


def registry_of(core):
    return core(Context("any"), *CORES[core][0])._checkpoint.registry


def classes_in(module):
    return [cls for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == module.__name__]


@pytest.mark.parametrize("core", CORES)
def test_every_class_of_a_cores_state_has_its_place(core):
    forms = registry_of(core).forms
    missing = [
        cls.__name__
        for module in CORES[core][1]
        for cls in classes_in(module)
        if form_of(cls) is not None and cls.__name__ not in NO_STATE and cls.__name__ not in forms
    ]
    assert missing == []


@pytest.mark.parametrize("core", CORES)
def test_every_class_comes_back_as_it_was(core):
    registry = registry_of(core)
    for form in registry.forms.values():
        if dataclasses.is_dataclass(form.cls):
            value = object.__new__(form.cls)
            for number, name in enumerate(form.fields):
                object.__setattr__(value, name, number)
        elif issubclass(form.cls, Enum):
            value = list(form.cls)[-1]
        else:
            continue
        found = decode(encode([value], registry), registry)[0]
        assert type(found) is form.cls
        assert [getattr(found, name) for name in form.fields] == [getattr(value, name) for name in form.fields]


def used_context():
    ctx = Context("kstack", inject_permitted=True)
    ctx.reboot(100, -7, allow_inject=True)
    ctx.booted, ctx.stopped, ctx.now_us, ctx.ticks = True, "panic: oops", 5_000, -6
    ctx.upcalls = Upcalls(wakeups=["proc0"], swap_request=2)
    ctx.count("vm.kstacks", 3)
    ctx.event(Kind.KSTACK_NEW, 1, 2)
    ctx.env.inject([Answers("kva_alloc", [1, 0, 1], after=4, has_after=True)])
    assert ctx.env.ask("kva_alloc", lambda: 9) == 1
    return ctx


def test_a_context_goes_on_where_it_was():
    ctx, other = used_context(), Context("kstack", inject_permitted=True)
    registry = Registry(ContextState, Upcalls)
    other.seen["physmem"] = 5
    decode(encode(ContextState.of(ctx), registry), registry).restore(other)
    own = {"log", "env", "service", "seen"}
    for field in dataclasses.fields(Context):
        if field.name not in own:
            assert getattr(other, field.name) == getattr(ctx, field.name), field.name
    assert other.seen == {}
    for each in (ctx, other):
        each.event(Kind.KSTACK_NEW, 2, 3)
        each.log.flush()
    assert (other.log.head, other.log.count) == (ctx.log.head, 2)
    answers = [[each.env.ask("kva_alloc", lambda: 9) for _ in range(4)] for each in (ctx, other)]
    assert answers == [[0, 1, 4, 4]] * 2


def test_what_does_not_belong_here_is_refused():
    ctx = used_context()
    registry = Registry(kstack_state.State)
    checkpoint = Checkpoint(ctx, registry, kstack_state.State, lambda _: None)
    whole = checkpoint.save(0).data
    checkpoint.load(0, len(whole), whole)
    checkpoint.load(0, 0, b"")
    with pytest.raises(Refused, match="loaded whole"):
        checkpoint.commit()
    other = ContextState.of(ctx)
    del other.held["stopped"]
    assert not other.whole
    strict = Checkpoint(Context("kstack"), registry, kstack_state.State, lambda _: None)
    with pytest.raises(Refused) as refused:
        strict.load(0, len(whole), whole)
    assert refused.value.reason is Reason.INJECTION_REFUSED
    stranger = Checkpoint(Context("pager"), registry, kstack_state.State, lambda _: None)
    with pytest.raises(Refused, match="a checkpoint of pager"):
        stranger.load(0, len(whole), whole)


def test_what_there_is_no_memory_for_is_exhausted_before_it_comes(monkeypatch):
    core = KstackCore(used_context(), None)
    whole = core.checkpoint_save(0).data
    monkeypatch.setattr("services.runtime.snapshot.memory_left", lambda: CHECKPOINT_OF_MEMORY * (len(whole) - 1))
    for too_large in (
        lambda: core.checkpoint_save(0),
        lambda: core.checkpoint_load(0, len(whole), whole[:1]),
        lambda: core.checkpoint_load(0, 1 << 60, b""),
    ):
        with pytest.raises(Refused) as refused:
            too_large()
        assert refused.value.reason is Reason.QUOTA
    with pytest.raises(Refused, match="pieces in order, 0 bytes"):
        core.checkpoint_load(1, len(whole), whole[1:])


def test_a_checkpoint_is_no_larger_than_its_first_piece_said():
    core = KstackCore(used_context(), None)
    core.checkpoint_load(0, 100, b"x")
    with pytest.raises(Refused, match="100 bytes together"):
        core.checkpoint_load(1, 1 << 60, b"x")
