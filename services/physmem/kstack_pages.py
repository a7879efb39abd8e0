"""The page work of kernel stacks: construction, destruction, swap-out, swap-in (vm_glue.c:353-433, 542-606)."""

from __future__ import annotations

from hardware_sim.cpu import Pcb
from services.physmem.machine import KernelStack, Machine
from services.physmem.ops import StackCreateOp, StackSwapinOp
from services.physmem.page_array import PQ_INACTIVE
from services.physmem.page_busy import vm_page_xbusied, vm_page_xunbusy
from services.physmem.pmap import pmap_qenter, pmap_qremove
from services.physmem.state import ObjectType, VmObject
from services.physmem.vm_kern import kva_alloc, kva_free
from services.physmem.vm_object import (
    vm_object_allocate,
    vm_object_deallocate,
    vm_object_pip_add,
    vm_object_pip_wakeup,
)
from services.physmem.vm_page import (
    VM_ALLOC_NOBUSY,
    VM_ALLOC_NORMAL,
    VM_ALLOC_WIRED,
    vm_page_dirty,
    vm_page_free,
    vm_page_grab,
    vm_page_lookup,
    vm_page_unwire,
)
from services.physmem.vm_pager import get_pages_scripted, read_start_wired, read_wait
from services.ports.common import Suspension
from services.ports.pager import VmPager
from services.ports.physmem import PageRequest, StackBuilt, StackPages, SwapStack
from services.runtime.errors import KernelPanic
from services.runtime.events import Kind

PCB_BYTES = Pcb.LAYOUT.size
"""Bytes at the top of a stack that hold the registers of a thread that is swapped out."""


def stack_create(vm: Machine, op: StackCreateOp) -> Suspension | None:
    """The slow path of vm_thread_new (vm_glue.c:353-408) for each size that is still to be built.

    Returns:
        The sleep for memory, in which the last stack is incomplete; None: all are built.
    """
    while True:
        if op.built and op.built[-1].stack.ks and not op.built[-1].complete:
            sleep = _grab_stack(vm, op, op.built[-1])
            if sleep is not None:
                return sleep
        if len(op.built) == len(op.sizes):
            return None
        pages = op.sizes[len(op.built)]
        stack = stack_allocate(vm, pages)
        if stack is None:
            op.built.append(StackBuilt())
        else:
            op.built.append(StackBuilt(stack, (pages + vm.kstack_guard_pages) * vm.arch.page_size))


def stack_allocate(vm: Machine, pages: int) -> StackPages | None:
    """Object, kernel address space and guard of a stack (vm_glue.c:353-386); None if there is no address space."""
    page_size, guard = vm.arch.page_size, vm.kstack_guard_pages
    ksobj = vm_object_allocate(vm, ObjectType.DEFAULT, pages)
    align = vm.arch.kstack_align_pages * page_size if vm.arch.kstack_align_pages > 1 else 0
    ks = kva_alloc(vm, (pages + guard) * page_size, align)
    if ks == 0:
        vm_object_deallocate(vm, ksobj)
        return None
    if guard != 0:
        pmap_qremove(vm, ks, guard)
        ks += guard * page_size
    vm.stacks[ksobj.id] = KernelStack(ks, pages, resident=False)
    return StackPages(ksobj.id, ks, pages)


def _grab_stack(vm: Machine, op: StackCreateOp, built: StackBuilt) -> Suspension | None:
    """Link in a real page of memory for each page of the stack and map them."""
    ksobj = vm.objects[built.stack.obj]
    for i in range(len(op.frames), built.stack.pages):
        m = vm_page_grab(vm, ksobj, i, VM_ALLOC_NOBUSY | VM_ALLOC_NORMAL | VM_ALLOC_WIRED)
        if isinstance(m, Suspension):
            vm.ctx.env.preempt("vm_thread_new:401")
            return m
        assert m is not None, "a grab without VM_ALLOC_NOWAIT gives a page or sleeps"
        vm.pages.valid[m] = vm.bits_all
        op.frames.append(m)
    vm.ctx.env.preempt("vm_thread_new:406")
    pmap_qenter(vm, built.stack.ks, op.frames)
    vm.stacks[built.stack.obj].resident = True
    op.frames, built.complete = [], True
    return None


def stack_destroy(vm: Machine, stack: StackPages) -> int:
    """vm_thread_stack_dispose (vm_glue.c:411-433) without the counter; kernel address space given back, in bytes.

    Raises:
        KernelPanic: A page of the stack is missing.
    """
    page_size, guard = vm.arch.page_size, vm.kstack_guard_pages
    ksobj = vm.objects[stack.obj]
    pmap_qremove(vm, stack.ks, stack.pages)
    for i in range(stack.pages):
        m = vm_page_lookup(vm, ksobj, i)
        if m is None:
            raise KernelPanic("vm_thread_dispose: kstack already missing?", "vm_thread_stack_dispose", 423)
        vm_page_unwire(vm, m, PQ_INACTIVE)
        vm_page_free(vm, m)
    vm.ctx.env.preempt("vm_thread_stack_dispose:429")
    del vm.stacks[stack.obj]
    vm_object_deallocate(vm, ksobj)
    kva_bytes = (stack.pages + guard) * page_size
    kva_free(vm, stack.ks - guard * page_size, kva_bytes)
    return kva_bytes


def stack_swapout(vm: Machine, swap: SwapStack) -> None:
    """vm_thread_swapout (vm_glue.c:542-564): the registers go to the top of the stack, then its pages may be paged out.

    Raises:
        KernelPanic: A page of the stack is missing, or not wired, or not valid.
    """
    stack, ksobj = swap.stack, vm.objects[swap.stack.obj]
    _save_pcb(vm, ksobj, swap)
    pmap_qremove(vm, stack.ks, stack.pages)
    vm.ctx.env.preempt("vm_thread_swapout:552")
    for i in range(stack.pages):
        m = vm_page_lookup(vm, ksobj, i)
        if m is None:
            raise KernelPanic("vm_thread_swapout: kstack already missing?", "vm_thread_swapout", 557)
        vm_page_dirty(vm, m)
        vm_page_unwire(vm, m, PQ_INACTIVE)
    vm.stacks[stack.obj].resident = False
    vm.ctx.env.preempt("vm_thread_swapout:563")
    vm.ctx.event(Kind.STACK_PAGES_OUT, stack.obj, stack.pages)


def _save_pcb(vm: Machine, ksobj: VmObject, swap: SwapStack) -> None:
    """The thread's registers as they would lie in its last stack page; a missing page panics later."""
    m = vm_page_lookup(vm, ksobj, swap.stack.pages - 1)
    if m is not None and swap.pcb:
        vm.ram.write(m, swap.pcb, vm.arch.page_size - len(swap.pcb))


def stack_swapin(vm: Machine, op: StackSwapinOp) -> Suspension | None:
    """vm_thread_swapin (vm_glue.c:569-606) for each stack that is still out, one after the other.

    Returns:
        The sleep for memory, a busy page or a device; None: all are in.

    Raises:
        KernelPanic: The pager did not give a page.
    """
    while op.index < len(op.stacks):
        sleep = _vm_thread_swapin(vm, op, op.stacks[op.index])
        if sleep is not None:
            return sleep
        op.index += 1
    return None


def _vm_thread_swapin(vm: Machine, op: StackSwapinOp, swap: SwapStack) -> Suspension | None:
    """One stack: grab all pages, have the missing ones read run by run, map them."""
    pages, ksobj, ma = swap.stack.pages, vm.objects[swap.stack.obj], op.frames
    valid, bits_all = vm.pages.valid, vm.bits_all
    while len(ma) < pages:
        m = vm_page_grab(vm, ksobj, len(ma), VM_ALLOC_NORMAL | VM_ALLOC_WIRED)
        if isinstance(m, Suspension):
            vm.ctx.env.preempt("vm_thread_swapin:580")
            return m
        assert m is not None, "a grab without VM_ALLOC_NOWAIT gives a page or sleeps"
        ma.append(m)
    while op.page < pages:
        i = op.page
        if op.io or valid[ma[i]] != bits_all:
            sleep = _get_run(vm, op, swap, ksobj)
            if sleep is not None:
                return sleep
        elif vm_page_xbusied(vm, ma[i]):
            vm_page_xunbusy(vm, ma[i])
        op.page += 1
    vm.ctx.env.preempt("vm_thread_swapin:603")
    pmap_qenter(vm, swap.stack.ks, ma)
    vm.stacks[swap.stack.obj].resident = True
    requests = [request for request in op.page_requests if request.stack == op.index]
    read = sum(request.count for request in requests)
    without_pcb = op.scripted and requests and requests[-1].first + requests[-1].count == pages
    op.pcbs.append(b"" if without_pcb else vm.ram.read(ma[-1], vm.arch.page_size - PCB_BYTES))
    vm.ctx.event(Kind.STACK_PAGES_IN, swap.stack.obj, pages, read)
    op.frames, op.page = [], 0
    return None


def _get_run(vm: Machine, op: StackSwapinOp, swap: SwapStack, ksobj: VmObject) -> Suspension | None:
    """Ask the pager for the run of invalid pages from ``op.page`` on, or see what became of the read for it."""
    i, ma = op.page, op.frames
    status: VmPager | None = None
    if op.io == 0:
        _assert_xbusied(vm, ma[i])
        vm_object_pip_add(vm, ksobj, 1)
        op.run = _invalid_run(vm, ma, i)
        status = get_pages_scripted(vm, ksobj, i, ma[i : i + op.run])
        op.scripted = status is not None
        if status is None:
            started = read_start_wired(vm, ksobj, i, ma[i : i + op.run])
            op.io, status = started.io, started.status
    if op.io:
        read = vm.reads[op.io]
        if read.status is None:
            vm.ctx.env.preempt("vm_thread_swapin:592")
            return read_wait(vm, ksobj, ma[i])
        del vm.reads[op.io]
        op.io, status = 0, read.status
    assert status is not None, "the pager has answered"
    op.page_requests.append(PageRequest(op.index, i, op.run, status))
    if status != VmPager.OK:
        text = f"vm_thread_swapin: cannot get kstack for proc: {swap.pid}"
        raise KernelPanic(text, "vm_thread_swapin", 594)
    vm_object_pip_wakeup(vm, ksobj)
    for k in range(i, i + op.run):
        ma[k] = _relookup(vm, ksobj, k)
    vm_page_xunbusy(vm, ma[i])
    return None


def _invalid_run(vm: Machine, ma: list[int], i: int) -> int:
    """Pages from the i-th on that are not valid, up to the first that is; all of them must be busy."""
    j = i + 1
    while j < len(ma) and vm.pages.valid[ma[j]] != vm.bits_all:
        _assert_xbusied(vm, ma[j])
        j += 1
    return j - i


def _assert_xbusied(vm: Machine, m: int) -> None:
    text = f"vm_page_assert_xbusied: page {m} not exclusive busy"
    vm.ctx.kassert(vm_page_xbusied(vm, m), text, "vm_thread_swapin", 584)


def _relookup(vm: Machine, ksobj: VmObject, pindex: int) -> int:
    """vm_page_lookup after the pager, which may have replaced the page; C assumes that it is there."""
    m = vm_page_lookup(vm, ksobj, pindex)
    if m is None:
        raise KernelPanic(f"vm_thread_swapin: page {pindex} of the kstack is missing", "vm_thread_swapin", 598)
    return m
