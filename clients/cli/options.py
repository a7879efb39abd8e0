"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from clients.exits import BadInput

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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


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
