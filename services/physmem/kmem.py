"""Loads and stores of kernel memory through the kernel's page tables, checked as memrw of /dev/kmem checks them."""

from __future__ import annotations

from collections.abc import Iterator

from services.physmem.glue import kernacc
from services.physmem.machine import Machine
from services.physmem.pmap import KERNEL_PMAP, pmap_extract, vpn_of
from services.runtime.errors import Reason, Refused


def _pieces(vm: Machine, addr: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Frame, offset in it and bytes of each page that a range touches."""
    page_size = vm.arch.page_size
    while length > 0:
        offset = addr & (page_size - 1)
        m = pmap_extract(vm, KERNEL_PMAP, vpn_of(vm, addr))
        if m is None:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "addr", hex(addr), "a kernel address that is mapped")
        size = min(length, page_size - offset)
        yield m, offset, size
        addr, length = addr + size, length - size


def kmem_check(vm: Machine, addr: int, length: int, rw: int) -> None:
    """Refuse a range that is not mapped altogether, or that kernel_map does not grant (kernacc).

    Raises:
        Refused: A page of it is not mapped, or may not be accessed so.
    """
    for _ in _pieces(vm, addr, length):
        continue
    if not kernacc(vm, vm.kernel_map, addr, length, rw):
        raise Refused(Reason.FIELD_OUT_OF_RANGE, "addr", hex(addr), "kernel memory that kernacc grants")


def kmem_write(vm: Machine, addr: int, data: bytes) -> None:
    """Store bytes at a mapped kernel address; there are no reverse mappings, so no page becomes dirty by it."""
    done = 0
    for m, offset, size in _pieces(vm, addr, len(data)):
        vm.ram.write(m, data[done : done + size], offset)
        done += size


def kmem_read(vm: Machine, addr: int, length: int) -> bytes:
    """Load bytes from a mapped kernel address."""
    return b"".join(vm.ram.read(m, offset, size) for m, offset, size in _pieces(vm, addr, length))
