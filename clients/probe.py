"""A health probe without gRPC: `python -m clients.probe ADDRESS` exits 0 if the server there says SERVING.

Importing grpc costs a probe ten times what it does itself, every few seconds and for every container. So this speaks
just enough HTTP/2 to make one call of grpc.health.v1.Health/Check and to find SERVING in its answer.
"""

from __future__ import annotations

import socket
import struct
import sys

TIMEOUT_S = 2.0
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_EMPTY_MESSAGE = bytes(5)
_SERVING = b"\x08\x01"
"""HealthCheckResponse with status SERVING."""


def probe(address: str) -> str:
    """Ask a server for its overall health.

    Args:
        address: `unix:PATH` or `HOST:PORT`.

    Returns:
        Nothing if it serves, else why not.
    """
    try:
        with _connect(address) as server:
            server.sendall(_request())
            answer = _answer(server)
    except OSError as error:
        return f"{address}: {error}"
    return "" if answer == _SERVING else f"{address}: not serving"


def _connect(address: str) -> socket.socket:
    if address.startswith("unix:"):
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(TIMEOUT_S)
        try:
            server.connect(address.removeprefix("unix:"))
        except OSError:
            server.close()
            raise
        return server
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), TIMEOUT_S)


def _request() -> bytes:
    """Preface, settings, and the call: every header as a literal that no table is needed for."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(
        b"\x00%c%b%c%b" % (len(name), name.encode(), len(value), value.encode()) for name, value in headers.items()
    )
    call = _frame(_HEADERS, _END_HEADERS, 1, block) + _frame(_DATA, _END_STREAM, 1, _EMPTY_MESSAGE)
    return _PREFACE + _frame(_SETTINGS, 0, 0, b"") + call


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _answer(server: socket.socket) -> bytes:
    """The message of the call's answer; empty if it has none."""
    while True:
        head = _read(server, 9)
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = _read(server, int.from_bytes(head[:3], "big"))
        if kind == _DATA and stream == 1:
            return payload[len(_EMPTY_MESSAGE) :]
        if kind in (_RST_STREAM, _GOAWAY) or (kind == _HEADERS and flags & _END_STREAM):
            return b""


def _read(server: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = server.recv(count - len(data))
        if not chunk:
            raise ConnectionError("the connection was closed")
        data += chunk
    return data


def main(arguments: list[str]) -> int:
    """Exit code: 0 it serves, 1 it does not, 2 no address was given."""
    if len(arguments) != 1 or ":" not in arguments[0]:
        print("usage: python -m clients.probe unix:PATH|HOST:PORT", file=sys.stderr)
        return 2
    problem = probe(arguments[0])
    if problem:
        print(problem, file=sys.stderr)
    return int(bool(problem))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
