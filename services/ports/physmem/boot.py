"""What physmem is built with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from services.ports.common import I32, U32, U64


class Replacement(IntEnum):
    """Who chooses the page that leaves memory."""

    FREEBSD = 0
    """The page daemon."""
    FIFO = 1
    """A fault that finds no room: the page that came first."""
    CLOCK = 2
    """The same, but a page that was referenced since it was looked at last stays for another round."""


@dataclass(slots=True)
class PhysmemBoot:
    """What the machine's memory is built with."""

    ram_pages: U32 = 0
    """v_page_count: pages that the kernel may allocate."""
    arch: str = "amd64"
    """Architecture (hardware_sim/arch.py)."""
    seed: U64 = 0
    """Seed, written into every page stamp."""
    mips: U32 = 100
    """Million instructions a second."""
    hz: I32 = 1000
    """Clock ticks a second."""
    start_ticks: I32 = 0
    """`ticks` at boot."""
    kernel_min: U64 = 0
    """min_offset of kernel_map; 0: the architecture's."""
    kernel_max: U64 = 0
    """max_offset of kernel_map (exclusive); 0: the architecture's."""
    kstack_guard_pages: I32 = -1
    """KSTACK_GUARD_PAGES; -1: the architecture's."""
    allow_inject: bool = False
    """Scripted answers are accepted."""
    kstack_max_pages: I32 = 0
    """KSTACK_MAX_PAGES: a larger stack that is asked for gets so many pages; 0: 32."""
    no_swapping: bool = False
    """NO_SWAPPING: whole processes and their stacks are never swapped."""
    without_invariants: bool = False
    """Built without INVARIANTS: the KASSERTs of the C code are gone, its panics stay."""
    preempt_seed: U64 = 0
    """Seed of what others do where the C code drops a lock or sleeps; 0: nothing."""
    replacement: Replacement = Replacement.FREEBSD
    """Who chooses what leaves memory; another than FREEBSD allows one address space only."""
    ncpu: U32 = 1
    """Processors, 1 to 64."""


@dataclass(slots=True)
class PhysmemBooted:
    """Memory after boot."""

    page_count: U32 = 0
    """v_page_count."""
    free_count: U32 = 0
    """v_free_count."""
