"""All state of physmem: the page side's, and maps, kernel address space and sleeping operations on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from services.physmem.ops import Operation, PageRead
from services.physmem.state import NOTHING, Vm
from services.physmem.vm_map import VmMap
from services.physmem.vmem import Arena
from services.ports.common import Suspension
from services.ports.physmem import KERNEL_SPACE
from services.runtime.errors import Reason, Refused
from services.runtime.sleeps import Sleep

AnyOperation = TypeVar("AnyOperation", bound=Operation)
KSTACK_MAX_PAGES = 32
"""KSTACK_MAX_PAGES as it is if the kernel's configuration does not say (vm_glue.c:314-316)."""


@dataclass(slots=True)
class VmSpace:
    """An address space (struct vmspace).

    Attributes:
        map: Its map; the map's id is the space's.
        refcnt: vm_refcnt.
        vm_shm: Id of the System V segment attached at each address.
    """

    map: VmMap
    refcnt: int = 1
    vm_shm: Mapping[int, int] = field(default_factory=lambda: NOTHING)


@dataclass(slots=True)
class ShmSegment:
    """A System V segment (struct shmid_kernel).

    Attributes:
        key: Key by which shmget finds it; 0 (IPC_PRIVATE): it does not.
        size: shm_segsz, in bytes.
        object: Its object, on which the segment has a reference of its own.
        nattch: shm_nattch: how often it is attached.
        removed: SHMSEG_REMOVED: the last detachment frees it.
    """

    key: int
    size: int
    object: int
    nattch: int = 0
    removed: bool = False


@dataclass(slots=True)
class KernelStack:
    """A kernel stack whose pages physmem built.

    Attributes:
        ks: Lowest address, above the guard.
        pages: Pages.
        resident: Its pages are wired and mapped; False: it was swapped out.
    """

    ks: int
    pages: int
    resident: bool = True


@dataclass(slots=True)
class SfBufMapping:
    """A processor-private mapping of an image page (struct sf_buf).

    Attributes:
        frame: The page, held.
        kva: Kernel address of a mapping from the pool; 0: the direct map serves.
    """

    frame: int
    kva: int = 0


@dataclass(slots=True, kw_only=True)
class Machine(Vm):
    """State of the physmem service.

    Attributes:
        kernel_map: The kernel's map; boot sets its bounds.
        arena: kernel_arena; boot sets its page size.
        kstack_guard_pages: KSTACK_GUARD_PAGES.
        kstack_max_pages: KSTACK_MAX_PAGES (vm_glue.c:314-316).
        no_swapping: NO_SWAPPING.
        spaces: Address spaces by id.
        ops: Sleeping operations by id.
        sleeps: Their sleeps.
        reads: Device reads that nobody has looked at since they ended, and those under way, by the pager's id.
        stacks: Kernel stacks by object id.
        sf_bufs: Live image mappings by id.
        files: Object of each mapped file, by name.
        shmsegs: System V segments by id.
        last_op: Last operation id; they count up, across all kinds.
        last_space: Last address space id.
        last_mapping: Last image mapping id.
        last_shmid: Last System V segment id.
    """

    kernel_map: VmMap = field(default_factory=lambda: VmMap(KERNEL_SPACE, 0, 0))
    arena: Arena = field(default_factory=lambda: Arena(0))
    kstack_guard_pages: int = 1
    kstack_max_pages: int = KSTACK_MAX_PAGES
    no_swapping: bool = False
    spaces: dict[int, VmSpace] = field(default_factory=dict)
    ops: dict[int, Operation] = field(default_factory=dict)
    sleeps: dict[int, Sleep] = field(default_factory=dict)
    reads: dict[int, PageRead] = field(default_factory=dict)
    stacks: dict[int, KernelStack] = field(default_factory=dict)
    sf_bufs: dict[int, SfBufMapping] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    shmsegs: dict[int, ShmSegment] = field(default_factory=dict)
    last_op: int = 0
    last_space: int = 0
    last_mapping: int = 0
    last_shmid: int = 0

    def space_map(self, vmspace: int) -> VmMap:
        """The map of an address space; 0 is kernel_map.

        Raises:
            Refused: No such address space.
        """
        return self.kernel_map if vmspace == 0 else self.space(vmspace).map

    def space(self, vmspace: int) -> VmSpace:
        """An address space.

        Raises:
            Refused: No such address space.
        """
        space = self.spaces.get(vmspace)
        if space is None:
            raise Refused(Reason.UNKNOWN_ID, "vmspace", vmspace, "an address space that lives")
        return space

    def new_op(self) -> int:
        """A fresh operation id."""
        self.last_op += 1
        return self.last_op

    def suspend(self, operation: Operation, sleep: Suspension, op: int = 0) -> Suspension:
        """Keep an operation under its id, or a new one, until its caller comes back with it."""
        sleep.op = op or self.new_op()
        self.ops[sleep.op] = operation
        self.sleeps[sleep.op] = Sleep.of(sleep, self.ctx)
        return sleep

    def resume(self, op: int, kind: type[AnyOperation]) -> AnyOperation:
        """Take a sleeping operation up again.

        Raises:
            Refused: Nothing of this kind sleeps under the id.
        """
        operation = self.ops.get(op)
        if not isinstance(operation, kind):
            raise Refused(Reason.UNKNOWN_ID, "op", op, "the id of a suspended operation of this method")
        self.forget(op)
        return operation

    def forget(self, op: int) -> None:
        """An operation sleeps no more."""
        del self.ops[op], self.sleeps[op]
