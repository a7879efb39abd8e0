"""A whole kernel as its four ports, composed in one process or reached over gRPC."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from services.ports.kstack import KstackPort
from services.ports.pager import PagerPort
from services.ports.physmem import PhysmemPort
from services.ports.scheduler import SchedulerPort
from services.runtime.context import Context, WallTime
from services.runtime.counters import AbsentBoard, CounterBoard, MemoryBoard
from services.runtime.errors import ServiceFault, ServiceLost
from services.runtime.process import keep_freed_memory, pss_bytes
from services.runtime.tls import Tls

if TYPE_CHECKING:  # gRPC and traces are needed for one wiring alone
    import grpc

    from services.runtime.tracing import Tracing

SERVICES = ("pager", "physmem", "kstack", "scheduler")
"""The services, from the bottom up."""


@dataclass(slots=True)
class Kernel:
    """The four services as one caller sees them.

    Attributes:
        ctx: The caller's context: its clock goes with every call, up-calls arrive in it.
        board: Where the services' counters are read.
        wiring: `local` or `grpc`.
        channels: To the services, by name; empty in the local wiring.
        tracing: Makes spans of calls; None: they are not traced.
    """

    ctx: Context
    pager: PagerPort
    physmem: PhysmemPort
    kstack: KstackPort
    scheduler: SchedulerPort
    board: CounterBoard
    wiring: str
    _describe: Callable[[], list[dict[str, Any]]]
    _wall: Callable[[], Mapping[str, WallTime]] = dict
    _closers: list[Callable[[], None]] = field(default_factory=list)
    channels: dict[str, grpc.Channel] = field(default_factory=dict)
    tracing: Tracing | None = None

    def ports(self) -> dict[str, PagerPort | PhysmemPort | KstackPort | SchedulerPort]:
        """The ports by service name, from the bottom up."""
        return {"pager": self.pager, "physmem": self.physmem, "kstack": self.kstack, "scheduler": self.scheduler}

    def span(self, name: str) -> AbstractContextManager[Any]:
        """A span around what is done inside of the context, where calls are traced."""
        return self.tracing.span(name) if self.tracing is not None else nullcontext()

    def calls(self) -> int:
        """Calls made through these ports."""
        return self.ctx.calls

    def service_rows(self) -> list[dict[str, Any]]:
        """A row for each service: name, pid, address and pss_bytes (proportional set size; 0: not known)."""
        return self._describe()

    def wall_times(self) -> Mapping[str, WallTime]:
        """Where each service's wall time went since it started, by name.

        Raises:
            ServiceLost: One does not answer.
        """
        return self._wall()

    def hang_up(self) -> None:
        """End the calls in flight, which raise ServiceLost, and refuse more."""
        for channel in self.channels.values():
            channel.close()

    def close(self) -> None:
        """Give back what the kernel holds: cores or channels, and the board."""
        while self._closers:
            self._closers.pop()()
        self.board.close()


def local_kernel(allow_inject: bool = False) -> Kernel:
    """Compose the four cores in this process.

    Args:
        allow_inject: A boot may allow scripted answers.
    """
    from services.compose import compose_local  # the cores and their compiler are needed for this wiring alone

    ctx, board = Context("orchestrator"), MemoryBoard()
    system = compose_local(ctx, board, allow_inject)
    return Kernel(
        ctx=ctx,
        pager=system.pager,
        physmem=system.physmem,
        kstack=system.kstack,
        scheduler=system.scheduler,
        board=board,
        wiring="local",
        _describe=_local_rows,
        _wall=lambda: system.wall,
        _closers=[system.close],
    )


def connect_kernel(
    addresses: Mapping[str, str], machine: str = "", redis_url: str = "", tls: Tls | None = None
) -> Kernel:
    """Reach four running services.

    Args:
        addresses: gRPC target of each service, by name.
        machine: Name of the machine; its keys in Redis carry it.
        redis_url: Redis of those services; empty: the shared counters cannot be read.
        tls: Who calls.
    """
    from services.runtime.redis_board import RedisBoard  # gRPC and Redis are needed for this wiring alone
    from services.runtime.remote import Caller, connect, open_channel
    from services.runtime.tracing import start_tracing

    keep_freed_memory()
    board = RedisBoard(redis_url, machine) if redis_url else AbsentBoard()
    ctx = Context("orchestrator")
    tracing = start_tracing("orchestrator", machine)
    caller = Caller(ctx, machine, tracing=tracing)
    channels = {name: open_channel(addresses[name], tls) for name in SERVICES}
    return Kernel(
        ctx=ctx,
        pager=connect(PagerPort, channels["pager"], caller),
        physmem=connect(PhysmemPort, channels["physmem"], caller),
        kstack=connect(KstackPort, channels["kstack"], caller),
        scheduler=connect(SchedulerPort, channels["scheduler"], caller),
        board=board,
        wiring="grpc",
        _describe=partial(_remote_rows, channels, addresses),
        _wall=partial(_remote_wall_times, channels),
        _closers=[channel.close for channel in channels.values()] + ([tracing.close] if tracing is not None else []),
        channels=channels,
        tracing=tracing,
    )


def _remote_rows(channels: Mapping[str, Any], addresses: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every process tells about itself; one that does not answer has pid and size 0."""
    from services.runtime.remote import node_info

    rows = []
    for name, channel in channels.items():
        row = {"name": name, "pid": 0, "address": addresses[name], "pss_bytes": 0}
        with suppress(ServiceLost, ServiceFault):
            info = node_info(channel, name)
            row.update(pid=info.pid, pss_bytes=info.pss_bytes)
        rows.append(row)
    return rows


def _remote_wall_times(channels: Mapping[str, Any]) -> dict[str, WallTime]:
    from services.runtime.remote import node_info

    found = {name: node_info(channel, name).wall for name, channel in channels.items()}
    return {
        name: WallTime(core_s=wall.core_s, below_s=wall.below_s, board_s=wall.board_s, walk_s=wall.walk_s)
        for name, wall in found.items()
    }


def _local_rows() -> list[dict[str, Any]]:
    """All services live in this process: its size stands in the first row, so that the rows' sum is right."""
    pid = os.getpid()
    sizes = (pss_bytes(pid), 0, 0, 0)
    return [
        {"name": name, "pid": pid, "address": "in this process", "pss_bytes": size}
        for name, size in zip(SERVICES, sizes, strict=True)
    ]
