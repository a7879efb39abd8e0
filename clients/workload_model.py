"""What a workload is: a machine and the programs that run on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.ports.pager import SwapDisk

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
PATTERNS = ("zipf", "uniform", "scan", "loop")
"""Orders in which a made-up program visits its pages."""
CALLS = {"nanosleep": 35, "accept": 43, "kqueue": 232, "select": 23, "procstat": 156}
"""Calls in which a made-up program pauses, with the Linux number of each one's row in docs/syscalls.md."""
THREADS_MAX = 64
"""Most threads that do a burst together."""
SWAPON, SWAPOFF = 167, 168
"""Linux numbers of the calls that say which devices are swapped to."""
VISIT = 8
"""References to a page at a visit, where a workload does not say."""
CLASSES = {"normal": 3, "realtime": 2, "fifo": 10, "idle": 4}
"""Classes of rtprio(2) with the kernel's numbers."""
NCPU_MAX = 64
"""Most processors of a machine."""
RTPRIO_MAX = 31
"""Lowest priority within a class."""
ARRIVALS = ("regular", "poisson")
"""Instances start `start_every` apart, or at random so far apart on average."""
MIB = 1 << 20
"""Bytes of a mebibyte."""
PAGE = 4096
"""Bytes of a page of the traces."""


class WorkloadError(Exception):
    """A workload that cannot be used; the text is one line: file and line, key, what is wrong, what would be right."""


def plain_swap(size: int) -> tuple[SwapDisk, ...]:
    """One swap device of a size in bytes as it comes, an SSD without faults; none for 0 bytes."""
    return (SwapDisk(size // PAGE),) if size else ()


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
    swap: tuple[SwapDisk, ...] = plain_swap(256 * MIB)
    """Swap devices, in the order of swapon."""
    hz: int = 1000
    """Clock ticks a second."""
    ncpu: int = 1
    """Processors."""
    shootdown_ns: int = 1_000
    """Time of a TLB shoot-down for whoever asks for it, in nanoseconds (`cpu.shootdown_ns`).

    These two are what is told of amd64 (https://unseel.com/cs/tlb-shootdown: about 1 us, and 200 ns a receiver).
    """
    ipi_ns: int = 200
    """The same for each processor that it interrupts (`cpu.ipi_ns`)."""
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

    @property
    def swap_bytes(self) -> int:
        """Size of all swap devices, in bytes."""
        return sum(device.pages for device in self.swap) * PAGE


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the life of a made-up program: pauses, and references to its memory between them."""

    pattern: str
    """Which page comes next, one of PATTERNS."""
    pages: int
    """Memory that it works on, in pages from the start of the program's."""
    references: int
    """References in all."""
    visit: int = VISIT
    """References to a page before the next one's turn."""
    alpha: float = 1.0
    """zipf: the page of rank r is visited r ** -alpha times as often as the first."""
    window: int = 0
    """loop: pages that are gone round ROUNDS times before the next window's turn; 0: an eighth of its memory."""
    writes: float = 0.25
    """Share of the visits that store."""
    burst: int = 0
    """References between two pauses; 0: all, after one pause."""
    think_us: int = 0
    """Length of a pause, which comes before each burst; 0: none."""
    call: str = "nanosleep"
    """System call in which it pauses, one of CALLS."""
    mlock: int = 0
    """Pages, from the start of its memory, that it wires with mlock(2) while the phase lasts; 0: none."""
    swapon: int = -1
    """Device, by its position in `machine.swap`, that it swaps to behind its first pause; -1: none."""
    swapoff: int = -1
    """Device that it takes away from swap there, before `swapon`; -1: none."""
    shm: int = 0
    """Key of the System V segment that is its memory, shared by all that name it; 0: memory of its own."""
    threads: int = 1
    """Each burst is done by so many threads, which are started for it and waited for; 1: by the program itself."""


@dataclass(frozen=True, slots=True)
class Program:
    """A captured or made-up program and how often it runs."""

    trace: Path
    """The trace file; of a made-up program a name that no other program of the workload has."""
    name: str
    """Name of its processes."""
    phases: tuple[Phase, ...] = ()
    """What a made-up program does; empty: the trace is a file."""
    count: int = 1
    """Instances."""
    start_us: int = 0
    """Virtual time at which the first one starts, in microseconds."""
    start_every_us: int = 0
    """Time between the starts of two instances, in microseconds."""
    arrivals: str = "regular"
    """How instances follow one another, one of ARRIVALS."""
    nice: int = 0
    """p_nice, -20 to 20."""
    rtprio: tuple[str, int] = ("normal", 0)
    """Class of rtprio(2), one of CLASSES, and the priority in it, 0 (best) to RTPRIO_MAX."""
    stop_us: int = -1
    """Virtual time at which its processes are stopped (SIGSTOP), in microseconds; -1: never."""
    continue_us: int = -1
    """Virtual time at which they are continued (SIGCONT); -1: never."""
    rss_limit: int = 0
    """RLIMIT_RSS, in pages; 0: all memory that was free at boot."""
    memlock_limit: int = 0
    """RLIMIT_MEMLOCK, in pages; 0: none."""
    repeat: int = 1
    """Executions of each instance, one after the other in the same process."""
    think_us: int = 0
    """Pause between two executions, in microseconds."""
    sleep_scale: float = 1.0
    """Factor for its sleeps."""
    memory_scale: int = 1
    """Factor for the memory of a captured program."""
    pressure: bool = False
    """Part of the load whose end begins the recovery that the report tells of."""


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
