"""A bare gRPC echo: what one call costs with nothing behind it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

METHOD = "/vmglue.bench.Echo/Echo"
SERVER = Path(__file__).with_name("echo_server.py")
READY_S = 30.0


@contextlib.contextmanager
def echo_call() -> Iterator[Callable[[bytes], bytes]]:
    """A function that sends bytes to an echo process over a Unix socket, as the services are reached."""
    with tempfile.TemporaryDirectory(prefix="vmglue-bench-") as directory:
        address = f"unix:{Path(directory) / 'echo.sock'}"
        command = [sys.executable, str(SERVER), address]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        try:
            with grpc.insecure_channel(address) as channel:
                grpc.channel_ready_future(channel).result(READY_S)
                call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
                yield call
        finally:
            process.communicate()
