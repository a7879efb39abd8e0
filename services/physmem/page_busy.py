"""The busy lock of pages: who may use a page while input, output or a fault works on it (sys/vm/vm_page.c)."""

from __future__ import annotations

from services.physmem.page_array import (
    VPB_BIT_EXCLUSIVE,
    VPB_BIT_SHARED,
    VPB_BIT_WAITERS,
    VPB_ONE_SHARER,
    VPB_SINGLE_EXCLUSIVER,
    VPB_UNBUSIED,
)
from services.physmem.state import PVM, Vm
from services.ports.common import Suspension
from services.runtime.errors import kassert


def vm_page_busied(vm: Vm, m: int) -> bool:
    """The page is busy, shared or exclusively."""
    return vm.pages.busy_lock[m] != VPB_UNBUSIED


def vm_page_xbusied(vm: Vm, m: int) -> bool:
    """The page is exclusively busy."""
    return bool(vm.pages.busy_lock[m] & VPB_BIT_EXCLUSIVE)


def vm_page_sbusied(vm: Vm, m: int) -> bool:
    """The page is shared busy."""
    word = vm.pages.busy_lock[m]
    return word != VPB_UNBUSIED and bool(word & VPB_BIT_SHARED)


def vm_page_xbusy(vm: Vm, m: int) -> None:
    """Busy the page exclusively.

    Raises:
        KernelPanic: It is busy.
    """
    kassert(vm.pages.busy_lock[m] == VPB_UNBUSIED, f"vm_page_xbusy: page {m} already exclusive busy", "vm_page_xbusy")
    vm.pages.busy_lock[m] = VPB_SINGLE_EXCLUSIVER


def vm_page_sbusy(vm: Vm, m: int) -> None:
    """Add a sharer.

    Raises:
        KernelPanic: The page is exclusively busy.
    """
    kassert(not vm_page_xbusied(vm, m), f"vm_page_sbusy: page {m} is xbusy", "vm_page_sbusy")
    vm.pages.busy_lock[m] += VPB_ONE_SHARER


def vm_page_xunbusy(vm: Vm, m: int) -> None:
    """End the exclusive busy state and wake who waits for it.

    Raises:
        KernelPanic: The page is not exclusively busy.
    """
    vm.ctx.kassert(vm_page_xbusied(vm, m), f"vm_page_xunbusy: page {m} is not xbusy", "vm_page_xunbusy")
    vm_page_flash(vm, m)
    vm.pages.busy_lock[m] = VPB_UNBUSIED


def vm_page_sunbusy(vm: Vm, m: int) -> None:
    """Take a sharer away; the last one wakes who waits.

    Raises:
        KernelPanic: The page is not shared busy.
    """
    kassert(vm_page_sbusied(vm, m), f"vm_page_sunbusy: page {m} is not sbusy", "vm_page_sunbusy")
    word = vm.pages.busy_lock[m] - VPB_ONE_SHARER
    if word & ~VPB_BIT_WAITERS == VPB_UNBUSIED:
        vm_page_flash(vm, m)
        word = VPB_UNBUSIED
    vm.pages.busy_lock[m] = word


def vm_page_flash(vm: Vm, m: int) -> None:
    """Wake who waits for the page; who owns it does not change."""
    word = vm.pages.busy_lock[m]
    if word & VPB_BIT_WAITERS:
        vm.pages.busy_lock[m] = word & ~VPB_BIT_WAITERS
        vm.ctx.wakeup(f"page:{m}")


def vm_page_busy_sleep(vm: Vm, m: int, wmesg: str) -> Suspension:
    """Sleep until the page, which is busy, no longer is."""
    kassert(vm_page_busied(vm, m), f"vm_page_busy_sleep: page {m} is not busy", "vm_page_busy_sleep")
    vm.pages.busy_lock[m] |= VPB_BIT_WAITERS
    return Suspension(channel=f"page:{m}", priority=PVM, wmesg=wmesg)
