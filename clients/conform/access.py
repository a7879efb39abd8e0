"""Family D: kernacc, useracc, vslock and vsunlock, through the physmem port."""

from __future__ import annotations

from clients.conform.driver import CannotSetUp, Driver
from clients.conform.families import Json
from clients.kernel import Kernel
from services.ports.common import Answers
from services.ports.physmem import KERNEL_SPACE, AccessCheck, KernReturn, MapOp, MapOpKind

_KERNEL_BOUNDS = (0xFFFFFE0000000000, 0xFFFFFFFFFFFFF000)
_USER_BOUNDS = (0, 0x800000000000)
_PROT = {"-": 0, "r": 1, "w": 2, "x": 4}
_ERRNO = {0: None, 12: "ENOMEM", 14: "EFAULT", 22: "EINVAL"}
_MODEL = -1
"""Scripted answer of vm_map_wire that leaves the answer to the map."""


def _bits(letters: str) -> int:
    return sum(_PROT[letter] for letter in letters)


class Access(Driver):
    """kernel_map and, if the case has one, the map of the current process."""

    def __init__(self, kernel: Kernel, given: Json) -> None:
        super().__init__(kernel, given)
        self.boot()
        self.set_tunable("vm_page_max_wired", given["tunables"]["vm_page_max_wired"])
        self._build(KERNEL_SPACE, given["kernel_map"], _KERNEL_BOUNDS)
        self._space = 0
        if given["user_map"] is not None:
            self._space = kernel.physmem.vmspace_alloc(0, 0).vmspace
            self._build(self._space, given["user_map"], _USER_BOUNDS)
        if given["wire_results"]:
            kernel.physmem.inject([Answers("vm_map_wire", [_code(result) for result in given["wire_results"]])])

    def _build(self, space: int, given: Json, bounds: tuple[int, int]) -> None:
        """Insert and wire the entries, then set their protections and the map's bounds, beyond which they may lie."""
        low = bounds[0] if given["min"] is None else given["min"]
        high = bounds[1] if given["max"] is None else given["max"]
        ops: list[MapOp] = []
        for entry in given["entries"]:
            ops += _entry_ops(entry)
        ops.append(MapOp(MapOpKind.BOUNDS, low, high - low))
        answer = self.kernel.physmem.map_ops(space, ops, 0)
        for op, result in zip(ops, answer.results, strict=True):
            if result is not KernReturn.SUCCESS:
                raise CannotSetUp(f"{op} answers {result.name}")

    def kernacc(self, addr: int, len: int, prot: str | None, prot_bits: int | None) -> Json:
        """kernacc."""
        return {"ok": self.kernel.physmem.kernacc([_check(addr, len, prot, prot_bits)]).ok[0]}

    def useracc(self, addr: int, len: int, prot: str | None, prot_bits: int | None) -> Json:
        """useracc."""
        return {"ok": self.kernel.physmem.useracc(self._space, [_check(addr, len, prot, prot_bits)]).ok[0]}

    def vslock(self, addr: int, len: int) -> Json:
        """vslock."""
        return {"error": _ERRNO[self.kernel.physmem.vslock(self._space, addr, len, 0).error]}

    def vsunlock(self, addr: int, len: int) -> Json:
        """vsunlock."""
        self.kernel.physmem.vsunlock(self._space, addr, len)
        return {}

    def final(self) -> Json:
        """Wired ranges of the process's map."""
        if not self._space:
            return {}
        ranges = self.kernel.physmem.wired_ranges(self._space).ranges
        return {"wired": [{"start": hex(each.start), "end": hex(each.end), "count": each.count} for each in ranges]}


def _code(result: str) -> int:
    return _MODEL if result == "MODEL" else int(KernReturn[result.removeprefix("KERN_")])


def _check(addr: int, len: int, prot: str | None, prot_bits: int | None) -> AccessCheck:
    return AccessCheck(addr, len, _bits(prot or "-") if prot_bits is None else prot_bits)


def _entry_ops(entry: Json) -> list[MapOp]:
    """What builds an entry: it can be wired only before rights or faults stand in the way."""
    start, size, prot = entry["start"], entry["end"] - entry["start"], _bits(entry["prot"])
    wired, unfaultable = entry["wired"], entry["unfaultable"]
    if not wired:
        return [MapOp(MapOpKind.INSERT, start, size, prot=prot, unfaultable=unfaultable)]
    return [
        MapOp(MapOpKind.INSERT, start, size, prot=_bits("rwx")),
        *[MapOp(MapOpKind.WIRE, start, size)] * wired,
        MapOp(MapOpKind.PROTECT, start, size, prot=prot, unfaultable=unfaultable),
    ]
