"""Boards on which counters are shared: in memory for the local wiring, Redis for the distributed one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.runtime.context import Context


class CounterBoard(Protocol):
    """Where a service's counters and events are published for whoever reads them."""

    def attach(self, ctx: Context) -> None:
        """Announce a service of this process."""
        ...

    def publish(self, ctx: Context) -> None:
        """Publish what a call changed; never raises and never blocks beyond a short timeout."""
        ...

    def read(self, names: Sequence[str]) -> dict[str, int] | None:
        """Values by sysctl name, unknown names left out; None: the board is away."""
        ...

    def close(self) -> None:
        """Give back connections and threads."""
        ...


class MemoryBoard:
    """The board of the local wiring: it looks straight at the services' own counters."""

    def __init__(self) -> None:
        self._contexts: dict[str, Context] = {}

    def attach(self, ctx: Context) -> None:
        """Announce a service of this process."""
        self._contexts[ctx.service] = ctx

    def publish(self, ctx: Context) -> None:
        """Count the publication; the counters are seen where they are."""
        ctx.sequence += 1

    def read(self, names: Sequence[str]) -> dict[str, int] | None:
        """Values by sysctl name, unknown names left out."""
        values: dict[str, int] = {}
        for ctx in self._contexts.values():
            values.update((name, ctx.counters[name]) for name in names if name in ctx.counters)
        return values

    def close(self) -> None:
        """Forget the services."""
        self._contexts.clear()


class AbsentBoard:
    """No board: for a caller that was not told where the services publish."""

    def attach(self, ctx: Context) -> None:
        """Nothing is published here.

        Raises:
            LookupError: Always; a service needs a board.
        """
        raise LookupError(f"{ctx.service} has no board to publish on")

    def publish(self, ctx: Context) -> None:
        """Nothing is published here.

        Raises:
            LookupError: Always; a service needs a board.
        """
        raise LookupError(f"{ctx.service} has no board to publish on")

    def read(self, names: Sequence[str]) -> dict[str, int] | None:  # noqa: ARG002 - as the protocol wants it
        """None: there is no board."""
        return None

    def close(self) -> None:
        """Nothing is held."""
