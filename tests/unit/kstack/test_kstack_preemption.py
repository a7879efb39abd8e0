"""What others do with kernel stacks at a preemption point: when it is possible, and what it does."""

import pytest
from kstack_driver import booted

from services.kstack.core import KstackCore
from services.kstack.preemption import STRANGERS_MAX, StackPreemption
from services.ports.common import Status
from services.ports.kstack import KstackBoot, ThreadStack
from services.runtime.context import Context
from services.runtime.events import Kind, unpack
from services.runtime.preemption import Act, PreemptStream


class Others:
    """Those who may preempt, over a core whose own points are idle.

    Attributes:
        strangers: Kernel threads of theirs, and the operation in which each sleeps.
    """

    def __init__(self):
        self.core, self.memory = booted()
        self._preemption = StackPreemption(self.core, lambda: self.core._state)

    @property
    def strangers(self):
        return self.core._state.strangers

    def possible(self):
        return {choice.act: choice for choice in self._preemption.possible("vm_thread_new:401", PreemptStream(1))}

    def let(self, act):
        """Let it happen; what it answers, with all invariants kept."""
        concerned = self.possible()[act].run()
        assert self.core.check().violations == []
        return concerned

    def kstacks(self):
        values = self.core.counters()
        return dict(zip(values.names, values.values, strict=True))["vm.kstacks"]


@pytest.fixture
def others():
    return Others()


def test_only_what_can_happen_is_possible(others):
    assert set(others.possible()) == {Act.STACK_NEW}
    others.let(Act.STACK_NEW)
    assert set(others.possible()) == {Act.STACK_NEW, Act.STACK_DISPOSE}
    others.let(Act.STACK_DISPOSE)
    assert set(others.possible()) == {Act.STACK_NEW, Act.STACK_LOWMEM}


def test_strangers_are_kernel_threads_below_zero_up_to_a_limit(others):
    assert [others.let(Act.STACK_NEW) for _ in range(STRANGERS_MAX)] == [-1, -2, -3]
    assert others.kstacks() == STRANGERS_MAX
    assert set(others.possible()) == {Act.STACK_DISPOSE}
    ended = others.let(Act.STACK_DISPOSE)
    assert set(others.strangers) == {-1, -2, -3} - {ended}
    assert others.let(Act.STACK_NEW) == -4, "an id is used once"


def test_lowmem_drains_the_cache(others):
    others.core.vm_thread_new([ThreadStack(1, 0), ThreadStack(2, 0)], 0)
    others.core.vm_thread_dispose([1, 2])
    assert others.let(Act.STACK_LOWMEM) == 2
    assert others.kstacks() == 0
    assert Act.STACK_LOWMEM not in others.possible()


def test_a_stranger_that_sleeps_for_memory_tries_again_and_is_not_ended_meanwhile(others):
    others.memory.free_pages = 1
    assert others.let(Act.STACK_NEW) == -1
    assert others.strangers[-1] > 0
    assert set(others.possible()) == {Act.STACK_NEW}
    assert others.let(Act.STACK_NEW) == -1, "it sleeps on"
    others.memory.free_pages = 1 << 20
    assert others.let(Act.STACK_NEW) == -1
    assert others.strangers == {-1: 0}
    assert others.kstacks() == 1


def test_a_stranger_that_gets_no_kernel_address_space_is_gone(others):
    others.memory.kva_fail = {1}
    assert others.let(Act.STACK_NEW) == -1
    assert others.strangers == {}
    assert others.kstacks() == 0


def interleaved(seed):
    """A core after a hundred threads came and went in turns; the records of its events."""
    _, memory = booted()
    core = KstackCore(Context("kstack", inject_permitted=True), memory)
    core.boot(KstackBoot(4, 1, allow_inject=True, preempt_seed=seed))
    alive = []
    for tid in range(1, 101):
        answer = core.vm_thread_new([ThreadStack(tid, 0 if tid % 5 else 2)], 0)
        assert (answer.status, answer.stacks[0].ok) == (Status.DONE, True)
        alive.append(tid)
        if tid % 3 == 0:
            core.vm_thread_dispose([alive.pop(0), alive.pop()])
        assert core.check().violations == []
    assert {state.tid for state in core.stack_states(False).stacks if state.tid > 0} == set(alive)
    return core.events(0, 10_000).records


@pytest.mark.parametrize("seed", range(1, 6))
def test_threads_keep_their_stacks_whatever_others_do(seed):
    records = interleaved(seed)
    acts = {event.outcome for event in unpack(records) if event.kind == Kind.PREEMPT}
    assert acts == {Act.STACK_NEW, Act.STACK_DISPOSE, Act.STACK_LOWMEM}
    assert records == interleaved(seed), "a seed decides everything"


def test_without_a_seed_nobody_preempts():
    assert all(event.kind != Kind.PREEMPT for event in unpack(interleaved(0)))
