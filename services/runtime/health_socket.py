"""Health on a Unix socket: for a probe that has no certificate and must not pay for importing gRPC."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from grpc_health.v1 import health, health_pb2

_SEND_S = 1.0
"""Longest time that a probe may take to read its answer."""


@contextlib.contextmanager
def health_socket(path: str, states: health.HealthServicer) -> Iterator[None]:
    """Tell everybody who connects the overall health, in a word and a line feed, while the context lasts.

    Args:
        path: Of the socket, made with mode 0600; what is left of an earlier process is replaced. Empty: no socket.
        states: Whose overall health ("") is told.

    Raises:
        OSError: The socket cannot be made there.
    """
    if not path:
        yield
        return
    if Path(path).is_socket():
        Path(path).unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        Path(path).chmod(0o600)
        listener.listen()
        teller = threading.Thread(target=_tell, args=(listener, states), name="health-socket", daemon=True)
        teller.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # ends accept
            teller.join()
            Path(path).unlink(missing_ok=True)


def _tell(listener: socket.socket, states: health.HealthServicer) -> None:
    """Answer one probe after another until the listener is shut down."""
    while True:
        try:
            probe, _ = listener.accept()
        except OSError:
            return
        with probe, contextlib.suppress(OSError):
            probe.settimeout(_SEND_S)
            probe.sendall(f"{_overall(states)}\n".encode())


def _overall(states: health.HealthServicer) -> str:
    """Name of the overall status."""
    status = states.Check(health_pb2.HealthCheckRequest(), None).status  # None: "" is known, nothing is aborted
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))
