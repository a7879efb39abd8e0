"""Systems to test with, in either wiring."""

from __future__ import annotations

from clients.system import System, SystemConfig

WIRINGS = ("local", "grpc")


def start_system(wiring: str, allow_inject: bool = False) -> System:
    """A system of its own in a wiring."""
    if wiring == "local":
        return System.local(allow_inject)
    return System.start(SystemConfig(allow_inject=allow_inject))
