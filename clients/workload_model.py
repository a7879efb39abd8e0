"""What a workload is: a machine and the programs that run on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DATA = Path(__file__).parent / "data"
"""Shipped traces and workloads."""
TRACES = DATA / "traces"
"""Shipped traces; a workload names them without a directory."""
WORKLOADS = DATA / "workloads"
"""Shipped workloads, found by name."""
TRACE_SUFFIX = ".vmtrace"
"""Ending of a trace file's name."""
KERNELS = ("head-r284275",)
"""Values of `kernel.version`."""
ARCHITECTURES = ("amd64", "arm64", "powerpc64")
"""Architectures on which programs of x86-64 can be replayed: 4 KiB pages, user addresses up to their stack."""
KSTACK_PAGES_LIMIT = 256
"""Most pages of a kernel stack that a workload's build options may ask for."""
MIB = 1 << 20
"""Bytes of a mebibyte."""
PAGE = 4096
"""Bytes of a page of the traces."""


class WorkloadError(Exception):
    """A workload that cannot be used; the text is one line: file and line, key, what is wrong, what would be right."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The simulated machine."""

    kernel_version: str = KERNELS[0]
    """Kernel whose behaviour is followed (`kernel.version`)."""
    stack_swap: bool = True
    """Kernel stacks of swapped-out processes are pageable (`kernel.stack_swap`)."""
    arch: str = "amd64"
    """Architecture, one of ARCHITECTURES."""
    mips: int = 100
    """Million instructions a second (`cpu.mips`)."""
    ram: int = 64 * MIB
    """Memory that the kernel may allocate, in bytes."""
    swap: int = 256 * MIB
    """Swap space, in bytes."""
    hz: int = 1000
    """Clock ticks a second."""
    seed: int = 1
    """Seed of start times, sleeps and the device."""
    preempt_seed: int = 0
    """Seed of what others do where the C code drops a lock or sleeps; 0: nothing."""
    kstack_pages: int = 0
    """Build option KSTACK_PAGES (`kernel.options.KSTACK_PAGES`); 0: the architecture's."""
    kstack_guard_pages: int = -1
    """Build option KSTACK_GUARD_PAGES; -1: the architecture's."""
    kstack_max_pages: int = 32
    """Build option KSTACK_MAX_PAGES."""
    kstack_usage_prof: bool = True
    """Build option KSTACK_USAGE_PROF."""
    no_swapping: bool = False
    """Build option NO_SWAPPING."""
    swap_debug: bool = False
    """Build option SWAP_DEBUG."""
    invariants: bool = True
    """Build option INVARIANTS."""
    sysctls: Mapping[str, int] = field(default_factory=dict)
    """Sysctls set at boot, by name."""


@dataclass(frozen=True, slots=True)
class Program:
    """A captured program and how often it runs."""

    trace: Path
    """The trace file."""
    name: str
    """Name of its processes."""
    count: int = 1
    """Instances."""
    start_us: int = 0
    """Virtual time at which the first one starts, in microseconds."""
    start_every_us: int = 0
    """Time between the starts of two instances, in microseconds."""
    nice: int = 0
    """p_nice, -20 to 20."""
    repeat: int = 1
    """Executions of each instance, one after the other in the same process."""
    sleep_scale: float = 1.0
    """Factor for the recorded sleeps."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A machine and its programs."""

    name: str
    """Name, as reports show it."""
    machine: Machine
    """The machine."""
    programs: tuple[Program, ...]
    """What runs on it."""
    source: str = field(default="", compare=False)
    """File that it was read from."""
    sysctl_lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    """Line of each sysctl in that file."""
