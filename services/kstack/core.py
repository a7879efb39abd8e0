"""The kstack core: the port's methods over stack cache, stack swapping and usage profiling."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypeVar

from services.kstack.kstack_cache import KstackCache
from services.kstack.kstack_swap import KstackSwap
from services.kstack.preemption import StackPreemption
from services.kstack.stack_use import intr_prof_stack_use
from services.kstack.state import KSTACK_MAX_PAGES, PendingSwapin, Stack, State
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
from services.ports.kstack import (
    DestroyedStacks,
    DisposedStacks,
    KstackBoot,
    NewStacks,
    StackSample,
    StackState,
    StackStates,
    StackUse,
    SwappedIn,
    ThreadOnStack,
    ThreadPcb,
    ThreadStack,
)
from services.ports.physmem import PhysmemPort
from services.runtime.checkpoint import Checkpoint
from services.runtime.context import Context
from services.runtime.errors import Reason, Refused
from services.runtime.preemption import PreemptStream, arm
from services.runtime.sleeps import Sleep, suspended_operations
from services.runtime.snapshot import Registry

T = TypeVar("T")
_TIDS_TOLD_MAX = 4
_INT_MIN, _INT_MAX = -(1 << 31), (1 << 31) - 1


class KstackCore:
    """Kernel stacks: allocation, cache, low-memory drain, swap-out and swap-in, usage profiling.

    Injection may script `atomic_cmpset_int`: what another processor stores in max_kstack_used right before the
    compare-and-set of intr_prof_stack_use.
    """

    def __init__(self, ctx: Context, physmem: PhysmemPort) -> None:
        """Build an allocator that waits for its boot.

        Args:
            ctx: Its context.
            physmem: The memory below.
        """
        self._ctx, self._physmem = ctx, physmem
        self._begin(State())
        self._checkpoint = Checkpoint(ctx, Registry(State), lambda: self._state, self._begin)

    def boot(self, config: KstackBoot) -> Empty:
        """kstack_cache_init (vm_glue.c:482-490): start without stacks; the scheduler delivers vm_lowmem.

        Raises:
            Refused: A stack size or guard that no kernel is built with.
        """
        most = config.kstack_max_pages or KSTACK_MAX_PAGES
        if most < 1:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "kstack_max_pages", most, "1 or more; 0: 32")
        if not 1 <= config.kstack_pages <= most:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "kstack_pages", config.kstack_pages, f"1 to {most}")
        if config.kstack_guard_pages < 0:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "kstack_guard_pages", config.kstack_guard_pages, "0 or more")
        self._ctx.reboot(config.hz, config.start_ticks, config.allow_inject, not config.without_invariants)
        profiled, guard = not config.without_kstack_usage_prof, config.kstack_guard_pages
        preempt = PreemptStream.seeded(config.preempt_seed, "kstack")
        self._begin(State(config.kstack_pages, guard, most, profiled, config.no_swapping, preempt=preempt))
        names = ("cache_hits", "cache_misses", "lowmem_drains", "peak")
        self._ctx.counters.update({f"vmglue.kstack.{name}": 0 for name in names})
        self._publish()
        return Empty()

    def vm_thread_new(self, threads: list[ThreadStack], op: int) -> NewStacks:
        """vm_thread_new (vm_glue.c:323-409) for each thread; `op` resumes a sleeping request."""
        state = self._state
        if op:
            pending, sleep = self._cache.resume(_pending(state.pending_new, op))
        else:
            self._threads_without_stack(thread.tid for thread in threads)
            pending, sleep = self._cache.vm_thread_new(threads)
        suspension = self._suspend(state.pending_new, op, pending, sleep)
        if suspension is not None:
            self._ctx.env.preempt("vm_thread_new:401")
        self._publish()
        return NewStacks(_status(sleep), suspension, list(pending.answers), state.kstacks, len(state.cache))

    def vm_thread_dispose(self, tids: list[int]) -> DisposedStacks:
        """vm_thread_dispose (vm_glue.c:438-461) for each thread."""
        stacks = self._stacks_of(tids)
        answers, kva_bytes = self._cache.vm_thread_dispose(stacks)
        self._publish()
        return DisposedStacks(answers, kva_bytes, self._state.kstacks, len(self._state.cache))

    def vm_thread_stack_dispose(self, stacks: list[int]) -> DestroyedStacks:
        """vm_thread_stack_dispose (vm_glue.c:411-433) for each stack, by its label: destroyed, not cached."""
        found = [self._stack(label, "stacks") for label in stacks]
        for stack in found:
            if not (stack.tid and stack.complete) or stacks.count(stack.label) > 1:
                expected = "each stack once, of a thread whose vm_thread_new has returned"
                raise Refused(Reason.FIELD_OUT_OF_RANGE, "stacks", stack.label, expected)
        for stack in found:
            del self._state.threads[stack.tid]
        return self._destroyed(stacks, self._cache.vm_thread_stack_dispose(found))

    def vm_thread_stack_lowmem(self) -> DestroyedStacks:
        """vm_thread_stack_lowmem (vm_glue.c:463-480): destroy every cached stack."""
        return self._destroyed(*self._cache.vm_thread_stack_lowmem())

    def vm_thread_swapout(self, threads: list[ThreadPcb]) -> Empty:
        """vm_thread_swapout (vm_glue.c:542-564) for each thread."""
        self._built(not self._state.no_swapping, "vm_thread_swapout", "without NO_SWAPPING")
        self._stacks_of([thread.tid for thread in threads])
        self._swap.vm_thread_swapout(threads)
        return Empty()

    def vm_thread_swapin(self, threads: list[ThreadPcb], op: int) -> SwappedIn:
        """vm_thread_swapin (vm_glue.c:569-606) for each thread; `op` resumes a sleeping request."""
        self._built(not self._state.no_swapping, "vm_thread_swapin", "without NO_SWAPPING")
        table = self._state.pending_swapin
        if op:
            pending = _pending(table, op)
        else:
            self._stacks_of([thread.tid for thread in threads])
            pending = PendingSwapin(threads, below=0)
        answer, sleep = self._swap.vm_thread_swapin(pending)
        suspension = self._suspend(table, op, pending, sleep)
        return SwappedIn(_status(sleep), suspension, answer.pcbs, answer.page_requests)

    def intr_prof_stack_use(self, samples: list[StackSample]) -> StackUse:
        """intr_prof_stack_use (vm_glue.c:502-535) for each sample."""
        self._built(self._state.kstack_usage_prof, "intr_prof_stack_use", "with KSTACK_USAGE_PROF")
        used = []
        for sample in samples:
            intr_prof_stack_use(self._ctx, self._state, sample)
            used.append(self._state.max_kstack_used)
        self._publish()
        return StackUse(used)

    def lose_page(self, stack: int, page: int) -> Empty:
        """A fault: a page leaves the stack's object (refused unless injection is allowed)."""
        self._injection_allowed("stack", stack)
        found = self._stack(stack, "stack")
        if page >= found.pages:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "page", page, f"0 to {found.pages - 1}")
        return self._physmem.lose_page(found.obj, page)

    def place(self, threads: list[ThreadOnStack]) -> Empty:
        """Give threads stacks that physmem placed (refused unless injection is allowed); vm.kstacks counts them."""
        state = self._state
        self._injection_allowed("threads", len(threads))
        self._threads_without_stack(thread.tid for thread in threads)
        for thread in threads:
            placed = thread.stack
            state.last_label += 1
            stack = Stack(state.last_label, placed.pages, placed.obj, placed.ks, thread.tid)
            state.stacks[stack.label] = state.threads[thread.tid] = stack
            state.kstacks += 1
        self._publish()
        return Empty()

    def stack_states(self, with_freed: bool) -> StackStates:
        """The stacks and the cache, for inspection; of the freed ones the last 4,096."""
        state, cached = self._state, set(self._state.cache)
        stacks = [
            StackState(s.label, "cached" if s.label in cached else "in_use", s.pages, s.tid, s.obj, s.ks)
            for s in state.stacks.values()
        ]
        if with_freed:
            stacks += [StackState(s.label, "freed", s.pages, 0, s.obj, s.ks) for s in state.freed]
        return StackStates(sorted(stacks, key=lambda s: s.stack), state.cache[::-1], state.kstacks)

    def suspended(self) -> SuspendedOperations:
        """Operations that sleep, and what for; changes nothing."""
        state = self._state
        return suspended_operations(state.sleeps, map(self._about, sorted(state.sleeps)), self._ctx.hz)

    def _about(self, op: int) -> tuple[int, str, str]:
        """Id of a sleeping request, its function, and the threads that it is for."""
        new = self._state.pending_new.get(op)
        if new is not None:
            tids, function = [request.tid for request in new.requests], "vm_thread_new (vm_glue.c:323-409)"
        else:
            threads = self._state.pending_swapin[op].threads
            tids, function = [thread.tid for thread in threads], "vm_thread_swapin (vm_glue.c:569-606)"
        more = f" and {len(tids) - _TIDS_TOLD_MAX} more" if len(tids) > _TIDS_TOLD_MAX else ""
        return op, function, "thread " + ", ".join(map(str, tids[:_TIDS_TOLD_MAX])) + more

    def sysctl_get(self) -> Settings:
        """All sysctls of this service."""
        state = self._state
        profiled = [Setting("debug.max_kstack_used", state.max_kstack_used)] if state.kstack_usage_prof else []
        return Settings(
            [
                *profiled,
                Setting("kern.kstack_pages", state.kstack_pages),
                Setting("vm.kstack_cache_size", state.kstack_cache_size),
                Setting("vm.kstacks", state.kstacks),
            ]
        )

    def sysctl_set(self, setting: Setting) -> Empty:
        """Set one.

        Raises:
            Refused: No such sysctl, a read-only one, or more than a C int holds.
        """
        if setting.name != "vm.kstack_cache_size":
            raise Refused(
                Reason.UNKNOWN_SYSCTL, "name", setting.name, "vm.kstack_cache_size, the only one to write here"
            )
        if not _INT_MIN <= setting.value <= _INT_MAX:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "value", setting.value, f"a C int, {_INT_MIN} to {_INT_MAX}")
        self._state.kstack_cache_size = setting.value
        self._publish()
        return Empty()

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
        """Event chain and the allocator's state."""
        log, state = self._ctx.log, self._state
        log.flush()
        stacks = [(s.label, s.pages, s.obj, s.ks, s.tid, s.complete) for s in state.stacks.values()]
        numbers = (state.kstack_pages, state.kstack_guard_pages, state.kstack_cache_size, state.kstacks)
        more = (state.max_kstack_used, state.last_label, state.last_op, state.cache, sorted(stacks))
        pending = (state.pending_new, state.pending_swapin)
        return Digest(
            log.head, log.count, hashlib.blake2b(repr((numbers, more, pending)).encode(), digest_size=32).digest()
        )

    def check(self) -> Violations:
        """Compare live and cached stacks with kstacks and with the records in kernel memory."""
        state = self._state
        found = self._cache.damaged() if state.cache else []
        live, cached = len(state.threads), len(state.cache)
        if live + cached != state.kstacks:
            found.append(f"vm.kstacks is {state.kstacks}; {live} stacks are in use, {cached} cached")
        owned = {stack.label for stack in state.threads.values()}
        if set(state.stacks) != owned | set(state.cache) or owned & set(state.cache) or len(owned) != live:
            found.append("a stack is neither in use nor cached, or both, or has two threads")
        found += [
            f"stack {stack.label} is said to be of thread {stack.tid}, and is of {tid}"
            for tid, stack in state.threads.items()
            if stack.tid != tid
        ]
        found += [
            f"cached stack {label} has {state.stacks[label].pages} pages"
            for label in state.cache
            if state.stacks[label].pages != state.kstack_pages
        ]
        return Violations(found, len(state.stacks))

    def events(self, since: int, limit: int) -> EventChunk:
        """Recorded events from sequence number `since` on."""
        first, records = self._ctx.log.since(since, limit)
        return EventChunk(records, first, self._ctx.log.count)

    def counters(self) -> CounterValues:
        """The service's own counters."""
        names = sorted(self._ctx.counters)
        return CounterValues(names, [self._ctx.counters[name] for name in names], self._ctx.sequence)

    def _begin(self, state: State) -> None:
        self._state = state
        self._cache = KstackCache(self._ctx, state, self._physmem)
        self._swap = KstackSwap(self._ctx, state, self._physmem)
        arm(self._ctx, state.preempt, StackPreemption(self, lambda: self._state).possible)

    def _built(self, present: bool, function: str, build: str) -> None:
        if not present:
            raise Refused(Reason.NOT_BUILT, "function", function, f"a kernel built {build}")

    def _threads_without_stack(self, tids: Iterable[int]) -> None:
        """thread_alloc's assertion, for all threads before anything is changed."""
        seen: set[int] = set()
        for tid in tids:
            has_none = tid not in self._state.threads and tid not in seen
            self._ctx.kassert(has_none, "thread_alloc got thread with kstack", "thread_alloc")
            seen.add(tid)

    def _injection_allowed(self, field: str, value: int) -> None:
        if not self._ctx.env.allow_inject:
            raise Refused(Reason.INJECTION_REFUSED, field, value, "a system that was started with injection allowed")

    def _stack(self, label: int, field: str) -> Stack:
        """A stack that lives.

        Raises:
            Refused: There is none of this label.
        """
        found = self._state.stacks.get(label)
        if found is None:
            raise Refused(Reason.UNKNOWN_ID, field, label, "the label of a stack that lives")
        return found

    def _destroyed(self, labels: list[int], kva_bytes: int) -> DestroyedStacks:
        """The answer to what destroyed stacks."""
        self._publish()
        return DestroyedStacks(labels, kva_bytes, self._state.kstacks, len(self._state.cache))

    def _stacks_of(self, tids: list[int]) -> list[Stack]:
        """The complete stacks of threads, each of which occurs once.

        Raises:
            Refused: A thread has no stack, sleeps in vm_thread_new, or occurs twice.
        """
        threads = self._state.threads
        for tid in tids:
            if tid not in threads:
                raise Refused(Reason.UNKNOWN_ID, "tid", tid, "a thread with a kernel stack")
            if not threads[tid].complete:
                raise Refused(Reason.FIELD_OUT_OF_RANGE, "tid", tid, "a thread whose vm_thread_new has returned")
        if len(set(tids)) != len(tids):
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "tid", tids, "each thread once")
        return [threads[tid] for tid in tids]

    def _suspend(self, table: dict[int, T], op: int, pending: T, sleep: Suspension | None) -> Suspension | None:
        """Remember a request that sleeps, under the id that it keeps, or forget one that is complete."""
        if sleep is None:
            table.pop(op, None)
            self._state.sleeps.pop(op, None)
            return None
        if not op:
            self._state.last_op += 1
            op = self._state.last_op
        table[op] = pending
        self._state.sleeps[op] = Sleep.of(sleep, self._ctx)
        return Suspension(op, sleep.channel, sleep.priority, sleep.wmesg, sleep.timeout_ticks)

    def _publish(self) -> None:
        """Write what is kept in fields to the counters."""
        state, counters = self._state, self._ctx.counters
        counters["vm.kstacks"] = state.kstacks
        if state.kstack_usage_prof:
            counters["debug.max_kstack_used"] = state.max_kstack_used
        counters["vmglue.kstack.cache_length"] = len(state.cache)
        counters["vmglue.kstack.peak"] = max(counters["vmglue.kstack.peak"], state.kstacks)


def _status(sleep: Suspension | None) -> Status:
    return Status.DONE if sleep is None else Status.SUSPENDED


def _pending(table: dict[int, T], op: int) -> T:
    """The sleeping request of an operation.

    Raises:
        Refused: There is none.
    """
    if op not in table:
        raise Refused(Reason.UNKNOWN_ID, "op", op, "the id of a sleeping request")
    return table[op]
