"""Systems that tests of several folders share: the same tests run in both wirings."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest
from hypothesis import settings
from systems import WIRINGS, start_system

# CI searches the same examples every time, so that a change is judged by what it changes; elsewhere each run looks
# for new ones. How long an example takes depends on what else the computer does: pytest-timeout bounds the whole test.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session", params=WIRINGS)
def system(request):
    """One system for each wiring, which accepts scripted answers; every user boots it anew."""
    with start_system(request.param, allow_inject=True) as started:
        yield started


@pytest.fixture(scope="session")
def free_ports():
    """A function that finds so many ports of this host that nobody listens on."""

    def find(count):
        with contextlib.ExitStack() as stack:
            listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
            for listener in listeners:
                listener.bind(("127.0.0.1", 0))
            return [listener.getsockname()[1] for listener in listeners]

    return find


def pytest_runtest_logreport(report):
    """Write down what became of each test, for the check that every test which a document names ran."""
    record = os.environ.get("VMGLUE_TESTS_RAN")
    if record and (report.when == "call" or report.outcome != "passed"):
        with open(record, "a", encoding="utf-8") as file:
            file.write(f"{report.outcome} {report.nodeid}\n")
