"""What encryption, roles, metrics and traces cost a unary call; what is switched off must cost nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc

from clients.bench.figure import Figure, medians_us
from clients.exits import SystemFailed
from clients.health import serving
from services.ports.pager import PagerBoot, PagerPort, SwapDisk
from services.runtime.context import Context
from services.runtime.remote import Caller, connect, open_channel
from services.runtime.tls import Tls

ROUNDS = 80
"""More than usual: what is compared hardly differs."""
READY_S = 60.0
_OTEL = "OTEL_"


def protection() -> list[Figure]:
    """Median latencies of `swap_status` at pagers that differ in one thing each, over loopback TCP."""
    from clients.certs import make_certificates

    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmglue-bench-")))
        make_certificates(directory)

        def pager(*options: str, tls: Tls | None = None, **environment: str) -> Callable[[], object]:
            return stack.enter_context(_pager(options, tls, environment))

        bare = stack.enter_context(_bare_pager())
        plain = pager()
        encrypted = pager(tls=_files(directory, "pager"))
        measured = pager("--metrics", f"127.0.0.1:{_free_port()}")
        traced = pager(OTEL_TRACES_EXPORTER="console")
        bare_us, plain_us, *others = medians_us([bare, plain, encrypted, measured, traced], ROUNDS)
    rows = (
        ("over TLS with a role", 1.3, ""),
        ("with metrics on", 0.0, ""),
        ("with tracing on", 0.0, "in the service alone, to the console"),
    )
    return [
        Figure(
            "swap_status with all of it off", "us p50", plain_us, "a pager without traces, metrics, roles and health",
            bare_us, at_most=1.05,
        ),
        *(
            Figure(f"swap_status {what}", "us p50", us, "all of it off", plain_us, at_most=at_most, note=note)
            for us, (what, at_most, note) in zip(others, rows, strict=True)
        ),
    ]  # fmt: skip


@contextlib.contextmanager
def _pager(options: Sequence[str], tls: Tls | None, environment: dict[str, str]) -> Iterator[Callable[[], object]]:
    """A pager of its own, and a function that calls it once."""
    address = f"127.0.0.1:{_free_port()}"
    command = [sys.executable, "-P", "-m", "services.pager", "--listen", address, "--die-with-parent", *options]
    if tls is not None:
        command += ["--tls-cert", str(tls.cert), "--tls-key", str(tls.key), "--tls-ca", str(tls.ca)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith((_OTEL, "VMGLUE_"))}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=inherited | environment)
    caller = _files(tls.cert.parent, "operator") if tls is not None else None
    try:
        deadline = time.monotonic() + READY_S
        while not serving(address, 0.5, caller):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemFailed(f"the pager at {address} does not serve")
        with open_channel(address, caller) as channel:
            yield _booted(channel)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _bare_pager() -> Iterator[Callable[[], object]]:
    """A pager with its port alone, and a function that calls it once."""
    address = f"127.0.0.1:{_free_port()}"
    process = subprocess.Popen([sys.executable, "-P", "-m", "clients.bench.bare_pager", address], stdin=subprocess.PIPE)
    try:
        with open_channel(address) as channel:
            grpc.channel_ready_future(channel).result(READY_S)
            yield _booted(channel)
    finally:
        process.communicate()


def _booted(channel: grpc.Channel) -> Callable[[], object]:
    """Boot the pager behind a channel; its call."""
    port = connect(PagerPort, channel, Caller(Context("bench")))
    port.boot(PagerBoot(swap_devices=[SwapDisk(100)], page_count=1000))
    return port.swap_status


def _files(directory: Path, party: str) -> Tls:
    return Tls(directory / f"{party}.pem", directory / f"{party}.key", directory / "ca.pem")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
