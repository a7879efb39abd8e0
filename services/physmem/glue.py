"""The access checks and the wiring of vm_glue.c: kernacc, useracc, vslock, vsunlock, vm_sync_icache."""

from __future__ import annotations

from services.physmem.machine import Machine
from services.physmem.ops import WireOp
from services.physmem.pmap import pmap_sync_icache
from services.physmem.vm_map import VM_PROT_ALL, VmMap, vm_map_check_protection
from services.physmem.vm_map_wire import vm_map_unwire, vm_map_wire
from services.ports.common import Suspension
from services.ports.physmem import IcacheSync, KernReturn
from services.runtime.events import Kind

ENOMEM, EFAULT, EINVAL = 12, 14, 22
_MASK64 = (1 << 64) - 1
_VM_PROT_T = 0xFF
"""vm_prot_t is a u_char: of an illegal `rw` only its low byte is asked for."""
_MODEL = -1
"""Answer of the question vm_map_wire that leaves the answer to the map."""


def trunc_page(vm: Machine, addr: int) -> int:
    """trunc_page: the page boundary at or below an address, a 64-bit unsigned integer."""
    return addr & ~(vm.arch.page_size - 1) & _MASK64


def round_page(vm: Machine, addr: int) -> int:
    """round_page: the page boundary at or above an address; it wraps at 64 bits."""
    return trunc_page(vm, addr + vm.arch.page_size - 1)


def _check_rw(vm: Machine, rw: int, function: str, line: int) -> None:
    text = f"illegal ``rw'' argument to {function} ({rw & 0xFFFFFFFF:x})"
    vm.ctx.kassert((rw & ~VM_PROT_ALL) == 0, text, function, line)


def kernacc(vm: Machine, kernel_map: VmMap, addr: int, len: int, rw: int) -> bool:
    """kernacc (vm_glue.c:120-143): whether kernel_map grants `rw` on [addr, addr + len).

    Args:
        vm: Memory.
        kernel_map: The kernel's map.
        addr: First address.
        len: Bytes, a C int; a negative one wraps the sum.
        rw: VM_PROT_ bits.

    Raises:
        KernelPanic: `rw` has a bit outside of VM_PROT_ALL, and the kernel has INVARIANTS.
    """
    _check_rw(vm, rw, "kernacc", 129)
    end = (addr + len) & _MASK64
    if end > kernel_map.max_offset or end < addr:
        return False
    return vm_map_check_protection(kernel_map, trunc_page(vm, addr), round_page(vm, end), rw & _VM_PROT_T)


def useracc(vm: Machine, map_: VmMap, addr: int, len: int, rw: int) -> bool:
    """useracc (vm_glue.c:154-176): whether the current process' map grants `rw` on [addr, addr + len).

    Args:
        vm: Memory.
        map_: The map of curproc.
        addr: First address.
        len: Bytes, a C int; a negative one wraps the sum.
        rw: VM_PROT_ bits.

    Raises:
        KernelPanic: `rw` has a bit outside of VM_PROT_ALL, and the kernel has INVARIANTS.
    """
    _check_rw(vm, rw, "useracc", 163)
    end = (addr + len) & _MASK64
    if end > map_.max_offset or end < addr:
        return False
    return vm_map_check_protection(map_, trunc_page(vm, addr), round_page(vm, end), rw & _VM_PROT_T)


def vslock(vm: Machine, map_: VmMap, addr: int, len: int, op: WireOp) -> int | Suspension:
    """vslock (vm_glue.c:178-213): wire user pages for the kernel's own use.

    Args:
        vm: The machine.
        map_: The map of curproc.
        addr: First address.
        len: Bytes, a size_t.
        op: The wiring, fresh or one that slept; then the checks are behind it.

    Returns:
        0, EINVAL, ENOMEM, EFAULT, or the sleep.
    """
    if op.id == 0:
        last = (addr + len) & _MASK64
        start = trunc_page(vm, addr)
        end = round_page(vm, last)
        if last < addr or end < addr:
            return EINVAL
        npages = (end - start) >> vm.arch.page_shift
        if npages > vm.tun.vm_page_max_wired & _MASK64:  # an int against a vm_size_t: -1 is no limit
            return ENOMEM
        error = vm.ctx.env.ask("vm_map_wire", lambda: _MODEL)
        if error != _MODEL:
            return 0 if error == KernReturn.SUCCESS else EFAULT
        op.start, op.end = start, end
    result = vm_map_wire(vm, map_, op)
    if isinstance(result, Suspension):
        vm.ctx.env.preempt("vslock:206")
        return result
    return 0 if result == KernReturn.SUCCESS else EFAULT


def vsunlock(vm: Machine, map_: VmMap, addr: int, len: int) -> None:
    """vsunlock (vm_glue.c:215-223): undo a vslock of the same range; whatever goes wrong is ignored."""
    end = round_page(vm, (addr + len) & _MASK64)
    vm.ctx.env.preempt("vsunlock:220")
    vm_map_unwire(vm, map_, trunc_page(vm, addr), end)
    vm.ctx.event(Kind.VSUNLOCK, map_.id, addr, len)


def vm_sync_icache(vm: Machine, map_: VmMap, va: int, sz: int) -> IcacheSync:
    """vm_sync_icache (vm_glue.c:296-301): make the instruction cache see what was stored in the map's memory."""
    pages = pmap_sync_icache(vm, map_.id, va, sz)
    vm.ctx.event(Kind.ICACHE_SYNC, map_.id, va, sz, pages)
    return IcacheSync(map_.id, va, sz, pages)
