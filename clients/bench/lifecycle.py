"""Lives of processes: forks, sleeps, wakeups and exits a second; nothing is executed between them."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from time import process_time

from clients.bench.figure import Figure, best_s
from clients.bench.processor import HZ, boot
from clients.bench.stacks import boot_kstack
from clients.kernel import Kernel, local_kernel
from clients.system import System, SystemConfig
from hardware_sim.clock import initial_ticks
from services.ports.common import Outcome, Region, Stop, Upcalls
from services.ports.scheduler import Dispatch, DispatchKind, SchedulerBoot, SpawnRequest, Trap, TrapOp
from services.runtime.events import Kind, unpack

CHILDREN = 2000
"""Children of the one program; a tenth of them over gRPC."""
TOGETHER = 100
"""Children alive at a time."""
SLEEPS = 4
"""Sleeps in the life of a child."""
ROUNDS = 3
RAM_PAGES = 1 << 13
KINDS = (Kind.PROC_FORK, Kind.SLEEP, Kind.WAKEUP, Kind.PROC_EXIT)
"""What counts as an event of a life."""
_GOAL_PER_S = 50_000
_FOR_EVER_US = 1 << 50
_PARENT = 1
_SELECT, _SLEEP_US = 23, 5000
_IMAGE = [Region(0x400, 4, 3)]
_CHUNK = 16_384


def lifecycle() -> list[Figure]:
    """The four services together; every fork makes a stack, an address space and a process."""
    kernel = local_kernel()
    try:
        local = figures("local", kernel, CHILDREN)
    finally:
        kernel.close()
    with System.start(SystemConfig()) as system:
        return local + figures("gRPC", system.kernel, CHILDREN // 10)


def figures(wiring: str, kernel: Kernel, children: int) -> list[Figure]:
    """Events of lives a second on a kernel, over those of a plain loop; in this process alone also a processor second.

    The second one is the same on a loaded host.
    """
    seconds, processor_s, plain_s, events = [], [], [], 0
    for _ in range(ROUNDS):
        plain_s.append(best_s(lambda: plain_lives(children), 1))
        _boot(kernel)
        lives = Lives(kernel, children)
        seconds.append(best_s(lives.run, 1))
        processor_s.append(lives.processor_s)
        events = _events(kernel)
    assert events >= children * (2 * SLEEPS + 2), f"{events} events of {children} lives"
    note = f"{children:,} children, {TOGETHER} at a time, {SLEEPS} sleeps each; {lives.dispatches:,} dispatches"
    plain = "plain loop with a heap of sleepers"
    found = [Figure(f"lives, {wiring}", "events/s", events / min(seconds), plain, events / min(plain_s), note=note)]
    if kernel.wiring == "local":
        pace = events / min(processor_s)
        found.append(Figure(f"lives, {wiring}, by processor time", "events/s", pace, at_least=_GOAL_PER_S, note=note))
    return found


class Lives:
    """A processor for one program that forks and waits; its children sleep and exit.

    Attributes:
        dispatches: Slices so far.
        processor_s: Processor time that the run took in this process, in seconds.
    """

    def __init__(self, kernel: Kernel, children: int) -> None:
        self.dispatches, self.processor_s = 0, 0.0
        self._kernel, self._left = kernel, children
        self._parent: deque[Trap] = deque()
        self._slept: dict[int, int] = {}

    def run(self) -> None:
        """Until everybody has ended."""
        scheduler, ctx, begun_s = self._kernel.scheduler, self._kernel.ctx, process_time()
        outcome = Outcome(stop=Stop.END, elapsed_us=10, next_record=1)
        dispatch = scheduler.next(_FOR_EVER_US)
        while dispatch.kind is DispatchKind.RUN:
            self.dispatches += 1
            ctx.now_us, ctx.ticks = dispatch.now_us, dispatch.ticks
            upcalls = ctx.take_upcalls() if ctx.upcalls else Upcalls()
            dispatch = scheduler.report(dispatch.tid, outcome, self._trap(dispatch), upcalls, _FOR_EVER_US)
        self.processor_s = process_time() - begun_s
        assert dispatch.kind is DispatchKind.FINISHED, f"{dispatch.kind.name}: {dispatch.reason}"

    def _trap(self, dispatch: Dispatch) -> Trap:
        cookie = dispatch.cookie
        if cookie == _PARENT:
            return self._next_of_parent()
        self._slept[cookie] = slept = self._slept.get(cookie, 0) + 1
        return Trap(TrapOp.SLEEP, _SLEEP_US, _SELECT) if slept <= SLEEPS else Trap(TrapOp.EXIT)

    def _next_of_parent(self) -> Trap:
        """A batch of forks, as many waits, and so on, then the end."""
        if not self._parent:
            batch = min(TOGETHER, self._left)
            if not batch:
                return Trap(TrapOp.EXIT)
            self._parent.extend(Trap(TrapOp.FORK, cookie=_PARENT + self._left - at) for at in range(batch))
            self._parent.extend(Trap(TrapOp.WAIT, -1) for _ in range(batch))
            self._left -= batch
        return self._parent.popleft()


def _boot(kernel: Kernel) -> None:
    boot(kernel, RAM_PAGES)
    boot_kstack(kernel, cached=128)
    kernel.scheduler.boot(SchedulerBoot(HZ, initial_ticks(HZ), page_count=RAM_PAGES))
    kernel.scheduler.spawn([SpawnRequest("parent", _PARENT, 0, 0, _IMAGE)])


def _events(kernel: Kernel) -> int:
    """Events of lives that the scheduler recorded."""
    counted: Counter[int] = Counter()
    since, total = 0, 1
    while since < total:
        chunk = kernel.scheduler.events(since, _CHUNK)
        found = unpack(chunk.records)
        counted.update(event.kind for event in found)
        since, total = chunk.first + len(found), chunk.total
    return sum(counted[kind] for kind in KINDS)


def plain_lives(children: int) -> int:
    """The same lives as a heap of sleepers and nothing else; returns the events."""
    events, heap, now = 0, [(at // TOGETHER, at, 0) for at in range(children)], 0
    heapq.heapify(heap)
    while heap:
        now, child, slept = heapq.heappop(heap)
        events += 1
        if slept < SLEEPS:
            heapq.heappush(heap, (now + _SLEEP_US, child, slept + 1))
            events += 1
    return events
