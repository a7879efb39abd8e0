"""Physical memory as plain data, for checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from hardware_sim.arch import arch
from hardware_sim.mmu import Mmu, MmuState
from services.physmem.machine import Machine
from services.physmem.page_array import PageArray, PageFields
from services.physmem.state import ObjectTable, VmObject
from services.ports.pager import PagerPort
from services.runtime.context import Context
from services.runtime.field_types import FieldsOf
from services.runtime.snapshot import Registry

_NOT_HERE = frozenset({"ctx", "pager", "arch", "ram", "mmu", "pages"})
"""Fields of the machine that are no plain data."""
_FIELDS = [field.name for field in fields(Machine) if field.name not in _NOT_HERE]


@dataclass(slots=True)
class MachineState:
    """All of a machine's memory."""

    arch: str
    """Name of the architecture."""
    pages: PageArray
    """The page array."""
    mmu: Mmu
    """Page tables and TLB."""
    frames: NDArray[np.int64]
    """Frames that hold anything but zeros; a free one may, and its next owner may see it."""
    contents: bytes
    """Their bytes, one after the other."""
    rest: Annotated[dict[str, Any], FieldsOf(Machine)]
    """The machine's other fields, by name."""

    def misfit(self) -> str:
        """What contradicts itself; empty: nothing."""
        try:
            page_size = arch(self.arch).page_size
        except ValueError as error:
            return str(error)
        if list(self.rest) != _FIELDS:
            return "all fields of a machine"
        if len(self.mmu.state.pv_head) != self.pages.count:
            return f"page tables for {self.pages.count} frames"
        if len(self.frames) and not 0 <= self.frames.min() <= self.frames.max() < self.pages.count:
            return f"contents of frames below {self.pages.count}"
        if len(self.contents) != len(self.frames) * page_size:
            return f"{page_size} bytes for each of {len(self.frames)} frames"
        return ""


def registry() -> Registry:
    """The classes of the state."""
    hints = get_type_hints(Machine)
    return Registry(
        MachineState, PageArray, PageFields, Mmu, MmuState, ObjectTable, VmObject, *(hints[name] for name in _FIELDS)
    )


def take(vm: Machine) -> MachineState:
    """A machine's state."""
    frames = vm.ram.touched()
    rest = {name: getattr(vm, name) for name in _FIELDS}
    return MachineState(vm.arch.name, vm.pages, vm.mmu, frames, vm.ram.gather(frames), rest)


def restored(state: MachineState, ctx: Context, pager: PagerPort) -> Machine:
    """A machine in a state."""
    vm = Machine.boot(ctx, pager, state.pages.count, arch(state.arch))
    vm.pages, vm.mmu = state.pages, state.mmu
    words = vm.ram.words.shape[1]
    vm.ram.words[state.frames] = np.frombuffer(state.contents, np.uint64).reshape(-1, words)
    for name in _FIELDS:
        setattr(vm, name, state.rest[name])
    return vm
