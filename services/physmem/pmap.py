"""The pmap: what the kernel maps, in terms of pages; modified and referenced bits reach the page array here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardware_sim.mmu import (
    OP_CLEAR_ACCESSED,
    OP_CLEAR_MODIFIED,
    OP_QUERY,
    OP_REMOVE,
    OP_REMOVE_WRITE,
    PG_A,
    PG_G,
    PG_M,
    PG_MANAGED,
    PG_RW,
    PG_V,
    PG_W,
    PG_X,
    PTE_FRAME_SHIFT,
    VPN_BITS,
)
from hardware_sim.mmu_ranges import absent_entries, copy_range, enter_all
from services.physmem.page_array import PGA_REFERENCED, PGA_WRITEABLE, VPO_UNMANAGED
from services.physmem.state import Vm
from services.ports.common import Shootdown
from services.runtime.errors import kassert

KERNEL_PMAP = 0
"""Address space of the kernel."""
VM_PROT_READ = 1
VM_PROT_WRITE = 2
VM_PROT_EXECUTE = 4
_KERNEL_PTE = PG_V | PG_RW | PG_G


def vpn_of(vm: Vm, va: int) -> int:
    """Page number of an address: its low 48 bits in pages."""
    return (va & ((1 << VPN_BITS + 12) - 1)) >> vm.arch.page_shift


def pmap_pinit(vm: Vm, space: int) -> None:
    """An empty address space."""
    vm.mmu.create(space)


def pmap_release(vm: Vm, space: int) -> None:
    """The address space, which maps nothing any more, is gone."""
    vm.mmu.destroy(space)


def pmap_resident_count(vm: Vm, space: int) -> int:
    """Managed pages mapped by the address space."""
    return vm.mmu.resident(space)


def pmap_wired_count(vm: Vm, space: int) -> int:
    """Wired mappings of the address space, in pages."""
    return vm.mmu.wired(space)


def pmap_enter(vm: Vm, space: int, vpn: int, m: int, prot: int, wired: bool, access: int = 0) -> None:
    """Map a page; what was mapped there before is replaced.

    Args:
        vm: Memory.
        space: Address space.
        vpn: Page number of the address.
        m: The page.
        prot: VM_PROT_ bits; the page is readable in any case.
        wired: The mapping is wired.
        access: VM_PROT_ bits of the access that faulted: the entry is accessed already, and modified by a write.
    """
    pages = vm.pages
    pte = m << PTE_FRAME_SHIFT | PG_V
    if not pages.oflags[m] & VPO_UNMANAGED:
        pte |= PG_MANAGED
    if prot & VM_PROT_WRITE:
        pte |= PG_RW
        pages.aflags[m] |= PGA_WRITEABLE
    if prot & VM_PROT_EXECUTE:
        pte |= PG_X
    if wired:
        pte |= PG_W
    if access:
        pte |= PG_A
        if access & prot & VM_PROT_WRITE:
            pte |= PG_M
    old = vm.mmu.enter(space, vpn, pte)
    if old & PG_A:
        vm.mmu.invalidate(space)
    if old & PG_MANAGED:
        _harvest(vm, np.array([old], np.uint64))


def pmap_enter_quick(vm: Vm, space: int, vpns: list[int], frames: list[int], prot: int) -> None:
    """Map managed pages in advance where nothing is mapped: not writable, and not accessed so far.

    Args:
        vm: Memory.
        space: Address space.
        vpns: Page number of each address.
        frames: The page for each.
        prot: VM_PROT_ bits; of these only VM_PROT_EXECUTE decides anything.
    """
    bits = PG_V | PG_MANAGED | (PG_X if prot & VM_PROT_EXECUTE else 0)
    enter_all(vm.mmu, space, vpns, [m << PTE_FRAME_SHIFT | bits for m in frames])


def pmap_is_prefaultable(vm: Vm, space: int, start: int, end: int) -> int:
    """Which of the pages [start, end), 62 at most, may be mapped in advance: bit i stands for page start + i.

    Those that are not mapped and whose page table is there.
    """
    return absent_entries(vm.mmu, space, start, end)


def pmap_copy(vm: Vm, destination: int, source: int, start: int, end: int) -> None:
    """Map in a child what its parent maps of pages [start, end), with the same rights; nothing may be mapped there."""
    copy_range(vm.mmu, destination, source, start, end)


def pmap_extract(vm: Vm, space: int, vpn: int) -> int | None:
    """The page mapped at an address, or None."""
    pte = vm.mmu.pte(space, vpn)
    return pte >> PTE_FRAME_SHIFT if pte else None


def pmap_remove(vm: Vm, space: int, start: int, end: int) -> int:
    """Unmap pages [start, end) of an address space; returns how many were mapped."""
    ptes = vm.mmu.clear_range(space, start, end, PG_V)
    _invalidate_changed(vm, space, ptes, PG_V)
    _harvest(vm, ptes)
    return len(ptes)


def pmap_protect(vm: Vm, space: int, start: int, end: int, prot: int) -> None:
    """Take rights away from pages [start, end); without VM_PROT_READ they are unmapped."""
    if not prot & VM_PROT_READ:
        pmap_remove(vm, space, start, end)
        return
    bits = 0
    if not prot & VM_PROT_WRITE:
        bits |= PG_RW | PG_M
    if not prot & VM_PROT_EXECUTE:
        bits |= PG_X
    if bits:
        ptes = vm.mmu.clear_range(space, start, end, bits)
        _invalidate_changed(vm, space, ptes, bits)
        if bits & PG_M:
            _harvest(vm, ptes & ~np.uint64(PG_A))


def pmap_advise(vm: Vm, space: int, start: int, end: int) -> None:
    """pmap_advise with MADV_DONTNEED: forget that pages [start, end) were accessed; what was written is dirty."""
    ptes = vm.mmu.clear_range(space, start, end, PG_A | PG_M)
    _invalidate_changed(vm, space, ptes, PG_A | PG_M)
    _harvest(vm, ptes & ~np.uint64(PG_A))


def pmap_unwire(vm: Vm, space: int, start: int, end: int) -> None:
    """The mappings of pages [start, end) are no longer wired."""
    vm.mmu.clear_range(space, start, end, PG_W)


def pmap_remove_all(vm: Vm, m: int) -> None:
    """Unmap a page everywhere."""
    if not vm.mmu.state.pv_head[m]:
        return
    seen, _ = vm.mmu.frame_op(m, OP_REMOVE)
    if seen & PG_M:
        vm.pages.dirty[m] = vm.bits_all
    if seen & PG_A:
        vm.pages.aflags[m] |= PGA_REFERENCED
    vm.pages.aflags[m] &= ~PGA_WRITEABLE & 0xFF


def pmap_remove_write(vm: Vm, m: int) -> None:
    """Take write access away everywhere; a modified page becomes dirty."""
    seen, _ = vm.mmu.frame_op(m, OP_REMOVE_WRITE)
    if seen & PG_M:
        vm.pages.dirty[m] = vm.bits_all
    vm.pages.aflags[m] &= ~PGA_WRITEABLE & 0xFF


def pmap_ts_referenced(vm: Vm, m: int) -> int:
    """Count the mappings through which the page was accessed, and forget that it was."""
    return vm.mmu.frame_op(m, OP_CLEAR_ACCESSED)[1]


def pmap_is_modified(vm: Vm, m: int) -> bool:
    """A mapping modified the page."""
    return bool(vm.mmu.frame_op(m, OP_QUERY)[0] & PG_M)


def pmap_clear_modify(vm: Vm, m: int) -> None:
    """Forget that mappings modified the page."""
    vm.mmu.frame_op(m, OP_CLEAR_MODIFIED)


def pmap_page_is_mapped(vm: Vm, m: int) -> bool:
    """The page has managed mappings."""
    return bool(vm.mmu.state.pv_head[m])


def pmap_qenter(vm: Vm, va: int, ma: list[int]) -> None:
    """Map pages at a kernel address, readable and writable; no wiring, no reverse mapping."""
    first = vpn_of(vm, va)
    old = 0
    for i, m in enumerate(ma):
        old |= vm.mmu.enter(KERNEL_PMAP, first + i, m << PTE_FRAME_SHIFT | _KERNEL_PTE)
    if old:
        vm.mmu.invalidate(KERNEL_PMAP)


def pmap_qremove(vm: Vm, va: int, count: int) -> None:
    """Unmap `count` pages from a kernel address on; nothing need be mapped there."""
    kassert(va >= vm.arch.kernel_min, f"pmap_qremove: va {va:#x} is not a kernel address", "pmap_qremove")
    first = vpn_of(vm, va)
    vm.mmu.clear_range(KERNEL_PMAP, first, first + count, PG_V)
    vm.mmu.invalidate(KERNEL_PMAP)


def pmap_sync_icache(vm: Vm, space: int, va: int, size: int) -> int:
    """Make the instruction cache see what was stored; returns the pages that the architecture had to touch."""
    if not vm.arch.icache_sync or size == 0:
        return 0
    first = vpn_of(vm, va)
    last = min(first + ((va % vm.arch.page_size) + size - 1 >> vm.arch.page_shift) + 1, 1 << VPN_BITS)
    return len(vm.mmu.clear_range(space, first, last, 0))


def _invalidate_changed(vm: Vm, space: int, ptes: NDArray[np.uint64], bits: int) -> None:
    """pmap_invalidate_all, once for a range of which an entry lost one of `bits`; the TLB forgot the pages already."""
    if np.bitwise_or.reduce(ptes) & np.uint64(bits):
        vm.mmu.invalidate(space)


def tell_invalidations(vm: Vm) -> None:
    """smp_targeted_tlb_shootdown is the scheduler's, which knows who runs where: before a call is answered, tell it."""
    found = vm.mmu.invalidated()
    if vm.ncpu > 1:
        vm.ctx.upcalls.shootdowns += [Shootdown(space, count) for space, count in found]


def _harvest(vm: Vm, ptes: NDArray[np.uint64]) -> None:
    """Modified and accessed bits of managed entries that go away reach the page array."""
    if not np.bitwise_or.reduce(ptes) & np.uint64(PG_M | PG_A):
        return
    ptes = ptes[ptes & np.uint64(PG_MANAGED) != 0]
    frames = (ptes >> np.uint64(PTE_FRAME_SHIFT)).astype(np.int64)
    vm.pages.np.dirty[frames[ptes & np.uint64(PG_M) != 0]] = vm.bits_all
    vm.pages.np.aflags[frames[ptes & np.uint64(PG_A) != 0]] |= np.uint8(PGA_REFERENCED)
