"""vm_thread_swapout and vm_thread_swapin (vm_glue.c:538-606), without the page work, which is physmem's."""

from __future__ import annotations

from collections import Counter

from services.kstack.state import PendingSwapin, State
from services.ports.common import Status, Suspension
from services.ports.kstack import ThreadPcb
from services.ports.physmem import PhysmemPort, StacksIn, SwapStack
from services.runtime.context import Context
from services.runtime.events import Kind


class KstackSwap:
    """Stacks on their way out and in: one call of physmem for all stacks of a request."""

    def __init__(self, ctx: Context, state: State, physmem: PhysmemPort) -> None:
        self._ctx, self._state, self._physmem = ctx, state, physmem

    def vm_thread_swapout(self, threads: list[ThreadPcb]) -> None:
        """vm_thread_swapout (vm_glue.c:542-564) for each thread; the registers go to the top of the stack.

        Raises:
            KernelPanic: A page of a stack is missing.
        """
        self._physmem.stack_swapout(self._swap_stacks(threads))
        for thread in threads:
            stack = self._state.threads[thread.tid]
            self._ctx.event(Kind.KSTACK_SWAPOUT, thread.tid, stack.label, stack.pages)

    def vm_thread_swapin(self, pending: PendingSwapin) -> tuple[StacksIn, Suspension | None]:
        """vm_thread_swapin (vm_glue.c:569-606) for each thread; begins, or goes on where it slept.

        Returns:
            Physmem's answer, and the sleep in which it ended, if any.

        Raises:
            KernelPanic: A page cannot be read.
        """
        answer = self._physmem.stack_swapin(self._swap_stacks(pending.threads), pending.below)
        if answer.status is Status.SUSPENDED:
            assert answer.suspension is not None, "a sleep without its channel"
            pending.below = answer.suspension.op
            return answer, answer.suspension
        requests = Counter(request.stack for request in answer.page_requests)
        for index, thread in enumerate(pending.threads):
            stack = self._state.threads[thread.tid]
            self._ctx.event(Kind.KSTACK_SWAPIN, thread.tid, stack.label, stack.pages, requests[index])
        return answer, None

    def _swap_stacks(self, threads: list[ThreadPcb]) -> list[SwapStack]:
        stacks = [self._state.threads[thread.tid].stack_pages() for thread in threads]
        return [SwapStack(stack, thread.pcb, thread.pid) for stack, thread in zip(stacks, threads, strict=True)]
