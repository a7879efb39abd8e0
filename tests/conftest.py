"""Systems that tests of several folders share: the same tests run in both wirings."""

from __future__ import annotations

import pytest

from clients.system import System, SystemConfig

WIRINGS = ("local", "grpc")


def start_system(wiring: str, allow_inject: bool = False) -> System:
    """A system of its own in a wiring."""
    if wiring == "local":
        return System.local(allow_inject)
    return System.start(SystemConfig(allow_inject=allow_inject))


@pytest.fixture(scope="session", params=WIRINGS)
def system(request):
    """One system for each wiring, which accepts scripted answers; every user boots it anew."""
    with start_system(request.param, allow_inject=True) as started:
        yield started
