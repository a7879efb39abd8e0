"""Defects and races of the C code that are kept: each is shown once (the table in docs/fidelity.md)."""

from __future__ import annotations

import pytest
from playing import Situation, composed

from clients.conform.driver import Livelock
from services.ports.common import Answers
from services.ports.kstack import ThreadStack
from services.scheduler.glue_swap import faultin, swapper
from services.scheduler.kthreads import holder
from services.scheduler.state import PROC0, FaultinFrame

HZ = 1000
NOW = 1_000_000_000
STACKS, SWAP, ACCESS = "C_kernel_stacks", "B_swapper_faultin", "D_access_and_wiring"
PAGE = 4096


@pytest.fixture
def machine():
    kernel, system = composed()
    yield kernel, system
    kernel.close()


def sleeper(name, seconds, **fields):
    """A process whose only thread sleeps for so long."""
    thread = {"name": f"t{name}", "slptick": NOW - seconds * HZ, **fields}
    return {"name": name, "threads": [thread]}


def swapped(name, **fields):
    """A process that is out, whose thread could run."""
    thread = {"name": f"t{name}", "inhibitors": ["SWAPPED"], "flags": ["CANSWAP", "SWAPINREQ"], **fields}
    return {"name": name, "flags": [], "threads": [thread]}


def situation(machine, *processes, **given):
    kernel, _ = machine
    return Situation(kernel, SWAP, {"clock": {"ticks": NOW, "hz": HZ}, "processes": list(processes), **given})


def at_point(core, wanted, act):
    """Let something happen at a preemption point of a core, whenever it is reached."""
    env = core._ctx.env
    env.preempt, env.preempts = lambda point: act() if point == wanted else None, True


def test_every_eligible_process_goes_and_not_the_longest_sleeping_one(machine):
    played = situation(machine, sleeper("short", 2), sleeper("long", 9000), sleeper("longer", 90000))
    assert played.call("swapout_procs", action=["NORMAL"])["swapped_out"] == ["short", "long", "longer"]


def test_idle_swapping_starts_a_second_late(machine):
    played = situation(machine, sleeper("ten", 10), sleeper("eleven", 11))
    assert played.call("swapout_procs", action=["IDLE"])["swapped_out"] == ["eleven"]


def test_a_hold_during_a_swap_out_leaves_a_process_in_memory_without_its_stack(machine):
    played = situation(machine, sleeper("p", 60))
    scheduler = machine[1].cores[3]
    pid = played.driver.ids["proc"]["p"]
    held = []

    def hold():
        scheduler.k.proc(pid).p_lock += 1
        held.append(faultin(scheduler.k, holder(scheduler.k), FaultinFrame(pid)))

    at_point(scheduler, "swapout:1079", hold)
    played.call("swapout_procs", action=["NORMAL"])
    assert held == [True]
    process = played.final()["processes"]["p"]
    assert process["flags"] == ["INMEM"]
    assert process["threads"]["tp"]["flags"] == ["CANSWAP", "INMEM"]
    assert process["threads"]["tp"]["stack"]["mapped"] == "...."
    assert process["threads"]["tp"]["stack"]["wired"] == "1111"
    assert machine[0].physmem.check().violations != []


def test_a_retry_after_ebusy_may_not_end(machine):
    played = situation(
        machine, sleeper("p", 60, safe_cycle=[True, False]), tunables={"swap_idle_threshold1": 0}
    )  # fmt: skip
    with pytest.raises(Livelock) as livelock:
        played.call("swapout_procs", action=["NORMAL"])
    assert livelock.value.processes == ["p"]


def test_nothing_checks_the_space_between_the_choice_and_faultin(machine):
    played = situation(machine, swapped("p"))
    k = machine[1].cores[3].k
    before = []

    def memory_goes():
        before.append(k.vm_page_count_min())
        k.ctx.env.inject([Answers("vm_page_count_min", [], 1, has_after=True)])

    at_point(machine[1].cores[3], "swapper:793", memory_goes)
    td = k.s.allproc[PROC0].p_threads[0]
    assert swapper(k, td, td.td_frame), "it goes on with its loop"
    assert before == [False]
    assert played.final()["processes"]["p"]["flags"] == ["INMEM"]
    assert not swapper(k, td, td.td_frame)
    assert td.td_wchan == "v_free_count", "only now it sees that there is no space"


def test_who_waits_for_a_swap_in_does_not_look_whether_it_lasted(machine):
    played = situation(machine, {**swapped("p"), "flags": ["SWAPPINGIN"]})
    call = played.call("faultin", proc="p", on_sleep=[[{"proc": "p", "flags": []}]])
    assert (call["left"], call["swapped_in"]) == ("returned", False)
    assert played.final()["processes"]["p"]["flags"] == []


def test_the_cache_size_is_compared_with_all_stacks_and_not_with_the_cache(machine):
    played = Situation(machine[0], STACKS, {"tunables": {"kstack_cache_size": 2}})
    for thread in ("t1", "t2", "t3"):
        played.call("vm_thread_new", thread=thread)
    disposed = played.call("vm_thread_dispose", thread="t1")
    assert (disposed["cached"], disposed["cache_length"], disposed["kstacks"]) == (False, 0, 2)


def test_the_cache_size_is_compared_before_the_lock_is_taken(machine):
    played = Situation(machine[0], STACKS, {"tunables": {"kstack_cache_size": 2}})
    for thread in ("t1", "t2"):
        played.call("vm_thread_new", thread=thread)
    kstack = machine[1].cores[2]
    at_point(kstack, "vm_thread_dispose:451", lambda: kstack.vm_thread_new([ThreadStack(-1, 0)], 0))
    disposed = played.call("vm_thread_dispose", thread="t1")
    assert (disposed["cached"], disposed["kstacks"]) == (True, 3)


def test_vslock_does_not_count_what_is_wired_already(machine):
    entry = {"start": "0x10000", "end": hex(0x10000 + 8 * PAGE)}
    given = {"user_map": {"entries": [entry]}, "tunables": {"vm_page_max_wired": 4}}
    played = Situation(machine[0], ACCESS, given)
    for first in (0, 4):
        locked = played.call("vslock", addr=hex(0x10000 + first * PAGE), len=hex(4 * PAGE))
        assert locked == {"error": None}
    assert played.final()["wired"] == [{"start": "0x10000", "end": "0x18000", "count": 1}]


def test_a_range_beyond_the_end_of_the_map_is_cut(machine):
    entry = {"start": "0x10000", "end": "0x14000"}
    played = Situation(machine[0], ACCESS, {"user_map": {"max": "0x14000", "entries": [entry]}})
    assert played.call("vslock", addr="0x12000", len=hex(9 * PAGE)) == {"error": None}
    assert played.final()["wired"] == [{"start": "0x12000", "end": "0x14000", "count": 1}]


def test_a_stack_that_nothing_touched_is_dirtied_again(machine):
    played = situation(machine, sleeper("p", 60))
    played.call("swapout_procs", action=["NORMAL"])
    assert played.call("evict", thread="tp", pages=[0, 1, 2, 3])["evicted"] == [0, 1, 2, 3]
    played.call("faultin", proc="p")
    stack = played.final()["processes"]["p"]["threads"]["tp"]["stack"]
    assert (stack["dirty"], stack["wired"]) == ("....", "1111")
    played.call("swapout_procs", action=["NORMAL"])
    assert played.final()["processes"]["p"]["threads"]["tp"]["stack"]["dirty"] == "DDDD"
