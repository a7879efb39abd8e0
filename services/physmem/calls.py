"""What every call of the physmem port does before it answers."""

from __future__ import annotations

from typing import TypeVar

from services.physmem.machine import Machine
from services.physmem.ops import WireOp
from services.physmem.pmap import tell_invalidations
from services.physmem.state import publish, vm_pager_flush
from services.ports.common import Status, Suspension
from services.ports.physmem import Errno
from services.runtime.events import Kind

AnswerT = TypeVar("AnswerT")


class MachineCalls:
    """Calls over the state of one machine.

    Attributes:
        vm: State of the machine; there is none before boot.
    """

    vm: Machine

    def _done(self, answer: AnswerT) -> AnswerT:
        """Before a call is answered: the pager hears which swap blocks are free, the counters are what they are."""
        vm_pager_flush(self.vm)
        tell_invalidations(self.vm)
        publish(self.vm)
        return answer

    def _wired(self, wire: WireOp, result: int | Suspension, op: int, kind: Kind, about: tuple[int, int, int]) -> Errno:
        """The answer of a call that wires: its sleep, or its errno with the event that tells of it."""
        if isinstance(result, Suspension):
            return self._done(Errno(Status.SUSPENDED, self.vm.suspend(wire, result, op)))
        self.vm.ctx.event(kind, *about, result)
        return self._done(Errno(error=result))
