"""Runs tests of a copy of the tree in a process of their own."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import services

SECONDS_MAX = 300
"""Time that the tests of one change may take; what does not end by then was noticed too."""
_SERVER = multiprocessing.get_context("forkserver")
"""Test processes are forked from one that has imported the libraries and what is never changed: most of the work."""
_SERVER.set_forkserver_preload(
    ["pytest", "structlog", "rich", "hardware_sim.walk", "clients.conform", "clients.system"]
)
_RELOADED = (
    "services.pager",
    "services.physmem",
    "services.kstack",
    "services.scheduler",
    "services.compose",
    "clients",
)


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[int | None, str]:
    """Run pytest in a copy up to its first failure: exit code, or None if it did not end; what it printed."""
    with tempfile.NamedTemporaryFile("r", errors="replace") as output:
        process = _SERVER.Process(target=_pytest, args=(str(folder), list(tests), output.name))
        process.start()
        process.join(SECONDS_MAX)
        if process.is_alive():
            process.kill()
            process.join()
            return None, ""
        return process.exitcode, output.read()


def _pytest(folder: str, tests: list[str], output: str) -> None:
    """The process that runs the tests, with the copy's cores and clients instead of those that are imported already."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, folder)
    os.chdir(folder)
    for name in [name for name in sys.modules if name.startswith(_RELOADED)]:
        del sys.modules[name]
    services.__path__[:] = [f"{folder}/services"]
    file = os.open(output, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    import pytest

    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", *tests])
    sys.stdout.flush()
    os._exit(int(code))
