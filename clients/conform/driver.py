"""What the drivers of all families share: a kernel booted for one case, and the calls that any case may contain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from clients.conform.families import Json
from clients.kernel import Kernel
from services.ports.common import Setting
from services.ports.kstack import KstackBoot
from services.ports.pager import PagerBoot
from services.ports.physmem import PhysmemBoot
from services.ports.scheduler import SchedulerBoot

RAM_PAGES = 4096
"""Memory of a case that does not say more: nothing in it is ever short."""

_SYSCTLS = {
    "swap_idle_threshold1": ("scheduler", "vm.swap_idle_threshold1"),
    "swap_idle_threshold2": ("scheduler", "vm.swap_idle_threshold2"),
    "kstack_cache_size": ("kstack", "vm.kstack_cache_size"),
    "vm_page_max_wired": ("physmem", "vm.max_wired"),
}
"""Owner and name of the sysctl behind each tunable of a case."""


def wrap(value: int) -> int:
    """The C int with the low 32 bits of a value."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


class CannotSetUp(Exception):
    """The kernel does not take the situation of a case; the text says what it answered to what."""


class Livelock(Exception):
    """A call that would never return was given up.

    Attributes:
        processes: Those that are retried for ever.
    """

    def __init__(self, processes: list[str]) -> None:
        super().__init__(f"retried for ever: {', '.join(processes)}")
        self.processes = processes


class Driver(ABC):
    """Plays one case on a kernel: a method for each kind of call, `final` for the state at the end.

    A subclass sets the situation up in `__init__` and asks the ports; it computes no answer of its own.
    """

    def __init__(self, kernel: Kernel, given: Json) -> None:
        self.kernel, self.given = kernel, given
        self._booted: set[str] = set()

    def boot(self, ram_pages: int = RAM_PAGES, kernel_min: int = 0, kernel_max: int = 0) -> None:
        """Boot memory and kernel stacks with the case's build options and clock, scripted answers allowed.

        The scheduler stays out: see boot_scheduler.

        Args:
            ram_pages: Memory, in pages.
            kernel_min: min_offset of kernel_map; 0: the architecture's.
            kernel_max: max_offset of kernel_map; 0: the architecture's.
        """
        kernel, build, clock = self.kernel, self.given["build"], self.given["clock"]
        common: dict[str, Any] = {"hz": clock["hz"], "start_ticks": clock["ticks"], "allow_inject": True}
        kernel.ctx.reboot(clock["hz"], clock["ticks"], allow_inject=False)
        kernel.pager.boot(PagerBoot(page_count=ram_pages, **common))
        kernel.physmem.boot(
            PhysmemBoot(
                ram_pages=ram_pages,
                kernel_min=kernel_min,
                kernel_max=kernel_max,
                kstack_guard_pages=build["kstack_guard_pages"],
                **common,
            )
        )
        kernel.kstack.boot(
            KstackBoot(kstack_pages=build["kstack_pages"], kstack_guard_pages=build["kstack_guard_pages"], **common)
        )
        self._booted = {"pager", "physmem", "kstack"}

    def boot_scheduler(self) -> None:
        """Boot a scheduler without processes, scripted answers allowed."""
        clock = self.given["clock"]
        self.kernel.scheduler.boot(
            SchedulerBoot(hz=clock["hz"], start_ticks=clock["ticks"], allow_inject=True, bare=True)
        )
        self._booted.add("scheduler")

    def call(self, call: Json) -> Json:
        """Make one call of `when` and give its result.

        Raises:
            KernelPanic: The C code panics.
            Refused: The call contradicts the case's own situation.
        """
        arguments = {name: value for name, value in call.items() if name != "call"}
        method: Callable[..., Json] = getattr(self, call["call"])
        return method(**arguments)

    @abstractmethod
    def final(self) -> Json:
        """The state after the last call."""

    def advance(self, ticks: int) -> Json:
        """The clock moves on."""
        ctx = self.kernel.ctx
        ctx.ticks = wrap(ctx.ticks + ticks)
        ctx.now_us += max(ticks, 0) * 1_000_000 // ctx.hz
        return {}

    def change(self, changes: list[Json]) -> Json:
        """The rest of the kernel changes something: here only the clock matters."""
        for change in changes:
            if "advance" in change:
                self.advance(change["advance"])
        return {}

    def set_tunable(self, name: str, value: int) -> Json:
        """A sysctl is set; that of a service that was not booted matters to none of the functions called."""
        service, sysctl = _SYSCTLS[name]
        if service in self._booted:
            self.kernel.ports()[service].sysctl_set(Setting(sysctl, value))
        return {}


DriverType = Callable[[Kernel, Json], Driver]
"""A driver's class."""
