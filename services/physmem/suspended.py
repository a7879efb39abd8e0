"""What the suspended operations of physmem are for, in words."""

from __future__ import annotations

from services.physmem.machine import Machine
from services.physmem.ops import (
    AccessOp,
    HoldPagesOp,
    ImgactOp,
    MapChangeOp,
    Operation,
    StackCreateOp,
    StackSwapinOp,
    SwapoffOp,
    WireOp,
)
from services.ports.common import SuspendedOperations
from services.runtime.sleeps import suspended_operations


def suspended(vm: Machine) -> SuspendedOperations:
    """Operations that sleep, by id."""
    about = ((op, *_about(vm.ops[op])) for op in sorted(vm.ops))
    return suspended_operations(vm.sleeps, about, vm.ctx.hz)


def _about(operation: Operation) -> tuple[str, str]:
    """The C function that sleeps, and what it works for."""
    match operation:
        case AccessOp(vmspace, fault):
            return "vm_fault", f"address space {vmspace}, address {fault.va:#x}"
        case WireOp(space, start, end):
            function = "vm_mlock" if operation.user else "vslock (vm_glue.c:178-213)"
            return function, f"address space {space}, {start:#x} to {end:#x}"
        case MapChangeOp():
            return "vm_map_wire", f"address space {operation.vmspace}, {_change(operation)}"
        case StackCreateOp(sizes, built):
            return "vm_thread_new (vm_glue.c:323-409)", f"stack {len(built)} of {len(sizes)}"
        case StackSwapinOp(stacks, index):
            where = f"process {stacks[index].pid}, page {operation.page} of stack object {stacks[index].stack.obj}"
            return "vm_thread_swapin (vm_glue.c:569-606)", where
        case ImgactOp():
            return "vm_imgact_map_page (vm_glue.c:269-278)", _file_page(operation)
        case HoldPagesOp(_, pages, held):
            return "vm_imgact_hold_page (vm_glue.c:230-262)", _file_page(pages[len(held)])
        case SwapoffOp():
            return "swap_pager_swapoff", f"swap device {operation.device}, page {operation.pindex} of {operation.obj}"


def _change(operation: MapChangeOp) -> str:
    at = len(operation.results)
    change = operation.ops[at]
    return f"{change.kind.name} of {change.start:#x}, change {at + 1} of {len(operation.ops)}"


def _file_page(image: ImgactOp) -> str:
    return f"page {image.pindex} of file object {image.object}"
