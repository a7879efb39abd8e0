"""Seeded preemption: what somebody else does where the C code drops a lock or sleeps.

A point is named by function and line of vm_glue.c (``swapout:1079``). Each core says in its `possible` what other
threads and interrupts may do there, given the locks that the C code still holds; a draw decides what happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

from hardware_sim.disk import splitmix64
from services.runtime.context import Context
from services.runtime.env import no_preemption
from services.runtime.events import Kind

DEPTH_MAX = 2
"""Who preempts may be preempted, but not without end."""
_EVERY = 2
"""Something happens at one of so many points."""


class Act(IntEnum):
    """What somebody else does; the outcome of a PREEMPT event."""

    INTERRUPT = 1
    """Time passes: timeouts and ends of device operations that are due."""
    WAKEUP = 2
    """A wakeup of a sleep queue that proves nothing."""
    HOLD = 3
    """Another process holds one (PHOLD), which brings it in, locks its map, and lets go after a while (PRELE)."""
    SWITCH = 4
    """Another thread that is inside the kernel goes on."""
    STACK_NEW = 5
    """A kernel thread begins: it takes a stack from the cache, or builds one and may sleep meanwhile."""
    STACK_DISPOSE = 6
    """A kernel thread ends: its stack goes to the cache, or is destroyed."""
    STACK_LOWMEM = 7
    """vm_lowmem: the cache is drained."""
    SCAN = 8
    """The page daemon makes a pass, asked for more pages than it is short of."""
    RECLAIM = 9
    """The page daemon takes a clean inactive page."""
    UNCACHE = 10
    """The cached pages of an object are used for something else."""
    LOCK_MAP = 11
    """Somebody holds the lock of an address map at this moment."""


@dataclass(slots=True)
class PreemptStream:
    """The random stream of one service's points; a checkpoint holds it."""

    prng: int = 0
    """State of splitmix64; 0: nothing ever happens."""
    points: int = 0
    """Points reached."""

    @classmethod
    def seeded(cls, seed: int, service: str) -> PreemptStream:
        """The stream of a service; seed 0: none."""
        return cls(splitmix64(seed ^ int.from_bytes(service.encode()[:8]))[1] if seed else 0)

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        self.prng, drawn = splitmix64(self.prng)
        return drawn % limit


@dataclass(frozen=True, slots=True)
class Choice:
    """Something that may happen."""

    act: Act
    """What."""
    run: Callable[[], int]
    """Lets it happen; answers whom it concerned: a process, thread, stack or object."""


class Preemption:
    """`Env.preempt` of a machine that was booted with a preemption seed.

    Attributes:
        depth: How many are preempted right now.
    """

    def __init__(
        self, ctx: Context, stream: PreemptStream, possible: Callable[[str, PreemptStream], Iterable[Choice]]
    ) -> None:
        """Describe what may happen.

        Args:
            ctx: Context of the core.
            stream: Its random stream, part of the core's state.
            possible: What may happen at a point; may draw from the stream to say whom it would concern.
        """
        self.depth = 0
        self._ctx, self._stream, self._possible = ctx, stream, possible

    def __call__(self, point: str) -> None:
        """The C code is at a point: let something happen, or nothing."""
        stream = self._stream
        stream.points += 1
        if self.depth == DEPTH_MAX or stream.below(_EVERY):
            return
        choices = list(self._possible(point, stream))
        if not choices:
            return
        choice = choices[stream.below(len(choices))]
        self.depth += 1
        try:
            concerned = choice.run()
        finally:
            self.depth -= 1
        self._ctx.event(Kind.PREEMPT, line_of(point), concerned, self.depth, outcome=choice.act)


def line_of(point: str) -> int:
    """Line of vm_glue.c of a point."""
    return int(point.rpartition(":")[2])


def arm(ctx: Context, stream: PreemptStream, possible: Callable[[str, PreemptStream], Iterable[Choice]]) -> None:
    """Make the points of a core live if its stream has a seed, else idle."""
    ctx.env.preempts = stream.prng != 0
    ctx.env.preempt = Preemption(ctx, stream, possible) if ctx.env.preempts else no_preemption
