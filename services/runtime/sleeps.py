"""Suspended operations, for whoever asks what a machine waits for: each service keeps the sleep beside its progress."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.ports.common import SuspendedOperation, SuspendedOperations, Suspension
from services.runtime.context import Context
from services.runtime.limits import SUSPENDED_TOLD_MAX


@dataclass(slots=True)
class Sleep:
    """The sleep of a suspended operation.

    Attributes:
        channel: Sleep channel.
        priority: Sleep priority.
        wmesg: Wait message.
        timeout_ticks: Ticks after which it ends by itself; 0: none.
        since_us: Virtual time at which it began, in microseconds.
    """

    channel: str
    priority: int
    wmesg: str
    timeout_ticks: int
    since_us: int

    @classmethod
    def of(cls, suspension: Suspension, ctx: Context) -> Sleep:
        """The sleep that begins now with these arguments of msleep(9)."""
        s = suspension
        return cls(s.channel, s.priority, s.wmesg, s.timeout_ticks, ctx.now_us)


def suspended_operations(
    sleeps: dict[int, Sleep], about: Iterable[tuple[int, str, str]], hz: int
) -> SuspendedOperations:
    """The answer of a port's `suspended`: operations by id, a bounded number of them.

    Args:
        sleeps: The sleeps by operation id.
        about: Operation id, C function with its lines, and what it works for, by id; only as many are taken as told.
        hz: Ticks in a second.
    """
    told = []
    for (op, function, subject), _ in zip(about, range(SUSPENDED_TOLD_MAX), strict=False):
        sleep = sleeps[op]
        until_us = sleep.since_us + sleep.timeout_ticks * 1_000_000 // hz if sleep.timeout_ticks else 0
        told.append(
            SuspendedOperation(
                op, function, subject, sleep.channel, sleep.priority, sleep.wmesg, sleep.since_us, until_us
            )
        )
    return SuspendedOperations(told, len(sleeps))
