"""Messages with the figures of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.ports.common import I32, I64, U32, U64


@dataclass(slots=True)
class ProcessRow:
    """One process, living or ended."""

    pid: I32 = 0
    """Process id."""
    ppid: I32 = 0
    """Parent."""
    name: str = ""
    """p_comm."""
    state: str = ""
    """run, sleep, stopped, swapped, zombie or ended."""
    wmesg: str = ""
    """Wait messages of its sleeping threads."""
    vmspace: U64 = 0
    """Address space; 0: none."""
    flags: U32 = 0
    """p_flag."""
    minor_faults: U64 = 0
    """ru_minflt."""
    major_faults: U64 = 0
    """ru_majflt."""
    swaps: U32 = 0
    """ru_nswap."""
    cpu_us: I64 = 0
    """Processor time, in microseconds."""
    sleep_us: I64 = 0
    """Time asleep, in microseconds."""
    start_us: I64 = 0
    """Virtual time of its start."""
    end_us: I64 = 0
    """Virtual time of its end; -1: it lives."""
    status: I32 = 0
    """Exit status, or minus the signal that ended it."""
    swappable_us: I64 = 0
    """Time asleep where it may be swapped out (TDF_CANSWAP), in microseconds."""


@dataclass(slots=True)
class ProcessTable:
    """Processes in order of pid."""

    processes: list[ProcessRow] = field(default_factory=list)
    """Rows."""
    running: U32 = 0
    """Living processes in memory."""
    swapped: U32 = 0
    """Living processes that are swapped out."""


@dataclass(slots=True)
class SchedulerStats:
    """Figures of a run; latencies are little-endian int64 microseconds, one a sample."""

    now_us: I64 = 0
    """Virtual time."""
    swapouts: U32 = 0
    """Processes swapped out."""
    swapins: U32 = 0
    """Processes swapped in."""
    wakeup_resident: bytes = b""
    """setrunnable to on-CPU of threads in memory."""
    wakeup_swapped: bytes = b""
    """The same of threads that had to be swapped in."""
    major_fault: bytes = b""
    """Start of a page read by a fault to the thread's return to the processor."""
    idle_us: I64 = 0
    """Virtual time without a runnable thread, of all processors together, in microseconds."""
    wakeup_resident_at: bytes = b""
    """Virtual times at which the wakeups of wakeup_resident ended."""
    wakeup_swapped_at: bytes = b""
    """The same of wakeup_swapped."""
    cpu_busy_us: list[I64] = field(default_factory=list)
    """What each processor has worked, in microseconds."""
