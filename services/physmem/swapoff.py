"""swapoff(2) from memory's side: every page that lies on the device comes in (swap_pager_swapoff of swap_pager.c)."""

from __future__ import annotations

from services.physmem.machine import Machine
from services.physmem.ops import SwapoffOp
from services.physmem.page_array import PG_DOOMED
from services.physmem.page_busy import vm_page_xunbusy
from services.physmem.state import OBJ_DEAD, VmObject, vm_pager_flush
from services.physmem.vm_object import vm_object_pip_add, vm_object_pip_wakeup
from services.physmem.vm_page import (
    VM_ALLOC_NORMAL,
    vm_page_activate,
    vm_page_deactivate,
    vm_page_dirty,
    vm_page_free,
    vm_page_grab,
    vm_pager_page_unswapped,
)
from services.physmem.vm_pager import read_start, read_wait
from services.ports.common import Suspension
from services.ports.pager import VmPager
from services.runtime.errors import KernelPanic

_RETRIES_MAX = 100
"""Scans that find nothing although blocks are in use, before the panic."""
_RESCANS_PER_SECOND = 20
_PAGES_ASKED = 64


def swap_pager_swapoff(vm: Machine, op: SwapoffOp) -> Suspension | None:
    """Bring in whatever lies on a closing device, then let it go.

    C scans its hash table anew after each page; here the scan goes on behind it, and comes round to the first page.

    Args:
        vm: The machine.
        op: How far it is.

    Returns:
        The sleep for memory, a busy page, a device or another scan; None: the device is gone.

    Raises:
        KernelPanic: A page could not be read, or blocks stay in use that no page has.
    """
    if op.io:
        sleep = _pagein_end(vm, op)
        if sleep is not None:
            return sleep
    while True:
        whole = (op.obj, op.pindex) == (0, 0)
        found, sleep = _scan(vm, op)
        if sleep is not None:
            return sleep
        if whole and not found:
            break
    left = vm.pager.swapoff_end(op.device).used
    if not left:
        return None
    op.retries += 1
    if op.retries > _RETRIES_MAX:
        raise KernelPanic(f"swapoff: failed to locate {left} swap blocks", "swap_pager_swapoff")
    return Suspension(channel=f"swpoff:{op.device}", wmesg="swpoff", timeout_ticks=vm.ctx.hz // _RESCANS_PER_SECOND)


def _scan(vm: Machine, op: SwapoffOp) -> tuple[bool, Suspension | None]:
    """Look through the pages on the device from where the last scan slept; whether there were any of living objects."""
    found = False
    while True:
        vm_pager_flush(vm)
        pages = vm.pager.swapoff_pages(op.device, op.obj, op.pindex, _PAGES_ASKED)
        if not pages.objects:
            op.obj = op.pindex = 0
            return found, None
        for obj_id, pindex in zip(pages.objects, pages.pindexes, strict=True):
            op.obj, op.pindex = obj_id, pindex
            obj = vm.objects[obj_id]
            if not obj.flags & OBJ_DEAD:  # the pages of a dead one go with it, once nothing is under way in it
                found = True
                sleep = _swp_pager_force_pagein(vm, op, obj, pindex)
                if sleep is not None:
                    return found, sleep
            op.pindex += 1


def _swp_pager_force_pagein(vm: Machine, op: SwapoffOp, obj: VmObject, pindex: int) -> Suspension | None:
    """One page: a resident one is dirtied, another one is read; None: it is in memory alone."""
    m = vm_page_grab(vm, obj, pindex, VM_ALLOC_NORMAL)
    if isinstance(m, Suspension):
        return m
    assert m is not None, "a grab without VM_ALLOC_NOWAIT gives a page or sleeps"
    if vm.pages.valid[m] == vm.bits_all:
        vm_page_dirty(vm, m)
        vm_page_activate(vm, m)
        vm_page_xunbusy(vm, m)
        vm_pager_page_unswapped(vm, m)
        return None
    started = read_start(vm, obj, pindex, m, 0, 0)
    if started.status != VmPager.PEND:
        raise _read_failed()
    vm_object_pip_add(vm, obj, 1)
    op.io = started.io
    return read_wait(vm, obj, m)


def _pagein_end(vm: Machine, op: SwapoffOp) -> Suspension | None:
    """The read of a page has ended: it is in memory alone, unless its object lost it meanwhile."""
    read = vm.reads[op.io]
    obj, m = vm.objects[read.object], read.requested
    if read.status is None:
        return read_wait(vm, obj, m)
    del vm.reads[op.io]
    op.io = 0
    if read.status != VmPager.OK:
        raise _read_failed()
    if vm.pages.flags[m] & PG_DOOMED:
        vm_page_xunbusy(vm, m)
        vm_page_free(vm, m)
    else:
        vm_page_dirty(vm, m)
        vm_page_deactivate(vm, m)
        vm_page_xunbusy(vm, m)
        vm_pager_page_unswapped(vm, m)
    vm_object_pip_wakeup(vm, obj)
    op.pindex += 1
    return None


def _read_failed() -> KernelPanic:
    return KernelPanic("swap_pager_force_pagein: read from swap failed", "swp_pager_force_pagein")
