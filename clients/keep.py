"""`vmglue up`: a system kept alive behind machine.proto until somebody ends it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health_pb2_grpc

from clients.boot_id import boot_id_teller
from clients.exits import BadInput
from clients.machine import Machine
from clients.machine_server import MachineServicer
from clients.statefile import read_state, remove_state, runtime_directory, write_state
from clients.system import System
from protos import common_pb2_grpc, machine_pb2
from protos.machine_pb2_grpc import add_MachineServiceServicer_to_server
from services.runtime.config import is_private
from services.runtime.counters import MemoryBoard
from services.runtime.health_socket import health_socket
from services.runtime.limits import (
    CONCURRENT_RPCS_MAX,
    MACHINE_VIEWER_STREAMS_MAX,
    MACHINE_WORKERS,
    MESSAGE_BYTES_MAX,
)
from services.runtime.node import ABOUT_PROCESSES, NodeServicer
from services.runtime.reflection import serve_reflection
from services.runtime.remote import KEEPALIVE_MS
from services.runtime.roles import role_guard
from services.runtime.service_health import ServiceHealth, UpstreamWatch, trouble_below
from services.runtime.servicer import Node
from services.runtime.tls import Tls, add_port, is_encrypted

DRAIN_S = 3.0
"""Time that the run's last call, and then calls in flight, get to finish at the end."""
_POLL_S = 0.25
_NAME = machine_pb2.DESCRIPTOR.services_by_name["MachineService"].full_name


def listen_address(listen: str, tls: Tls | None = None) -> str:
    """Where to serve: what the user asked for, or a socket in the private directory.

    Raises:
        BadInput: Anybody could call there, or something answers there already.
    """
    state = read_state()
    if state is not None:
        raise BadInput(f"a system is up already (pid {state.pid}, {state.address}); end it with `vmglue down`")
    if not listen:
        listen = f"unix:{runtime_directory() / 'machine.sock'}"
    _refuse_open("--listen", listen, tls)
    if listen.startswith("unix:"):
        _free_socket(Path(listen.removeprefix("unix:")))
    return listen


@dataclass(frozen=True, slots=True)
class Kept:
    """A system that is served."""

    shutdown: threading.Event
    """Set when a client asked for the end of the system."""
    health: ServiceHealth
    """What the orchestrator tells about itself."""
    watch: UpstreamWatch
    """Follows the services below."""

    def tell_health(self) -> None:
        """Tell whether the orchestrator can do its work: whether all services serve."""
        states = self.watch.states()
        for name, well in states.items():
            self.health.tell_part(name, well)
        down = [name for name, well in states.items() if not well]
        if self.health.tell(trouble_below(down)):
            log = structlog.get_logger()
            if down:
                log.warning("not serving", why=self.health.trouble)
            else:
                log.info("serving")


@contextmanager
def served(
    system: System, listen: str, tls: Tls | None = None, probe_socket: str = "", metrics: str = ""
) -> Iterator[Kept]:
    """Serve machine.proto, announced as the user's default system.

    At the end health is NOT_SERVING first, a run is paused, so that who follows it gets its report, and calls in
    flight finish.

    Args:
        system: Services and ports.
        listen: Where.
        tls: Who serves, and whom it believes.
        probe_socket: Path of a Unix socket for cheap health probes; empty: none.
        metrics: Where Prometheus metrics are served, `HOST:PORT`; empty: nowhere.

    Raises:
        BadInput: An address cannot be taken.
    """
    server = _Server(system, tls, metrics)
    with ExitStack() as stack:
        stack.callback(server.machine.close)
        address = server.bind(stack, listen)
        _open_probe(stack, probe_socket, server.kept.health)
        server.start(stack)
        stack.callback(remove_state)
        write_state(address, system.machine)
        yield server.kept


def keep(system: System, kept: Kept, ended: Callable[[], bool]) -> None:
    """Tell the health until a client or a signal ends the system.

    Raises:
        SystemFailed: A service that was started here ended by itself.
    """
    while not kept.shutdown.wait(_POLL_S) and not ended():
        system.check()
        kept.tell_health()


class _Server:
    """The gRPC server of machine.proto and what stands around it.

    Attributes:
        machine: What is served.
        kept: What is told about it.
    """

    def __init__(self, system: System, tls: Tls | None, metrics: str) -> None:
        kernel = system.kernel
        health_told = ServiceHealth("orchestrator", _NAME, tuple(kernel.channels))
        self.machine = Machine(system)
        self._tls = tls
        self._node = Node(
            "orchestrator", system.machine, time.time_ns(), kernel.ctx, MemoryBoard(),
            health=health_told, tracing=kernel.tracing,
        )  # fmt: skip
        self._servicer = MachineServicer(self.machine, self._node)
        self.kept = Kept(self._servicer.shutdown, health_told, UpstreamWatch(kernel.channels))
        self._server = grpc.server(
            ThreadPoolExecutor(MACHINE_WORKERS, thread_name_prefix="machine-rpc"),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.enable_channelz", 1),
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
            ],
            interceptors=self._interceptors(metrics),
            maximum_concurrent_rpcs=CONCURRENT_RPCS_MAX,
        )

    def bind(self, stack: ExitStack, listen: str) -> str:
        """Take the address; with port 0 the one that was given.

        Raises:
            BadInput: It cannot be taken.
        """
        before = os.umask(0o177)  # a socket is made with mode 0600
        try:
            port = add_port(self._server, listen, self._tls)
        except RuntimeError as error:
            raise BadInput(f"--listen {listen}: cannot be taken: {error}") from None
        finally:
            os.umask(before)
        if listen.startswith("unix:"):
            stack.callback(Path(listen.removeprefix("unix:")).unlink, missing_ok=True)
        host, _, wanted = listen.rpartition(":")
        return f"{host}:{port}" if wanted == "0" else listen

    def start(self, stack: ExitStack) -> None:
        """Serve, and prepare the end: NOT_SERVING, the run's report, calls in flight."""
        self._register()
        stack.callback(lambda: self._server.stop(DRAIN_S).wait())
        stack.callback(self._servicer.shutdown.set)
        stack.callback(self.machine.wind_down, DRAIN_S)
        stack.callback(self.kept.watch.close)
        stack.callback(self.kept.health.end)
        self.kept.watch.start()
        self._server.start()
        self.kept.tell_health()

    def _interceptors(self, metrics: str) -> list[grpc.ServerInterceptor]:
        """What stands in front of every call, the outermost first."""
        found: list[grpc.ServerInterceptor] = [boot_id_teller(self._node.boot_id)]
        if metrics:
            found.append(self._serve_metrics(metrics))
        if self._node.tracing is not None:
            found.append(self._node.tracing.interceptor())
        if self._tls is not None:
            found.append(role_guard(self._node.boot_id, MACHINE_VIEWER_STREAMS_MAX))
        return found

    def _serve_metrics(self, address: str) -> grpc.ServerInterceptor:
        """Let metrics be read, until the process ends.

        Raises:
            BadInput: Anybody could read them, or the address cannot be taken.
        """
        from clients.machine_metrics import MachineCollector  # their library is imported where they are wanted
        from services.runtime.metrics import Metrics

        _refuse_open("--metrics", address, self._tls)
        metrics = Metrics("orchestrator")
        metrics.registry.register(MachineCollector(self.machine))
        try:
            metrics.serve(address, self._node, self._tls)
        except (OSError, ValueError) as error:
            raise BadInput(f"--metrics {address}: cannot be taken: {error}") from None
        return metrics.interceptor()

    def _register(self) -> None:
        """Register everything that this process serves."""
        server = self._server
        add_MachineServiceServicer_to_server(self._servicer, server)
        common_pb2_grpc.add_NodeServiceServicer_to_server(NodeServicer(self._node), server)
        health_pb2_grpc.add_HealthServicer_to_server(self.kept.health.servicer, server)
        channelz.add_channelz_servicer(server)
        serve_reflection((_NAME, *ABOUT_PROCESSES), server)


def _open_probe(stack: ExitStack, path: str, told: ServiceHealth) -> None:
    """Open the socket for health probes, where one is asked for.

    Raises:
        BadInput: It cannot be made.
    """
    try:
        stack.enter_context(health_socket(path, told.servicer))
    except OSError as error:
        raise BadInput(f"--health-socket {path}: cannot be made: {error.strerror}") from None


def _refuse_open(option: str, address: str, tls: Tls | None) -> None:
    """Refuse an address at which anybody could call.

    Raises:
        BadInput: It is one.
    """
    if not (is_private(address) or is_encrypted(address, tls)):
        raise BadInput(
            f"{option} {address}: anybody could call; expected unix:PATH, a loopback address, or "
            "--tls-cert, --tls-key and --tls-ca"
        )


def _free_socket(path: Path) -> None:
    """Remove a socket that nobody listens on any more.

    Raises:
        BadInput: Somebody does, or it is no socket.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise BadInput(f"--listen unix:{path}: the file is there and is not a socket")
    with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
        client.connect(str(path))
        raise BadInput(f"--listen unix:{path}: a server answers there already")
    path.unlink()
