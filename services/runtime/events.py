"""Events: fixed-size records of every decision, chained by a hash; all kinds stand here.

A record is 64 bytes, little-endian: time_us int64, sequence uint64, kind uint16, outcome int16, line uint32 (line of
vm_glue.c, 0 for code around it), subject int64, and four int64 whose meaning the kind names.
"""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum
from typing import NamedTuple

from services.runtime.limits import EVENTS_KEPT

RECORD = struct.Struct("<qQHhIqqqqq")
"""Layout of one record."""
assert RECORD.size == 64
PACKED = "pid:priority"
"""Name of an integer that holds a process id and its priority (see `packed`); -1: neither."""
LOSERS_PER_EVENT = 4
"""Processes in one SWAPPER_LOSERS event, best first; the next event goes on behind them."""


class Event(NamedTuple):
    """One event, unpacked."""

    time_us: int
    sequence: int
    kind: int
    outcome: int
    line: int
    subject: int
    a: int
    b: int
    c: int
    d: int


class Kind(IntEnum):
    """Kinds of events: (code, C function, line of vm_glue.c, subject, a, b, c, d).

    A kind names the C function that decided; line 0 stands for the kernel around vm_glue.c.
    """

    function: str
    line: int
    fields: tuple[str, ...]

    def __new__(cls, code: int, function: str, line: int, *fields: str) -> Kind:
        """Attach the C function, its line and the names of the integers."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.function, member.line, member.fields = function, line, fields
        return member

    # kstack
    KSTACK_NEW = 1, "vm_thread_new", 380, "tid", "stack", "pages", "kstacks", "ks"
    KSTACK_CACHE_HIT = 2, "vm_thread_new", 340, "tid", "stack", "pages", "kstacks", "ks"
    KSTACK_NO_KVA = 3, "vm_thread_new", 374, "tid", "pages"
    KSTACK_CACHED = 4, "vm_thread_dispose", 451, "tid", "stack", "kstacks"
    KSTACK_DESTROYED = 5, "vm_thread_stack_dispose", 417, "stack", "pages", "kstacks"
    KSTACK_LOWMEM = 6, "vm_thread_stack_lowmem", 468, "count", "kstacks"
    KSTACK_SWAPOUT = 7, "vm_thread_swapout", 549, "tid", "stack", "pages"
    KSTACK_SWAPIN = 8, "vm_thread_swapin", 604, "tid", "stack", "pages", "page_requests"
    KSTACK_MAX_USED = 9, "intr_prof_stack_use", 532, "used"
    # scheduler
    PROC_FORK = 32, "vm_forkproc", 664, "pid", "parent", "flags", "vmspace"
    PROC_EXEC = 33, "kern_execve", 0, "pid", "vmspace"
    PROC_EXIT = 34, "exit1", 0, "pid", "status", "cpu_us"
    PROC_REAPED = 35, "vm_waitproc", 678, "pid", "parent"
    SWITCH = 36, "mi_switch", 0, "tid", "budget_us", "cpu"
    SLEEP = 37, "sched_sleep", 0, "tid", "priority", "timeout_us"
    WAKEUP = 38, "setrunnable", 0, "tid", "wakeup_swapper"
    SWAPOUT = 39, "swapout", 1091, "pid", "resident", "swtick"
    SWAPOUT_BUSY = 40, "swapout", 1071, "pid"
    SWAPOUT_SKIP = 41, "swapout_procs", 992, "pid", "found", "wanted"
    SWAPOUT_DONE = 42, "swapout_procs", 1004, "action", "swapped_out", "considered"
    SWAPPER_PICK = 43, "swapper", 784, "pid", "priority", "considered", "losers"
    SWAPPER_SLEEP = 44, "swapper", 799, "timeout_ticks"
    SWAPPER_WAIT = 45, "swapper", 751, "free_min"
    FAULTIN = 46, "faultin", 709, "pid", "swtime_ticks"
    FAULTIN_DONE = 47, "faultin", 720, "pid", "elapsed_us"
    FORK_WAIT = 48, "vm_forkproc", 651, "pid"
    SIGNAL = 49, "vm_fault", 0, "pid", "kern_error", "va"
    KICK_PROC0 = 50, "kick_proc0", 827, "sleepers"
    OOM_KILL = 51, "vm_pageout_oom", 0, "pid", "pages", "shortage"
    SHMFORK = 52, "vm_forkproc", 657, "pid", "parent"
    UNSHARE = 53, "vm_forkproc", 636, "pid", "vmspace"
    SWAP_DEBUG = 54, "swapout", 1046, "pid"
    SWAPPER_LOSERS = 55, "swapper", 784, "pid", PACKED, PACKED, PACKED, PACKED
    PROC_STOPPED = 56, "thread_stopped", 0, "pid"
    PROC_CONTINUED = 57, "thread_unsuspend", 0, "pid"
    THREAD_NEW = 61, "thread_create", 0, "tid", "pid", "threads"
    THREAD_EXIT = 62, "thread_exit", 0, "tid", "pid", "threads"
    # physmem
    PAGE_ALLOC_FAILED = 64, "vm_page_alloc", 0, "object", "pindex", "class", "free", "cached"
    FAULT_ZERO_FILL = 65, "vm_fault", 0, "vmspace", "va", "object", "pindex", "frame"
    FAULT_COW = 66, "vm_fault", 0, "vmspace", "va", "object", "pindex", "frame"
    FAULT_MAJOR = 67, "vm_fault", 0, "vmspace", "va", "object", "pindex", "pages"
    FAULT_MINOR = 68, "vm_fault", 0, "vmspace", "va", "object", "pindex", "frame"
    FAULT_ERROR = 69, "vm_fault", 0, "vmspace", "va", "kern_error"
    PAGEOUT_SCAN = 70, "vm_pageout_scan", 0, "pass", "shortage", "freed", "laundered", "deactivated"
    PAGEOUT_WRITE = 71, "vm_pageout_flush", 0, "object", "pindex", "pages"
    PAGEOUT_WRITTEN = 72, "vm_pageout_flush", 0, "object", "pindex", "pages", "status"
    LOWMEM = 73, "vm_pageout_scan", 0, "free"
    VSLOCK = 74, "vslock", 206, "vmspace", "addr", "len", "error"
    VSUNLOCK = 75, "vsunlock", 220, "vmspace", "addr", "len"
    IMGACT_MAP = 76, "vm_imgact_map_page", 276, "object", "pindex", "mapping"
    IMGACT_UNMAP = 77, "vm_imgact_unmap_page", 288, "mapping"
    SPACE_FORK = 78, "vmspace_fork", 0, "vmspace", "parent", "entries"
    SPACE_FREE = 79, "vmspace_free", 0, "vmspace"
    STACK_PAGES_OUT = 80, "vm_thread_swapout", 560, "object", "pages"
    STACK_PAGES_IN = 81, "vm_thread_swapin", 604, "object", "pages", "read"
    MAP_DEACTIVATE = 82, "vm_pageout_map_deactivate_pages", 0, "vmspace", "before", "after"
    ICACHE_SYNC = 83, "vm_sync_icache", 300, "vmspace", "va", "sz", "pages"
    MLOCK = 84, "vm_mlock", 0, "vmspace", "addr", "len", "error"
    MUNLOCK = 85, "sys_munlock", 0, "vmspace", "addr", "len", "error"
    MLOCKALL = 86, "sys_mlockall", 0, "vmspace", "how", "memlock", "error"
    MUNLOCKALL = 87, "sys_munlockall", 0, "vmspace", "error"
    SHMGET = 88, "kern_shmget", 0, "shmid", "key", "size", "error"
    SHMAT = 89, "kern_shmat", 0, "vmspace", "shmid", "addr", "error"
    SHMDT = 90, "kern_shmdt", 0, "vmspace", "addr", "error"
    # pager
    SWAP_WRITE = 96, "swap_pager_putpages", 0, "object", "pindex", "pages", "block"
    SWAP_READ = 97, "swap_pager_getpages", 0, "object", "pindex", "pages", "block"
    SWAP_FULL = 98, "swp_pager_getswapspace", 0, "wanted", "avail"
    SWAP_FREE = 99, "swp_pager_freeswapspace", 0, "object", "pages"
    VNODE_READ = 100, "vnode_pager_getpages", 0, "file", "pindex", "pages"
    VNODE_WRITE = 102, "vnode_pager_putpages", 0, "file", "pindex", "pages"
    SWAP_IO_ERROR = 101, "swp_pager_async_iodone", 0, "object", "pindex", "pages", "write"
    SWAPON = 102, "swaponsomething", 0, "device", "pages", "block"
    SWAPOFF = 103, "swapoff_one", 0, "device", "pages", "used"
    SWAP_RESERVE = 104, "swap_reserve_by_cred", 0, "bytes", "reserved", "limit"
    # any
    PREEMPT = 120, "mi_switch", 0, "line", "concerned", "depth"


class EventLog:
    """A service's events: the chain's head, and the last `keep` records for watchers and recordings."""

    def __init__(self, service: str, keep: int = EVENTS_KEPT) -> None:
        self.service = service
        self.count = 0
        self.head = hashlib.blake2b(service.encode(), digest_size=32).digest()
        self._keep = keep
        self._pending: list[bytes] = []
        self._records = bytearray()
        self._first = 0

    @classmethod
    def resumed(cls, service: str, count: int, head: bytes) -> EventLog:
        """A log that goes on behind `count` events, whose records are not kept here, from the chain's head."""
        log = cls(service)
        log.count = log._first = count
        log.head = head
        return log

    def add(
        self, now_us: int, kind: Kind, subject: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0, outcome: int = 0
    ) -> None:
        """Record one event at virtual time `now_us`."""
        try:
            record = RECORD.pack(now_us, self.count, kind, outcome, kind.line, subject, a, b, c, d)
        except struct.error:  # a uint64, an address as a rule
            integers = map(_signed, (subject, a, b, c, d))
            record = RECORD.pack(now_us, self.count, kind, outcome, kind.line, *integers)
        self.count += 1
        self._pending.append(record)
        if len(self._pending) >= 4096:
            self.flush()

    def flush(self) -> None:
        """Chain what was recorded since the last flush, record by record."""
        head = self.head
        for record in self._pending:
            head = hashlib.blake2b(head + record, digest_size=32).digest()
        self.head = head
        self._records += b"".join(self._pending)
        self._pending.clear()
        excess = len(self._records) // RECORD.size - self._keep
        if excess > self._keep // 4:
            del self._records[: excess * RECORD.size]
            self._first += excess

    def since(self, sequence: int, limit: int) -> tuple[int, bytes]:
        """First sequence number and records from `sequence` on, at most `limit`; what the cap dropped is missing."""
        self.flush()
        first = max(sequence, self._first)
        start = (first - self._first) * RECORD.size
        return first, bytes(self._records[start : start + limit * RECORD.size])


def unpack(records: bytes) -> list[Event]:
    """Unpack consecutive records."""
    return [Event(*fields) for fields in RECORD.iter_unpack(records)]


def packed(pid: int, priority: int) -> int:
    """A process id and a priority, both C ints, in one int64."""
    return priority << 32 | pid


def unpacked(value: int) -> tuple[int, int]:
    """Process id and priority of what `packed` made."""
    return value & 0xFFFFFFFF, value >> 32


def told(kind: Kind, event: Event) -> str:
    """The integers of an event with the names of its kind; what is packed is taken apart, or left out if empty."""
    words = []
    integers = (event.subject, event.a, event.b, event.c, event.d)
    for name, value in zip(kind.fields, integers, strict=False):
        if name != PACKED:
            words.append(f"{name}={value}")
        elif value != -1:
            pid, priority = unpacked(value)
            words.append(f"{name}={pid}:{priority}")
    return " ".join(words)


def _signed(value: int) -> int:
    """The int64 with the bits of a uint64."""
    value = int(value) & 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value
