"""Composition root of the local wiring: the four cores in one process, joined by the same ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.kstack.core import KstackCore
from services.pager.core import PagerCore
from services.physmem.core import PhysmemCore
from services.ports.kstack import KstackPort
from services.ports.pager import PagerPort
from services.ports.physmem import PhysmemPort
from services.ports.scheduler import SchedulerPort
from services.runtime.binding import local
from services.runtime.context import Context, WallTime
from services.runtime.counters import CounterBoard
from services.scheduler.core import SchedulerCore


@dataclass(frozen=True, slots=True)
class LocalSystem:
    """Cores of one process, as ports for a caller, and where their wall time goes, by name."""

    pager: PagerPort
    physmem: PhysmemPort
    kstack: KstackPort
    scheduler: SchedulerPort
    cores: tuple[PagerCore, PhysmemCore, KstackCore, SchedulerCore]
    wall: dict[str, WallTime]

    def close(self) -> None:
        """Give back memory and the swap file."""
        self.cores[0].close()
        self.cores[1].close()


def compose_local(caller: Context, board: CounterBoard, allow_inject: bool) -> LocalSystem:
    """Build the four cores and bind them: scheduler to kstack and physmem, kstack to physmem, physmem to pager.

    Args:
        caller: Context of whoever uses the ports; its clock is the machine's.
        board: Where counters are published.
        allow_inject: A boot may allow scripted answers.
    """
    contexts = {
        name: Context(name, inject_permitted=allow_inject) for name in ("pager", "physmem", "kstack", "scheduler")
    }
    pager = PagerCore(contexts["pager"])
    physmem = PhysmemCore(contexts["physmem"], local(PagerPort, pager, contexts["pager"], contexts["physmem"], board))
    kstack = KstackCore(contexts["kstack"], local(PhysmemPort, physmem, contexts["physmem"], contexts["kstack"], board))
    scheduler = SchedulerCore(
        contexts["scheduler"],
        local(PhysmemPort, physmem, contexts["physmem"], contexts["scheduler"], board),
        local(KstackPort, kstack, contexts["kstack"], contexts["scheduler"], board),
    )
    return LocalSystem(
        pager=local(PagerPort, pager, contexts["pager"], caller, board),
        physmem=local(PhysmemPort, physmem, contexts["physmem"], caller, board),
        kstack=local(KstackPort, kstack, contexts["kstack"], caller, board),
        scheduler=local(SchedulerPort, scheduler, contexts["scheduler"], caller, board),
        cores=(pager, physmem, kstack, scheduler),
        wall={name: ctx.wall for name, ctx in contexts.items()},
    )


@contextmanager
def pager_alone(ctx: Context, swap_file: Path) -> Iterator[PagerPort]:
    """The pager's core by itself, its clock the context's: for who measures it without a binding around it."""
    core = PagerCore(ctx, swap_file)
    try:
        yield core
    finally:
        core.close()
