"""Functions of vm_glue.c that the machine calls within others, called by themselves, in both wirings."""

from __future__ import annotations

import pytest

from services.ports.kstack import KstackBoot, ThreadOnStack, ThreadStack
from services.ports.pager import PagerBoot, SwapDisk
from services.ports.physmem import PageState, PageValid, PhysmemBoot, PlacedStack
from services.ports.scheduler import Left, ProcState, SchedulerBoot, ThreadState, VmspaceState
from services.runtime.errors import KernelPanic, Reason, Refused
from services.scheduler.proc_flags import P_INMEM, TDF_CANSWAP, TDF_INMEM, TDI_SLEEPING, TDI_SWAPPED, Prs, Tds

PIDS = [101, 102, 103]
PAGES = 4


@pytest.fixture
def kernel(system):
    """Three sleeping processes of two threads, on stacks that physmem placed."""
    kernel, common = system.kernel, {"hz": 1000, "allow_inject": True}
    kernel.ctx.reboot(1000, 0, allow_inject=False)
    kernel.pager.boot(PagerBoot(page_count=512, swap_devices=[SwapDisk(512)], **common))
    kernel.physmem.boot(PhysmemBoot(ram_pages=512, **common))
    kernel.kstack.boot(KstackBoot(**common))
    kernel.scheduler.boot(SchedulerBoot(page_count=512, bare=True, **common))
    resident = [PageState(at, PageValid.ALL, wired=1) for at in range(PAGES)]
    placed = kernel.physmem.place([PlacedStack(PAGES, resident, mapped=True)] * 6, [], [1] * 3)
    kernel.kstack.place([ThreadOnStack(1000 + at, stack) for at, stack in enumerate(placed.stacks)])
    procs = []
    for at, pid in enumerate(PIDS):
        threads = [
            ThreadState(1000 + n, int(Tds.INHIBITED), TDF_CANSWAP | TDF_INMEM, TDI_SLEEPING, slptick=-99, kstack=s.ks)
            for n, s in enumerate(placed.stacks)
            if n // 2 == at
        ]
        procs.append(ProcState(pid, f"p{pid}", int(Prs.NORMAL), P_INMEM, vmspace=placed.vmspaces[at], threads=threads))
        for thread in threads:
            thread.kstack_pages = PAGES
    kernel.scheduler.place(procs, [VmspaceState(space) for space in placed.vmspaces])
    return kernel, placed.stacks


def in_memory(kernel):
    return [p.pid for p in kernel.scheduler.proc_states().procs if p.flags & P_INMEM and p.pid]


def wired(kernel, stacks):
    return [stack.wired for stack in kernel.physmem.object_pages(stacks).objects]


def violations(kernel):
    return [text for port in kernel.ports().values() for text in port.check().violations]


def test_processes_go_out_and_come_in_by_lists(kernel):
    kernel, stacks = kernel
    assert kernel.scheduler.swapout([103, 101]).errors == [0, 0]
    assert in_memory(kernel) == [102]
    assert wired(kernel, stacks) == ["0000"] * 2 + ["1111"] * 2 + ["0000"] * 2
    call = kernel.scheduler.faultin([101, 102, 103], [], 0)
    assert (call.swapped_in, call.left) == ([101, 103], Left.RETURNED)
    assert in_memory(kernel) == PIDS
    assert wired(kernel, stacks) == ["1111"] * 6
    assert violations(kernel) == []


def test_swapclear_is_about_flags_alone(kernel):
    kernel, stacks = kernel
    kernel.scheduler.swapout([101])
    kernel.scheduler.swapclear([101, 102])
    assert in_memory(kernel) == PIDS
    assert wired(kernel, stacks)[0] == "0000", "the caller brings the stacks in"
    (td, _) = kernel.scheduler.proc_states().procs[0].threads
    assert td.inhibitors & TDI_SWAPPED == 0


def test_a_lost_race_is_a_panic_with_its_line_and_the_machine_stops(kernel):
    kernel, _ = kernel
    kernel.scheduler.swapout([101])
    with pytest.raises(KernelPanic) as panic:
        kernel.scheduler.swapout([102, 101])
    assert (panic.value.text, panic.value.function, panic.value.line) == (
        "swapout: lost a swapout race?",
        "swapout",
        1054,
    )
    assert in_memory(kernel) == [103], "those before it are out, as in C"
    with pytest.raises(Refused) as refused:
        kernel.scheduler.swapclear([101])
    assert (refused.value.reason, refused.value.reason.status) == (Reason.MACHINE_STOPPED, "FAILED_PRECONDITION")


def test_stacks_are_destroyed_by_label(kernel):
    kernel, _ = kernel
    new = kernel.kstack.vm_thread_new([ThreadStack(1), ThreadStack(2, 7)], 0).stacks
    gone = kernel.kstack.vm_thread_stack_dispose([stack.stack for stack in new])
    assert (gone.freed, gone.kva_bytes_freed) == ([stack.stack for stack in new], sum(s.kva_bytes for s in new))
    assert (gone.kstacks, gone.cache_length) == (6, 0)
    label = kernel.kstack.vm_thread_new([ThreadStack(3)], 0).stacks[0].stack
    kernel.kstack.lose_page(label, 2)
    with pytest.raises(KernelPanic) as panic:
        kernel.kstack.vm_thread_stack_dispose([label])
    assert (panic.value.text, panic.value.line) == ("vm_thread_dispose: kstack already missing?", 423)


def test_image_pages_are_held_and_given_back(kernel):
    kernel, _ = kernel
    asleep = kernel.physmem.vm_imgact_hold_page("prog", 4, [0, 9000, 1 << 40], 0)
    assert asleep.suspension.wmesg == "vnread"
    pages = asleep.pages
    while asleep.suspension is not None:
        upcalls = kernel.ctx.take_upcalls()
        kernel.ctx.now_us = max(io.due_us for io in upcalls.ios)
        kernel.physmem.complete_io([io.io for io in upcalls.ios])
        asleep = kernel.physmem.vm_imgact_hold_page("prog", 4, [], asleep.suspension.op)
        pages = asleep.pages
    assert [(held.page >= 0, held.pindex) for held in pages] == [(True, 0), (True, 2), (False, 1 << 28)]
    (file,) = kernel.physmem.image_pages(["prog"]).files
    assert {page.pindex: page.held for page in file.pages if page.held} == {0: 1, 2: 1}
    kernel.physmem.vm_page_unhold([held.page for held in pages if held.page >= 0])
    assert violations(kernel) == []
    with pytest.raises(KernelPanic, match="vm_page_unhold: hold count < 0!!!"):
        kernel.physmem.vm_page_unhold([pages[0].page])


def test_who_waits_for_memory_is_told_by_both_services(kernel):
    kernel, _ = kernel
    for tid in range(1, 200):
        answer = kernel.kstack.vm_thread_new([ThreadStack(tid)], 0)
        if answer.suspension is not None:
            break
    above, below = kernel.kstack.suspended(), kernel.physmem.suspended()
    assert above.total == below.total == 1
    row = above.operations[0]
    assert (row.op, row.subject) == (answer.suspension.op, f"thread {tid}")
    for row in (*above.operations, *below.operations):
        assert row.function == "vm_thread_new (vm_glue.c:323-409)"
        assert (row.channel, row.wmesg) == ("v_free_count", "vmwait")
