"""Situations in the format of the case files, played call by call on a kernel whose cores are at hand."""

from __future__ import annotations

from typing import Any

from clients.conform.cases import read_case
from clients.conform.driver import Driver
from clients.conform.runner import DRIVERS
from clients.kernel import Kernel
from services.compose import LocalSystem, compose_local
from services.runtime.context import Context
from services.runtime.counters import MemoryBoard


def composed() -> tuple[Kernel, LocalSystem]:
    """A kernel in this process that accepts scripted answers, and what it is made of."""
    ctx, board = Context("orchestrator"), MemoryBoard()
    system = compose_local(ctx, board, allow_inject=True)
    kernel = Kernel(
        ctx, system.pager, system.physmem, system.kstack, system.scheduler, board, "local", list, [system.close]
    )
    return kernel, system


class Situation:
    """One situation: call a C function by its name in `when`, ask for the final state.

    Attributes:
        driver: What plays it.
    """

    def __init__(self, kernel: Kernel, family: str, given: dict[str, Any]) -> None:
        self._family, self._given = family, given
        self.driver: Driver = DRIVERS[family](kernel, self._read([]).given)

    def _read(self, when: list[dict[str, Any]]):
        then = {"steps": [{} for _ in when], "final": {}}
        case = {"id": "played", "family": self._family, "given": self._given, "when": when, "then": then}
        return read_case(case)

    def call(self, call: str, **arguments: Any) -> dict[str, Any]:
        """Make a call and give its result."""
        return self.driver.call(self._read([{"call": call, **arguments}]).when[0])

    def final(self) -> dict[str, Any]:
        """The state now."""
        return self.driver.final()
