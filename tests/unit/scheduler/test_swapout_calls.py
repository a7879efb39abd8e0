"""swapout, swapclear and faultin called by themselves, over several processes."""

from __future__ import annotations

import pytest
from test_situation import IN, OUT, T1, T2, bare, process, thread

from services.ports.common import Answers
from services.ports.scheduler import Change, ChangeField, ChangesAt, Left, ProcState, VmspaceState
from services.runtime.errors import KernelPanic, Reason, Refused
from services.runtime.events import Kind, unpack
from services.scheduler.proc_flags import (
    EBUSY,
    P_INMEM,
    P_SWAPPINGIN,
    P_SWAPPINGOUT,
    TDF_INMEM,
    TDF_SWAPINREQ,
    TDI_SLEEPING,
    TDI_SWAPPED,
    Prs,
    Tds,
)

T3 = 100_102


def stacked(tid, **fields):
    """A thread that sleeps, on a stack of its own."""
    state = thread(tid, **fields)
    state.kstack, state.kstack_pages = tid << 16, 4
    return state


def three(**fields):
    procs = [process(101 + n, stacked(T1 + n, **fields), vmspace=n + 1) for n in range(3)]
    return bare(*procs, spaces=[VmspaceState(n) for n in (1, 2, 3)])


def flags(m):
    return [p.flags for p in m.core.proc_states().procs if p.pid]


def test_swapout_takes_each_process_and_all_stacks_in_one_call():
    m = three()
    m.physmem.sizes |= {1: 11, 2: 22, 3: 33}
    assert m.core.swapout([101, 103]).errors == [0, 0]
    assert flags(m) == [0, P_INMEM, 0]
    assert m.kstack.named("vm_thread_swapout") == [[T1, T3]]
    states = m.core.proc_states()
    assert [space.swrss for space in states.vmspaces] == [11, 0, 33]
    (td,) = states.procs[0].threads
    assert (td.flags, td.inhibitors, td.nswap) == (OUT, TDI_SLEEPING | TDI_SWAPPED, 1)
    assert m.core.stats().swapouts == 2
    assert m.physmem.named("vm_map_trylock") == [], "the caller of swapout holds the map"


def test_swapout_of_a_thread_that_is_not_safe_is_busy_and_puts_the_process_back():
    m = three()
    m.core.inject([Answers(f"thread_safetoswapout:{T2}", [0])])
    before = m.core.proc_states().procs
    assert m.core.swapout([102]).errors == [EBUSY]
    assert m.core.proc_states().procs == before
    assert m.kstack.calls == []
    assert [event.kind for event in unpack(m.core.events(0, 100).records)][-1] == Kind.SWAPOUT_BUSY
    assert m.core.swapout([102, 101]).errors == [0, 0]


def test_swapout_of_what_is_not_in_memory_panics_and_those_before_it_are_out():
    m = three()
    with pytest.raises(KernelPanic) as panic:
        m.core.swapout([103, 101, 103])
    assert (str(panic.value), panic.value.function, panic.value.line) == (
        "swapout: lost a swapout race?",
        "swapout",
        1054,
    )
    assert m.kstack.named("vm_thread_swapout") == [[T3, T1]]
    assert flags(m) == [0, P_INMEM, 0]


@pytest.mark.parametrize("other", [P_SWAPPINGIN, P_SWAPPINGOUT])
def test_swapout_of_what_is_in_memory_and_on_its_way_panics_too(other):
    m = three()
    m.core.k.proc(101).p_flag |= other
    with pytest.raises(KernelPanic, match="lost a swapout race"):
        m.core.swapout([101])


def test_swapclear_brings_back_by_the_flags_and_lets_run_who_waits_for_nothing_else():
    asleep = stacked(T1, flags=OUT | TDF_SWAPINREQ, inhibitors=TDI_SLEEPING | TDI_SWAPPED)
    awake = stacked(T2, flags=OUT, inhibitors=TDI_SWAPPED)
    m = bare(process(101, asleep, flags=P_SWAPPINGOUT), process(102, awake, flags=P_SWAPPINGIN | 0x800))
    m.core.swapclear([101, 102])
    first, second, *_ = m.core.proc_states().procs
    assert (first.flags, second.flags) == (P_INMEM, P_INMEM | 0x800)
    (td1,), (td2,) = first.threads, second.threads
    assert (td1.flags, td1.inhibitors) == (IN, TDI_SLEEPING)
    assert (td2.flags, td2.inhibitors, td2.state) == (TDF_INMEM, 0, int(Tds.RUNQ))
    assert m.kstack.calls == [], "stacks are the business of vm_thread_swapin"


def test_swapclear_of_a_thread_that_cannot_be_made_runnable_panics_as_setrunnable_does():
    m = bare(process(101, stacked(T1, inhibitors=TDI_SWAPPED)), ProcState(102, "z", int(Prs.ZOMBIE), P_INMEM))
    zombie = process(103, stacked(T2, inhibitors=TDI_SWAPPED))
    m.core.place([ProcState(103, "z", int(Prs.ZOMBIE), 0, threads=zombie.threads)], [])
    with pytest.raises(KernelPanic, match="setrunnable: pid 103 is a zombie"):
        m.core.swapclear([101, 103])


def test_faultin_goes_from_one_process_to_the_next_and_on_by_itself():
    m = three()
    m.core.swapout([101, 102, 103])
    call = m.core.faultin([102, 101], [], 0)
    assert (call.swapped_in, call.left) == ([102, 101], Left.RETURNED)
    assert flags(m) == [P_INMEM, P_INMEM, 0]
    m.core.swapout([101, 102])
    m.core.change([Change(ChangeField.P_FLAG, 103, P_SWAPPINGIN)])
    call = m.core.faultin([101, 103, 102], [], 0)
    assert (call.swapped_in, call.left, call.sleeps[0].channel) == ([101], Left.SLEEP, "swapin:103")
    assert flags(m) == [P_INMEM, 0, P_SWAPPINGIN]
    m.core.change([Change(ChangeField.P_FLAG, 103, P_INMEM)])
    again = m.core.faultin([], [], 0)
    assert (again.swapped_in, again.left) == ([], Left.RETURNED), "another thread: the first one is still asleep"
    (tid,) = m.core.k.s.sleepqs["swapin:103"]
    m.core.wake_thread(tid)
    m.core.next(1)
    assert flags(m) == [P_INMEM] * 3


def test_what_changes_during_a_sleep_of_one_of_several_faultins():
    m = three()
    m.core.swapout([101, 103])
    m.core.change([Change(ChangeField.P_FLAG, 102, P_SWAPPINGIN)])
    done = [ChangesAt("sleep", 1, [Change(ChangeField.P_FLAG, 102, P_INMEM)])]
    call = m.core.faultin([101, 102, 103], done, 2)
    assert (call.swapped_in, call.left, len(call.sleeps)) == ([101, 103], Left.RETURNED, 1)


@pytest.mark.parametrize("method", ["swapout", "swapclear", "faultin"])
def test_an_unknown_process_among_several_changes_nothing(method):
    m = three()
    before = m.core.digest()
    arguments = ([101, 9], [], 0) if method == "faultin" else ([101, 9],)
    with pytest.raises(Refused) as refused:
        getattr(m.core, method)(*arguments)
    assert (refused.value.reason, refused.value.field, refused.value.value) == (Reason.UNKNOWN_ID, "pids", 9)
    assert m.core.digest() == before


def test_swapout_refuses_a_process_without_address_space_or_stacks():
    m = three()
    m.core.place([process(104, thread(100_200), vmspace=1), process(105, stacked(100_201))], [])
    before = m.core.digest()
    for pid in (104, 105):
        with pytest.raises(Refused, match="an address space and kernel stacks"):
            m.core.swapout([101, pid])
    assert m.core.digest() == before


def test_a_kernel_without_swapping_has_neither():
    m = bare(process(101, stacked(T1)))
    m.core.k.s.config.no_swapping = True
    for method in (m.core.swapout, m.core.swapclear):
        with pytest.raises(Refused) as refused:
            method([101])
        assert refused.value.reason is Reason.NOT_BUILT
