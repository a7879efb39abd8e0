"""A processor for a scheduler over fakes: executes scripted slices and keeps what was dispatched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fakes import Machine, machine

from services.ports.common import Outcome, Region, Stop, Suspension, Upcalls
from services.ports.scheduler import Dispatch, DispatchKind, SpaceNotice, SpawnRequest, Trap, TrapOp
from services.runtime.events import Kind, unpack

IMAGE = [Region(0x400, 4, 5, "prog", 0, 10), Region(0x600, 4, 3)]
FAR_US = 1 << 50
SECOND = 1_000_000
EXIT = Trap(TrapOp.EXIT)
FORK = Trap(TrapOp.FORK, a=1, cookie=7)
NANOSLEEP, SELECT, SYSINFO, ACCEPT = 35, 23, 99, 43


def sleep(us: int, number: int = NANOSLEEP, addr: int = 0) -> Trap:
    return Trap(TrapOp.SLEEP, us, number, addr)


@dataclass
class Driver:
    """Dispatches and their reports."""

    m: Machine = field(default_factory=machine)
    dispatch: Dispatch = field(default_factory=Dispatch)
    notices: list[SpaceNotice] = field(default_factory=list)

    def spawn(self, *starts: tuple[int, int], nice: int = 0) -> None:
        """Programs by (stream, start in us)."""
        programs = [SpawnRequest(f"prog{cookie}", cookie, start, nice, IMAGE) for cookie, start in starts]
        self.m.core.spawn(programs)

    def next(self, limit_us: int = FAR_US) -> Dispatch:
        return self._take(self.m.core.next(limit_us))

    def report(self, trap: Trap | None = None, limit_us: int = FAR_US, **outcome: Any) -> Dispatch:
        """The slice ended with a trap, or as the fields of its outcome say."""
        upcalls = self.m.ctx.take_upcalls()
        upcalls.absorb(outcome.pop("upcalls", Upcalls()))
        stop = outcome.pop("stop", Stop.END if trap is not None else Stop.BUDGET)
        made = Outcome(**({"stop": stop, "elapsed_us": 100, "next_record": 1} | outcome))
        answer = self.m.core.report(self.dispatch.tid, made, trap or Trap(), upcalls, limit_us)
        return self._take(answer)

    def fault(self, after_us: int, **outcome: Any) -> Dispatch:
        """The slice ended in a fault that reads a page."""
        suspension = self.m.physmem.start_io("page:9", after_us)
        return self.report(stop=Stop.SUSPENDED, suspension=suspension, **({"next_record": 0} | outcome))

    def pfault(self) -> Dispatch:
        """The slice ended in a fault that waits for memory."""
        asleep = Suspension(77, "v_free_count", 120, "pfault")
        return self.report(stop=Stop.SUSPENDED, suspension=asleep, next_record=0)

    def run_out(self, trap: Trap = EXIT) -> Dispatch:
        """Let everybody do the same until nothing is left."""
        while self.dispatch.kind is DispatchKind.RUN:
            self.report(trap)
        return self.dispatch

    def proc(self, pid: int = 100):
        return self.m.core.k.proc(pid)

    def thread(self, pid: int = 100):
        return self.proc(pid).p_threads[0]

    def row(self, pid: int = 100):
        return next(row for row in self.m.core.processes().processes if row.pid == pid)

    def _take(self, dispatch: Dispatch) -> Dispatch:
        violations = self.m.core.check().violations
        assert violations == [], violations
        self.notices += dispatch.notices
        self.dispatch = dispatch
        return dispatch


def events(driver: Driver, kind: Kind) -> list[Any]:
    """Recorded events of a kind."""
    return [event for event in unpack(driver.m.core.events(0, 1 << 20).records) if event.kind == kind]


def booted(*starts: tuple[int, int], **config: Any) -> Driver:
    """A machine on which programs were started and the first runs."""
    driver = Driver(machine(**config))
    driver.spawn(*(starts or ((1, 0),)))
    driver.next()
    return driver
