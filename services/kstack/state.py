"""State of the stack allocator: stacks, cache, suspended requests; plain data that a checkpoint can write."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field

from services.ports.kstack import NewStack, ThreadPcb
from services.ports.physmem import StackPages
from services.runtime.preemption import PreemptStream
from services.runtime.sleeps import Sleep

KSTACK_MAX_PAGES = 32
"""KSTACK_MAX_PAGES as it is if the kernel's configuration does not say (vm_glue.c:314-316)."""
PAGE_SIZE = 4096
"""PAGE_SIZE as a C int."""
FREED_KEPT = 4096
"""Destroyed stacks that are remembered for inspection."""
CACHE_ENTRY = struct.Struct("<QQ")
"""struct kstack_cache_entry: object and address of the next entry, at the base of a cached stack."""


@dataclass(slots=True)
class Stack:
    """One kernel stack."""

    label: int
    """1, 2 ... in order of construction; kept through the cache."""
    pages: int
    """td_kstack_pages."""
    obj: int
    """td_kstack_obj."""
    ks: int
    """td_kstack: lowest address, above the guard."""
    tid: int = 0
    """Thread that has it; 0: cached."""
    complete: bool = True
    """All of its pages are there; False: vm_thread_new sleeps for memory."""

    def stack_pages(self) -> StackPages:
        """The stack as physmem names it."""
        return StackPages(self.obj, self.ks, self.pages)


@dataclass(slots=True)
class Request:
    """One thread of a vm_thread_new request."""

    tid: int
    """Thread id."""
    pages: int
    """Pages after the bounds check."""
    cached: int = 0
    """Label of the stack that came from the cache; 0: one must be built."""


@dataclass(slots=True)
class PendingNew:
    """A vm_thread_new request that sleeps for memory."""

    requests: list[Request]
    """All threads of the request."""
    below: int
    """Operation of stack_create to resume."""
    built: int = 0
    """Stacks of stack_create that were answered."""
    sleeping: int = 0
    """Label of the stack whose pages are not complete; 0: none."""
    answers: list[NewStack] = field(default_factory=list)
    """What vm_thread_new returned to the threads so far."""


@dataclass(slots=True)
class PendingSwapin:
    """A vm_thread_swapin request that sleeps."""

    threads: list[ThreadPcb]
    """All threads of the request."""
    below: int
    """Operation of stack_swapin to resume."""


@dataclass(slots=True)
class State:
    """Everything that the stack allocator remembers."""

    kstack_pages: int = 4
    """KSTACK_PAGES."""
    kstack_guard_pages: int = 1
    """KSTACK_GUARD_PAGES."""
    kstack_max_pages: int = KSTACK_MAX_PAGES
    """KSTACK_MAX_PAGES (vm_glue.c:315): larger requests get so many."""
    kstack_usage_prof: bool = True
    """KSTACK_USAGE_PROF: interrupts note how deep the stack is (vm_glue.c:492-536)."""
    no_swapping: bool = False
    """NO_SWAPPING: vm_thread_swapout and vm_thread_swapin are absent (vm_glue.c:538-607)."""
    kstack_cache_size: int = 128
    """vm.kstack_cache_size, a C int."""
    kstacks: int = 0
    """vm.kstacks, a C int: stacks built and not destroyed."""
    max_kstack_used: int = 0
    """debug.max_kstack_used, a C int, in bytes."""
    stacks: dict[int, Stack] = field(default_factory=dict)
    """Every stack that lives, by label."""
    threads: dict[int, Stack] = field(default_factory=dict)
    """The stack of each thread that has one, by thread id."""
    cache: list[int] = field(default_factory=list)
    """Labels of cached stacks, the head of kstack_cache last; the list itself lies in kernel memory."""
    freed: deque[Stack] = field(default_factory=lambda: deque(maxlen=FREED_KEPT))
    """The last stacks that were destroyed."""
    last_label: int = 0
    """Label of the stack that was built last."""
    last_op: int = 0
    """Id of the request that was suspended last."""
    pending_new: dict[int, PendingNew] = field(default_factory=dict)
    """Sleeping vm_thread_new requests by operation id."""
    pending_swapin: dict[int, PendingSwapin] = field(default_factory=dict)
    """Sleeping vm_thread_swapin requests by operation id."""
    sleeps: dict[int, Sleep] = field(default_factory=dict)
    """Their sleeps by operation id."""
    preempt: PreemptStream = field(default_factory=PreemptStream)
    """Random stream of the preemption points."""
    strangers: dict[int, int] = field(default_factory=dict)
    """Kernel threads that came at a preemption point, by their thread ids below 0: the operation in which they sleep,
    or 0."""
    last_stranger: int = 0
    """Thread id of the last one."""
