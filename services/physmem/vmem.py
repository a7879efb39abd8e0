"""Kernel virtual address space: the boundary-tag arena behind kva_alloc (subr_vmem.c, vm_kern.c)."""

from __future__ import annotations

from dataclasses import dataclass, field

from hardware_sim.arch import Arch
from services.runtime.errors import kassert

_EXACT_ORDERS = 32
"""Sizes up to this many quanta have a free list each; larger ones share one per power of two."""
_IMPORT_PAGES = {"amd64": 512, "arm": 256, "arm64": 512, "i386": 1024}
"""Pages of a superpage reservation, the unit in which the arena takes space from kernel_map."""
_IMPORT_PAGES_DEFAULT = 1024
"""The unit on architectures without superpage reservations."""


def size_to_order(quanta: int) -> int:
    """Free list of a segment of `quanta` pages (SIZE2ORDER): 1 -> 0, 32 -> 31, 33 -> 31, 64 -> 32."""
    if quanta <= _EXACT_ORDERS:
        return quanta - 1
    return quanta.bit_length() + 25


def import_bytes(arch: Arch) -> int:
    """The import quantum of kernel_arena, in bytes."""
    return _IMPORT_PAGES.get(arch.name, _IMPORT_PAGES_DEFAULT) * arch.page_size


@dataclass(slots=True)
class Arena:
    """A vmem arena with quantum PAGE_SIZE: spans, free segments by order, busy segments.

    Each free list is a dict used as an ordered set: its last key is the list's head, so that a scan from the end sees
    recently freed segments first, as the C's LIST_INSERT_HEAD does.

    Attributes:
        page_size: Quantum, in bytes.
        spans: Size of each imported range by its start; free segments never join across them.
        free: Size of each free segment by its start.
        busy: Size of each allocated segment by its start.
        orders: Starts of free segments, one ordered set for each order.
        in_use: Bytes allocated.
    """

    page_size: int
    spans: dict[int, int] = field(default_factory=dict)
    free: dict[int, int] = field(default_factory=dict)
    busy: dict[int, int] = field(default_factory=dict)
    orders: dict[int, dict[int, None]] = field(default_factory=dict)
    in_use: int = 0
    _ends: dict[int, int] = field(default_factory=dict)

    def add(self, start: int, size: int) -> None:
        """vmem_add: a span of address space to allocate from."""
        self.spans[start] = size
        self._insfree(start, size)

    def alloc(self, size: int, align: int = 0) -> int:
        """vmem_xalloc with M_BESTFIT | M_NOWAIT: the start of `size` bytes, or 0.

        The lists that could hold the size are scanned upward and the first segment that fits is taken: it is the best
        only as far as the lists tell sizes apart.
        """
        align = align or self.page_size
        for order in range(size_to_order(size // self.page_size), max(self.orders, default=-1) + 1):
            for segment in reversed(self.orders.get(order, {})):
                start = -(-segment // align) * align
                if start + size <= segment + self.free[segment]:
                    self._clip(segment, start, size)
                    return start
        return 0

    def release(self, start: int, size: int) -> None:
        """vmem_xfree: give back exactly what was allocated; free neighbours of the same span are joined.

        Raises:
            KernelPanic: The range is not an allocated segment of this size.
        """
        kassert(
            self.busy.get(start) == size, f"vmem_xfree: {start:#x} of {size:#x} bytes is not allocated", "vmem_xfree"
        )
        del self.busy[start]
        self.in_use -= size
        end = start + size
        if end in self.free and end not in self.spans:
            size += self._remfree(end)
        if start in self._ends and start not in self.spans:
            before = self._ends[start]
            size += self._remfree(before)
            start = before
        self._insfree(start, size)

    def _clip(self, segment: int, start: int, size: int) -> None:
        """vmem_clip: cut [start, start + size) out of a free segment."""
        end = segment + self._remfree(segment)
        if start > segment:
            self._insfree(segment, start - segment)
        if end > start + size:
            self._insfree(start + size, end - start - size)
        self.busy[start] = size
        self.in_use += size

    def _insfree(self, start: int, size: int) -> None:
        self.free[start] = size
        self._ends[start + size] = start
        self.orders.setdefault(size_to_order(size // self.page_size), {})[start] = None

    def _remfree(self, start: int) -> int:
        size = self.free.pop(start)
        del self._ends[start + size]
        del self.orders[size_to_order(size // self.page_size)][start]
        return size
