"""The kstack port: kernel stacks and their cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from services.ports.common import (
    I32,
    I64,
    U32,
    U64,
    Answers,
    CheckpointChunk,
    CounterValues,
    Digest,
    Empty,
    EventChunk,
    Setting,
    Settings,
    Status,
    SuspendedOperations,
    Suspension,
    Violations,
)
from services.ports.physmem import PageRequest, StackPages


@dataclass(slots=True)
class KstackBoot:
    """What the stack allocator is built with."""

    kstack_pages: I32 = 4
    """KSTACK_PAGES of the architecture."""
    kstack_guard_pages: I32 = 1
    """KSTACK_GUARD_PAGES of the architecture."""
    hz: I32 = 1000
    """Clock ticks a second."""
    start_ticks: I32 = 0
    """`ticks` at boot."""
    allow_inject: bool = False
    """Scripted answers are accepted."""
    kstack_max_pages: I32 = 0
    """KSTACK_MAX_PAGES: a larger stack that is asked for gets so many pages; 0: 32."""
    without_kstack_usage_prof: bool = False
    """Built without KSTACK_USAGE_PROF: intr_prof_stack_use and debug.max_kstack_used are absent."""
    no_swapping: bool = False
    """NO_SWAPPING: whole processes and their stacks are never swapped."""
    without_invariants: bool = False
    """Built without INVARIANTS: the KASSERTs of the C code are gone, its panics stay."""
    preempt_seed: U64 = 0
    """Seed of what others do where the C code drops a lock or sleeps; 0: nothing."""


@dataclass(slots=True)
class ThreadStack:
    """A thread that wants a stack."""

    tid: I64 = 0
    """Thread id."""
    pages: I32 = 0
    """Wanted size; 1 and less: KSTACK_PAGES, above 32: 32."""


@dataclass(slots=True)
class NewStack:
    """vm_thread_new's answer for one thread."""

    ok: bool = False
    """False: vm_thread_new returned 0, no kernel address space."""
    stack: U64 = 0
    """Label of the stack: 1, 2 ... in order of construction; kept through the cache."""
    td_kstack: U64 = 0
    """Lowest address of the stack."""
    td_kstack_pages: I32 = 0
    """Pages."""
    cached: bool = False
    """It came from the cache."""
    kva_bytes: U64 = 0
    """Kernel address space taken by this call."""
    guard_pages: I32 = 0
    """Pages explicitly unmapped below the stack."""
    mapped_pages: I32 = 0
    """Pages mapped."""


@dataclass(slots=True)
class NewStacks:
    """vm_thread_new's answers, in order."""

    status: Status = Status.DONE
    """SUSPENDED: the allocation behind the last answer sleeps for memory; kstacks already counts it."""
    suspension: Suspension | None = None
    """The sleep."""
    stacks: list[NewStack] = field(default_factory=list)
    """One for each thread from the start of the request."""
    kstacks: I32 = 0
    """vm.kstacks afterwards."""
    cache_length: U32 = 0
    """Stacks in the cache afterwards."""


@dataclass(slots=True)
class DisposedStack:
    """vm_thread_dispose's answer for one thread."""

    stack: U64 = 0
    """Label of the stack."""
    cached: bool = False
    """It went into the cache; False: destroyed."""


@dataclass(slots=True)
class DisposedStacks:
    """vm_thread_dispose's answers, in order."""

    stacks: list[DisposedStack] = field(default_factory=list)
    """One for each thread."""
    kva_bytes_freed: U64 = 0
    """Kernel address space given back."""
    kstacks: I32 = 0
    """vm.kstacks afterwards."""
    cache_length: U32 = 0
    """Stacks in the cache afterwards."""


@dataclass(slots=True)
class DestroyedStacks:
    """Stacks that are no more."""

    freed: list[U64] = field(default_factory=list)
    """Labels in the order of destruction."""
    kva_bytes_freed: U64 = 0
    """Kernel address space given back."""
    kstacks: I32 = 0
    """vm.kstacks afterwards."""
    cache_length: U32 = 0
    """Stacks in the cache afterwards."""


@dataclass(slots=True)
class ThreadPcb:
    """A thread whose stack goes out or comes in."""

    tid: I64 = 0
    """Thread id."""
    pid: I32 = 0
    """Process id, for the panic's text."""
    pcb: bytes = b""
    """Swap-out: registers to save at the top of the stack."""


@dataclass(slots=True)
class SwappedIn:
    """vm_thread_swapin's answers."""

    status: Status = Status.DONE
    """SUSPENDED: a page is read or memory is short."""
    suspension: Suspension | None = None
    """The sleep."""
    pcbs: list[bytes] = field(default_factory=list)
    """Registers found at the top of each stack, in order (when DONE); empty where a scripted pager gave the page."""
    page_requests: list[PageRequest] = field(default_factory=list)
    """Pager calls so far, in order."""


@dataclass(slots=True)
class ThreadOnStack:
    """A thread and the stack that it is to have."""

    tid: I64 = 0
    """Thread id."""
    stack: StackPages = field(default_factory=StackPages)
    """Object, address and pages, as physmem placed them."""


@dataclass(slots=True)
class StackSample:
    """Arguments of intr_prof_stack_use: fields of the thread and of the trap frame."""

    td_kstack: U64 = 0
    """Lowest address of the thread's stack."""
    td_kstack_pages: I32 = 0
    """Its pages."""
    from_user: bool = False
    """The trap frame is from user mode."""
    sp: U64 = 0
    """Current stack depth as an address (`current` in C)."""


@dataclass(slots=True)
class StackUse:
    """debug.max_kstack_used after each sample."""

    max_kstack_used: list[I32] = field(default_factory=list)
    """Bytes."""


@dataclass(slots=True)
class StackState:
    """One stack ever built."""

    stack: U64 = 0
    """Label."""
    state: str = ""
    """in_use, cached or freed."""
    pages: I32 = 0
    """Pages."""
    tid: I64 = 0
    """Thread that has it; 0: none."""
    obj: U64 = 0
    """VM object."""
    ks: U64 = 0
    """Lowest address."""


@dataclass(slots=True)
class StackStates:
    """The allocator's state."""

    stacks: list[StackState] = field(default_factory=list)
    """Every stack that lives, by label; freed ones too where asked for."""
    cache: list[U64] = field(default_factory=list)
    """Labels of cached stacks, first the one that is taken next."""
    kstacks: I32 = 0
    """vm.kstacks."""


class KstackPort(Protocol):
    """Kernel stacks: allocation, cache, low-memory drain, swap-out and swap-in, usage profiling."""

    def boot(self, config: KstackBoot) -> Empty:
        """kstack_cache_init (vm_glue.c:482-490): start without stacks."""
        ...

    def vm_thread_new(self, threads: list[ThreadStack], op: U64) -> NewStacks:
        """vm_thread_new (vm_glue.c:323-409) for each thread; `op` resumes a sleeping request."""
        ...

    def vm_thread_dispose(self, tids: list[I64]) -> DisposedStacks:
        """vm_thread_dispose (vm_glue.c:438-461) for each thread."""
        ...

    def vm_thread_stack_dispose(self, stacks: list[U64]) -> DestroyedStacks:
        """vm_thread_stack_dispose (vm_glue.c:411-433) for each stack, by its label: destroyed, whatever the cache says.

        The thread that has it loses it, as vm_thread_dispose takes it away first. A cached stack is refused.
        """
        ...

    def vm_thread_stack_lowmem(self) -> DestroyedStacks:
        """vm_thread_stack_lowmem (vm_glue.c:463-480): destroy every cached stack."""
        ...

    def vm_thread_swapout(self, threads: list[ThreadPcb]) -> Empty:
        """vm_thread_swapout (vm_glue.c:542-564) for each thread."""
        ...

    def vm_thread_swapin(self, threads: list[ThreadPcb], op: U64) -> SwappedIn:
        """vm_thread_swapin (vm_glue.c:569-606) for each thread; `op` resumes a sleeping request."""
        ...

    def intr_prof_stack_use(self, samples: list[StackSample]) -> StackUse:
        """intr_prof_stack_use (vm_glue.c:502-535) for each sample."""
        ...

    def lose_page(self, stack: U64, page: U32) -> Empty:
        """A fault: a page leaves the stack's object (refused unless injection is allowed)."""
        ...

    def place(self, threads: list[ThreadOnStack]) -> Empty:
        """Give threads stacks that physmem placed (refused unless injection is allowed); vm.kstacks counts them."""
        ...

    def stack_states(self, with_freed: bool) -> StackStates:
        """The stacks and the cache, for inspection."""
        ...

    def suspended(self) -> SuspendedOperations:
        """Operations that sleep, and what for; changes nothing."""
        ...

    def sysctl_get(self) -> Settings:
        """All sysctls of this service."""
        ...

    def sysctl_set(self, setting: Setting) -> Empty:
        """Set one."""
        ...

    def checkpoint_save(self, offset: U64) -> CheckpointChunk:
        """A piece of this service's checkpoint from a byte on; it is made at offset 0."""
        ...

    def checkpoint_load(self, offset: U64, size: U64, data: bytes) -> Empty:
        """Take in a piece of a checkpoint of `size` bytes, for `checkpoint_commit`; size 0 withdraws it."""
        ...

    def checkpoint_commit(self) -> Empty:
        """Go on from the checkpoint that was loaded whole; everything from before is dropped."""
        ...

    def inject(self, script: list[Answers]) -> Empty:
        """Script answers of the kernel around the C code."""
        ...

    def digest(self) -> Digest:
        """Event chain and the allocator's state."""
        ...

    def check(self) -> Violations:
        """Compare live and cached stacks with kstacks and with the records in kernel memory."""
        ...

    def events(self, since: U64, limit: U32) -> EventChunk:
        """Recorded events from sequence number `since` on."""
        ...

    def counters(self) -> CounterValues:
        """The service's own counters."""
        ...


READS = frozenset(
    {"check", "checkpoint_save", "counters", "digest", "events", "stack_states", "suspended", "sysctl_get"}
)
"""Methods that only read state: they need no clock, and are answered also after a panic."""
