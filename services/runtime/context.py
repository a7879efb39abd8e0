"""The context of a core: clock, events, counters, up-calls and environment, handed in by whoever calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.ports.common import CounterValues, EventChunk, IoStart, Upcalls
from services.runtime.env import Env
from services.runtime.errors import kassert
from services.runtime.events import EventLog, Kind


def _unbound(service: str, names: Sequence[str]) -> dict[str, int]:
    raise LookupError(f"no port of {service} is bound to this context; {list(names)} cannot be read")


def _no_clock() -> float:
    return 0.0


@dataclass(slots=True)
class WallTime:
    """Where a process's wall time went since it started; a measurement, no state: no checkpoint has it.

    Attributes:
        clock: Reads a clock, in seconds; a context without a wiring has one that stands.
        core_s: Seconds that the service's calls spent in its core, what they waited for below included.
        below_s: Seconds that its own calls took until they were answered.
        board_s: Seconds for which counters and events were published.
        walk_s: Of `core_s`, seconds in the compiled walk over references.
    """

    clock: Callable[[], float] = _no_clock
    core_s: float = 0.0
    below_s: float = 0.0
    board_s: float = 0.0
    walk_s: float = 0.0


@dataclass(slots=True)
class Context:
    """What a core sees of the world; the binding sets the clock before each call and collects the up-calls after it.

    Attributes:
        service: Name of the service.
        now_us: Virtual time of the call, in microseconds.
        ticks: The kernel's `ticks`, a wrapping C int.
        invariants: The kernel was built with INVARIANTS.
        inject_permitted: The process was started so that a boot may allow scripted answers.
        counters: The service's own counters by sysctl name; every write is published before the call is answered.
        read_counters: Counters of a service below, by its name and theirs; one that was never counted is 0. Set by
            the binding.
        booted: The service was booted; kept by the binding.
        stopped: Why mutating calls are refused since a panic; empty: they are not. Kept by the binding.
        sequence: Publications of counters so far. Kept by the binding.
        seen: Last publication that this caller has heard of, by service. Kept by the binding.
        boot_ids: Process incarnation that answered this caller, by service. Kept by the binding.
        calls: Calls that this caller made. Kept by the binding.
        wall: Where wall time went. Kept by the binding.
    """

    service: str
    now_us: int = 0
    ticks: int = 0
    hz: int = 1000
    invariants: bool = True
    inject_permitted: bool = False
    env: Env = field(default_factory=Env)
    upcalls: Upcalls = field(default_factory=Upcalls)
    counters: dict[str, int] = field(default_factory=dict)
    read_counters: Callable[[str, Sequence[str]], dict[str, int]] = _unbound
    booted: bool = False
    stopped: str = ""
    sequence: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    boot_ids: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    wall: WallTime = field(default_factory=WallTime)
    log: EventLog = field(init=False)

    def __post_init__(self) -> None:
        self.log = EventLog(self.service)

    def event(self, kind: Kind, subject: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0, outcome: int = 0) -> None:
        """Record an event at the call's time."""
        self.log.add(self.now_us, kind, subject, a, b, c, d, outcome)

    def kassert(self, condition: object, text: str, function: str, line: int = 0) -> None:
        """KASSERT(9) of the C code: gone in a kernel without INVARIANTS, which goes on.

        Raises:
            KernelPanic: The condition does not hold, and the kernel has INVARIANTS.
        """
        if self.invariants:
            kassert(condition, text, function, line)

    def count(self, name: str, n: int = 1) -> None:
        """Add to a counter (a C u_int: it wraps)."""
        self.counters[name] = (self.counters.get(name, 0) + n) & 0xFFFFFFFF

    def wakeup(self, channel: str) -> None:
        """Every sleeper on the channel becomes runnable when the scheduler sees the answer."""
        self.upcalls.wakeups.append(channel)

    def io_started(self, io: int, due_us: int) -> None:
        """A device operation was started that the scheduler must complete at `due_us`."""
        self.upcalls.ios.append(IoStart(io, due_us))

    def take_upcalls(self) -> Upcalls:
        """The up-calls of this call; the context starts anew."""
        taken, self.upcalls = self.upcalls, Upcalls()
        return taken

    def counter_values(self) -> CounterValues:
        """The service's own counters, sorted by name: the answer of every port's `counters`."""
        names = sorted(self.counters)
        return CounterValues(names, [self.counters[name] for name in names], self.sequence)

    def event_chunk(self, since: int, limit: int) -> EventChunk:
        """Recorded events from a sequence number on: the answer of every port's `events`."""
        first, records = self.log.since(since, limit)
        return EventChunk(records, first, self.log.count)

    def reboot(self, hz: int, ticks: int, allow_inject: bool, invariants: bool = True) -> None:
        """Forget everything from before a boot."""
        self.hz, self.ticks, self.now_us, self.invariants = hz, ticks, 0, invariants
        self.env = Env(allow_inject=allow_inject and self.inject_permitted)
        self.upcalls = Upcalls()
        self.counters.clear()
        self.stopped = ""
        self.seen.clear()
        self.boot_ids.clear()
        self.log = EventLog(self.service)
