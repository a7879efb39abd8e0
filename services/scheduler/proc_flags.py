"""Flags and numbers of processes and threads, with the values of sys/proc.h, sys/priority.h and sys/unistd.h."""

from __future__ import annotations

from enum import IntEnum

# p_flag
P_HADTHREADS = 0x80
P_SYSTEM = 0x200
P_SINGLE_EXIT = 0x400
P_TRACED = 0x800
P_WEXIT = 0x2000
P_PPWAIT = 0x10
P_WKILLED = 0x8000
P_STOPPED_SIG = 0x20000
P_STOPPED_SINGLE = 0x80000
P_PROTECTED = 0x100000
P_INEXEC = 0x4000000
P_INMEM = 0x10000000
P_SWAPPINGOUT = 0x20000000
P_SWAPPINGIN = 0x40000000
P_KTHREAD = 0x4
P_EXEC = 0x4000

# td_flags
TDF_INMEM = 0x4
TDF_SINTR = 0x8
TDF_TIMEOUT = 0x10
TDF_CANSWAP = 0x40
TDF_SWAPINREQ = 0x400000

# td_inhibitors
TDI_SUSPENDED = 0x1
TDI_SLEEPING = 0x2
TDI_SWAPPED = 0x4
TDI_LOCK = 0x8
TDI_IWAIT = 0x10

# td_pri_class
PRI_ITHD = 1
PRI_REALTIME = 2
PRI_TIMESHARE = 3
PRI_IDLE = 4
PRI_FIFO_BIT = 8

PRI_FIFO = PRI_FIFO_BIT | PRI_REALTIME

# Priorities
PRI_MIN_REALTIME = 48
PVM = 84
PZERO = 100
PSOCK = 104
PWAIT = 108
PPAUSE = 116
PUSER = 120
PRI_MIN_TIMESHARE = 120
PRI_MAX_TIMESHARE = 223
PRI_MIN_IDLE = 224

# p_nice
PRIO_MIN = -20

# rfork(2)
RFFDG = 0x4
RFPROC = 0x10
RFMEM = 0x20
RFPPWAIT = 1 << 31
FORK_FLAGS = RFFDG | RFPROC
VFORK_FLAGS = RFFDG | RFPROC | RFPPWAIT | RFMEM

# swapout_procs(action)
VM_SWAP_NORMAL = 1
VM_SWAP_IDLE = 2

# Signals
SIGABRT = 6
SIGKILL = 9
SIGBUS = 10
SIGSEGV = 11
SIGSTOP = 17
SIGCONT = 19
SIGNAL_MAX = 31

# errno
ENOMEM = 12
EBUSY = 16

MAXSLP = 20
"""Seconds after which a sleeper counts as idle; half of it bounds the swapper's sleep."""


class Prs(IntEnum):
    """p_state."""

    NEW = 0
    """In creation; it may have no address space yet."""
    NORMAL = 1
    """Lives."""
    ZOMBIE = 2
    """Ended and not yet reaped."""


class Tds(IntEnum):
    """td_state."""

    INACTIVE = 0
    """In creation or ended."""
    INHIBITED = 1
    """Something keeps it from running (td_inhibitors)."""
    CAN_RUN = 2
    """Nothing keeps it from running, but it is on no queue."""
    RUNQ = 3
    """On the run queue."""
    RUNNING = 4
    """On the processor."""


def pri_base(pri_class: int) -> int:
    """PRI_BASE: a class without the FIFO bit."""
    return pri_class & ~PRI_FIFO_BIT


def pri_is_realtime(pri_class: int) -> bool:
    """PRI_IS_REALTIME: the realtime class, FIFO or round robin."""
    return pri_base(pri_class) == PRI_REALTIME
