"""Kernel virtual address space: kva_alloc and kva_free on kernel_arena (vm_kern.c, vm_init.c)."""

from __future__ import annotations

from services.physmem.machine import Machine
from services.physmem.vm_map import vm_map_find
from services.physmem.vmem import import_bytes


def kva_alloc(vm: Machine, size: int, align: int = 0) -> int:
    """kva_alloc, and vmem_xalloc where a stack must be aligned: kernel address space, not mapped.

    Args:
        vm: The machine.
        size: Bytes, whole pages.
        align: Alignment in bytes; 0: pages.

    Returns:
        The address; 0 if there is none.
    """
    if not vm.ctx.env.ask("kva_alloc", lambda: 1):
        return 0
    return kva_range(vm, size, align)


def kva_range(vm: Machine, size: int, align: int = 0) -> int:
    """vmem_xalloc on kernel_arena with M_BESTFIT | M_NOWAIT, which imports from kernel_map when nothing fits."""
    return vm.arena.alloc(size, align) or (kva_import(vm, size, align) and vm.arena.alloc(size, align))


def kva_import(vm: Machine, size: int, align: int) -> int:
    """kva_import: take a range from kernel_map into the arena, for good; its address, or 0.

    An aligned request takes twice its alignment more, so that it fits wherever the range begins.
    """
    quantum = import_bytes(vm.arch)
    wanted = size + 2 * align if align > vm.arch.page_size else size
    wanted = -(-wanted // quantum) * quantum
    addr = vm_map_find(vm, vm.kernel_map, wanted, quantum)
    if addr:
        vm.arena.add(addr, wanted)
    return addr


def kva_free(vm: Machine, addr: int, size: int) -> None:
    """kva_free: give back a range exactly as it was allocated.

    Raises:
        KernelPanic: It was not.
    """
    vm.arena.release(addr, size)
