"""Build options of the kernel stacks: KSTACK_MAX_PAGES, KSTACK_USAGE_PROF, NO_SWAPPING, INVARIANTS."""

import pytest
from kstack_driver import booted

from services.ports.kstack import KstackBoot, StackSample, ThreadPcb, ThreadStack
from services.runtime.errors import KernelPanic, Reason, Refused


def built(**options):
    """A core built with options."""
    core, _ = booted()
    core.boot(KstackBoot(**options))
    return core


@pytest.mark.parametrize(("most", "asked", "given"), [(0, 99, 32), (6, 99, 6), (6, 6, 6), (40, 99, 40), (40, 0, 4)])
def test_a_larger_stack_than_kstack_max_pages_gets_so_many(most, asked, given):
    core = built(kstack_max_pages=most)
    assert core.vm_thread_new([ThreadStack(1, asked)], 0).stacks[0].td_kstack_pages == given


@pytest.mark.parametrize(
    ("options", "field"),
    [({"kstack_max_pages": -1}, "kstack_max_pages"), ({"kstack_max_pages": 3}, "kstack_pages")],
)
def test_sizes_that_contradict_each_other_are_refused(options, field):
    core, _ = booted()
    before = core.digest()
    with pytest.raises(Refused) as refused:
        core.boot(KstackBoot(**options))
    assert refused.value.field == field
    assert core.digest() == before


def test_without_usage_profiling_the_sysctl_and_the_function_are_absent():
    core = built(without_kstack_usage_prof=True)
    assert "debug.max_kstack_used" not in {setting.name for setting in core.sysctl_get().settings}
    assert "debug.max_kstack_used" not in core.counters().names
    with pytest.raises(Refused) as refused:
        core.intr_prof_stack_use([StackSample(0x1000, 4, False, 0x2000)])
    assert refused.value.reason is Reason.NOT_BUILT


@pytest.mark.parametrize("call", ["vm_thread_swapout", "vm_thread_swapin"])
def test_without_swapping_stacks_neither_go_out_nor_come_in(call):
    core = built(no_swapping=True)
    core.vm_thread_new([ThreadStack(1, 0)], 0)
    arguments = ([ThreadPcb(1, 1)],) if call == "vm_thread_swapout" else ([ThreadPcb(1, 1)], 0)
    before = core.digest()
    with pytest.raises(Refused) as refused:
        getattr(core, call)(*arguments)
    assert (refused.value.reason, refused.value.value) == (Reason.NOT_BUILT, call)
    assert core.digest() == before


def test_a_thread_that_has_a_stack_is_a_failed_kassert_or_leaks_it_without_invariants():
    core = built()
    core.vm_thread_new([ThreadStack(1, 0)], 0)
    with pytest.raises(KernelPanic, match="thread_alloc got thread with kstack"):
        core.vm_thread_new([ThreadStack(1, 0)], 0)
    core = built(without_invariants=True)
    core.vm_thread_new([ThreadStack(1, 0)], 0)
    second = core.vm_thread_new([ThreadStack(1, 0)], 0)
    assert (second.stacks[0].stack, second.kstacks) == (2, 2)
    assert core.vm_thread_dispose([1]).stacks[0].stack == 2
    assert [(state.stack, state.state) for state in core.stack_states(False).stacks] == [(1, "in_use"), (2, "cached")]
