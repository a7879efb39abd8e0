"""Configuration of a service: command line first, environment (VMGLUE_<OPTION>) second."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from services.runtime.redis_url import with_password, without_credentials
from services.runtime.tls import VARIABLES, Tls, TlsError, is_encrypted, read_tls


class LogLevel(StrEnum):
    """What is logged: entries of this level and above."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How entries of the log are written."""

    CONSOLE = "console"
    """For people."""
    JSON = "json"
    """An object a line."""


class Exit(IntEnum):
    """Exit statuses of a service."""

    OK = 0
    """It was asked to end, and ended."""
    BAD_CONFIGURATION = 2
    """An option is missing or wrong; one line on standard error says which."""
    CANNOT_LISTEN = 3
    """The address is taken or not ours."""
    UPSTREAM_NOT_READY = 4
    """A service below did not get ready in time."""
    CANNOT_START = 5
    """The core could not be built, for example because the swap file cannot be written."""


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What a service process is started with."""

    service: str
    """pager, physmem, kstack or scheduler."""
    listen: tuple[str, ...]
    """Where to listen: `unix:PATH` or `HOST:PORT` (port 0: any)."""
    machine: str
    """Name of the machine; part of every key in Redis."""
    upstream: dict[str, str]
    """gRPC targets of the services below, by name."""
    redis: str
    """URL of Redis, whose password may stand in a file (redis_url.py); empty: counters are not shared."""
    swap_file: str
    """pager: path of the swap file; empty: an unnamed temporary file."""
    allow_inject: bool
    """A boot may allow scripted answers."""
    tls: Tls | None
    """Who this service is, and whom it believes; None: its addresses but Unix sockets are not encrypted."""
    parent: int
    """Process id of the parent with which to end; 0: none."""
    metrics: str
    """Where Prometheus metrics are served, `HOST:PORT`; empty: nowhere."""
    log_level: LogLevel
    """What is logged."""
    log_format: LogFormat
    """How it is."""
    health_socket: str
    """Path of a Unix socket that tells the overall health to a cheap probe; empty: none."""
    drain_s: float
    """Longest time that calls in flight get to finish, in seconds."""

    def redacted(self) -> dict[str, object]:
        """The settings without credentials, for the log."""
        shown = {name: getattr(self, name) for name in self.__slots__}
        shown["redis"] = without_credentials(self.redis)
        shown["tls"] = str(self.tls.cert) if self.tls is not None else ""
        return shown


def read_config(service: str, upstreams: Sequence[str], argv: Sequence[str]) -> ServiceConfig:
    """Read and check the configuration of a service.

    Args:
        service: Its name.
        upstreams: Names of the services below.
        argv: Command line without the program's name.

    Raises:
        SystemExit: An option is missing or wrong (status 2, one line on standard error).
    """
    parser = _parser(service)
    options = parser.parse_args(argv)
    targets = dict(_pair(parser, text) for text in options.upstream)
    if set(targets) != set(upstreams):
        wanted = " ".join(f"--upstream {name}=ADDRESS" for name in upstreams) or "no --upstream"
        parser.error(f"--upstream names {sorted(targets)}; {service} needs {wanted}")
    try:
        tls = read_tls(options.tls_cert, options.tls_key, options.tls_ca)
    except TlsError as wrong:
        parser.error(str(wrong))
    listen = tuple(options.listen or _env("listen").split())
    if not listen:
        parser.error("--listen: missing; expected unix:PATH or HOST:PORT")
    for option, address in [("--listen", text) for text in listen] + [("--metrics", options.metrics)]:
        if address and not (is_private(address) or is_encrypted(address, tls)):
            parser.error(
                f"{option} {address}: anybody could call; expected unix:PATH, a loopback address, or "
                "--tls-cert, --tls-key and --tls-ca"
            )
    try:
        with_password(options.redis)
    except OSError as error:
        shown = without_credentials(options.redis)
        parser.error(f"--redis {shown}: {error}; expected password_file=PATH with a file that can be read")
    return ServiceConfig(
        service=service,
        listen=listen,
        machine=options.machine,
        upstream=targets,
        redis=options.redis,
        swap_file=options.swap_file,
        allow_inject=options.allow_inject,
        tls=tls,
        parent=os.getppid() if options.die_with_parent == 0 else options.die_with_parent or 0,
        metrics=options.metrics,
        log_level=LogLevel(options.log_level),
        log_format=LogFormat(options.log_format),
        health_socket=options.health_socket,
        drain_s=options.drain_s,
    )


def is_private(address: str) -> bool:
    """Only this machine can reach the address: a Unix socket, or loopback."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parser(service: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{service}", description=f"The {service} service of a simulated machine."
    )
    add = parser.add_argument
    add(
        "--listen",
        action="append",
        metavar="unix:PATH|HOST:PORT",
        help="address to serve; may be repeated",
    )
    add("--machine", default=_env("machine", "default"), help="name of the machine (default: %(default)s)")
    add(
        "--upstream",
        action="append",
        default=_env("upstream").split(),
        metavar="NAME=ADDRESS",
        help="a service below; once for each",
    )
    add("--redis", default=_env("redis"), metavar="URL", help="Redis for counters and events")
    add("--swap-file", default=_env("swap_file"), metavar="PATH", help="pager: where swapped pages go")
    add("--allow-inject", action="store_true", default=_flag("allow_inject"), help="scripted answers may be allowed")
    for name, what in (
        ("cert", "certificate of this service"),
        ("key", "its private key"),
        ("ca", "certificate of the authority that all others have theirs from"),
    ):
        add(f"--tls-{name}", default=os.environ.get(VARIABLES[name], ""), metavar="PEM", help=what)
    add(
        "--die-with-parent",
        nargs="?",
        type=int,
        const=0,
        metavar="PID",
        help="end when the parent process (PID, if it may already be gone) ends",
    )
    add("--metrics", default=_env("metrics"), metavar="HOST:PORT", help="serve Prometheus metrics there")
    add("--log-level", choices=[*map(str, LogLevel)], default=_env("log_level", "info"))
    add("--log-format", choices=[*map(str, LogFormat)], default=_env("log_format", "console"))
    add("--health-socket", default=_env("health_socket"), metavar="PATH", help="Unix socket for a cheap health probe")
    add("--drain-s", type=float, default=float(_env("drain_s", "5")), help="time for calls in flight at the end")
    return parser


def _pair(parser: argparse.ArgumentParser, text: str) -> tuple[str, str]:
    name, separator, address = text.partition("=")
    if not (name and separator and address):
        parser.error(f"--upstream {text}: expected NAME=ADDRESS")
    return name, address


def _env(option: str, default: str = "") -> str:
    return os.environ.get(f"VMGLUE_{option.upper()}", default)


def _flag(option: str) -> bool:
    """A switch in the environment: 1 or 0.

    Raises:
        SystemExit: It holds something else (status 2).
    """
    text = _env(option, "0")
    if text not in ("0", "1"):
        print(f"VMGLUE_{option.upper()}={text}: expected 0 or 1", file=sys.stderr)
        raise SystemExit(Exit.BAD_CONFIGURATION)
    return text == "1"
