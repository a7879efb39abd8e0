"""Architectures that the kernel ran on: page and kernel-stack sizes, address ranges (sys/<arch>/include/param.h)."""

from __future__ import annotations

from dataclasses import dataclass, replace

DEV_BSIZE = 512
"""Bytes that one bit of a page's valid and dirty masks stands for."""


@dataclass(frozen=True, slots=True)
class Arch:
    """Constants of one architecture."""

    name: str
    """Name as uname -p gives it."""
    page_shift: int = 12
    """PAGE_SHIFT."""
    kstack_pages: int = 4
    """KSTACK_PAGES: pages of a kernel stack."""
    kstack_guard_pages: int = 1
    """KSTACK_GUARD_PAGES: unmapped pages below it."""
    kstack_align_pages: int = 1
    """Alignment of a stack's address range, in pages (mips: a TLB entry maps a pair)."""
    kernel_min: int = 0xFFFFFE0000000000
    """vm_map_min(kernel_map)."""
    kernel_max: int = 0xFFFFFFFFFFFFF000
    """vm_map_max(kernel_map), exclusive."""
    user_min: int = 0
    """VM_MIN_ADDRESS of a process."""
    user_max: int = 0x800000000000
    """VM_MAXUSER_ADDRESS, exclusive."""
    direct_map: bool = True
    """An sf_buf is the page itself: all memory is mapped."""
    superpage_size: int = 0
    """pagesizes[1]: bytes of the smallest superpage that the kernel uses for programs; 0: none."""
    icache_sync: bool = False
    """pmap_sync_icache has work to do."""

    @property
    def page_size(self) -> int:
        """PAGE_SIZE, in bytes."""
        return 1 << self.page_shift

    @property
    def page_bits_all(self) -> int:
        """VM_PAGE_BITS_ALL: one bit for each DEV_BSIZE block of a page."""
        return (1 << self.page_size // DEV_BSIZE) - 1


_ILP32 = Arch("", kernel_min=0xC0000000, kernel_max=0xFFFFF000, user_max=0xBFC00000, direct_map=False)
"""What the 32-bit architectures have in common."""

_TABLE = {
    entry.name: entry
    for entry in (
        Arch("amd64", superpage_size=2 << 20),
        replace(_ILP32, name="i386", kstack_pages=2, superpage_size=4 << 20),
        replace(_ILP32, name="arm", kstack_pages=2, superpage_size=1 << 20),
        Arch("arm64", kernel_min=0xFFFFFF8000000000, kernel_max=0xFFFFFF8800000000, user_max=0x8000000000),
        replace(_ILP32, name="mips", kstack_pages=2, kstack_guard_pages=2, kstack_align_pages=2, user_max=0x80000000),
        replace(_ILP32, name="powerpc", icache_sync=True, kernel_min=0xD0000000, kernel_max=0xEFFFF000),
        Arch(
            "powerpc64", kstack_pages=8, icache_sync=True, kernel_min=0xE000000000000000, kernel_max=0xE0000007FFFFF000
        ),
        Arch("sparc64", page_shift=13, kernel_min=0xC0000000, kernel_max=0x7FFFFFFE000, user_max=0x7FE00000000),
    )
}


def arch(name: str) -> Arch:
    """Look up an architecture.

    Raises:
        ValueError: No such architecture; the text lists the known ones.
    """
    if name not in _TABLE:
        raise ValueError(f"unknown architecture {name!r}; known: {', '.join(_TABLE)}")
    return _TABLE[name]
