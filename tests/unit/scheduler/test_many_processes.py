"""Many processes: each is looked at a fixed number of times, and each layer below is called once."""

from __future__ import annotations

import pytest
from fakes import machine

from services.ports.scheduler import ProcState, ThreadState, VmspaceState
from services.scheduler import glue_swap
from services.scheduler.proc_flags import P_INMEM, TDF_CANSWAP, TDF_INMEM, TDI_SLEEPING, VM_SWAP_NORMAL, Prs, Tds

MANY = 500


def sleeper(tid):
    return ThreadState(tid, int(Tds.INHIBITED), TDF_CANSWAP | TDF_INMEM, TDI_SLEEPING, kstack=tid << 16, kstack_pages=4)


@pytest.fixture
def crowd():
    """A machine on which many processes of two threads have slept for long."""
    m = machine(bare=True, start_ticks=100_000)
    procs, spaces = [], []
    for at in range(MANY):
        space = m.physmem.vmspace_alloc(0, 0).vmspace
        tid = 200_000 + 2 * at
        m.kstack.stacks |= {tid: tid << 16, tid + 1: tid + 1 << 16}
        procs.append(
            ProcState(1000 + at, "p", int(Prs.NORMAL), P_INMEM, vmspace=space, threads=[sleeper(tid), sleeper(tid + 1)])
        )
        spaces.append(VmspaceState(space))
    m.core.place(procs, spaces)
    return m


def test_a_scan_looks_at_each_process_once_for_its_lock_and_once_to_decide(crowd, monkeypatch):
    looked_at = []
    why_not = glue_swap._why_not

    def counting(k, p, scan):
        looked_at.append(p.p_pid)
        return why_not(k, p, scan)

    monkeypatch.setattr(glue_swap, "_why_not", counting)
    call = crowd.core.swapout_procs(VM_SWAP_NORMAL)
    assert call.swapped_out == list(range(1000, 1000 + MANY))
    assert looked_at == [*call.swapped_out, *call.swapped_out, 0]


def test_a_scan_calls_each_layer_once(crowd):
    crowd.core.swapout_procs(VM_SWAP_NORMAL)
    assert [len(tids) for tids in crowd.kstack.named("vm_thread_swapout")] == [2 * MANY]
    assert [len(spaces) for spaces in crowd.physmem.named("vm_map_trylock")] == [MANY]
    assert [len(spaces) for spaces in crowd.physmem.named("vm_map_unlock")] == [MANY]


def test_a_crowd_of_runnable_threads_is_on_the_run_queue_once():
    m = machine(bare=True)
    threads = [ThreadState(200_000 + at, int(Tds.RUNQ), TDF_INMEM, kstack=at + 1, kstack_pages=4) for at in range(MANY)]
    m.kstack.stacks |= {thread.tid: thread.kstack for thread in threads}
    m.core.place([ProcState(1000, "p", int(Prs.NORMAL), P_INMEM, threads=threads)], [])
    assert [tid for _, _, tid in sorted(m.core.k.s.runq)][1:] == [thread.tid for thread in threads]
    assert m.core.check().violations == []
