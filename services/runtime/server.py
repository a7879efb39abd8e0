"""Life of a service process: listen, get ready, serve, drain, end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import structlog
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos import common_pb2_grpc
from services.runtime.config import Exit, ServiceConfig, read_config
from services.runtime.context import Context
from services.runtime.counters import CounterBoard, MemoryBoard
from services.runtime.health_socket import health_socket
from services.runtime.limits import CONCURRENT_RPCS_MAX, VIEWER_STREAMS_MAX, WORKERS
from services.runtime.logs import set_up_logs
from services.runtime.node import ABOUT_PROCESSES, NodeServicer, board_state
from services.runtime.process import collect_rarely, keep_freed_memory
from services.runtime.redis_board import RedisBoard
from services.runtime.reflection import serve_reflection
from services.runtime.remote import DEADLINE_S, KEEPALIVE_MS, LARGE_MESSAGES, Caller, connect, open_channel
from services.runtime.roles import role_guard
from services.runtime.rpc import grpc_of, messages_of, service_of
from services.runtime.service_health import (
    SERVING,
    ServiceHealth,
    UpstreamWatch,
    port_service,
    trouble_below,
    trouble_of,
)
from services.runtime.servicer import Node, PortServicer
from services.runtime.tls import add_port
from services.runtime.tracing import Tracing, TracingUnavailable, start_tracing

if TYPE_CHECKING:
    from services.runtime.metrics import Metrics

Port = TypeVar("Port")
UPSTREAM_READY_S = 300.0
"""Longest time that a service below may take to get ready; compiling on the first run ever takes a minute."""
_TICK_S = 0.25
_RETRY_S = 0.05


class StartFailed(Exception):
    """The service cannot start.

    Attributes:
        status: Exit status of the process.
    """

    def __init__(self, status: Exit, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True)
class Process:
    """What a core is built from: its context, the services below, and the configuration.

    Attributes:
        config: The configuration.
        ctx: The core's context.
        board: Where counters are published.
        channels: To the services below, by name.
        tracing: Makes spans of calls; None: they are not traced.
    """

    config: ServiceConfig
    ctx: Context
    board: CounterBoard
    channels: dict[str, grpc.Channel] = field(default_factory=dict)
    tracing: Tracing | None = None

    def port(self, port: Callable[..., Port]) -> Port:
        """The port of a service below."""
        reader = self.board if isinstance(self.board, RedisBoard) else None
        caller = Caller(self.ctx, self.config.machine, board=reader, tracing=self.tracing)
        return connect(port, self.channels[service_of(port)], caller)


Build = Callable[[Process], Any]
"""Builds the core; called when the services below are ready."""


def main(port: Callable[..., Any], build: Build, upstreams: Sequence[str] = ()) -> None:
    """Run the service of a port until SIGTERM, and exit with a numbered status.

    Args:
        port: The Protocol that is served.
        build: Builds its core.
        upstreams: Names of the services below.
    """
    config = read_config(service_of(port), upstreams, sys.argv[1:])
    tracing = _tracing(config)
    set_up_logs(config.service, config.machine, config.log_level, config.log_format, tracing)
    keep_freed_memory()
    os.umask(0o077)  # the socket and the swap file are the user's alone
    log = structlog.get_logger()
    stopping = _stop_signals()
    try:
        _Server(port, config, log, tracing).run(build, stopping)
    except StartFailed as failed:
        log.error("cannot start", error=str(failed), status=int(failed.status))
        raise SystemExit(int(failed.status)) from None
    raise SystemExit(int(Exit.OK))


class _Server:
    """One service's gRPC server and what it holds."""

    def __init__(self, port: Callable[..., Any], config: ServiceConfig, log: Any, tracing: Tracing | None) -> None:
        self._port, self._config, self._log, self._tracing = port, config, log, tracing
        self._boot_id = time.time_ns()
        self._health = ServiceHealth(config.service, _full_name(port))
        self._metrics = _metrics(config)
        self._server = grpc.server(
            ThreadPoolExecutor(WORKERS, thread_name_prefix="rpc"),
            options=[
                ("grpc.so_reuseport", 0),
                *LARGE_MESSAGES,
                ("grpc.enable_channelz", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
            ],
            interceptors=self._interceptors(),
            maximum_concurrent_rpcs=CONCURRENT_RPCS_MAX,
        )

    def _interceptors(self) -> list[grpc.ServerInterceptor]:
        """What stands in front of every call, the outermost first."""
        found: list[grpc.ServerInterceptor] = []
        if self._metrics is not None:
            found.append(self._metrics.interceptor())
        if self._tracing is not None:
            found.append(self._tracing.interceptor())
        if self._config.tls is not None:
            found.append(role_guard(self._boot_id, VIEWER_STREAMS_MAX))
        return found

    def run(self, build: Build, stopping: threading.Event) -> None:
        """Serve until told to stop.

        Raises:
            StartFailed: The service cannot start.
        """
        self._bind()
        config, boot_id = self._config, self._boot_id
        with contextlib.ExitStack() as stack:
            ctx = Context(config.service, inject_permitted=config.allow_inject)
            ctx.wall.clock = time.perf_counter
            board: CounterBoard = RedisBoard(config.redis, config.machine, boot_id) if config.redis else MemoryBoard()
            stack.callback(board.close)
            self._tell_health(stack)
            if self._tracing is not None:
                stack.callback(self._tracing.close)
            process = Process(config, ctx, board, tracing=self._tracing)
            for name, address in config.upstream.items():
                process.channels[name] = stack.enter_context(open_channel(address, config.tls))
            core = self._build(build, process)
            stack.callback(getattr(core, "close", lambda: None))
            board.attach(ctx)
            node = Node(config.service, config.machine, boot_id, ctx, board, health=self._health, tracing=self._tracing)
            self._serve_metrics(node)
            self._register(core, node)
            watch = UpstreamWatch(process.channels)
            stack.callback(watch.close)
            stack.callback(self._drain)
            collect_rarely()
            self._server.start()
            if self._upstreams_ready(process, stopping):
                watch.start()
                self._serve(node, stopping, lambda: self._trouble(node, watch.states(), trouble_of(core)))

    def _bind(self) -> None:
        """Take the addresses before anything that takes long.

        Raises:
            StartFailed: One is taken or not ours.
        """
        ports = []
        for address in self._config.listen:
            try:
                port = add_port(self._server, address, self._config.tls)
            except RuntimeError as error:
                raise StartFailed(Exit.CANNOT_LISTEN, f"cannot listen on {address}: {error}") from None
            if port == 0:
                raise StartFailed(Exit.CANNOT_LISTEN, f"cannot listen on {address}")
            ports.append(port)
        self._log.info("bound", ports=ports, **self._config.redacted())

    def _tell_health(self, stack: contextlib.ExitStack) -> None:
        """Open the socket for health probes, where one is asked for.

        Raises:
            StartFailed: It cannot be made.
        """
        path = self._config.health_socket
        try:
            stack.enter_context(health_socket(path, self._health.servicer))
        except OSError as error:
            raise StartFailed(Exit.CANNOT_LISTEN, f"--health-socket {path}: {error}") from None

    def _serve_metrics(self, node: Node) -> None:
        """Let metrics be read, where an address is given.

        Raises:
            StartFailed: It is taken or not ours.
        """
        if self._metrics is not None:
            address = self._config.metrics
            try:
                self._metrics.serve(address, node, self._config.tls)
            except (OSError, ValueError) as error:
                raise StartFailed(Exit.CANNOT_LISTEN, f"--metrics {address}: {error}") from None

    def _build(self, build: Build, process: Process) -> Any:
        """Build the core.

        Raises:
            StartFailed: It cannot be built on this host.
        """
        try:
            return build(process)
        except OSError as error:
            raise StartFailed(Exit.CANNOT_START, f"cannot build the core: {error}") from error

    def _register(self, core: Any, node: Node) -> None:
        """Register everything that this process serves."""
        server, service = self._server, f"{self._config.service.capitalize()}Service"
        getattr(grpc_of(self._port), f"add_{service}Servicer_to_server")(PortServicer(self._port, core, node), server)
        common_pb2_grpc.add_NodeServiceServicer_to_server(NodeServicer(node), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, server)
        channelz.add_channelz_servicer(server)
        serve_reflection((_full_name(self._port), *ABOUT_PROCESSES), server)

    def _upstreams_ready(self, process: Process, stopping: threading.Event) -> bool:
        """Wait until the services below serve; False if this one is told to stop.

        Raises:
            StartFailed: One of them does not get ready in time.
        """
        deadline = time.monotonic() + UPSTREAM_READY_S
        for name, channel in process.channels.items():
            while not _serves(channel, port_service(name)):
                if stopping.wait(_RETRY_S) or self._orphaned():
                    return False
                if time.monotonic() > deadline:
                    raise StartFailed(
                        Exit.UPSTREAM_NOT_READY, f"{name} does not serve at {self._config.upstream[name]}"
                    )
        return True

    def _serve(self, node: Node, stopping: threading.Event, trouble: Callable[[], str]) -> None:
        """Serve, and tell the health, until told to stop or, where asked for, the parent has ended."""
        while True:
            if self._health.tell(found := trouble()):
                if found:
                    self._log.warning("not serving", why=found)
                else:
                    self._log.info("serving", boot_id=node.boot_id)
            self._health.tell_part("redis", board_state(node) == "serving")
            if stopping.wait(_TICK_S) or self._orphaned():
                return

    def _trouble(self, node: Node, upstreams: Mapping[str, bool], core: Callable[[], str]) -> str:
        """What keeps the service from its work; empty: nothing."""
        for name, well in upstreams.items():
            self._health.tell_part(name, well)
        down = [name for name, well in upstreams.items() if not well]
        entered = node.entered_s
        if entered and time.monotonic() - entered > DEADLINE_S:
            return f"a call is in the core for more than {DEADLINE_S:.0f} s"
        return trouble_below(down) or core()

    def _orphaned(self) -> bool:
        """The parent with which this process is to end has ended."""
        return self._config.parent != 0 and os.getppid() != self._config.parent

    def _drain(self) -> None:
        """Say NOT_SERVING, let calls in flight finish, and wait for it."""
        self._health.end()
        self._server.stop(self._config.drain_s).wait()
        self._log.info("stopped")


def _tracing(config: ServiceConfig) -> Tracing | None:
    """Traces, if they are wanted.

    Raises:
        SystemExit: They cannot be had (status 2, one line on standard error).
    """
    try:
        return start_tracing(config.service, config.machine)
    except TracingUnavailable as wrong:
        print(f"python -m services.{config.service}: error: {wrong}", file=sys.stderr)
        raise SystemExit(int(Exit.BAD_CONFIGURATION)) from None


def _metrics(config: ServiceConfig) -> Metrics | None:
    """Metrics, if they are wanted: only then their library is imported."""
    if not config.metrics:
        return None
    from services.runtime.metrics import Metrics

    return Metrics(config.service)


def _full_name(port: Callable[..., Any]) -> str:
    """Full name of a port's gRPC service."""
    services = messages_of(port).DESCRIPTOR.services_by_name
    name: str = services[f"{service_of(port).capitalize()}Service"].full_name
    return name


def _serves(channel: grpc.Channel, name: str) -> bool:
    """The service behind a channel says that it is healthy."""
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=1.0, wait_for_ready=True)
    except grpc.RpcError:
        return False
    return bool(answer.status == SERVING)


def _stop_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping
