"""System V shared memory (sysv_shm.c): segments, their attachments, and what fork and exit do to these."""

from __future__ import annotations

from services.physmem.glue import EINVAL, ENOMEM, round_page
from services.physmem.machine import Machine, ShmSegment, VmSpace
from services.physmem.map_ops import map_ops
from services.physmem.ops import MapChangeOp
from services.physmem.state import NOTHING, OBJ_NOSPLIT, ObjectType
from services.physmem.swap_reserve import swap_reserve
from services.physmem.vm_map import VM_INHERIT_SHARE, VM_PROT_READ, VM_PROT_WRITE, VmMapEntry, vm_map_insert
from services.physmem.vm_object import vm_object_allocate, vm_object_deallocate, vm_object_reference
from services.ports.common import Suspension
from services.ports.physmem import KernReturn, MapOp, MapOpKind, ShmId

ENOENT, EEXIST, EMFILE, ENOSPC = 2, 17, 24, 28
IPC_PRIVATE, IPC_CREAT, IPC_EXCL = 0, 0o1000, 0o2000
SHM_RDONLY, SHM_RND = 0o10000, 0o20000
SHMMIN, SHMMNI, SHMSEG, SHMALL = 1, 192, 128, 131_072
"""kern.ipc.shmmin (bytes), shmmni (segments), shmseg (attachments of a process), shmall (pages of all segments)."""


def shmget(vm: Machine, key: int, size: int, flags: int) -> ShmId:
    """kern_shmget: the segment of a key; a new one for IPC_PRIVATE, and with IPC_CREAT for a new key.

    Returns:
        Its id, or ENOENT: no such key; EEXIST: there is, and IPC_EXCL; EINVAL: no such size, or it is larger than the
        segment; ENOSPC: too many segments; ENOMEM: too many pages in them, or no swap for it.
    """
    found = next((id_ for id_, seg in vm.shmsegs.items() if seg.key == key and key != IPC_PRIVATE), None)
    if found is None:
        if key != IPC_PRIVATE and not flags & IPC_CREAT:
            return ShmId(error=ENOENT)
        return _shmget_allocate_segment(vm, key, size)
    if flags & IPC_CREAT and flags & IPC_EXCL:
        return ShmId(error=EEXIST)
    return ShmId(error=EINVAL) if size > vm.shmsegs[found].size else ShmId(found)


def _shmget_allocate_segment(vm: Machine, key: int, size: int) -> ShmId:
    """shmget_allocate_segment: a segment with an object of its own, which nobody has attached so far."""
    shift = vm.arch.page_shift
    if not SHMMIN <= size <= SHMALL << shift:
        return ShmId(error=EINVAL)
    if len(vm.shmsegs) >= SHMMNI:
        return ShmId(error=ENOSPC)
    pages = -(-size >> shift)
    if sum(-(-seg.size >> shift) for seg in vm.shmsegs.values()) + pages > SHMALL:
        return ShmId(error=ENOMEM)
    if not swap_reserve(vm, pages << shift):
        return ShmId(error=ENOMEM)
    obj = vm_object_allocate(vm, ObjectType.DEFAULT, pages)
    obj.charged, obj.charge = True, pages << shift
    obj.flags = OBJ_NOSPLIT
    vm.last_shmid += 1
    vm.shmsegs[vm.last_shmid] = ShmSegment(key, size, obj.id)
    return ShmId(vm.last_shmid)


def shmat(vm: Machine, space: VmSpace, shmid: int, addr: int, flags: int) -> int:
    """kern_shmat: map a segment at an address, shared with children; SHM_RND rounds the address down to a page.

    Returns:
        0, EINVAL: no such segment, or no page boundary; EMFILE: too many attachments; ENOMEM: the range is taken.
    """
    mask = vm.arch.page_size - 1
    if flags & SHM_RND:
        addr &= ~mask
    if shmid not in vm.shmsegs:
        return EINVAL
    if len(space.vm_shm) >= SHMSEG:
        return EMFILE
    if addr & mask:
        return EINVAL
    seg = vm.shmsegs[shmid]
    prot = VM_PROT_READ if flags & SHM_RDONLY else VM_PROT_READ | VM_PROT_WRITE
    obj = vm.objects[seg.object]
    vm_object_reference(vm, obj)
    end = addr + round_page(vm, seg.size)
    entry = VmMapEntry(addr, end, seg.object, protection=prot, max_protection=prot, inheritance=VM_INHERIT_SHARE)
    if vm_map_insert(vm, space.map, entry) != KernReturn.SUCCESS:
        vm_object_deallocate(vm, obj)
        return ENOMEM
    space.vm_shm = {**space.vm_shm, addr: shmid}
    seg.nattch += 1
    return 0


def shmdt(vm: Machine, space: VmSpace, addr: int, change: MapChangeOp) -> int | Suspension:
    """kern_shmdt: take a segment out of the map again (shm_delete_mapping).

    Args:
        vm: The machine.
        space: The address space.
        addr: Where it was attached.
        change: The removal, fresh or one that slept; a fresh one has no operations.

    Returns:
        0, EINVAL: nothing is attached there; or the sleep.
    """
    if addr not in space.vm_shm:
        return EINVAL
    size = round_page(vm, vm.shmsegs[space.vm_shm[addr]].size)
    change.ops = change.ops or [MapOp(MapOpKind.REMOVE, addr, size)]
    sleep = map_ops(vm, space.map, change)
    if sleep is not None:
        return sleep
    shmid = space.vm_shm[addr]
    space.vm_shm = {at: other for at, other in space.vm_shm.items() if at != addr} or NOTHING
    _detached(vm, shmid)
    return 0


def shmctl_rmid(vm: Machine, shmid: int) -> int:
    """kern_shmctl with IPC_RMID: nobody finds the segment any more, and its last detachment frees it; 0 or EINVAL."""
    if shmid not in vm.shmsegs:
        return EINVAL
    seg = vm.shmsegs[shmid]
    seg.key, seg.removed = IPC_PRIVATE, True
    if seg.nattch == 0:
        _shm_deallocate_segment(vm, shmid)
    return 0


def shmfork(vm: Machine, parent: VmSpace, child: VmSpace) -> int:
    """shmfork: what the parent has attached the child has as well; vmspace_fork has shared the mappings.

    Returns:
        Attached segments.
    """
    child.vm_shm = dict(parent.vm_shm)
    for shmid in child.vm_shm.values():
        vm.shmsegs[shmid].nattch += 1
    return len(child.vm_shm)


def shmexit(vm: Machine, space: VmSpace) -> None:
    """shmexit: an address space goes away with all its attachments; its mappings go with it."""
    for shmid in space.vm_shm.values():
        _detached(vm, shmid)
    space.vm_shm = NOTHING


def _detached(vm: Machine, shmid: int) -> None:
    seg = vm.shmsegs[shmid]
    seg.nattch -= 1
    if seg.nattch == 0 and seg.removed:
        _shm_deallocate_segment(vm, shmid)


def _shm_deallocate_segment(vm: Machine, shmid: int) -> None:
    """shm_deallocate_segment: the object goes once no mapping refers to it."""
    vm_object_deallocate(vm, vm.objects[vm.shmsegs.pop(shmid).object])
