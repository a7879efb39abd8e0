"""The processor: what things cost, the registers that a swapped-out thread leaves on its stack, pinning."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Costs:
    """Processor time of kernel work, in microseconds; instructions of system calls stand in their own table.

    Orders of magnitude of a processor of the time at 100 MIPS; the report's figures scale with them.
    """

    minor_fault_us: int = 8
    """vm_fault on a page that is resident: trap, lookup, pmap_enter."""
    zero_fill_us: int = 14
    """vm_fault on a page that never was: allocation and bzero included."""
    cow_copy_us: int = 18
    """vm_fault that copies a page."""
    page_in_us: int = 25
    """Processor's part of a fault that reads from a device."""
    context_switch_us: int = 4
    """mi_switch, charged when the processor goes to another thread."""
    pageout_per_page_ns: int = 400
    """Page daemon, each page it looks at, in nanoseconds."""
    launder_per_page_us: int = 6
    """Page daemon, each page whose write it starts."""
    swapout_proc_us: int = 60
    """swapout() of a process: flags, stack pages unmapped and unwired."""
    swapin_proc_us: int = 80
    """faultin() of a process, without the reads."""
    scan_proc_ns: int = 300
    """swapout_procs and swapper, each process they look at, in nanoseconds."""
    fork_us: int = 120
    """fork1 beside the system call's instructions: map and page tables."""
    exec_us: int = 250
    """execve beside the system call's instructions: the new image."""
    exit_us: int = 100
    """exit1 beside the system call's instructions: the address space's teardown."""


COSTS = Costs()
"""The one cost table."""

PCB_VERSION = 1
"""Layout of the saved registers."""


@dataclass(frozen=True, slots=True)
class Pcb:
    """Registers of a thread that does not run, as they lie at the top of its kernel stack (128 bytes).

    The scheduler fills them from the thread's progress, so that a stack that comes back with another thread's bytes,
    or with an old copy of its own, is noticed.
    """

    tid: int = 0
    """Thread."""
    pid: int = 0
    """Process."""
    cookie: int = 0
    """Stream of references: the program counter's base."""
    references: int = 0
    """References executed so far: the program counter."""
    cpu_us: int = 0
    """Processor time so far, in microseconds."""
    phase: int = 0
    """Instructions beyond the last whole microsecond."""
    switches: int = 0
    """How often the thread was put on the processor."""
    nswap: int = 0
    """ru_nswap of the swap-out that saved it."""
    td_kstack: int = 0
    """Lowest address of the stack: the stack pointer's base."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<16Q")
    """Magic and version, the fields, zeros, and a sum over all words before it."""

    def pack(self) -> bytes:
        """The registers as bytes."""
        words = [_MAGIC | PCB_VERSION, self.tid, self.pid, self.cookie, self.references, self.cpu_us]
        words += [self.phase, self.switches, self.nswap, self.td_kstack, 0, 0, 0, 0, 0]
        return self.LAYOUT.pack(*words, sum(words) & _MASK)

    @classmethod
    def unpack(cls, saved: bytes) -> Pcb:
        """The registers out of bytes.

        Raises:
            ValueError: They were not made by `pack`.
        """
        if len(saved) != cls.LAYOUT.size:
            raise ValueError(f"a PCB has {cls.LAYOUT.size} bytes, got {len(saved)}")
        words = cls.LAYOUT.unpack(saved)
        if words[0] != _MAGIC | PCB_VERSION or words[15] != sum(words[:15]) & _MASK:
            raise ValueError(f"not a PCB of version {PCB_VERSION}: {saved[:16].hex()}")
        return cls(*words[1:10])


_MAGIC = 0x5643_4250_0000_0000
_MASK = 0xFFFFFFFFFFFFFFFF
