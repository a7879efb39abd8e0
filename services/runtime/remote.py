"""The gRPC binding of a port: the same calls as the local one, answered by another process."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol, TypeVar, cast

import grpc

from services.ports.common import Upcalls
from services.runtime.binding import STARTS, in_order, read_from
from services.runtime.codec import dataclass_codec
from services.runtime.config import is_private
from services.runtime.context import Context
from services.runtime.errors import KernelPanic, Refused
from services.runtime.limits import MESSAGE_BYTES_MAX
from services.runtime.rpc import Rpc, grpc_of, rpcs_of, service_of
from services.runtime.status import raised, restarted
from services.runtime.tls import Tls, is_encrypted
from services.runtime.tracing import Tracing

Port = TypeVar("Port")

DEADLINE_S = 120.0
"""Longest time that one call may take; booting 16 GiB takes 5 s, compiling on the first run ever a minute."""

LARGE_MESSAGES: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 2 << 20),
    ("grpc.http2.max_frame_size", 1 << 20),
)
"""Options of both ends: a batch of references is sent in one go, without asking for room or measuring the line."""
KEEPALIVE_MS = 10_000
"""Interval at which a caller asks during a call whether a service on another host is still there."""


class FreshReader(Protocol):
    """A board that can tell how new its values are."""

    def read_fresh(
        self, service: str, names: Sequence[str], sequence: int, boot_id: int | None
    ) -> dict[str, int] | None:
        """Values published by a service at `sequence` or later; None: the board is behind or away."""
        ...


def open_channel(address: str, tls: Tls | None = None) -> grpc.Channel:
    """A channel to a service, which retries calls that never reached it.

    Where the peer may be on another host, one that vanished without closing the connection is noticed during a call.

    Args:
        address: gRPC target: `unix:PATH` or `HOST:PORT`.
        tls: Who calls, and whom it believes; None: without encryption, as Unix sockets always are.
    """
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.05s",
        "maxBackoff": "0.4s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    options: list[tuple[str, Any]] = [
        *LARGE_MESSAGES,
        ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": retry}]})),
        ("grpc.enable_retries", 1),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if is_encrypted(address, tls) or not is_private(address):  # a published port is loopback, and yet a network
        options += [("grpc.keepalive_time_ms", KEEPALIVE_MS), ("grpc.keepalive_timeout_ms", KEEPALIVE_MS // 2)]
    if tls is not None and is_encrypted(address, tls):
        return grpc.secure_channel(address, tls.channel_credentials(), options)
    return grpc.insecure_channel(address, options)


@dataclass(slots=True)
class Caller:
    """Who calls over a channel, and how its calls are named.

    Attributes:
        ctx: Context whose clock goes with the calls and which absorbs up-calls.
        machine: Name of the machine.
        deadline_s: Longest time that one call may take, in seconds.
        board: Where counters are read first; None: always ask their owner.
        tracing: Makes spans of calls; None: they are not traced.
    """

    ctx: Context
    machine: str = ""
    deadline_s: float = DEADLINE_S
    board: FreshReader | None = None
    tracing: Tracing | None = None
    _prefix: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def request_id(self) -> str:
        """A new identity for a call."""
        return f"{self._prefix}-{next(self._count)}"


def connect(port: Callable[..., Port], channel: grpc.Channel, caller: Caller) -> Port:
    """Bind a port to the service behind a channel.

    Calls raise Refused for the caller's mistakes, KernelPanic for a panic, ServiceLost when the service cannot be
    reached, does not answer in time or lost its memory, and ServiceFault for its defects.

    Args:
        port: The Protocol.
        channel: Channel to its service.
        caller: Who calls.
    """
    service = service_of(port)
    stub = getattr(grpc_of(port), f"{service.capitalize()}ServiceStub")(channel)
    remote = _Remote(service, caller)
    bound = type(f"Remote{service.capitalize()}", (), {})()
    for rpc in rpcs_of(port):
        setattr(bound, rpc.method, remote.method(rpc, getattr(stub, rpc.name)))
    read_from(caller.ctx, service, remote.counter_source(bound.counters))
    return cast("Port", bound)


class _Remote:
    """What the methods of one remote port share."""

    def __init__(self, service: str, caller: Caller) -> None:
        self._service, self._caller = service, caller

    def method(self, rpc: Rpc, stub: Callable[..., Any]) -> Callable[..., Any]:
        """The callable that stands for a method of the port."""
        caller, ctx, names = self._caller, self._caller.ctx, rpc.arguments.names
        if caller.tracing is not None:
            stub = caller.tracing.caller(self._service, rpc.name, stub)
        encode, decode, deadline_s = rpc.arguments.encode, rpc.answer.decode, self._caller.deadline_s

        def call(*args: Any, **kwargs: Any) -> Any:
            called = perf_counter()
            if kwargs or len(args) != len(names):
                args = in_order(rpc.method, names, args, kwargs)
            header: dict[str, Any] = {"machine": caller.machine}
            if not rpc.reads:
                header.update(request_id=caller.request_id(), now_us=ctx.now_us, ticks=ctx.ticks, seen=ctx.seen)
            ctx.calls += 1
            try:
                request = rpc.request(header=header, **encode(args))
            except (TypeError, ValueError, Refused):
                rpc.arguments.check(args)
                raise
            try:
                answer = stub(request, timeout=deadline_s)
            except grpc.RpcError as error:
                raise raised(error, self._service, ctx.boot_ids.get(self._service)) from None
            self._absorb(answer.header, rpc)
            decoded = decode(answer)
            ctx.wall.below_s += perf_counter() - called
            return decoded

        return call

    def _absorb(self, header: Any, rpc: Rpc) -> None:
        """Take over what stands around an answer.

        Raises:
            ServiceLost: Another process answered than before.
            KernelPanic: The answer is a panic.
        """
        ctx, service = self._caller.ctx, self._service
        if ctx.boot_ids.get(service) != header.boot_id:
            if service in ctx.boot_ids and rpc.method not in STARTS:
                raise restarted(service, header.boot_id)
            ctx.boot_ids[service] = header.boot_id
        ctx.seen[service] = header.sequence
        for below, sequence in header.seen.items():
            if sequence > ctx.seen.get(below, 0):
                ctx.seen[below] = sequence
        if header.HasField("upcalls"):
            ctx.upcalls.absorb(_UPCALLS.decode(header.upcalls))
        if header.HasField("panic"):
            raise KernelPanic(header.panic.text, header.panic.function, header.panic.line)

    def counter_source(self, counters: Callable[[], Any]) -> Callable[[Sequence[str]], dict[str, int]]:
        """A reader of the service's counters: the board if it is as new as what this caller knows, else the owner."""
        caller, ctx, service = self._caller, self._caller.ctx, self._service

        def read(names: Sequence[str]) -> dict[str, int]:
            if caller.board is not None and service in ctx.seen:
                values = caller.board.read_fresh(service, names, ctx.seen[service], ctx.boot_ids.get(service))
                if values is not None:
                    return values
            own = counters()
            values = dict(zip(own.names, own.values, strict=True))
            return {name: values.get(name, 0) for name in names}

        return read


def node_info(channel: grpc.Channel, service: str, deadline_s: float = 5.0) -> Any:
    """Ask the process behind a channel who it is: a GetInfoResponse of protos/common.proto.

    Raises:
        ServiceLost: It does not answer.
        ServiceFault: It has no such rpc.
    """
    from protos import common_pb2, common_pb2_grpc

    try:
        return common_pb2_grpc.NodeServiceStub(channel).GetInfo(common_pb2.GetInfoRequest(), timeout=deadline_s)
    except grpc.RpcError as error:
        raise raised(error, service, None) from None


_UPCALLS = dataclass_codec(Upcalls, None)
