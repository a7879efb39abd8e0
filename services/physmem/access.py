"""A processor's memory references: the compiled walk, and vm_fault wherever it stops for a page."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from hardware_sim.cpu import COSTS
from hardware_sim.mmu import U64Array
from hardware_sim.walk import WalkStop, walk
from services.physmem.machine import Machine
from services.physmem.ops import AccessOp, FaultKind, FaultOp
from services.physmem.state import OBJ_MIGHTBEDIRTY, VmObject
from services.physmem.vm_fault import vm_fault
from services.physmem.vm_map import VmMap
from services.ports.common import Outcome, Stop, Suspension
from services.ports.physmem import Accessed, KernReturn

_COST_US = {
    FaultKind.MINOR: COSTS.minor_fault_us,
    FaultKind.ZERO_FILL: COSTS.zero_fill_us,
    FaultKind.COW: COSTS.cow_copy_us,
    FaultKind.MAJOR: COSTS.minor_fault_us,
}
"""Processor time of the last step of a fault; a read was charged when it was started."""
_ROW = struct.Struct("<QQ")
_STAMP_HEAD, _WORD = 40, 8
"""Bytes of stamp words 0 to 4, and of the last word."""


@dataclass(slots=True)
class _Batch:
    """What a batch of references has come to so far."""

    outcome: Outcome
    torn: int = 0
    tlb_misses: int = 0
    observed: list[bytes] = field(default_factory=list)


def access(
    vm: Machine, map_: VmMap, runs: U64Array, start: int, budget_us: int, phase: int, fault: FaultOp | None, op: int
) -> Accessed:
    """Issue packed run records until the end, the budget, a fault that sleeps or fails, or a wanted page daemon.

    Events and device operations of a fault get the virtual time at which its record would have executed, so that the
    way in which references are cut into batches changes nothing.

    Args:
        vm: The machine.
        map_: Map of the thread's address space.
        runs: Records.
        start: First record to execute.
        budget_us: Time after which the slice ends, at a record boundary.
        phase: Instructions executed beyond the last whole microsecond.
        fault: The suspended fault of the first record, to go on with, or None.
        op: Its operation id.
    """
    batch = _Batch(Outcome(next_record=start, phase=phase))
    outcome, started_us = batch.outcome, vm.ctx.now_us
    while True:
        if fault is None:
            fault = _walk(vm, map_, runs, budget_us, batch)
            if fault is None:
                break
        vm.ctx.now_us = started_us + outcome.elapsed_us
        result = vm_fault(vm, map_, fault)
        if isinstance(result, Suspension):
            outcome.elapsed_us += COSTS.page_in_us if fault.io else COSTS.minor_fault_us
            outcome.stop, outcome.suspension = Stop.SUSPENDED, vm.suspend(AccessOp(map_.id, fault), result, op)
        elif result != KernReturn.SUCCESS:
            outcome.stop, outcome.kern_error = Stop.SIGNAL, result
        else:
            _mapped(vm, fault, batch)
            if vm.ctx.upcalls.pagedaemon_wanted:
                outcome.stop = Stop.YIELD
        if outcome.stop is not Stop.END:
            outcome.fault_va = 0 if outcome.stop is Stop.YIELD else fault.va
            break
        fault = None
    return Accessed(outcome, b"".join(batch.observed), batch.torn, batch.tlb_misses)


def _walk(vm: Machine, map_: VmMap, runs: U64Array, budget_us: int, batch: _Batch) -> FaultOp | None:
    """Execute records up to the next fault; None if the batch or the budget is at its end."""
    outcome, pages, wall = batch.outcome, vm.pages.np, vm.ctx.wall
    begun = wall.clock()
    walked = walk(
        vm.mmu, vm.ram, pages.object, pages.pindex, map_.id, runs, outcome.next_record,
        budget_us - outcome.elapsed_us, outcome.phase, vm.mips, vm.seed,
    )  # fmt: skip
    wall.walk_s += wall.clock() - begun
    outcome.next_record, outcome.phase = walked.next_record, walked.phase
    outcome.elapsed_us += walked.elapsed_us
    outcome.references += walked.references
    outcome.kernel_calls += walked.kernel_calls
    batch.torn += walked.torn
    batch.tlb_misses += walked.tlb_misses
    if walked.stop == WalkStop.FAULT:
        return FaultOp(walked.fault_vpn << vm.arch.page_shift, walked.access)
    outcome.stop = Stop.BUDGET if walked.stop == WalkStop.BUDGET else Stop.END
    return None


def _is_own(obj: VmObject, kind: FaultKind) -> bool:
    """What the page holds follows from the thread's own references: no file's that others may write, too."""
    return obj.anonymous or (kind is FaultKind.MAJOR and not obj.flags & OBJ_MIGHTBEDIRTY)


def _mapped(vm: Machine, fault: FaultOp, batch: _Batch) -> None:
    """A fault is resolved: charge it, and show the contents of a page that was not made of zeros just now."""
    outcome, kind = batch.outcome, fault.kind
    outcome.elapsed_us += _COST_US[kind]
    if kind is FaultKind.MAJOR:
        outcome.major += 1
    else:
        outcome.minor += 1
    m = fault.frame
    if kind is not FaultKind.ZERO_FILL and _is_own(vm.objects[vm.pages.object[m]], kind):
        row = _ROW.pack(outcome.next_record, fault.va >> vm.arch.page_shift)
        head, last = vm.ram.read(m, 0, _STAMP_HEAD), vm.ram.read(m, vm.arch.page_size - _WORD, _WORD)
        batch.observed.append(row + head + last)
