"""mlock(2) and its kin: wiring by programs (vm_mmap.c: vm_mlock, sys_mlockall, sys_munlockall, sys_munlock)."""

from __future__ import annotations

from services.physmem.glue import EINVAL, ENOMEM, round_page, trunc_page
from services.physmem.machine import Machine
from services.physmem.ops import WireOp
from services.physmem.pmap import pmap_wired_count
from services.physmem.vm_map import MAP_WIREFUTURE, VmMap
from services.physmem.vm_map_wire import vm_map_unwire, vm_map_wire
from services.ports.common import Suspension
from services.ports.physmem import KernReturn

EAGAIN = 35
MCL_CURRENT, MCL_FUTURE = 1, 2
_MASK64 = (1 << 64) - 1


def vm_mlock(vm: Machine, map_: VmMap, addr: int, len: int, memlock: int, op: WireOp) -> int | Suspension:
    """vm_mlock: wire a range for the program, whole or not at all.

    Args:
        vm: The machine.
        map_: The program's map.
        addr: First address.
        len: Bytes.
        memlock: RLIMIT_MEMLOCK, in bytes.
        op: The wiring, fresh or one that slept; then the checks are behind it.

    Returns:
        0; EINVAL: the range wraps; ENOMEM: more than vm.max_wired or the limit, or it cannot be wired; EAGAIN: more
        than vm.max_wired with what is wired already; or the sleep.
    """
    if op.id == 0:
        page_range = _page_range(vm, addr, len)
        if page_range is None:
            return EINVAL
        start, end = page_range
        npages = (end - start) >> vm.arch.page_shift
        max_wired = vm.tun.vm_page_max_wired
        if npages > max_wired & _MASK64:  # an int against a vm_size_t: -1 is no limit
            return ENOMEM
        if (npages + pmap_wired_count(vm, map_.id)) << vm.arch.page_shift > memlock:
            return ENOMEM
        if npages + vm.cnt.v_wire_count > max_wired & _MASK64:
            return EAGAIN
        op.start, op.end = start, end
    result = vm_map_wire(vm, map_, op)
    if isinstance(result, Suspension):
        return result
    return 0 if result == KernReturn.SUCCESS else ENOMEM


def sys_munlock(vm: Machine, map_: VmMap, addr: int, len: int) -> int:
    """sys_munlock: take the program's wiring off a range; 0, EINVAL (it wraps) or ENOMEM (a hole)."""
    page_range = _page_range(vm, addr, len)
    if page_range is None:
        return EINVAL
    result = vm_map_unwire(vm, map_, *page_range, user=True)
    return 0 if result == KernReturn.SUCCESS else ENOMEM


def sys_mlockall(vm: Machine, map_: VmMap, how: int, memlock: int, op: WireOp) -> int | Suspension:
    """sys_mlockall: wire what is mapped (MCL_CURRENT), what will be mapped (MCL_FUTURE), or both.

    The limit is asked about all that is mapped, unless vm.old_mlock is set.

    Returns:
        0; EINVAL: no legal `how`; ENOMEM: the limit; EAGAIN: it cannot be wired; or the sleep.
    """
    if op.id == 0:
        if how == 0 or how & ~(MCL_CURRENT | MCL_FUTURE):
            return EINVAL
        if how & MCL_CURRENT and not vm.tun.old_mlock and map_.size > memlock:
            return ENOMEM
        if how & MCL_FUTURE:
            map_.lock()
            map_.flags |= MAP_WIREFUTURE
            map_.memlock = memlock
        if not how & MCL_CURRENT:
            return 0
        op.start, op.end, op.holes_ok = map_.min_offset, map_.max_offset, True
    result = vm_map_wire(vm, map_, op)
    if isinstance(result, Suspension):
        return result
    return 0 if result == KernReturn.SUCCESS else EAGAIN


def sys_munlockall(vm: Machine, map_: VmMap) -> int:
    """sys_munlockall: take the program's wirings off all that is mapped, and wire nothing in future; 0 or ENOMEM."""
    map_.lock()
    map_.flags &= ~MAP_WIREFUTURE
    result = vm_map_unwire(vm, map_, map_.min_offset, map_.max_offset, user=True, holes_ok=True)
    return 0 if result == KernReturn.SUCCESS else ENOMEM


def _page_range(vm: Machine, addr: int, len: int) -> tuple[int, int] | None:
    """The whole pages that hold a range; None: its end wraps."""
    last = (addr + len) & _MASK64
    end = round_page(vm, last)
    return None if last < addr or end < addr else (trunc_page(vm, addr), end)
