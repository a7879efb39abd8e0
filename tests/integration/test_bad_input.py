"""A caller's mistake is refused with its reason, field and value, and changes nothing, in both wirings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from systems import WIRINGS, start_system

from clients.kernel import Kernel
from services.ports.common import Answers, Outcome, Setting, Upcalls
from services.ports.kstack import KstackBoot, ThreadOnStack, ThreadPcb, ThreadStack
from services.ports.pager import ObjectKind, PagerBoot, SwapDisk
from services.ports.physmem import (
    AccessCheck,
    KmemRange,
    KmemWrite,
    MapOp,
    PageValid,
    PhysmemBoot,
    RssLimit,
    StackPages,
    SwapStack,
)
from services.ports.scheduler import SchedulerBoot, SpawnRequest, Trap
from services.runtime.errors import KernelPanic, Reason, Refused

NONE = 987_654
"""Nothing has this id."""
RANGE, UNKNOWN, SYSCTL = Reason.FIELD_OUT_OF_RANGE, Reason.UNKNOWN_ID, Reason.UNKNOWN_SYSCTL


@pytest.fixture(scope="module", params=WIRINGS)
def kernel(request):
    with start_system(request.param, allow_inject=True) as system:
        kernel = system.kernel
        kernel.ctx.reboot(1000, 0, allow_inject=False)
        kernel.pager.boot(PagerBoot(swap_devices=[SwapDisk(256)], page_count=4096, allow_inject=True))
        kernel.physmem.boot(PhysmemBoot(ram_pages=4096, seed=7, allow_inject=True))
        kernel.kstack.boot(KstackBoot(allow_inject=True))
        kernel.scheduler.boot(SchedulerBoot(page_count=4096, allow_inject=True))
        kernel.physmem.vmspace_alloc(0, 0)
        kernel.kstack.vm_thread_new([ThreadStack(5, 0)], 0)
        yield kernel


@dataclass(frozen=True)
class Mistake:
    """A call that is refused."""

    name: str
    reason: Reason
    field: str
    call: Callable[[Kernel], object]
    named: object = NONE
    """With UNKNOWN: the id that the refusal names."""


MISTAKES = [
    Mistake("pager.boot", RANGE, "swap_devices[0].pages", lambda k: k.pager.boot(PagerBoot([SwapDisk(2)]))),
    Mistake("physmem.boot", RANGE, "arch", lambda k: k.physmem.boot(PhysmemBoot(ram_pages=9, arch="vax"))),
    Mistake("kstack.boot", RANGE, "kstack_pages", lambda k: k.kstack.boot(KstackBoot(kstack_pages=33))),
    Mistake("scheduler.boot", RANGE, "hz", lambda k: k.scheduler.boot(SchedulerBoot(hz=0))),
    Mistake(
        "get_pages_start", UNKNOWN, "file", lambda k: k.pager.get_pages_start(1, ObjectKind.VNODE, NONE, 0, 0, 0, False)
    ),
    Mistake("get_pages_finish", UNKNOWN, "ios", lambda k: k.pager.get_pages_finish([NONE])),
    Mistake("put_pages_start", RANGE, "data", lambda k: k.pager.put_pages_start([], b"x", False)),
    Mistake("put_pages_finish", UNKNOWN, "ios", lambda k: k.pager.put_pages_finish([NONE])),
    Mistake("vmspace_alloc", RANGE, "max", lambda k: k.physmem.vmspace_alloc(1, 4097)),
    Mistake("vmspace_fork", UNKNOWN, "vmspace", lambda k: k.physmem.vmspace_fork(NONE)),
    Mistake("vmspace_ref", UNKNOWN, "vmspace", lambda k: k.physmem.vmspace_ref(NONE)),
    Mistake("vmspace_free", UNKNOWN, "vmspace", lambda k: k.physmem.vmspace_free([1, NONE])),
    Mistake("vmspace_free twice", UNKNOWN, "vmspaces", lambda k: k.physmem.vmspace_free([1] * 9), 1),
    Mistake("map_ops", UNKNOWN, "vmspace", lambda k: k.physmem.map_ops(NONE, [MapOp(size=4096)], 0)),
    Mistake("map_ops.start", RANGE, "ops[0].start", lambda k: k.physmem.map_ops(1, [MapOp(start=1)], 0)),
    Mistake("map_ops.op", UNKNOWN, "op", lambda k: k.physmem.map_ops(1, [], NONE)),
    Mistake("useracc", UNKNOWN, "vmspace", lambda k: k.physmem.useracc(NONE, [AccessCheck(0, 1, 1)])),
    Mistake("vslock", UNKNOWN, "vmspace", lambda k: k.physmem.vslock(NONE, 0, 1, 0)),
    Mistake("vslock.op", UNKNOWN, "op", lambda k: k.physmem.vslock(1, 0, 1, NONE)),
    Mistake("vsunlock", UNKNOWN, "vmspace", lambda k: k.physmem.vsunlock(NONE, 0, 1)),
    Mistake("vm_imgact_hold_page", UNKNOWN, "op", lambda k: k.physmem.vm_imgact_hold_page("f", 1, [0], NONE)),
    Mistake("vm_page_unhold", UNKNOWN, "pages", lambda k: k.physmem.vm_page_unhold([NONE])),
    Mistake("vm_ooffset_t", RANGE, "offsets[1]", lambda k: k.physmem.vm_imgact_hold_page("f", 1, [0, -1], 0)),
    Mistake("vm_imgact_map_page", UNKNOWN, "op", lambda k: k.physmem.vm_imgact_map_page("f", 1, 0, 0, NONE)),
    Mistake("vm_imgact_unmap_page", UNKNOWN, "mapping", lambda k: k.physmem.vm_imgact_unmap_page(NONE, 0)),
    Mistake("vm_sync_icache", UNKNOWN, "vmspace", lambda k: k.physmem.vm_sync_icache(NONE, 0, 1)),
    Mistake("access", UNKNOWN, "vmspace", lambda k: k.physmem.access(NONE, b"", 0, 1, 0, 0)),
    Mistake("access.start", RANGE, "start", lambda k: k.physmem.access(1, b"1234567", 0, 1, 0, 0)),
    Mistake("access_kept", UNKNOWN, "name", lambda k: k.physmem.access_kept(1, "none", b"", 0, 0, 1, 0, 0), "none"),
    Mistake("access_kept.runs", RANGE, "runs", lambda k: k.physmem.access_kept(1, "x", b"1234567", 0, 0, 1, 0, 0)),
    Mistake("complete_io", UNKNOWN, "ios", lambda k: k.physmem.complete_io([NONE])),
    Mistake("stack_create", RANGE, "sizes", lambda k: k.physmem.stack_create([4, 33], 0)),
    Mistake("stack_destroy", UNKNOWN, "stacks", lambda k: k.physmem.stack_destroy([StackPages(NONE, 4096, 4)])),
    Mistake("stack_swapout", UNKNOWN, "stacks", lambda k: k.physmem.stack_swapout([SwapStack(StackPages(NONE))])),
    Mistake("stack_swapin", UNKNOWN, "stacks", lambda k: k.physmem.stack_swapin([SwapStack(StackPages(NONE))], 0)),
    Mistake("kmem_write", RANGE, "addr", lambda k: k.physmem.kmem_write([KmemWrite(4096, b"x")])),
    Mistake("kmem_read", RANGE, "addr", lambda k: k.physmem.kmem_read([KmemRange(4096, 1)])),
    Mistake("vm_map_trylock", UNKNOWN, "vmspace", lambda k: k.physmem.vm_map_trylock([1, NONE])),
    Mistake("vm_map_unlock", UNKNOWN, "vmspace", lambda k: k.physmem.vm_map_unlock([NONE])),
    Mistake("map_deactivate", UNKNOWN, "vmspace", lambda k: k.physmem.map_deactivate([RssLimit(1), RssLimit(NONE)])),
    Mistake("set_page", UNKNOWN, "file", lambda k: k.physmem.set_page("none", 0, PageValid.ALL, False), "none"),
    Mistake("evict", UNKNOWN, "obj", lambda k: k.physmem.evict(NONE, [0])),
    Mistake("physmem.lose_page", UNKNOWN, "pindex", lambda k: k.physmem.lose_page(NONE, 0)),
    Mistake("vm_thread_new.op", UNKNOWN, "op", lambda k: k.kstack.vm_thread_new([], NONE)),
    Mistake(
        "int", RANGE, "threads[1].pages", lambda k: k.kstack.vm_thread_new([ThreadStack(6), ThreadStack(7, 1 << 31)], 0)
    ),
    Mistake("u_long", RANGE, "addr", lambda k: k.physmem.vslock(1, -1, 1, 0)),
    Mistake("size_t", RANGE, "len", lambda k: k.physmem.vslock(1, 0, 1 << 64, 0)),
    Mistake("vm_thread_dispose", UNKNOWN, "tid", lambda k: k.kstack.vm_thread_dispose([5, NONE])),
    Mistake("vm_thread_dispose twice", RANGE, "tid", lambda k: k.kstack.vm_thread_dispose([5, 5])),
    Mistake("vm_thread_stack_dispose", UNKNOWN, "stacks", lambda k: k.kstack.vm_thread_stack_dispose([1, NONE])),
    Mistake("vm_thread_stack_dispose twice", RANGE, "stacks", lambda k: k.kstack.vm_thread_stack_dispose([1, 1])),
    Mistake("vm_thread_swapout", UNKNOWN, "tid", lambda k: k.kstack.vm_thread_swapout([ThreadPcb(5), ThreadPcb(NONE)])),
    Mistake("vm_thread_swapin", UNKNOWN, "tid", lambda k: k.kstack.vm_thread_swapin([ThreadPcb(NONE)], 0)),
    Mistake("vm_thread_swapin.op", UNKNOWN, "op", lambda k: k.kstack.vm_thread_swapin([], NONE)),
    Mistake("kstack.lose_page", UNKNOWN, "stack", lambda k: k.kstack.lose_page(NONE, 0)),
    Mistake("kstack.lose_page.page", RANGE, "page", lambda k: k.kstack.lose_page(1, 4)),
    Mistake("spawn", RANGE, "nice", lambda k: k.scheduler.spawn([SpawnRequest("a"), SpawnRequest("b", nice=21)])),
    Mistake("report", UNKNOWN, "tid", lambda k: k.scheduler.report(NONE, Outcome(), Trap(), Upcalls(), 1)),
    Mistake("swapout_procs", RANGE, "action", lambda k: k.scheduler.swapout_procs(4)),
    Mistake("faultin", UNKNOWN, "pids", lambda k: k.scheduler.faultin([NONE], [], 0)),
    Mistake("swapout", UNKNOWN, "pids", lambda k: k.scheduler.swapout([NONE])),
    Mistake("swapout.pids", RANGE, "pids[0]", lambda k: k.scheduler.swapout([1 << 31])),
    Mistake("swapclear", UNKNOWN, "pids", lambda k: k.scheduler.swapclear([1, NONE])),
    Mistake("setrunnable", UNKNOWN, "tid", lambda k: k.scheduler.setrunnable(NONE)),
    Mistake("wake_thread", UNKNOWN, "tid", lambda k: k.scheduler.wake_thread(NONE)),
    Mistake("vm_forkproc", UNKNOWN, "tid", lambda k: k.scheduler.vm_forkproc(NONE, 0, 0, 0, 0, 0)),
    Mistake("vm_waitproc", UNKNOWN, "pid", lambda k: k.scheduler.vm_waitproc(NONE)),
    Mistake("pager.sysctl_set", RANGE, "value", lambda k: k.pager.sysctl_set(Setting("vm.swap_async_max", 0))),
    Mistake("pager.sysctl_set RD", SYSCTL, "name", lambda k: k.pager.sysctl_set(Setting("vm.dmmax", 1))),
    Mistake("physmem.sysctl_set", RANGE, "value", lambda k: k.physmem.sysctl_set(Setting("vm.v_free_min", -1))),
    Mistake("physmem.sysctl_set RD", SYSCTL, "name", lambda k: k.physmem.sysctl_set(Setting("hw.physmem", 1))),
    Mistake(
        "kstack.sysctl_set", RANGE, "value", lambda k: k.kstack.sysctl_set(Setting("vm.kstack_cache_size", 1 << 31))
    ),
    Mistake("kstack.sysctl_set RD", SYSCTL, "name", lambda k: k.kstack.sysctl_set(Setting("vm.kstacks", 1))),
    Mistake(
        "scheduler.sysctl_set", RANGE, "value", lambda k: k.scheduler.sysctl_set(Setting("vm.panic_on_oom", 1 << 31))
    ),
    Mistake("scheduler.sysctl_set RD", SYSCTL, "name", lambda k: k.scheduler.sysctl_set(Setting("kern.hz", 1))),
]
"""At least one call of every method that takes an id or a value that may be wrong."""


def state(kernel):
    return {name: (port.digest(), port.counters().values, port.sysctl_get()) for name, port in kernel.ports().items()}


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.name for mistake in MISTAKES])
def test_a_mistake_is_refused_and_changes_nothing(kernel, mistake):
    before = state(kernel)
    with pytest.raises(Refused) as refused:
        mistake.call(kernel)
    assert (refused.value.reason, refused.value.field) == (mistake.reason, mistake.field)
    if mistake.reason is UNKNOWN:
        assert refused.value.reason.status == "NOT_FOUND"
        assert str(mistake.named) in str(refused.value)
    assert state(kernel) == before
    assert kernel.ctx.take_upcalls() == Upcalls()


def test_a_thread_on_two_stacks_is_not_placed_in_part(kernel):
    before = state(kernel)
    with pytest.raises(KernelPanic, match="thread_alloc got thread with kstack"):
        kernel.kstack.place([ThreadOnStack(6), ThreadOnStack(5)])
    assert state(kernel) == before


def test_scripts_are_taken_only_where_injection_is_allowed():
    with start_system("local") as system:
        system.kernel.ctx.reboot(1000, 0, allow_inject=False)
        system.kernel.pager.boot(PagerBoot(allow_inject=True))
        before = system.kernel.pager.digest()
        with pytest.raises(Refused) as refused:
            system.kernel.pager.inject([Answers("disk_read_error", [1])])
        assert refused.value.reason.status == "PERMISSION_DENIED"
        assert system.kernel.pager.digest() == before
