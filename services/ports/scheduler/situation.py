"""Messages that show processes as swapping sees them, that place a situation, and that change it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from services.ports.common import I32, I64, U32, U64


@dataclass(slots=True)
class ThreadState:
    """The fields of a thread that swapping looks at, with the values of sys/proc.h."""

    tid: I64 = 0
    """Thread id."""
    state: U32 = 0
    """td_state: TDS_INACTIVE 0, INHIBITED 1, CAN_RUN 2, RUNQ 3, RUNNING 4."""
    flags: U32 = 0
    """td_flags: TDF_INMEM 0x4, TDF_CANSWAP 0x40, TDF_SWAPINREQ 0x400000 ..."""
    inhibitors: U32 = 0
    """td_inhibitors: TDI_SUSPENDED 1, SLEEPING 2, SWAPPED 4, LOCK 8, IWAIT 16."""
    pri_class: U32 = 3
    """td_pri_class: PRI_ITHD 1, REALTIME 2, TIMESHARE 3, IDLE 4; the FIFO bit is 8."""
    slptick: I32 = 0
    """td_slptick."""
    nswap: I32 = 0
    """td_ru.ru_nswap."""
    kstack: U64 = 0
    """td_kstack; 0: none."""
    kstack_pages: I32 = 0
    """td_kstack_pages."""


@dataclass(slots=True)
class ProcState:
    """The fields of a process that swapping looks at, with the values of sys/proc.h."""

    pid: I32 = 0
    """Process id."""
    name: str = ""
    """p_comm."""
    state: U32 = 0
    """p_state: PRS_NEW 0, PRS_NORMAL 1, PRS_ZOMBIE 2."""
    flags: U32 = 0
    """p_flag: P_SYSTEM 0x200, P_TRACED 0x800, P_WEXIT 0x2000, P_STOPPED_SINGLE 0x80000, P_INMEM 0x10000000 ..."""
    lock: I32 = 0
    """p_lock."""
    swtick: U32 = 0
    """p_swtick, unsigned."""
    nice: I32 = 0
    """p_nice."""
    vmspace: U64 = 0
    """Address space; 0: none."""
    threads: list[ThreadState] = field(default_factory=list)
    """Its threads, in order."""


@dataclass(slots=True)
class VmspaceState:
    """What the scheduler knows of an address space."""

    vmspace: U64 = 0
    """Its id."""
    refcnt: I32 = 1
    """vm_refcnt."""
    swrss: I64 = 0
    """vm_swrss, in pages."""
    shm: bool = False
    """System V shared memory is attached (vm_shm)."""


@dataclass(slots=True)
class ProcStates:
    """Processes and address spaces as swapping sees them."""

    procs: list[ProcState] = field(default_factory=list)
    """Processes in the order of allproc, then zombies."""
    vmspaces: list[VmspaceState] = field(default_factory=list)
    """Address spaces by id."""


class ChangeField(IntEnum):
    """What a change sets: the clock, or a field of a process, a thread or an address space."""

    TICKS = 0
    """The clock moves on by `value`, wrapping."""
    P_STATE = 1
    """p_state of process `id`."""
    P_FLAG = 2
    """p_flag."""
    P_LOCK = 3
    """p_lock."""
    P_SWTICK = 4
    """p_swtick."""
    P_NICE = 5
    """p_nice."""
    TD_STATE = 6
    """td_state of thread `id`."""
    TD_FLAGS = 7
    """td_flags."""
    TD_INHIBITORS = 8
    """td_inhibitors; a thread that begins or ceases to sleep goes on or off a sleep queue."""
    TD_PRI_CLASS = 9
    """td_pri_class."""
    TD_SLPTICK = 10
    """td_slptick."""
    VM_RESIDENT = 11
    """What vmspace_resident_count() reports of address space `id`, in pages."""
    VM_MAP_LOCKED = 12
    """Somebody holds the map's lock: 1, or gives it back: 0."""


@dataclass(slots=True)
class Change:
    """Something that the rest of the kernel changes."""

    field: ChangeField = ChangeField.TICKS
    """What."""
    id: I64 = 0
    """Process, thread or address space."""
    value: I64 = 0
    """Its new value."""


@dataclass(slots=True)
class ChangesAt:
    """Changes at a point within a call."""

    point: str = ""
    """Preemption point of the core, for example `swapper:793`; `sleep`: during a sleep of the caller."""
    nth: U32 = 1
    """At which time that the call reaches the point, from 1."""
    changes: list[Change] = field(default_factory=list)
    """What changes, in order."""


@dataclass(slots=True)
class Clock:
    """The clock after a call that may have moved it."""

    ticks: I32 = 0
    """The kernel's `ticks`."""
