"""A toy core behind the kstack port: it shows what a binding does, and keeps no kernel's rules."""

from __future__ import annotations

from services.ports.common import (
    CheckpointChunk,
    Digest,
    Empty,
    IoStart,
    Setting,
    Settings,
    SuspendedOperations,
    Violations,
)
from services.ports.kstack import (
    DestroyedStacks,
    DisposedStack,
    DisposedStacks,
    KstackBoot,
    NewStack,
    NewStacks,
    StackUse,
)
from services.runtime.context import Context
from services.runtime.errors import KernelPanic, Reason, Refused, ServiceLost
from services.runtime.events import Kind


class ToyKstack:
    """Counts, records, wakes, refuses, panics and fails on request."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.clocks: list[tuple[str, int, int]] = []
        self.refusal: Refused

    def _seen(self, name: str) -> None:
        self.clocks.append((name, self.ctx.now_us, self.ctx.ticks))

    def boot(self, config: KstackBoot) -> Empty:
        self.ctx.reboot(config.hz, config.start_ticks, config.allow_inject)
        self.ctx.counters["vm.kstacks"] = 0
        return Empty()

    def vm_thread_new(self, threads, op) -> NewStacks:
        self._seen("vm_thread_new")
        for thread in threads:
            self.ctx.count("vm.kstacks")
            self.ctx.event(Kind.KSTACK_NEW, thread.tid, thread.pages)
        self.ctx.wakeup(f"op:{op}")
        self.ctx.upcalls.ios.append(IoStart(7, self.ctx.now_us + 5))
        stacks = [NewStack(ok=True, stack=thread.tid, td_kstack_pages=thread.pages) for thread in threads]
        return NewStacks(stacks=stacks, kstacks=self.ctx.counters["vm.kstacks"], cache_length=len(threads))

    def vm_thread_dispose(self, tids) -> DisposedStacks:
        if 404 in tids:
            raise Refused(Reason.UNKNOWN_ID, "tids[0]", 404, "a thread that lives")
        if 505 in tids:
            raise self.refusal
        return DisposedStacks([DisposedStack(tid, tid % 2 == 0) for tid in tids], 4096, 3, 2)

    def vm_thread_stack_dispose(self, stacks) -> DestroyedStacks:
        return DestroyedStacks(stacks)

    def vm_thread_stack_lowmem(self):
        raise KernelPanic("vm_thread_stack_dispose: kstack", "vm_thread_stack_dispose", 417)

    def vm_thread_swapout(self, *_) -> Empty:
        raise ServiceLost("physmem", "it did not answer in time")

    def vm_thread_swapin(self, *_):
        raise ZeroDivisionError("a secret of this process")

    def intr_prof_stack_use(self, *_) -> StackUse:
        self.ctx.counters["debug.max_kstack_used"] = 2**40
        return StackUse([2**40])

    def place(self, *_) -> Empty:
        return Empty()

    def lose_page(self, *_) -> Empty:
        return Empty()

    def stack_states(self, with_freed):
        self._seen("stack_states")
        if not with_freed:
            raise KernelPanic("a failed assertion of a call that only reads", "stack_states")
        raise Refused(Reason.QUOTA, "with_freed", with_freed, "fewer stacks")

    def suspended(self) -> SuspendedOperations:
        return SuspendedOperations([], 0)

    def sysctl_get(self) -> Settings:
        return Settings([Setting("vm.kstacks", -5)])

    def sysctl_set(self, setting) -> Empty:
        raise Refused(Reason.UNKNOWN_SYSCTL, "setting.name", setting.name, "one of these")

    def checkpoint_save(self, *_) -> CheckpointChunk:
        return CheckpointChunk(b"toy", 3)

    def checkpoint_load(self, *_) -> Empty:
        return Empty()

    def checkpoint_commit(self) -> Empty:
        return Empty()

    def inject(self, script) -> Empty:
        self.ctx.env.inject(script)
        return Empty()

    def digest(self) -> Digest:
        self.ctx.log.flush()
        return Digest(self.ctx.log.head, self.ctx.log.count, b"state")

    def check(self) -> Violations:
        return Violations(["kstacks: 1 is 2"], 9)

    def events(self, since, limit):
        return self.ctx.event_chunk(since, limit)

    def counters(self):
        return self.ctx.counter_values()
