"""vm_thread_new, vm_thread_dispose and the stack cache (vm_glue.c:303-480)."""

from __future__ import annotations

from services.kstack.state import CACHE_ENTRY, PendingNew, Request, Stack, State
from services.ports.common import Status, Suspension
from services.ports.kstack import DisposedStack, NewStack, ThreadStack
from services.ports.physmem import KmemRange, KmemWrite, PhysmemPort, StackBuilt
from services.runtime.context import Context
from services.runtime.errors import kassert
from services.runtime.events import Kind


class KstackCache:
    """The life of kernel stacks between construction, cache and destruction.

    The cache is a linked list in kernel memory: each cached stack carries {ksobj, next_ks_entry} at its base, and the
    records that are taken from it are read back from there.
    """

    def __init__(self, ctx: Context, state: State, physmem: PhysmemPort) -> None:
        self._ctx, self._state, self._physmem = ctx, state, physmem

    def vm_thread_new(self, threads: list[ThreadStack]) -> tuple[PendingNew, Suspension | None]:
        """vm_thread_new (vm_glue.c:323-409) for each thread; what it lacks is built in one call.

        Threads take from the cache when the request begins, as if all of them had called before any had slept.

        Returns:
            The request with its answers so far, and the sleep in which it ended, if any.
        """
        state = self._state
        requests = [Request(thread.tid, self._bounds_check(thread.pages)) for thread in threads]
        eligible = [request for request in requests if request.pages == state.kstack_pages]
        hits = self._take(min(len(eligible), len(state.cache)))
        for request, stack in zip(eligible, hits, strict=False):
            request.cached, stack.tid = stack.label, request.tid
            state.threads[request.tid] = stack
        self._ctx.count("vmglue.kstack.cache_hits", len(hits))
        self._ctx.count("vmglue.kstack.cache_misses", len(eligible) - len(hits))
        if hits:
            self._ctx.env.preempt("vm_thread_new:343")
        if len(hits) < len(eligible):
            self._ctx.env.preempt("vm_thread_new:350")
        return self._build(PendingNew(requests, below=0))

    def resume(self, pending: PendingNew) -> tuple[PendingNew, Suspension | None]:
        """Go on where vm_page_grab slept (vm_glue.c:402)."""
        return self._build(pending)

    def vm_thread_dispose(self, stacks: list[Stack]) -> tuple[list[DisposedStack], int]:
        """vm_thread_dispose (vm_glue.c:438-461) for each stack's thread.

        Returns:
            What became of each, and the bytes of kernel address space given back.
        """
        state = self._state
        entries: list[KmemWrite] = []
        destroyed: list[Stack] = []
        answers = []
        for stack in stacks:
            del state.threads[stack.tid]
            cached = stack.pages == state.kstack_pages and state.kstacks <= state.kstack_cache_size
            answers.append(DisposedStack(stack.label, cached))
            if cached:
                self._unlocked("vm_thread_dispose:451", entries)
                entries.append(KmemWrite(stack.ks, CACHE_ENTRY.pack(stack.obj, self._head())))
                state.cache.append(stack.label)
                self._ctx.event(Kind.KSTACK_CACHED, stack.tid, stack.label, state.kstacks)
                stack.tid = 0
            else:
                destroyed.append(stack)
                self._uncount(stack)
                self._unlocked("vm_thread_stack_dispose:417", entries)
        self._write(entries)
        return answers, self._destroy(destroyed)

    def vm_thread_stack_dispose(self, stacks: list[Stack]) -> int:
        """vm_thread_stack_dispose (vm_glue.c:411-433) for each stack; returns the bytes of address space given back.

        Raises:
            KernelPanic: A page of a stack is missing.
        """
        for stack in stacks:
            self._uncount(stack)
            self._ctx.env.preempt("vm_thread_stack_dispose:417")
        return self._destroy(stacks)

    def vm_thread_stack_lowmem(self) -> tuple[list[int], int]:
        """vm_thread_stack_lowmem (vm_glue.c:463-480): detach the whole list, then destroy every entry.

        Returns:
            Labels in the order of destruction, and the bytes of kernel address space given back.
        """
        stacks = self._take(len(self._state.cache))
        self._ctx.env.preempt("vm_thread_stack_lowmem:471")
        if not stacks:
            return [], 0
        self._ctx.count("vmglue.kstack.lowmem_drains")
        kva_bytes = self.vm_thread_stack_dispose(stacks)
        self._ctx.event(Kind.KSTACK_LOWMEM, len(stacks), self._state.kstacks)
        return [stack.label for stack in stacks], kva_bytes

    def damaged(self) -> list[str]:
        """What is wrong with the list in kernel memory."""
        stacks = [self._state.stacks[label] for label in reversed(self._state.cache)]
        return [
            f"the cache entry of stack {stack.label} is {found}, expected {expected}"
            for stack, found, expected in self._entries(stacks)
            if found != expected
        ]

    def _bounds_check(self, pages: int) -> int:
        """vm_glue.c:333-336."""
        if pages <= 1:
            return self._state.kstack_pages
        return min(pages, self._state.kstack_max_pages)

    def _unlocked(self, point: str, entries: list[KmemWrite]) -> None:
        """A point at which another thread may look at the list: the records of this batch are written before."""
        if self._ctx.env.preempts:
            self._write(entries)
        self._ctx.env.preempt(point)

    def _write(self, entries: list[KmemWrite]) -> None:
        """Store the records of stacks that were cached."""
        if entries:
            self._physmem.kmem_write(entries)
            entries.clear()

    def _head(self) -> int:
        """kstack_cache: address of the entry that is taken next; 0: NULL."""
        cache = self._state.cache
        return self._state.stacks[cache[-1]].ks if cache else 0

    def _take(self, count: int) -> list[Stack]:
        """Unlink the first `count` entries (vm_glue.c:340-342, 469-475), whose records are read from kernel memory."""
        if not count:
            return []
        cache = self._state.cache
        stacks = [self._state.stacks[label] for label in cache[: -count - 1 : -1]]
        for stack, found, expected in self._entries(stacks):
            kassert(found == expected, f"kstack cache entry of stack {stack.label} is damaged", "vm_thread_new", 341)
        del cache[-count:]
        return stacks

    def _entries(self, stacks: list[Stack]) -> list[tuple[Stack, tuple[int, ...], tuple[int, int]]]:
        """Records of the first stacks of the cache as they lie in kernel memory, and as they must be."""
        data = self._physmem.kmem_read([KmemRange(stack.ks, CACHE_ENTRY.size) for stack in stacks]).data
        labels = self._state.cache[::-1][1 : len(stacks) + 1]
        follow = [self._state.stacks[label].ks for label in labels] + [0]
        return [
            (stack, CACHE_ENTRY.unpack(record), (stack.obj, following))
            for stack, record, following in zip(stacks, data, follow, strict=False)
        ]

    def _build(self, pending: PendingNew) -> tuple[PendingNew, Suspension | None]:
        """Build what the cache did not have (vm_glue.c:356-408) and answer the threads in their order."""
        sizes = [request.pages for request in pending.requests if not request.cached]
        suspension = None
        built: list[StackBuilt] = []
        if sizes:
            answer = self._physmem.stack_create(sizes, pending.below)
            built = answer.stacks
            if answer.status is Status.SUSPENDED:
                suspension = answer.suspension
                assert suspension is not None, "a sleep without its channel"
                pending.below = suspension.op
        for request in pending.requests[len(pending.answers) :]:
            if request.cached:
                self._answer_hit(pending, request)
            elif pending.built == len(built) or not self._answer_miss(pending, request, built[pending.built]):
                break
        assert (suspension is None) == (len(pending.answers) == len(pending.requests)), "a thread without an answer"
        return pending, suspension

    def _answer_hit(self, pending: PendingNew, request: Request) -> None:
        stack = self._state.stacks[request.cached]
        self._ctx.event(Kind.KSTACK_CACHE_HIT, request.tid, stack.label, stack.pages, self._state.kstacks, stack.ks)
        pending.answers.append(NewStack(True, stack.label, stack.ks, stack.pages, cached=True))

    def _answer_miss(self, pending: PendingNew, request: Request, built: StackBuilt) -> bool:
        """Count a built stack (vm_glue.c:374-391); False: its pages are not complete, the thread sleeps."""
        if not built.stack.ks:
            self._ctx.event(Kind.KSTACK_NO_KVA, request.tid, request.pages)
            pending.answers.append(NewStack())
            pending.built += 1
            return True
        stack = self._state.stacks[pending.sleeping] if pending.sleeping else self._count(request, built)
        stack.complete = built.complete
        pending.sleeping = 0 if built.complete else stack.label
        if not built.complete:
            return False
        guard = self._state.kstack_guard_pages
        pending.answers.append(
            NewStack(True, stack.label, stack.ks, stack.pages, False, built.kva_bytes, guard, stack.pages)
        )
        pending.built += 1
        return True

    def _count(self, request: Request, built: StackBuilt) -> Stack:
        """kstacks grows, and the thread's fields are set, before the pages are grabbed (vm_glue.c:380-391)."""
        state = self._state
        state.last_label += 1
        stack = Stack(state.last_label, request.pages, built.stack.obj, built.stack.ks, request.tid)
        state.stacks[stack.label] = state.threads[request.tid] = stack
        state.kstacks += 1
        self._ctx.event(Kind.KSTACK_NEW, request.tid, stack.label, stack.pages, state.kstacks, stack.ks)
        return stack

    def _uncount(self, stack: Stack) -> None:
        """kstacks falls before the pages are looked at (vm_glue.c:417)."""
        state = self._state
        state.kstacks -= 1
        del state.stacks[stack.label]
        stack.tid = 0
        state.freed.append(stack)
        self._ctx.event(Kind.KSTACK_DESTROYED, stack.label, stack.pages, state.kstacks)

    def _destroy(self, stacks: list[Stack]) -> int:
        """The page work of vm_thread_stack_dispose (vm_glue.c:418-432); returns the address space given back."""
        if not stacks:
            return 0
        return self._physmem.stack_destroy([stack.stack_pages() for stack in stacks]).kva_bytes
