"""Plays cases on a kernel and collects what differs."""

from __future__ import annotations

from dataclasses import dataclass, field

from clients.conform.access import Access
from clients.conform.cases import Case
from clients.conform.compare import Mismatch, mismatches
from clients.conform.driver import CannotSetUp, Driver, DriverType, Livelock
from clients.conform.families import Json
from clients.conform.forking import Forking
from clients.conform.images import Images
from clients.conform.kernel_stacks import KernelStacks
from clients.conform.stack_usage import StackUsage
from clients.conform.swapping import Swapping
from clients.kernel import Kernel
from services.runtime.errors import KernelPanic, Refused, ServiceLost

DRIVERS: dict[str, DriverType] = {
    "A_swapout_procs": Swapping,
    "B_swapper_faultin": Swapping,
    "C_kernel_stacks": KernelStacks,
    "D_access_and_wiring": Access,
    "E_stack_paging": Swapping,
    "F_imgact_and_icache": Images,
    "G_fork_and_wait": Forking,
    "H_stack_usage": StackUsage,
}
"""The driver of each family."""


@dataclass(slots=True)
class FamilyResult:
    """What became of a family's cases."""

    passed: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """Cases of the family."""
        return self.passed + self.failed


@dataclass(slots=True)
class Outcome:
    """What became of all cases: families by name, and every field that was not as expected."""

    families: dict[str, FamilyResult] = field(default_factory=dict)
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def passed(self) -> int:
        """Cases that were answered as expected."""
        return sum(family.passed for family in self.families.values())

    @property
    def failed(self) -> int:
        """Cases with a mismatch."""
        return sum(family.failed for family in self.families.values())


def run_cases(kernel: Kernel, cases: list[Case]) -> Outcome:
    """Play all cases, each on a kernel booted anew.

    Raises:
        ServiceLost: A service cannot be reached any more.
    """
    outcome = Outcome({name: FamilyResult() for name in sorted({case.family for case in cases})})
    for case in cases:
        family = outcome.families[case.family]
        found = mismatches(case, *play(kernel, case))
        outcome.mismatches += found
        family.failed += bool(found)
        family.passed += not found
    return outcome


def play(kernel: Kernel, case: Case) -> tuple[list[Json], Json]:
    """The results of a case's calls and its final state, in the format of `then`."""
    steps: list[Json] = []
    try:
        driver: Driver = DRIVERS[case.family](kernel, case.given)
        for call in case.when:
            steps.append(driver.call(call))
        return steps, driver.final()
    except KernelPanic as panic:
        return [*steps, {"panic": panic.text}], {"stopped": "panic"}
    except Livelock as livelock:
        return [*steps, {"livelock": True, "processes": livelock.processes}], {"stopped": "livelock"}
    except Refused as refusal:
        return [*steps, {"refused": str(refusal)}], {"stopped": "refused"}
    except CannotSetUp as problem:
        return [{"setup": str(problem)}], {"stopped": "setup"}
    except ServiceLost:
        raise
    except Exception as defect:  # a defect of the kernel fails this case alone: the next one boots it anew
        return [*steps, {"defect": repr(defect)}], {"stopped": "defect"}
