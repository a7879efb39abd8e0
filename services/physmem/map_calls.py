"""Calls of the physmem port on address spaces: maps, access checks, wiring, shared memory."""

from __future__ import annotations

from services.physmem import glue, inspect, sysv_shm, vm_mmap
from services.physmem.calls import MachineCalls
from services.physmem.map_ops import map_ops, validate
from services.physmem.ops import MapChangeOp, WireOp
from services.physmem.vm_map import vm_map_trylock, vm_map_unlock
from services.physmem.vmspace import vmspace_alloc, vmspace_fork, vmspace_free, vmspace_resident_count
from services.ports.common import Empty, Status, Suspension
from services.ports.physmem import (
    AccessCheck,
    AccessChecks,
    Errno,
    MapLocks,
    MapOp,
    MapResults,
    Replacement,
    ShmForked,
    ShmId,
    SpaceId,
    SpaceInfo,
    SpaceInfos,
    WiredRanges,
)
from services.runtime.errors import Reason, Refused
from services.runtime.events import Kind

_ONE_SPACE = "FREEBSD on a machine of more than one address space"


class MapCalls(MachineCalls):
    """Address spaces and what is done to their maps; see PhysmemPort for what each method answers."""

    def vmspace_alloc(self, min: int, max: int) -> SpaceId:
        """vmspace_alloc: an empty address space; max 0 means the architecture's user range."""
        arch = self.vm.arch
        low, high = (min, max) if max else (arch.user_min, arch.user_max)
        if low >= high or (low | high) & (arch.page_size - 1):
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "max", hex(high), "a page boundary above min")
        if self.vm.replacement is not Replacement.FREEBSD and self.vm.spaces:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "replacement", self.vm.replacement.name, _ONE_SPACE)
        return self._done(SpaceId(vmspace_alloc(self.vm, low, high).map.id))

    def vmspace_fork(self, vmspace: int) -> SpaceId:
        """vmspace_fork: a copy, written pages shared copy on write; ENOMEM if wired pages cannot be copied."""
        parent = self.vm.space(vmspace)
        if self.vm.replacement is not Replacement.FREEBSD:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "replacement", self.vm.replacement.name, _ONE_SPACE)
        child = vmspace_fork(self.vm, parent.map)
        return self._done(SpaceId(child.map.id) if child else SpaceId(0, glue.ENOMEM))

    def vmspace_ref(self, vmspace: int) -> SpaceInfo:
        """vm_refcnt++ (vm_glue.c:645-648, RFMEM)."""
        self.vm.space(vmspace).refcnt += 1
        return inspect.space_info(self.vm, vmspace)

    def vmspace_free(self, vmspaces: list[int]) -> Empty:
        """vmspace_free: drop one reference of each; the last one removes all mappings."""
        spaces = [self.vm.space(vmspace) for vmspace in vmspaces]
        for vmspace, space in zip(vmspaces, spaces, strict=True):
            if vmspaces.count(vmspace) > space.refcnt:
                raise Refused(Reason.UNKNOWN_ID, "vmspaces", vmspace, f"at most {space.refcnt} references")
        for space in spaces:
            vmspace_free(self.vm, space)
        return self._done(Empty())

    def vmspace_info(self, vmspaces: list[int]) -> SpaceInfos:
        """vmspace_resident_count and other figures."""
        return SpaceInfos([inspect.space_info(self.vm, vmspace) for vmspace in vmspaces])

    def map_ops(self, vmspace: int, ops: list[MapOp], op: int) -> MapResults:
        """Change an address map; vmspace 0 is kernel_map. `op` resumes a sleeping request."""
        vm = self.vm
        validate(vm, ops)
        map_ = vm.space_map(vmspace)
        change = vm.resume(op, MapChangeOp) if op else MapChangeOp(vmspace, ops)
        sleep = map_ops(vm, map_, change)
        if sleep is None:
            return self._done(MapResults(results=change.results))
        return self._done(MapResults(Status.SUSPENDED, vm.suspend(change, sleep, op), list(change.results)))

    def wired_ranges(self, vmspace: int) -> WiredRanges:
        """Wirings of an address map, the system's and the program's."""
        return WiredRanges(inspect.wired_ranges(self.vm.space_map(vmspace)))

    def vm_map_trylock(self, vmspaces: list[int]) -> MapLocks:
        """Try to lock maps exclusively, in order; also tells their resident pages."""
        maps = [self.vm.space_map(vmspace) for vmspace in vmspaces]
        locked = [vm_map_trylock(map_) for map_ in maps]
        return self._done(MapLocks(locked, [vmspace_resident_count(self.vm, map_) for map_ in maps]))

    def vm_map_unlock(self, vmspaces: list[int]) -> Empty:
        """Unlock maps that trylock locked."""
        for map_ in [self.vm.space_map(vmspace) for vmspace in vmspaces]:
            vm_map_unlock(self.vm, map_)
        return self._done(Empty())

    # vm_glue.c: access checks, wiring, image pages

    def kernacc(self, checks: list[AccessCheck]) -> AccessChecks:
        """kernacc (vm_glue.c:120-143) for each check."""
        vm = self.vm
        return AccessChecks([glue.kernacc(vm, vm.kernel_map, check.addr, check.len, check.rw) for check in checks])

    def useracc(self, vmspace: int, checks: list[AccessCheck]) -> AccessChecks:
        """useracc (vm_glue.c:154-176) for each check, against the map of the current process."""
        map_ = self.vm.space(vmspace).map
        return AccessChecks([glue.useracc(self.vm, map_, check.addr, check.len, check.rw) for check in checks])

    def vslock(self, vmspace: int, addr: int, len: int, op: int) -> Errno:
        """vslock (vm_glue.c:178-213): wire user pages; EINVAL, ENOMEM, EFAULT or 0."""
        vm = self.vm
        map_ = vm.space(vmspace).map
        wire = vm.resume(op, WireOp) if op else WireOp(vmspace, addr, len)
        result = glue.vslock(vm, map_, addr, len, wire)
        return self._wired(wire, result, op, Kind.VSLOCK, (vmspace, addr, len))

    def vsunlock(self, vmspace: int, addr: int, len: int) -> Empty:
        """vsunlock (vm_glue.c:215-223)."""
        glue.vsunlock(self.vm, self.vm.space(vmspace).map, addr, len)
        return self._done(Empty())

    # vm_mmap.c: wiring by programs

    def mlock(self, vmspace: int, addr: int, len: int, memlock: int, op: int) -> Errno:
        """vm_mlock: wire pages for the program, within RLIMIT_MEMLOCK (bytes); EINVAL, ENOMEM, EAGAIN or 0."""
        vm = self.vm
        map_ = vm.space(vmspace).map
        wire = vm.resume(op, WireOp) if op else WireOp(vmspace, addr, len, user=True)
        result = vm_mmap.vm_mlock(vm, map_, addr, len, memlock, wire)
        return self._wired(wire, result, op, Kind.MLOCK, (vmspace, addr, len))

    def munlock(self, vmspace: int, addr: int, len: int) -> Errno:
        """sys_munlock: take the program's wiring off a range; EINVAL, ENOMEM or 0."""
        error = vm_mmap.sys_munlock(self.vm, self.vm.space(vmspace).map, addr, len)
        self.vm.ctx.event(Kind.MUNLOCK, vmspace, addr, len, error)
        return self._done(Errno(error=error))

    def mlockall(self, vmspace: int, how: int, memlock: int, op: int) -> Errno:
        """sys_mlockall: wire what is mapped (MCL_CURRENT 1), will be (MCL_FUTURE 2); EINVAL, ENOMEM, EAGAIN or 0."""
        vm = self.vm
        map_ = vm.space(vmspace).map
        wire = vm.resume(op, WireOp) if op else WireOp(vmspace, 0, 0, user=True)
        result = vm_mmap.sys_mlockall(vm, map_, how, memlock, wire)
        return self._wired(wire, result, op, Kind.MLOCKALL, (vmspace, how, memlock))

    def munlockall(self, vmspace: int) -> Errno:
        """sys_munlockall: take all wirings of the program off, and wire nothing in future; ENOMEM or 0."""
        error = vm_mmap.sys_munlockall(self.vm, self.vm.space(vmspace).map)
        self.vm.ctx.event(Kind.MUNLOCKALL, vmspace, error)
        return self._done(Errno(error=error))

    # sysv_shm.c

    def shmget(self, key: int, size: int, flags: int) -> ShmId:
        """kern_shmget: the System V segment of a key, made with IPC_CREAT 01000 (IPC_EXCL 02000) or for key 0."""
        found = sysv_shm.shmget(self.vm, key, size, flags)
        self.vm.ctx.event(Kind.SHMGET, found.shmid, key, size, found.error)
        return self._done(found)

    def shmat(self, vmspace: int, shmid: int, addr: int, flags: int) -> Errno:
        """kern_shmat: map a segment at an address (SHM_RDONLY 010000, SHM_RND 020000); EINVAL, EMFILE, ENOMEM or 0."""
        error = sysv_shm.shmat(self.vm, self.vm.space(vmspace), shmid, addr, flags)
        self.vm.ctx.event(Kind.SHMAT, vmspace, shmid, addr, error)
        return self._done(Errno(error=error))

    def shmdt(self, vmspace: int, addr: int, op: int) -> Errno:
        """kern_shmdt: unmap the segment that is attached at an address; EINVAL or 0."""
        vm = self.vm
        space = vm.space(vmspace)
        change = vm.resume(op, MapChangeOp) if op else MapChangeOp(vmspace, [])
        error = sysv_shm.shmdt(vm, space, addr, change)
        if isinstance(error, Suspension):
            return self._done(Errno(Status.SUSPENDED, vm.suspend(change, error, op)))
        vm.ctx.event(Kind.SHMDT, vmspace, addr, error)
        return self._done(Errno(error=error))

    def shmctl_rmid(self, shmid: int) -> Errno:
        """kern_shmctl with IPC_RMID: the last detachment frees the segment; EINVAL or 0."""
        return self._done(Errno(error=sysv_shm.shmctl_rmid(self.vm, shmid)))

    def shmfork(self, parent: int, child: int) -> ShmForked:
        """shmfork (vm_glue.c:656-657): a child has attached what its parent has."""
        return self._done(ShmForked(sysv_shm.shmfork(self.vm, self.vm.space(parent), self.vm.space(child))))
