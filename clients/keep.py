"""`vmglue up`: a system kept alive behind machine.proto until somebody ends it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from clients.exits import BadInput
from clients.machine import Machine
from clients.machine_server import MachineServicer
from clients.statefile import read_state, remove_state, runtime_directory, write_state
from clients.system import System
from protos import machine_pb2
from protos.machine_pb2_grpc import add_MachineServiceServicer_to_server
from services.runtime.config import is_private
from services.runtime.health_socket import health_socket
from services.runtime.limits import CONCURRENT_RPCS_MAX, MACHINE_WORKERS, MESSAGE_BYTES_MAX
from services.runtime.remote import KEEPALIVE_MS
from services.runtime.roles import role_guard
from services.runtime.tls import Tls, add_port, is_encrypted

DRAIN_S = 3.0
"""Time that calls in flight get to finish at the end."""
_POLL_S = 0.25


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
    if not (is_private(listen) or is_encrypted(listen, tls)):
        raise BadInput(
            f"--listen {listen}: anybody could call; expected unix:PATH, a loopback address, or "
            "--tls-cert, --tls-key and --tls-ca"
        )
    if listen.startswith("unix:"):
        _free_socket(Path(listen.removeprefix("unix:")))
    return listen


@contextmanager
def served(system: System, listen: str, tls: Tls | None = None, probe_socket: str = "") -> Iterator[MachineServicer]:
    """Serve machine.proto, announced as the user's default system.

    Args:
        system: Services and ports.
        listen: Where.
        tls: Who serves, and whom it believes.
        probe_socket: Path of a Unix socket for cheap health probes; empty: none.

    Raises:
        BadInput: An address cannot be taken.
    """
    machine = Machine(system)
    servicer = MachineServicer(machine)
    states = health.HealthServicer()
    server = _server(servicer, states, tls)
    stack = ExitStack()
    try:
        address = _bind(server, listen, tls)
        _tell_health(stack, probe_socket, states)
        server.start()
        write_state(address, system.machine)
        yield servicer
    finally:
        states.enter_graceful_shutdown()
        machine.pause()  # who follows a run gets its report
        servicer.shutdown.set()
        server.stop(DRAIN_S).wait()
        machine.close()
        stack.close()
        remove_state()
        if listen.startswith("unix:"):
            Path(listen.removeprefix("unix:")).unlink(missing_ok=True)


def keep(system: System, servicer: MachineServicer, ended: Callable[[], bool]) -> None:
    """Wait until a client or a signal ends the system.

    Raises:
        SystemFailed: A service ended by itself.
    """
    while not servicer.shutdown.wait(_POLL_S) and not ended():
        system.check()


def _tell_health(stack: ExitStack, path: str, states: health.HealthServicer) -> None:
    """Open the socket for health probes, where one is asked for.

    Raises:
        BadInput: It cannot be made.
    """
    try:
        stack.enter_context(health_socket(path, states))
    except OSError as error:
        raise BadInput(f"--health-socket {path}: cannot be made: {error.strerror}") from None


def _server(servicer: MachineServicer, states: health.HealthServicer, tls: Tls | None) -> grpc.Server:
    server = grpc.server(
        ThreadPoolExecutor(MACHINE_WORKERS, thread_name_prefix="machine-rpc"),
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
        ],
        interceptors=[role_guard(0)] if tls is not None else [],
        maximum_concurrent_rpcs=CONCURRENT_RPCS_MAX,
    )
    add_MachineServiceServicer_to_server(servicer, server)
    name = machine_pb2.DESCRIPTOR.services_by_name["MachineService"].full_name
    for service in ("", name):
        states.set(service, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    reflection.enable_server_reflection((name, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return server


def _bind(server: grpc.Server, listen: str, tls: Tls | None) -> str:
    """Take the address; with port 0 the one that was given."""
    before = os.umask(0o177)  # a socket is made with mode 0600
    try:
        port = add_port(server, listen, tls)
    except RuntimeError as error:
        raise BadInput(f"--listen {listen}: cannot be taken: {error}") from None
    finally:
        os.umask(before)
    host, _, wanted = listen.rpartition(":")
    return f"{host}:{port}" if wanted == "0" else listen


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
