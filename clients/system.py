"""A system of four service processes and Redis that belongs to this process, and goes when it goes."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from clients.embedded_redis import EmbeddedRedis, RedisFailed
from clients.exits import SystemFailed
from clients.health import service_state, serving
from clients.kernel import SERVICES, Kernel, connect_kernel, local_kernel
from clients.numba_cache import is_compiled, numba_cache
from clients.redis_url import check_redis
from clients.statefile import ProcessId, alive, this_process
from services.runtime.errors import ServiceLost
from services.runtime.tls import Tls

UPSTREAMS: Mapping[str, tuple[str, ...]] = {
    "pager": (),
    "physmem": ("pager",),
    "kstack": ("physmem",),
    "scheduler": ("physmem", "kstack"),
}
"""Whom each service calls."""
READY_S = 45.0
"""Longest wall time until all services serve."""
COMPILE_S = 300.0
"""The same when the page walk must be compiled first."""
STOP_S = 5.0
"""Wall time between SIGTERM and SIGKILL at the end."""
_SLOW_S = 5.0
_LOG_LINES = 12
_SOCKET_PATH_MAX = 100
_OWNER = "owner.json"
_OWN_VARIABLES = {"VMGLUE_LISTEN", "VMGLUE_METRICS", "VMGLUE_HEALTH_SOCKET"}
"""Addresses of whoever starts the services: no two processes can take them."""

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SystemConfig:
    """What a system is started with."""

    machine: str = ""
    """Name of the machine, part of its keys in Redis; empty: a name of its own that is not used again."""
    redis: str = ""
    """URL of a Redis server; empty: one is started with the system."""
    allow_inject: bool = False
    """A boot may allow scripted answers."""
    tls: Tls | None = None
    """Who calls services that run elsewhere; those that are started here listen on Unix sockets."""


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """A service that was started here."""

    name: str
    """Its name."""
    address: str
    """gRPC target."""
    process: subprocess.Popen[bytes]
    """Its process."""
    log: Path
    """Where its standard error goes."""

    def obituary(self) -> str:
        """How it ended, and the tail of its log."""
        tail = self.log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:] if self.log.exists() else []
        told = "".join(f"\n    {line}" for line in tail) or " (its log is empty)"
        return f"{self.name} (pid {self.process.pid}) {self._end()}; its last log lines:{told}"

    def _end(self) -> str:
        status = self.process.poll()
        if status is None:
            return "does not answer"
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with exit status {status}"


@dataclass(slots=True)
class System:
    """The four services as processes, in a private directory; close() leaves nothing behind.

    Attributes:
        kernel: Ports to the services.
        machine: Name of the machine.
        redis: URL of Redis.
        processes: The services that were started here, by name.
        addresses: gRPC targets of all of them, by name.
        tls: Who calls them.
    """

    kernel: Kernel
    machine: str = ""
    redis: str = ""
    processes: dict[str, ServiceProcess] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    tls: Tls | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def local(cls, allow_inject: bool = False) -> System:
        """All cores in this process: no sockets, no Redis."""
        kernel = local_kernel(allow_inject)
        stack = ExitStack()
        stack.callback(kernel.close)
        return cls(kernel, machine="local", _stack=stack)

    @classmethod
    def start(cls, config: SystemConfig, note: Note = lambda _: None, poll: Note = lambda _: None) -> System:
        """Start Redis and the services, and wait until all of them serve.

        Args:
            config: What to start.
            note: Told when starting takes longer, and why.
            poll: Called with the name of what is waited for; may raise to give up.

        Raises:
            BadInput: No server answers at the URL of Redis.
            SystemFailed: A service ended or did not get ready in time.
        """
        if config.redis:
            check_redis(config.redis)
        with ExitStack() as stack:
            directory = _private_directory()
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            redis = config.redis
            if not redis:
                redis = _start_redis(directory, stack)
            machine = config.machine or f"run-{secrets.token_hex(4)}"
            processes = _spawn(directory, machine, redis, config.allow_inject, stack)
            _wait_ready(processes, note, poll)
            addresses = {name: service.address for name, service in processes.items()}
            kernel = connect_kernel(addresses, machine=machine, redis_url=redis)
            stack.callback(kernel.close)
            return cls(kernel, machine, redis, processes, addresses, _stack=stack.pop_all())

    @classmethod
    def join(cls, addresses: Mapping[str, str], config: SystemConfig, poll: Note = lambda _: None) -> System:
        """Use services that run elsewhere; close() leaves them alone.

        Args:
            addresses: gRPC target of each service.
            config: Machine name and Redis of those services.
            poll: As for `start`.

        Raises:
            SystemFailed: A service does not serve in time.
        """
        deadline = time.monotonic() + READY_S
        for name, address in addresses.items():
            while not serving(address, 0.5, config.tls):
                poll(name)
                if time.monotonic() > deadline:
                    raise SystemFailed(f"{name} at {address} does not serve")
        info = service_state(addresses["scheduler"], config.tls).info
        machine = config.machine or (info.machine if info is not None else "")
        kernel = connect_kernel(dict(addresses), machine, config.redis, config.tls)
        stack = ExitStack()
        stack.callback(kernel.close)
        return cls(kernel, machine, config.redis, addresses=dict(addresses), tls=config.tls, _stack=stack)

    @property
    def joined(self) -> bool:
        """The services run elsewhere, and may come back after they were lost."""
        return bool(self.addresses) and not self.processes

    def check(self) -> None:
        """Raise SystemFailed if a service that was started here has ended."""
        for service in self.processes.values():
            if service.process.poll() is not None:
                raise SystemFailed(service.obituary())

    def explain(self, lost: ServiceLost) -> SystemFailed:
        """What happened to a service that a caller lost: the one that ended first, if any did."""
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            for service in self.processes.values():
                if service.process.poll() is not None:
                    return SystemFailed(service.obituary())
            time.sleep(0.02)
        named = self.processes.get(lost.service)
        return SystemFailed(f"{lost}" + (f"\n{named.obituary()}" if named else ""))

    def close(self) -> None:
        """End what was started: SIGTERM, a while, SIGKILL; then remove sockets and logs."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _private_directory() -> Path:
    """A new directory that only the user can enter, with a path short enough for socket names."""
    base = Path(tempfile.gettempdir())
    if len(str(base)) > _SOCKET_PATH_MAX - len("/vmglue-12345678/scheduler.sock"):
        base = Path("/tmp")
    _sweep(base)
    path = Path(tempfile.mkdtemp(prefix="vmglue-", dir=base))
    (path / _OWNER).write_text(json.dumps(asdict(this_process())), "utf-8")
    return path


def _sweep(base: Path) -> None:
    """Remove directories whose owner was killed before it could."""
    for owner in base.glob(f"vmglue-*/{_OWNER}"):
        with suppress(OSError, ValueError, TypeError):
            if owner.stat().st_uid == os.getuid() and not alive(ProcessId(**json.loads(owner.read_text("utf-8")))):
                shutil.rmtree(owner.parent)


def _start_redis(directory: Path, stack: ExitStack) -> str:
    """Start Redis; its URL."""
    try:
        embedded = EmbeddedRedis.start(directory)
    except RedisFailed as failed:
        raise SystemFailed(str(failed)) from None
    stack.callback(embedded.close)
    return embedded.url


def _spawn(
    directory: Path, machine: str, redis: str, allow_inject: bool, stack: ExitStack
) -> dict[str, ServiceProcess]:
    """Start the four services at once; they wait for one another. They do not see the terminal's Ctrl-C."""
    numba_cache()
    addresses = {name: f"unix:{directory / name}.sock" for name in SERVICES}
    inherited = {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}
    started: dict[str, ServiceProcess] = {}
    stack.callback(_stop, started)
    for name in SERVICES:
        log = directory / f"{name}.log"
        command = [sys.executable, "-P", "-m", f"services.{name}", "--listen", addresses[name], "--machine", machine]
        command += ["--die-with-parent", str(os.getpid())]
        for upstream in UPSTREAMS[name]:
            command += ["--upstream", f"{upstream}={addresses[upstream]}"]
        if allow_inject:
            command += ["--allow-inject"]
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env={**inherited, "VMGLUE_REDIS": redis},  # a password in it would show on a command line
                start_new_session=True,
            )
        started[name] = ServiceProcess(name, addresses[name], process, log)
    return started


def _wait_ready(processes: Mapping[str, ServiceProcess], note: Note, poll: Note) -> None:
    """Wait for all services, say why it takes long, and give up on one that ended.

    Raises:
        SystemFailed: A service ended or is not ready in time.
    """
    compiled, begun, told = is_compiled(), time.monotonic(), False
    if not compiled:
        note(f"first run: compiling the page walk, up to a minute; the result is kept in {numba_cache()}")
    limit = READY_S if compiled else COMPILE_S
    for service in processes.values():
        while not serving(service.address, timeout_s=0.1):
            poll(service.name)
            dead = next((other for other in processes.values() if other.process.poll() is not None), None)
            waited = time.monotonic() - begun
            if dead is not None or waited > limit:
                raise SystemFailed((dead or service).obituary())
            if compiled and waited > _SLOW_S and not told:
                told = True
                note(f"{service.name} is still starting; after an upgrade the page walk is compiled anew")


def _stop(processes: Mapping[str, ServiceProcess]) -> None:
    """End processes, from the top down."""
    for service in reversed(list(processes.values())):
        if service.process.poll() is None:
            service.process.terminate()
    deadline = time.monotonic() + STOP_S
    for service in processes.values():
        try:
            service.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            service.process.kill()
            service.process.wait()
