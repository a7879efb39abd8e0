"""The context of a core: clock, events, counters, up-calls and environment, handed in by whoever calls it."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.ports.common import IoStart, Upcalls
from services.runtime.env import Env
from services.runtime.events import EventLog, Kind


@dataclass(slots=True)
class Context:
    """What a core sees of the world; the binding sets the clock before each call and collects the up-calls after it.

    Attributes:
        service: Name of the service.
        now_us: Virtual time of the call, in microseconds.
        ticks: The kernel's `ticks`, a wrapping C int.
        inject_permitted: The process was started so that a boot may allow scripted answers.
        counters: The service's own counters by sysctl name; every write is published before the call is answered.
    """

    service: str
    now_us: int = 0
    ticks: int = 0
    hz: int = 1000
    inject_permitted: bool = False
    env: Env = field(default_factory=Env)
    upcalls: Upcalls = field(default_factory=Upcalls)
    counters: dict[str, int] = field(default_factory=dict)
    log: EventLog = field(init=False)

    def __post_init__(self) -> None:
        self.log = EventLog(self.service)

    def event(
        self, kind: Kind, subject: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0, outcome: int = 0
    ) -> None:
        """Record an event at the call's time."""
        self.log.add(self.now_us, kind, subject, a, b, c, d, outcome)

    def count(self, name: str, n: int = 1) -> None:
        """Add to a counter (a C u_int: it wraps)."""
        self.counters[name] = (self.counters.get(name, 0) + n) & 0xFFFFFFFF

    def wakeup(self, channel: str) -> None:
        """wakeup(9): every sleeper on the channel becomes runnable when the scheduler sees the answer."""
        self.upcalls.wakeups.append(channel)

    def io_started(self, io: int, due_us: int) -> None:
        """A device operation was started that the scheduler must complete at `due_us`."""
        self.upcalls.ios.append(IoStart(io, due_us))

    def take_upcalls(self) -> Upcalls:
        """The up-calls of this call; the context starts anew."""
        taken, self.upcalls = self.upcalls, Upcalls()
        return taken

    def reboot(self, hz: int, ticks: int, allow_inject: bool) -> None:
        """Forget everything from before a boot."""
        self.hz, self.ticks, self.now_us = hz, ticks, 0
        self.env = Env(allow_inject=allow_inject and self.inject_permitted)
        self.upcalls = Upcalls()
        self.counters.clear()
        self.log = EventLog(self.service)
