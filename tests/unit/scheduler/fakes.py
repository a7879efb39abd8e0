"""Fakes of the layers below the scheduler: in memory, no more than the ports say."""
# ruff: noqa: ARG002 - a fake has the parameters of its port

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from hardware_sim.clock import initial_ticks
from services.ports.common import Empty, Status, Suspension
from services.ports.kstack import (
    KstackPort,
    NewStack,
    NewStacks,
    StackState,
    StackStates,
    StackUse,
    SwappedIn,
)
from services.ports.physmem import (
    AccessChecks,
    Errno,
    IcacheSync,
    IdleScans,
    KernReturn,
    MapLocks,
    MapResults,
    PageoutBegin,
    PageoutResult,
    PagesNeeded,
    PhysmemPort,
    Pins,
    ResidentCounts,
    SfBuf,
    ShmForked,
    ShmId,
    SpaceId,
    SpaceInfo,
    SpaceInfos,
)
from services.ports.scheduler import SchedulerBoot
from services.runtime.context import Context
from services.scheduler.core import SchedulerCore

HZ = 1000
V_FREE_COUNT = "vm.stats.vm.v_free_count"


@dataclass
class FakePhysmem:
    """Address spaces as reference counts, memory as a few counters, calls as a list."""

    ctx: Context
    counters: dict[str, int] = field(
        default_factory=lambda: {V_FREE_COUNT: 1000, "vm.stats.vm.v_free_min": 100, "vm.v_free_severe": 50}
    )
    refs: dict[int, int] = field(default_factory=dict)
    locked: set[int] = field(default_factory=set)
    resident: int = 7
    calls: list[tuple[str, Any]] = field(default_factory=list)
    last_vmspace: int = 0
    segments: set[int] = field(default_factory=set)
    last_io: int = 0
    header: bytes = b"\x7fELF"
    map_result: KernReturn = KernReturn.SUCCESS
    reads: bool = False
    """Image pages are read from the disk."""
    waiting: dict[int, str] = field(default_factory=dict)
    """Channel of each device operation."""
    needed: bool = False
    lowmem: bool = False
    swap_request: int = 0
    oom: int = 0
    access_ok: bool = True
    sizes: dict[int, int] = field(default_factory=dict)
    limits: list[int] = field(default_factory=list)
    """Pages that map_deactivate was to leave."""
    swap_counts: dict[int, int] = field(default_factory=dict)
    no_vmspace: bool = False
    sleepy: set[str] = field(default_factory=set)
    """Methods that sleep once, for a page."""

    def _sleeps(self, method: str) -> Suspension | None:
        if method not in self.sleepy:
            return None
        self.sleepy.remove(method)
        return self.start_io(f"page:{method}", 1000)

    def read_counters(self, service: str, names: Sequence[str]) -> dict[str, int]:
        assert service == "physmem"
        return {name: self.counters.get(name, 0) for name in names}

    def start_io(self, channel: str, after_us: int) -> Suspension:
        """A read that ends later: what a suspended operation waits for."""
        self.last_io += 1
        self.waiting[self.last_io] = channel
        self.ctx.io_started(self.last_io, self.ctx.now_us + after_us)
        return Suspension(self.last_io, channel, 84, "swread", 0)

    def complete_io(self, ios: list[int]) -> Empty:
        self.calls.append(("complete_io", list(ios)))
        for io in ios:
            self.ctx.wakeup(self.waiting.pop(io))
        return Empty()

    def vmspace_alloc(self, min: int, max: int) -> SpaceId:
        if self.no_vmspace:
            return SpaceId(0, 12)
        self.last_vmspace += 1
        self.refs[self.last_vmspace] = 1
        return SpaceId(self.last_vmspace)

    def vmspace_fork(self, vmspace: int) -> SpaceId:
        assert self.refs[vmspace] > 0
        return self.vmspace_alloc(0, 0)

    def vmspace_ref(self, vmspace: int) -> SpaceInfo:
        self.refs[vmspace] += 1
        return SpaceInfo(vmspace, self.refs[vmspace])

    def vmspace_free(self, vmspaces: list[int]) -> Empty:
        for vmspace in vmspaces:
            assert self.refs[vmspace] > 0
            self.refs[vmspace] -= 1
        return Empty()

    def vmspace_info(self, vmspaces: list[int]) -> SpaceInfos:
        return SpaceInfos(
            [SpaceInfo(v, self.refs[v], self.sizes.get(v, 1), swap_count=self.swap_counts.get(v, 0)) for v in vmspaces]
        )

    def map_ops(self, vmspace: int, ops: list[Any], op: int) -> MapResults:
        if (asleep := self._sleeps("map_ops")) is not None:
            return MapResults(Status.SUSPENDED, asleep)
        self.calls.append(("map_ops", (vmspace, [(o.kind.name, o.start, o.size) for o in ops])))
        return MapResults(results=[self.map_result] * len(ops))

    def useracc(self, vmspace: int, checks: list[Any]) -> AccessChecks:
        self.calls.append(("useracc", (vmspace, checks[0].addr, checks[0].len)))
        return AccessChecks([self.access_ok] * len(checks))

    def vslock(self, vmspace: int, addr: int, len: int, op: int) -> Errno:
        if (asleep := self._sleeps("vslock")) is not None:
            return Errno(Status.SUSPENDED, asleep)
        self.calls.append(("vslock", (addr, len)))
        return Errno(error=0 if self.access_ok else 14)

    def vsunlock(self, vmspace: int, addr: int, len: int) -> Empty:
        self.calls.append(("vsunlock", (addr, len)))
        return Empty()

    def mlock(self, vmspace: int, addr: int, len: int, memlock: int, op: int) -> Errno:
        if (asleep := self._sleeps("mlock")) is not None:
            return Errno(Status.SUSPENDED, asleep)
        self.calls.append(("mlock", (addr, len, memlock)))
        return Errno()

    def munlock(self, vmspace: int, addr: int, len: int) -> Errno:
        self.calls.append(("munlock", (addr, len)))
        return Errno()

    def mlockall(self, vmspace: int, how: int, memlock: int, op: int) -> Errno:
        self.calls.append(("mlockall", (how, memlock)))
        return Errno()

    def munlockall(self, vmspace: int) -> Errno:
        self.calls.append(("munlockall", ()))
        return Errno()

    def shmget(self, key: int, size: int, flags: int) -> ShmId:
        self.calls.append(("shmget", (key, size, flags)))
        return ShmId(7) if flags or key in self.segments else ShmId(error=2)

    def shmat(self, vmspace: int, shmid: int, addr: int, flags: int) -> Errno:
        self.calls.append(("shmat", (shmid, addr)))
        return Errno()

    def shmdt(self, vmspace: int, addr: int, op: int) -> Errno:
        if (asleep := self._sleeps("shmdt")) is not None:
            return Errno(Status.SUSPENDED, asleep)
        self.calls.append(("shmdt", (addr,)))
        return Errno()

    def shmctl_rmid(self, shmid: int) -> Errno:
        self.calls.append(("shmctl_rmid", (shmid,)))
        return Errno()

    def shmfork(self, parent: int, child: int) -> ShmForked:
        self.calls.append(("shmfork", (parent, child)))
        return ShmForked(len(self.segments))

    def vm_sync_icache(self, vmspace: int, va: int, sz: int) -> IcacheSync:
        self.calls.append(("vm_sync_icache", (vmspace, va, sz)))
        return IcacheSync(vmspace, va, sz)

    def vm_imgact_map_page(self, file: str, file_pages: int, offset: int, pins: int, op: int) -> SfBuf:
        self.calls.append(("vm_imgact_map_page", (file, op)))
        if self.reads and op == 0:
            return SfBuf(Status.SUSPENDED, self.start_io(f"page:{file}", 5000))
        return SfBuf(mapping=1, pins=pins + 1, header=self.header)

    def vm_imgact_unmap_page(self, mapping: int, pins: int) -> Pins:
        return Pins(pins - 1)

    def vm_map_trylock(self, vmspaces: list[int]) -> MapLocks:
        self.calls.append(("vm_map_trylock", list(vmspaces)))
        return MapLocks([v not in self.locked for v in vmspaces], [self.resident] * len(vmspaces))

    def vm_map_unlock(self, vmspaces: list[int]) -> Empty:
        self.calls.append(("vm_map_unlock", list(vmspaces)))
        return Empty()

    def vm_wait(self) -> Suspension:
        self.needed = True
        self.ctx.upcalls.pagedaemon_wanted = True
        return Suspension(0, "v_free_count", 84, "vmwait", 0)

    def pageout_wait_test(self) -> PagesNeeded:
        return PagesNeeded(self.needed)

    def pageout_begin(self, pass_: int) -> PageoutBegin:
        return PageoutBegin(self.lowmem)

    def pageout_scan(self, pass_: int) -> PageoutResult:
        self.calls.append(("pageout_scan", pass_))
        self.ctx.upcalls.swap_request |= self.swap_request
        self.ctx.upcalls.oom |= self.oom if pass_ > 1 else 0
        return PageoutResult(cost_us=10)

    def pageout_idle(self, until_us: int, lag_us: int, requests: bool) -> IdleScans:
        self.calls.append(("pageout_scan", 0))
        return IdleScans([10], [self.swap_request])

    def map_deactivate(self, limits: list[Any]) -> ResidentCounts:
        self.calls.append(("map_deactivate", [limit.vmspace for limit in limits]))
        self.limits += [limit.pages for limit in limits]
        return ResidentCounts([0] * len(limits))

    def free_memory(self, pages: int) -> None:
        """Memory was freed: enough to end the shortage."""
        self.counters[V_FREE_COUNT] = pages
        self.needed = False
        self.ctx.wakeup("v_free_count")

    def named(self, name: str) -> list[Any]:
        """Arguments of the calls of one method."""
        return [args for called, args in self.calls if called == name]


@dataclass
class FakeKstack:
    """Stacks as addresses; registers as they were saved."""

    ctx: Context
    physmem: FakePhysmem
    stacks: dict[int, int] = field(default_factory=dict)
    saved: dict[int, bytes] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    kva: int = 1 << 40
    no_kva: bool = False
    short_of_memory: bool = False
    """The first attempt to build a stack sleeps for memory."""
    read_us: int = 0
    """Time that a swap-in reads from the disk; 0: the pages are still there."""
    forget: bool = False
    """A swapped-in stack comes back with other contents."""

    def vm_thread_new(self, threads: list[Any], op: int) -> NewStacks:
        if self.short_of_memory and op == 0:
            return NewStacks(Status.SUSPENDED, self.physmem.start_io("v_free_count", 2000))
        self.calls.append(("vm_thread_new", [t.tid for t in threads]))
        made = []
        for thread in threads:
            if self.no_kva:
                made.append(NewStack())
                continue
            self.kva += 0x5000
            self.stacks[thread.tid] = self.kva
            made.append(NewStack(True, len(self.stacks), self.kva, 4))
        return NewStacks(stacks=made)

    def vm_thread_dispose(self, tids: list[int]) -> Empty:
        self.calls.append(("vm_thread_dispose", tids))
        for tid in tids:
            del self.stacks[tid]
        return Empty()

    def vm_thread_stack_lowmem(self) -> Empty:
        self.calls.append(("lowmem", None))
        return Empty()

    def vm_thread_swapout(self, threads: list[Any]) -> Empty:
        self.calls.append(("vm_thread_swapout", [t.tid for t in threads]))
        for thread in threads:
            assert thread.tid not in self.saved, "swapped out twice"
            self.saved[thread.tid] = thread.pcb
        return Empty()

    def vm_thread_swapin(self, threads: list[Any], op: int) -> SwappedIn:
        self.calls.append(("vm_thread_swapin", ([t.tid for t in threads], op)))
        if self.read_us and op == 0:
            return SwappedIn(Status.SUSPENDED, self.physmem.start_io(f"page:{threads[0].tid}", self.read_us))
        return SwappedIn(pcbs=[b"other" if self.forget else self.saved.pop(t.tid) for t in threads])

    def intr_prof_stack_use(self, samples: list[Any]) -> StackUse:
        self.calls.append(("intr_prof_stack_use", [(s.td_kstack, s.sp) for s in samples]))
        return StackUse([0] * len(samples))

    def stack_states(self, with_freed: bool) -> StackStates:
        rows = [StackState(i, "in_use", 4, tid, 0, ks) for i, (tid, ks) in enumerate(self.stacks.items())]
        return StackStates(rows)

    def named(self, name: str) -> list[Any]:
        """Arguments of the calls of one method."""
        return [args for called, args in self.calls if called == name]


@dataclass
class Machine:
    """A scheduler over fakes."""

    ctx: Context
    physmem: FakePhysmem
    kstack: FakeKstack
    core: SchedulerCore


def machine(**config: Any) -> Machine:
    """A booted scheduler over fakes; `config` are fields of SchedulerBoot."""
    ctx = Context("scheduler", inject_permitted=True)
    physmem = FakePhysmem(ctx)
    kstack = FakeKstack(ctx, physmem)
    ctx.read_counters = physmem.read_counters
    core = SchedulerCore(ctx, cast("PhysmemPort", physmem), cast("KstackPort", kstack))
    core.boot(SchedulerBoot(**({"hz": HZ, "start_ticks": initial_ticks(HZ), "allow_inject": True} | config)))
    ctx.booted = True
    return Machine(ctx, physmem, kstack, core)
