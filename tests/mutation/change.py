"""What a mutation is: one small change of a core that some test must notice."""

from __future__ import annotations

from dataclasses import dataclass

GLUE_SWAP = "services/scheduler/glue_swap.py"
CANDIDATES = "services/scheduler/candidates.py"
GLUE_FORK = "services/scheduler/glue_fork.py"
SLEEPQ = "services/scheduler/sleepq.py"
PROC_FLAGS = "services/scheduler/proc_flags.py"
KTHREADS = "services/scheduler/kthreads.py"
VM_DAEMON = "services/scheduler/vm_daemon.py"
KSTACK_CACHE = "services/kstack/kstack_cache.py"
STACK_USE = "services/kstack/stack_use.py"
KSTACK_PAGES = "services/physmem/kstack_pages.py"
GLUE = "services/physmem/glue.py"
IMGACT = "services/physmem/imgact.py"
VM_MAP = "services/physmem/vm_map.py"
VM_MAP_DELETE = "services/physmem/vm_map_delete.py"
SF_BUF = "services/physmem/sf_buf.py"
SYSV_SHM = "services/physmem/sysv_shm.py"
VM_MMAP = "services/physmem/vm_mmap.py"
VM_MAP_WIRE = "services/physmem/vm_map_wire.py"
VM_FAULT = "services/physmem/vm_fault.py"
VM_FAULT_AROUND = "services/physmem/vm_fault_around.py"
VMSPACE = "services/physmem/vmspace.py"
VM_PAGE = "services/physmem/vm_page.py"
PAGE_BUSY = "services/physmem/page_busy.py"
PAGE_LOOPS = "services/physmem/page_loops.py"
VM_PAGEOUT = "services/physmem/vm_pageout.py"
VM_OBJECT = "services/physmem/vm_object.py"
SWAP_PAGER = "services/pager/swap_pager.py"
SWAP_SPACE = "services/pager/swap_space.py"
SWAP_META = "services/pager/swap_meta.py"

SCHEDULER = tuple(
    f"unit/scheduler/test_{name}.py"
    for name in ("swap_life", "swapout_calls", "life", "queues", "situation", "scheduler_options", "candidates")
)
"""Tests of the scheduler, the quick ones first; those with the cases of conformance families are left out."""


@dataclass(frozen=True, slots=True)
class Change:
    """A mutation.

    Attributes:
        name: Its name, unique.
        file: The file it changes, from the repository's root.
        old: Text that stands there exactly once.
        new: Text in its place.
        c: C function and the lines that say otherwise; of vm_glue.c unless a file is named.
        rule: The rule it breaks.
        tests: Where it must be noticed, in this order: letters of conformance families, files or folders under tests/.
    """

    name: str
    file: str
    old: str
    new: str
    c: str
    rule: str
    tests: tuple[str, ...]
