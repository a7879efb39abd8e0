"""Family C: vm_thread_new, vm_thread_dispose and the low-memory handler, through the kstack port."""

from __future__ import annotations

from clients.conform.driver import RAM_PAGES, Driver
from clients.conform.families import Json
from clients.kernel import Kernel
from services.ports.common import Answers
from services.ports.kstack import StackStates, ThreadStack
from services.ports.physmem import StackPages


class KernelStacks(Driver):
    """Threads by name; a thread's id is its place in the order in which `when` names them."""

    def __init__(self, kernel: Kernel, given: Json) -> None:
        super().__init__(kernel, given)
        self.boot(RAM_PAGES)
        self.set_tunable("kstack_cache_size", given["tunables"]["kstack_cache_size"])
        if given["kva_fail"]:
            answers = [int(ordinal not in given["kva_fail"]) for ordinal in range(1, max(given["kva_fail"]) + 1)]
            kernel.physmem.inject([Answers("kva_alloc", answers)])
        self._tids: dict[str, int] = {}
        before = kernel.physmem.object_pages([])
        self._objects_before, self._kva_before = before.object_count, before.kva_bytes

    def _tid(self, thread: str) -> int:
        return self._tids.setdefault(thread, len(self._tids) + 1)

    def vm_thread_new(self, thread: str, pages: int) -> Json:
        """vm_thread_new of one thread."""
        answer = self.kernel.kstack.vm_thread_new([ThreadStack(self._tid(thread), pages)], 0)
        (new,) = answer.stacks
        return {
            "ok": new.ok,
            "stack": f"s{new.stack}" if new.ok else None,
            "pages": new.td_kstack_pages,
            "cached": new.cached,
            "kva_bytes": new.kva_bytes,
            "guard_pages": new.guard_pages,
            "mapped_pages": new.mapped_pages,
            "kstacks": answer.kstacks,
            "cache_length": answer.cache_length,
        }

    def vm_thread_dispose(self, thread: str) -> Json:
        """vm_thread_dispose of one thread."""
        answer = self.kernel.kstack.vm_thread_dispose([self._tid(thread)])
        (disposed,) = answer.stacks
        return {
            "stack": f"s{disposed.stack}",
            "cached": disposed.cached,
            "freed": [] if disposed.cached else [f"s{disposed.stack}"],
            "kva_bytes_freed": answer.kva_bytes_freed,
            "kstacks": answer.kstacks,
            "cache_length": answer.cache_length,
        }

    def lowmem(self) -> Json:
        """The vm_lowmem event."""
        answer = self.kernel.kstack.vm_thread_stack_lowmem()
        return {
            "freed": [f"s{label}" for label in answer.freed],
            "kva_bytes_freed": answer.kva_bytes_freed,
            "kstacks": answer.kstacks,
            "cache_length": answer.cache_length,
        }

    def lose_page(self, stack: str, page: int) -> Json:
        """A page leaves a stack's object."""
        self.kernel.kstack.lose_page(int(stack[1:]), page)
        return {}

    def final(self) -> Json:
        """Stacks, cache, threads, and what they take."""
        states = self.kernel.kstack.stack_states(with_freed=True)
        by_tid = {state.tid: {"stack": f"s{state.stack}", "pages": state.pages} for state in states.stacks if state.tid}
        return {
            "kstacks": states.kstacks,
            "cache": [f"s{label}" for label in states.cache],
            "threads": {thread: by_tid.get(tid) for thread, tid in self._tids.items()},
            **self._pages(states),
        }

    def _pages(self, states: StackStates) -> Json:
        """The stacks' pages, and what is wired, allocated and mapped for all of them."""
        live = [state for state in states.stacks if state.state != "freed"]
        answer = self.kernel.physmem.object_pages([StackPages(state.obj, state.ks, state.pages) for state in live])
        stacks: Json = {f"s{state.stack}": {"state": state.state, "pages": state.pages} for state in states.stacks}
        wired = 0
        for state, pages in zip(live, answer.objects, strict=True):
            stacks[f"s{state.stack}"] |= {"mapped": pages.mapped, "valid": pages.valid, "wired": pages.wired}
            wired += sum(count not in "0-" for count in pages.wired)
        return {
            "stacks": stacks,
            "wired_pages": wired,
            "objects": answer.object_count - self._objects_before,
            "kva_bytes": answer.kva_bytes - self._kva_before,
        }
