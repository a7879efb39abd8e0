"""A bare gRPC echo of kernacc's request: what one call costs with nothing behind it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from protos.physmem_pb2 import KernaccRequest

METHOD = "/vmglue.bench.Echo/Echo"
READY_S = 60.0


@contextlib.contextmanager
def echo_call() -> Iterator[Callable[[KernaccRequest], KernaccRequest]]:
    """A function that sends a message to an echo process over a Unix socket, as the services are reached."""
    with tempfile.TemporaryDirectory(prefix="vmglue-bench-") as directory:
        address = f"unix:{Path(directory) / 'echo.sock'}"
        command = [sys.executable, "-P", "-m", "clients.bench.echo_server", address]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        try:
            with grpc.insecure_channel(address) as channel:
                grpc.channel_ready_future(channel).result(READY_S)
                call: grpc.UnaryUnaryMultiCallable[KernaccRequest, KernaccRequest] = channel.unary_unary(
                    METHOD, KernaccRequest.SerializeToString, KernaccRequest.FromString
                )
                yield call
        finally:
            process.communicate()
