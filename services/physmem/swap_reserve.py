"""Reservation of swap for memory that may have to go there (swap_reserve_by_cred and its kin, swap_pager.c).

What a program maps writable and private, or gets by fork, is charged, in bytes: to the map entry while nothing is
behind it or it still has to be copied, else to its object. By default nothing is refused. Programs are those of one
ordinary user without RLIMIT_SWAP, so that bit 2 of vm.overcommit has nothing to enforce.
"""

from __future__ import annotations

from services.physmem.state import Vm
from services.runtime.errors import KernelPanic
from services.runtime.events import Kind

SWAP_RESERVE_FORCE_ON, SWAP_RESERVE_ALLOC_NONWIRED = 1, 4
"""Bits of vm.overcommit: more than there is is refused; memory that is not wired counts as well as swap."""


def swap_reserve(vm: Vm, incr: int) -> bool:
    """swap_reserve_by_cred: reserve bytes, if vm.overcommit lets them.

    Raises:
        KernelPanic: They are no whole pages.
    """
    if incr % vm.arch.page_size:
        raise KernelPanic("swap_reserve: & PAGE_MASK", "swap_reserve_by_cred")
    if vm.tun.overcommit & SWAP_RESERVE_FORCE_ON and vm.swap_reserved + incr > (limit := _limit(vm)):
        vm.ctx.event(Kind.SWAP_RESERVE, incr, vm.swap_reserved, limit)
        return False
    vm.swap_reserved += incr
    return True


def swap_reserve_force(vm: Vm, incr: int) -> None:
    """swap_reserve_force: reserve bytes in any case."""
    vm.swap_reserved += incr


def swap_release(vm: Vm, decr: int) -> None:
    """swap_release_by_cred: give bytes back.

    Raises:
        KernelPanic: They are no whole pages, or more than are reserved.
    """
    if decr % vm.arch.page_size:
        raise KernelPanic("swap_release: & PAGE_MASK", "swap_release_by_cred")
    if vm.swap_reserved < decr:
        raise KernelPanic("swap_reserved < decr", "swap_release_by_cred")
    vm.swap_reserved -= decr


def _limit(vm: Vm) -> int:
    """Bytes that may be reserved: swap, and with bit 4 of vm.overcommit memory that is neither wired nor kept free."""
    pages = vm.pager.swap_status().total
    if vm.tun.overcommit & SWAP_RESERVE_ALLOC_NONWIRED:
        pages += vm.cnt.v_page_count - vm.cnt.v_free_reserved - vm.cnt.v_wire_count
    return pages * vm.arch.page_size
