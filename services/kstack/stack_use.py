"""intr_prof_stack_use (vm_glue.c:492-536)."""

from __future__ import annotations

from hardware_sim.clock import c_int
from services.kstack.state import PAGE_SIZE, State
from services.ports.kstack import StackSample
from services.runtime.context import Context
from services.runtime.events import Kind

_U64 = (1 << 64) - 1


def intr_prof_stack_use(ctx: Context, state: State, sample: StackSample) -> None:
    """Raise max_kstack_used to the interrupted thread's stack use (vm_glue.c:503-535).

    The question `atomic_cmpset_int` of the environment is what another processor has stored in max_kstack_used right
    before the compare-and-set; in production nobody has.
    """
    if sample.from_user:
        return
    stack_top = (sample.td_kstack + c_int(sample.td_kstack_pages * PAGE_SIZE)) & _U64
    current = sample.sp
    if stack_top <= current or current < sample.td_kstack:
        return
    used = c_int(stack_top - current)
    while True:
        prev_used = state.max_kstack_used
        if prev_used >= used:
            break
        if _atomic_cmpset_int(ctx, state, prev_used, used):
            ctx.event(Kind.KSTACK_MAX_USED, used)
            break


def _atomic_cmpset_int(ctx: Context, state: State, expected: int, new: int) -> bool:
    """Compare and set max_kstack_used."""
    state.max_kstack_used = c_int(ctx.env.ask("atomic_cmpset_int", lambda: state.max_kstack_used))
    if state.max_kstack_used != expected:
        return False
    state.max_kstack_used = new
    return True
