"""Machines with other build options than the default, as a workload's table asks for them; sysctls of the reference."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from clients.orchestrator import Orchestrator, sysctl_set, sysctls
from clients.system import System
from clients.workload import load_workload
from services.runtime.errors import Refused
from services.runtime.events import Kind, unpack

FIDELITY = Path(__file__).parents[2] / "docs/fidelity.md"
KERNEL_SYSCTLS = [
    "vm.kstack_cache_size", "vm.kstacks", "debug.max_kstack_used", "kern.kstack_pages", "vm.swap_enabled",
    "vm.swap_idle_enabled", "vm.swap_idle_threshold1", "vm.swap_idle_threshold2", "vm.v_free_min", "vm.v_free_target",
    "vm.v_free_reserved", "vm.v_inactive_target", "vm.v_free_severe", "vm.v_pageout_free_min", "vm.v_cache_min",
    "vm.v_cache_max", "vm.pageout_wakeup_thresh", "vm.max_launder", "vm.pageout_update_period", "vm.lowmem_period",
    "vm.defer_swapspace_pageouts", "vm.disable_swapspace_pageouts", "vm.pageout_lock_miss", "vm.max_wired",
    "vm.panic_on_oom", "vm.swap_total", "vm.swap_reserved", "vm.overcommit", "vm.swap_async_max", "vm.dmmax",
    "vm.nswapdev", "vm.swap_info.0.version", "vm.swap_info.0.flags", "vm.swap_info.0.nblks", "vm.swap_info.0.used",
    "vm.swzone", "vm.swap_maxpages",
]  # fmt: skip
"""Sysctls around vm_glue.c."""
READ_ONLY = {
    "vm.kstacks", "debug.max_kstack_used", "kern.kstack_pages", "vm.pageout_lock_miss", "vm.swap_total", "vm.dmmax",
    "vm.nswapdev", "vm.swap_info.0.version", "vm.swap_info.0.flags", "vm.swap_info.0.nblks", "vm.swap_info.0.used",
    "vm.swzone", "vm.swap_maxpages", "vm.swap_reserved",
}  # fmt: skip


@pytest.fixture(scope="module")
def system():
    with System.local() as system:
        yield system


def machine(system, **options):
    """The tiny workload, booted on a kernel with other options."""
    workload = load_workload("tiny")
    made = Orchestrator(system.kernel, replace(workload, machine=replace(workload.machine, **options)))
    made.boot()
    return made


def events(made):
    """How often each kind of event of the scheduler happened."""
    counts: dict[int, int] = {}
    records = unpack(made.kernel.scheduler.events(0, 1 << 20).records)
    for event in records:
        counts[event.kind] = counts.get(event.kind, 0) + 1
    return counts


def finished(system, **options):
    made = machine(system, **options)
    made.run()
    assert made.shadow.mismatches == []
    return made


def heads(made):
    return {name: port.digest().events for name, port in made.kernel.ports().items()}


@pytest.fixture(scope="module")
def usual(system):
    """Event chains of a kernel with the usual options."""
    return heads(finished(system))


def test_every_sysctl_around_the_c_file_is_answered_or_said_to_be_absent(system):
    machine(system)
    answered = sysctls(system.kernel)
    absent = set(re.findall(r"`([a-z_.]+)`", FIDELITY.read_text().split("### Absent sysctls")[1].split("\n## ")[0]))
    assert [name for name in KERNEL_SYSCTLS if name not in answered and name not in absent] == []
    assert [name for name in absent if name in answered] == []


def test_sysctls_are_writable_where_the_kernel_allows(system):
    machine(system)
    before = sysctls(system.kernel)
    for name in before.keys() & set(KERNEL_SYSCTLS) - READ_ONLY:
        sysctl_set(system.kernel, name, before[name][0] + 1)
    for name in READ_ONLY:
        with pytest.raises(Refused, match="unknown_sysctl"):
            sysctl_set(system.kernel, name, before[name][0] + 1)
    after = sysctls(system.kernel)
    changed = {name for name in KERNEL_SYSCTLS if name in before and after[name] != before[name]}
    assert changed == before.keys() & set(KERNEL_SYSCTLS) - READ_ONLY


def test_without_swapping_everything_ends_and_nothing_goes_out(system):
    made = finished(system, no_swapping=True)
    counts = events(made)
    assert counts[Kind.PROC_EXIT] > 0
    assert not {Kind.SWAPOUT, Kind.SWAPOUT_DONE, Kind.FAULTIN} & set(counts)
    assert made.kernel.scheduler.stats().swapouts == 0


def test_swap_debug_adds_an_event_for_each_call_of_swapout(system):
    counts = events(finished(system, swap_debug=True))
    assert counts[Kind.SWAPOUT] > 0
    assert counts[Kind.SWAP_DEBUG] == counts[Kind.SWAPOUT] + counts.get(Kind.SWAPOUT_BUSY, 0)


def test_where_no_kassert_fails_and_no_stack_is_profiled_only_the_profile_is_missing(system, usual):
    plain = heads(finished(system, invariants=False, kstack_usage_prof=False))
    assert "debug.max_kstack_used" not in sysctls(system.kernel)
    assert [name for name in usual if plain[name] != usual[name]] == ["kstack"]


def test_stacks_have_the_size_and_guard_of_the_options(system):
    made = machine(system, kstack_pages=2, kstack_guard_pages=3, kstack_max_pages=8)
    assert sysctls(system.kernel)["kern.kstack_pages"] == (2, "kstack")
    stacks = made.kernel.kstack.stack_states(False).stacks
    assert {stack.pages for stack in stacks} == {2}
    ordered = sorted(stack.ks for stack in stacks)
    assert {high - low for low, high in pairwise(ordered)} == {5 * 4096}
