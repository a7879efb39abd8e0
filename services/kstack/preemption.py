"""What other threads do with kernel stacks at a preemption point: kernel threads come and go, vm_lowmem drains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from services.kstack.state import State
from services.ports.common import Status
from services.ports.kstack import KstackPort, ThreadStack
from services.runtime.preemption import Act, Choice, PreemptStream

STRANGERS_MAX = 3
"""Kernel threads that may be there at a time: their stacks are memory that the workload lacks."""


class StackPreemption:
    """Kernel threads of nobody's, by ids below 0; no point of this service lies under the cache's lock."""

    def __init__(self, core: KstackPort, state: Callable[[], State]) -> None:
        self._core, self._state = core, state

    def possible(self, _point: str, stream: PreemptStream) -> Iterator[Choice]:
        """What may happen."""
        state = self._state()
        if state.cache:
            yield Choice(Act.STACK_LOWMEM, self._lowmem)
        if len(state.strangers) < STRANGERS_MAX or any(state.strangers.values()):
            yield Choice(Act.STACK_NEW, self._new)
        ready = [tid for tid, op in state.strangers.items() if not op]
        if ready:
            yield Choice(Act.STACK_DISPOSE, partial(self._dispose, ready[stream.below(len(ready))]))

    def _new(self) -> int:
        """A kernel thread begins, or one that slept for memory tries again; it is nobody else's until it sleeps."""
        state = self._state()
        tid, op = next(((tid, op) for tid, op in state.strangers.items() if op), (0, 0))
        if op:
            del state.strangers[tid]
        else:
            tid = state.last_stranger = state.last_stranger - 1
        answer = self._core.vm_thread_new([ThreadStack(tid, 0)], op)
        if answer.status is Status.SUSPENDED:
            assert answer.suspension is not None, "a sleep without its channel"
            state.strangers[tid] = answer.suspension.op
        elif answer.stacks[0].ok:
            state.strangers[tid] = 0
        return tid

    def _dispose(self, tid: int) -> int:
        """A kernel thread ends."""
        del self._state().strangers[tid]
        self._core.vm_thread_dispose([tid])
        return tid

    def _lowmem(self) -> int:
        """The page daemon fires vm_lowmem; how many stacks it drains."""
        return len(self._core.vm_thread_stack_lowmem().freed)
