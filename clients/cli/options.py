"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any

import typer

from clients.exits import BadInput
from services.runtime.config import LogFormat, LogLevel
from services.runtime.tls import VARIABLES, TlsError, read_tls

SERVICE_NAMES = ("pager", "physmem", "kstack", "scheduler")


class Wiring(StrEnum):
    """How the four services are joined."""

    GRPC = "grpc"
    """A process each."""
    LOCAL = "local"
    """All in this process."""


WiringOption = Annotated[
    Wiring, typer.Option("--wiring", help="grpc: a process for each service; local: all in one process, no sockets.")
]
TargetOption = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="ADDRESS",
        envvar="VMGLUE_TARGET",
        help="Use a running system: HOST:PORT, unix:PATH, or 'default' for the one that `vmglue up` keeps.",
    ),
]
RedisOption = Annotated[
    str,
    typer.Option(
        "--redis", metavar="URL", envvar="VMGLUE_REDIS", help="Redis for the shared counters; none: one is started."
    ),
]
ServiceOption = Annotated[
    list[str],
    typer.Option("--service", metavar="NAME=ADDRESS", help="Use services that run elsewhere; all four must be named."),
]
TlsCertOption = Annotated[
    str,
    typer.Option(
        "--tls-cert",
        metavar="PEM",
        envvar=VARIABLES["cert"],
        help="Your certificate, for other addresses than sockets.",
    ),
]
TlsKeyOption = Annotated[
    str, typer.Option("--tls-key", metavar="PEM", envvar=VARIABLES["key"], help="Its private key.")
]
TlsCaOption = Annotated[
    str,
    typer.Option("--tls-ca", metavar="PEM", envvar=VARIABLES["ca"], help="The authority that the others' are from."),
]
MetricsOption = Annotated[
    str, typer.Option("--metrics", metavar="HOST:PORT", envvar="VMGLUE_METRICS", help="Serve Prometheus metrics there.")
]
LogLevelOption = Annotated[LogLevel, typer.Option("--log-level", envvar="VMGLUE_LOG_LEVEL", help="What is logged.")]
LogFormatOption = Annotated[
    LogFormat, typer.Option("--log-format", envvar="VMGLUE_LOG_FORMAT", help="How it is logged, on standard error.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def with_tls(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options --tls-cert, --tls-key and --tls-ca in place of its parameter `tls`."""
    signature = inspect.signature(command, eval_str=True)
    options = [
        inspect.Parameter(f"tls_{name}", inspect.Parameter.KEYWORD_ONLY, default="", annotation=annotation)
        for name, annotation in (("cert", TlsCertOption), ("key", TlsKeyOption), ("ca", TlsCaOption))
    ]
    kept = [parameter for name, parameter in signature.parameters.items() if name != "tls"]

    @wraps(command)
    def called(*args: Any, tls_cert: str, tls_key: str, tls_ca: str, **kwargs: Any) -> int:
        try:
            tls = read_tls(tls_cert, tls_key, tls_ca)
        except TlsError as wrong:
            raise BadInput(str(wrong)) from None
        return command(*args, tls=tls, **kwargs)

    called.__signature__ = signature.replace(parameters=[*kept, *options])  # type: ignore[attr-defined]  # for typer
    return called


def parse_services(values: list[str]) -> dict[str, str]:
    """Addresses by service name, from the bottom up; empty if none were given.

    Raises:
        BadInput: A service is unknown, or one is missing.
    """
    found = dict(value.partition("=")[::2] for value in values)
    wrong = next((name for name, address in found.items() if name not in SERVICE_NAMES or not address), None)
    if wrong is not None:
        raise BadInput(f"--service {wrong}: expected NAME=ADDRESS with one of {', '.join(SERVICE_NAMES)}")
    missing = [name for name in SERVICE_NAMES if name not in found]
    if found and missing:
        raise BadInput(f"--service: {', '.join(missing)} missing; name all four services")
    return {name: found[name] for name in SERVICE_NAMES} if found else {}
