"""The physmem core: every method of the port over the state of one machine."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from hardware_sim.arch import Arch
from hardware_sim.arch import arch as arch_named
from hardware_sim.mmu import U64Array
from services.physmem import checkpoint, glue, inspect, kstack_pages, situation, vm_pageout
from services.physmem.access import access
from services.physmem.checks import check_maps, digest_maps
from services.physmem.imgact import (
    HEADER_BYTES,
    held_pages,
    hold_pages,
    vm_imgact_map_page,
    vm_imgact_unmap_page,
    vnode_object,
)
from services.physmem.kept_runs import KeptRuns
from services.physmem.kmem import kmem_check, kmem_read, kmem_write
from services.physmem.machine import KSTACK_MAX_PAGES, Machine, VmSpace
from services.physmem.map_calls import MapCalls
from services.physmem.ops import (
    AccessOp,
    HoldPagesOp,
    ImgactOp,
    StackCreateOp,
    StackSwapinOp,
    SwapoffOp,
)
from services.physmem.page_checks import check_pages, digest_pages
from services.physmem.pmap import VM_PROT_READ, VM_PROT_WRITE, pmap_resident_count, tell_invalidations, vpn_of
from services.physmem.preemption import MemoryPreemption
from services.physmem.sf_buf import nsfbufs
from services.physmem.state import publish, vm_pager_flush
from services.physmem.suspended import suspended
from services.physmem.swapoff import swap_pager_swapoff
from services.physmem.sysctls import sysctl_get, sysctl_set
from services.physmem.vm_map import VmMap
from services.physmem.vm_page import vm_page_unhold, vm_wait
from services.physmem.vm_pager import reads_finish, vm_page_lose
from services.physmem.vmem import Arena
from services.ports.common import (
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
from services.ports.pager import PagerPort
from services.ports.physmem import (
    Accessed,
    Errno,
    Evicted,
    HeldPages,
    IcacheSync,
    IdleScans,
    ImagePages,
    KmemData,
    KmemRange,
    KmemWrite,
    KvaFreed,
    ObjectsPages,
    PageoutBegin,
    PageoutResult,
    PagesNeeded,
    PageValid,
    PhysmemBoot,
    PhysmemBooted,
    Pins,
    Placed,
    PlacedFile,
    PlacedStack,
    ResidentCounts,
    RssLimit,
    SfBuf,
    StackPages,
    StacksBuilt,
    StacksIn,
    Stamps,
    SwapStack,
)
from services.runtime.checkpoint import Checkpoint
from services.runtime.context import Context
from services.runtime.errors import Reason, Refused
from services.runtime.preemption import PreemptStream, arm


class PhysmemCore(MapCalls):
    """Physical memory and MMU as a deterministic state machine; see PhysmemPort for what each method answers."""

    def __init__(self, ctx: Context, pager: PagerPort) -> None:
        self._ctx, self._pager = ctx, pager
        self._kept = KeptRuns()
        self._checkpoint = Checkpoint(ctx, checkpoint.registry(), lambda: checkpoint.take(self.vm), self._restore)

    def _restore(self, state: checkpoint.MachineState) -> None:
        self._install(checkpoint.restored(state, self._ctx, self._pager))

    def _install(self, vm: Machine) -> None:
        self.vm = vm
        arm(self._ctx, vm.preempt, MemoryPreemption(lambda: self.vm).possible)

    def boot(self, config: PhysmemBoot) -> PhysmemBooted:
        """Build memory anew; everything from before is dropped."""
        described = _known_arch(config.arch)
        if config.ram_pages < 1:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "ram_pages", config.ram_pages, "at least 1")
        if config.mips < 1:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "mips", config.mips, "at least 1")
        if config.ncpu < 1:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "ncpu", config.ncpu, "at least 1")
        self._kept.clear()
        self._ctx.reboot(config.hz, config.start_ticks, config.allow_inject, not config.without_invariants)
        vm = Machine.boot(self._ctx, self._pager, config.ram_pages, described, config.seed, config.mips)
        vm.kernel_map = VmMap(0, config.kernel_min or described.kernel_min, config.kernel_max or described.kernel_max)
        vm.arena = Arena(described.page_size)
        vm.sf_pool.nsfbufs = nsfbufs(described, config.ram_pages)
        guard = config.kstack_guard_pages
        vm.kstack_guard_pages = described.kstack_guard_pages if guard < 0 else guard
        vm.kstack_max_pages = config.kstack_max_pages or KSTACK_MAX_PAGES
        vm.no_swapping = config.no_swapping
        vm.tun.vm_swap_enabled = int(not config.no_swapping)
        vm.preempt = PreemptStream.seeded(config.preempt_seed, "physmem")
        vm.replacement = config.replacement
        vm.ncpu = config.ncpu
        self._install(vm)
        return self._done(PhysmemBooted(self.vm.cnt.v_page_count, self.vm.cnt.v_free_count))

    # Swap devices

    def swapon(self, device: int) -> Errno:
        """sys_swapon of one of the machine's swap devices: ENODEV, EBUSY or 0."""
        return self._done(Errno(error=self.vm.pager.swapon(device).error))

    def swapoff(self, device: int, op: int) -> Errno:
        """sys_swapoff: EINVAL, ENOMEM, or 0 once every page on the device has come in and the device is gone."""
        vm = self.vm
        if op:
            swapoff = vm.resume(op, SwapoffOp)
        else:
            swapoff = SwapoffOp(device)
            vm_pager_flush(vm)
            error = vm.pager.swapoff_begin(device, vm.cnt.v_free_count + vm.cnt.v_cache_count).error
            if error:
                return self._done(Errno(error=error))
        sleep = swap_pager_swapoff(vm, swapoff)
        if sleep is not None:
            return self._done(Errno(Status.SUSPENDED, vm.suspend(swapoff, sleep, op)))
        return self._done(Errno())

    # vm_glue.c: image pages

    def vm_imgact_hold_page(self, file: str, file_pages: int, offsets: list[int], op: int) -> HeldPages:
        """vm_imgact_hold_page (vm_glue.c:230-262): pin the pages at byte offsets of a file, read if need be."""
        vm = self.vm
        if op:
            hold = vm.resume(op, HoldPagesOp)
        else:
            obj = vnode_object(vm, file, file_pages).id
            hold = HoldPagesOp(obj, [ImgactOp(obj, offset >> vm.arch.page_shift) for offset in offsets])
        sleep = hold_pages(vm, hold)
        answer = held_pages(vm, hold)
        if sleep is not None:
            answer.status, answer.suspension = Status.SUSPENDED, vm.suspend(hold, sleep, op)
        return self._done(answer)

    def vm_page_unhold(self, pages: list[int]) -> Empty:
        """vm_page_unhold (vm_glue.c:291-293): give back what vm_imgact_hold_page pinned."""
        vm = self.vm
        for m in pages:
            if not 0 <= m < vm.pages.count:
                raise Refused(Reason.UNKNOWN_ID, "pages", m, f"a page, 0 to {vm.pages.count - 1}")
        for m in pages:
            vm_page_unhold(vm, m)
        return self._done(Empty())

    def vm_imgact_map_page(self, file: str, file_pages: int, offset: int, pins: int, op: int) -> SfBuf:
        """vm_imgact_map_page (vm_glue.c:230-278): pin the page at a byte offset of a file and map it."""
        vm = self.vm
        pindex = offset >> vm.arch.page_shift
        image = vm.resume(op, ImgactOp) if op else ImgactOp(vnode_object(vm, file, file_pages).id, pindex)
        mapping = vm_imgact_map_page(vm, image)
        if isinstance(mapping, Suspension):
            sleep = vm.suspend(image, mapping, op)
            return self._done(SfBuf(Status.SUSPENDED, sleep, pindex=pindex, pins=pins))
        if mapping == 0:
            return self._done(SfBuf(pindex=pindex, pins=pins, page_requests=image.page_requests))
        header = vm.ram.read(vm.sf_bufs[mapping].frame, 0, HEADER_BYTES)
        generation = vm.objects[image.object].replaced.get(pindex, 0)
        return self._done(
            SfBuf(
                mapping=mapping,
                pindex=pindex,
                pins=pins + 1,
                header=header,
                generation=generation,
                page_requests=image.page_requests,
            )
        )

    def vm_imgact_unmap_page(self, mapping: int, pins: int) -> Pins:
        """vm_imgact_unmap_page (vm_glue.c:283-294)."""
        if mapping not in self.vm.sf_bufs:
            raise Refused(Reason.UNKNOWN_ID, "mapping", mapping, "a mapping of vm_imgact_map_page that lives")
        vm_imgact_unmap_page(self.vm, mapping)
        return self._done(Pins(pins - 1))

    def vm_sync_icache(self, vmspace: int, va: int, sz: int) -> IcacheSync:
        """vm_sync_icache (vm_glue.c:296-301)."""
        return self._done(glue.vm_sync_icache(self.vm, self.vm.space_map(vmspace), va, sz))

    # References and devices

    def access(self, vmspace: int, runs: bytes, start: int, budget_us: int, phase: int, op: int) -> Accessed:
        """Issue packed runs of references from record `start` on, as a processor does to its MMU."""
        map_ = self.vm.space(vmspace).map
        if len(runs) % 8 or start > len(runs) // 8:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "start", start, "a record of `runs`, whole uint64 records")
        return self._issue(map_, np.frombuffer(runs, np.uint64), start, budget_us, phase, op)

    def access_kept(
        self, vmspace: int, name: str, runs: bytes, start: int, end: int, budget_us: int, phase: int, op: int
    ) -> Accessed:
        """`access` to the records from `start` up to `end` of kept runs; the answer counts from `start` on."""
        if runs:
            self._kept.keep(name, runs)
        return self._issue(self.vm.space(vmspace).map, self._kept.part(name, start, end), 0, budget_us, phase, op)

    def _issue(self, map_: VmMap, runs: U64Array, start: int, budget_us: int, phase: int, op: int) -> Accessed:
        """Issue references, or go on with the suspended operation `op` of the first of them."""
        vm = self.vm
        sleeping = vm.resume(op, AccessOp) if op else None
        answer = access(vm, map_, runs, start, budget_us, phase, sleeping.fault if sleeping else None, op)
        tell_invalidations(vm)
        publish(vm)  # freed swap blocks are told later: when they are is no matter of how references are cut
        return answer

    def complete_io(self, ios: list[int]) -> Empty:
        """Device operations that are due: pages become valid or clean, sleepers are woken (see upcalls)."""
        vm = self.vm
        for io in ios:
            if io not in vm.writes and (io not in vm.reads or vm.reads[io].status is not None):
                raise Refused(Reason.UNKNOWN_ID, "ios", io, "a device operation under way")
        if len(set(ios)) != len(ios):
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "ios", ios, "each operation once")
        reads = [io for io in ios if io in vm.reads]
        writes = [io for io in ios if io in vm.writes]
        if reads:
            reads_finish(vm, reads)
        if writes:
            vm_pageout.finish_write(vm, writes)
        return self._done(Empty())

    # Kernel stacks and kernel memory

    def stack_create(self, sizes: list[int], op: int) -> StacksBuilt:
        """Objects, kernel VA, wired pages and mappings of new stacks (vm_glue.c:353-408)."""
        vm = self.vm
        for size in sizes:
            if not 1 <= size <= self.vm.kstack_max_pages:
                raise Refused(Reason.FIELD_OUT_OF_RANGE, "sizes", size, f"1 to {self.vm.kstack_max_pages} pages")
        create = vm.resume(op, StackCreateOp) if op else StackCreateOp(sizes)
        sleep = kstack_pages.stack_create(vm, create)
        if sleep is None:
            return self._done(StacksBuilt(stacks=create.built))
        return self._done(StacksBuilt(Status.SUSPENDED, vm.suspend(create, sleep, op), list(create.built)))

    def stack_destroy(self, stacks: list[StackPages]) -> KvaFreed:
        """vm_thread_stack_dispose's page work (vm_glue.c:411-433)."""
        self._known_stacks(stacks)
        objects = [stack.obj for stack in stacks]
        if len(set(objects)) != len(objects):
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "stacks", objects, "each stack once")
        return self._done(KvaFreed(sum(kstack_pages.stack_destroy(self.vm, stack) for stack in stacks)))

    def stack_swapout(self, stacks: list[SwapStack]) -> Empty:
        """vm_thread_swapout's page work (vm_glue.c:542-564): save the PCB, unmap, dirty, unwire to inactive."""
        self._known_stacks([swap.stack for swap in stacks])
        for swap in stacks:
            kstack_pages.stack_swapout(self.vm, swap)
        return self._done(Empty())

    def stack_swapin(self, stacks: list[SwapStack], op: int) -> StacksIn:
        """vm_thread_swapin's page work (vm_glue.c:569-606)."""
        vm = self.vm
        self._known_stacks([swap.stack for swap in stacks])
        swapin = vm.resume(op, StackSwapinOp) if op else StackSwapinOp(stacks)
        sleep = kstack_pages.stack_swapin(vm, swapin)
        if sleep is None:
            return self._done(StacksIn(pcbs=swapin.pcbs, page_requests=swapin.page_requests))
        suspension = vm.suspend(swapin, sleep, op)
        return self._done(StacksIn(Status.SUSPENDED, suspension, page_requests=list(swapin.page_requests)))

    def _known_stacks(self, stacks: list[StackPages]) -> None:
        for stack in stacks:
            known = self.vm.stacks.get(stack.obj)
            if known is None or (known.ks, known.pages) != (stack.ks, stack.pages):
                raise Refused(Reason.UNKNOWN_ID, "stacks", stack, "the object, address and pages of a stack that lives")

    def kmem_write(self, writes: list[KmemWrite]) -> Empty:
        """Store to mapped kernel memory."""
        for write in writes:
            kmem_check(self.vm, write.addr, len(write.data), VM_PROT_WRITE)
        for write in writes:
            kmem_write(self.vm, write.addr, write.data)
        return self._done(Empty())

    def kmem_read(self, ranges: list[KmemRange]) -> KmemData:
        """Load from mapped kernel memory."""
        for entry in ranges:
            kmem_check(self.vm, entry.addr, entry.len, VM_PROT_READ)
        return KmemData([kmem_read(self.vm, entry.addr, entry.len) for entry in ranges])

    # Situations and faults

    def place(self, stacks: list[PlacedStack], files: list[PlacedFile], vmspaces: list[int]) -> Placed:
        """Build a situation: stacks and files with their pages, address spaces."""
        situation.allowed(self.vm, "stacks", len(stacks))
        return self._done(situation.place(self.vm, stacks, files, vmspaces))

    def set_page(self, file: str, pindex: int, valid: PageValid, dirty: bool) -> Empty:
        """The state of a resident page of a file changes."""
        vm = self.vm
        situation.allowed(vm, "file", file)
        if file not in vm.files:
            raise Refused(Reason.UNKNOWN_ID, "file", file, "a file that was opened")
        situation.set_valid(vm, self._resident(vm.files[file], pindex), valid, dirty)
        return self._done(Empty())

    def evict(self, obj: int, pindexes: list[int]) -> Evicted:
        """The page daemon takes pages of an object; what was dirty counts as written."""
        vm = self.vm
        situation.allowed(vm, "obj", obj)
        if obj not in vm.objects:
            raise Refused(Reason.UNKNOWN_ID, "obj", obj, "an object that lives")
        return self._done(Evicted(situation.evict(vm, vm.objects[obj], pindexes)))

    def lose_page(self, obj: int, pindex: int) -> Empty:
        """A fault: the page leaves its object (refused unless injection is allowed)."""
        situation.allowed(self.vm, "obj", obj)
        self._resident(obj, pindex)
        vm_page_lose(self.vm, self.vm.objects[obj], pindex)
        return self._done(Empty())

    def _resident(self, obj: int, pindex: int) -> int:
        """A resident page of an object."""
        found = self.vm.objects.get(obj)
        if found is None or pindex not in found.resident:
            raise Refused(Reason.UNKNOWN_ID, "pindex", pindex, f"a resident page of object {obj}")
        return found.resident[pindex]

    # The page daemon

    def vm_wait(self) -> Suspension:
        """VM_WAIT of a thread other than the page daemon: wakes the daemon and sleeps on v_free_count at PVM."""
        return self._done(vm_wait(self.vm))

    def pageout_wait_test(self) -> PagesNeeded:
        """The worker's test at the top of its loop: wake waiters, clear vm_pages_needed when there is enough."""
        return self._done(vm_pageout.pageout_wait_test(self.vm))

    def pageout_begin(self, pass_: int) -> PageoutBegin:
        """Start of vm_pageout_scan: is the vm_lowmem event due (first pass, once in vm.lowmem_period)?"""
        return self._done(vm_pageout.pageout_begin(self.vm, pass_))

    def pageout_scan(self, pass_: int) -> PageoutResult:
        """vm_pageout_scan: inactive scan with laundering, active scan, swap-out request (see upcalls)."""
        vm_pager_flush(self.vm)
        return self._done(vm_pageout.pageout_scan(self.vm, pass_))

    def pageout_idle(self, until_us: int, lag_us: int, requests: bool) -> IdleScans:
        """The page daemon's scans of pass 0 while nobody else runs, one a second, in one call."""
        return self._done(vm_pageout.pageout_idle(self.vm, until_us, lag_us, requests))

    def map_deactivate(self, limits: list[RssLimit]) -> ResidentCounts:
        """vm_pageout_map_deactivate_pages for each address space whose map can be locked."""
        vm = self.vm
        for space, limit in [(vm.space(limit.vmspace), limit) for limit in limits]:
            if not space.map.locked:
                _map_deactivate(vm, space, limit.pages)
        return self._done(ResidentCounts([pmap_resident_count(vm, limit.vmspace) for limit in limits]))

    # Inspection and control

    def vmspace_stamps(self, vmspace: int) -> Stamps:
        """Stamps of all anonymous pages that were ever written, wherever they are now; changes nothing."""
        return inspect.vmspace_stamps(self.vm, self.vm.space(vmspace).map)

    def object_pages(self, stacks: list[StackPages]) -> ObjectsPages:
        """State of the pages of kernel stacks, for inspection."""
        vm = self.vm
        return ObjectsPages([inspect.object_pages(vm, stack) for stack in stacks], len(vm.objects), vm.arena.in_use)

    def image_pages(self, files: list[str]) -> ImagePages:
        """State of the pages of image files, and their live mappings, for inspection."""
        return ImagePages([inspect.image_pages(self.vm, file) for file in files], inspect.image_mappings(self.vm))

    def suspended(self) -> SuspendedOperations:
        """Operations that sleep, and what for; changes nothing."""
        return suspended(self.vm)

    def sysctl_get(self) -> Settings:
        """All sysctls of this service."""
        return sysctl_get(self.vm)

    def sysctl_set(self, setting: Setting) -> Empty:
        """Set one."""
        sysctl_set(self.vm, setting)
        return self._done(Empty())

    def checkpoint_save(self, offset: int) -> CheckpointChunk:
        """A piece of this service's checkpoint."""
        return self._checkpoint.save(offset)

    def checkpoint_load(self, offset: int, size: int, data: bytes) -> Empty:
        """Take in a piece of a checkpoint."""
        return self._checkpoint.load(offset, size, data)

    def checkpoint_commit(self) -> Empty:
        """Go on from the checkpoint that was loaded."""
        return self._checkpoint.commit()

    def inject(self, script: list[Answers]) -> Empty:
        """Script answers of the kernel around the C code."""
        self._ctx.env.inject(script)
        return Empty()

    def digest(self) -> Digest:
        """Event chain, page state and contents of RAM."""
        log = self._ctx.log
        log.flush()
        state = blake2b(digest_pages(self.vm) + digest_maps(self.vm), digest_size=32).digest()
        return Digest(log.head, log.count, state)

    def check(self) -> Violations:
        """Compare the page array, queues, wirings, objects and the pmap with one another."""
        pages, pages_checked = check_pages(self.vm)
        maps, maps_checked = check_maps(self.vm)
        return Violations(pages + maps, pages_checked + maps_checked)

    def events(self, since: int, limit: int) -> EventChunk:
        """Recorded events from sequence number `since` on."""
        return self._ctx.event_chunk(since, limit)

    def counters(self) -> CounterValues:
        """The service's own counters."""
        return self._ctx.counter_values()

    def close(self) -> None:
        """Give memory back to the host."""
        if hasattr(self, "vm"):
            del self.vm


def _known_arch(name: str) -> Arch:
    try:
        return arch_named(name)
    except ValueError as error:
        raise Refused(Reason.FIELD_OUT_OF_RANGE, "arch", name, str(error)) from None


def _map_deactivate(vm: Machine, space: VmSpace, pages: int) -> None:
    """Bring an address space down to `pages` resident pages, its map locked meanwhile."""
    map_ = space.map
    map_.lock()
    objects = [vm.objects[entry.object] for entry in map_.entries if entry.object]
    wired = any(entry.wired_count for entry in map_.entries)
    first, end = vpn_of(vm, map_.min_offset), vpn_of(vm, map_.max_offset - 1) + 1
    vm_pageout.vm_pageout_map_deactivate_pages(vm, map_.id, objects, pages, wired, first, end)
