"""Runs tests of a copy of the tree in a process of their own, for a bounded time."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import services
from clients.signals import Interrupts

CPU_SECONDS_MAX = 40
"""Processor time that the tests of one change may take: many times what they take without it, on any machine."""
WALL_SECONDS_MAX = 600
"""Wall time that they may take; only tests that sleep get so far."""
_POLL_SECONDS = 0.2
"""How often a signal is looked for while tests run."""
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


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run of tests ended.

    Attributes:
        code: pytest's exit code; negative: the signal that ended it; None: it did not end in time.
        output: What it printed.
    """

    code: int | None
    output: str


def run_tests(folder: Path, tests: Sequence[str], stop: Interrupts, cpu_seconds: int = CPU_SECONDS_MAX) -> Ran:
    """Run pytest in a copy up to its first failure; whatever it started ends with it.

    Args:
        folder: The copy.
        tests: What pytest is asked to run.
        stop: Signals to this process, which end the run.
        cpu_seconds: Processor time that it may take.

    Raises:
        Interrupted: A signal ended the run.
    """
    with tempfile.NamedTemporaryFile("r", errors="replace") as output:
        process = _SERVER.Process(target=_pytest, args=(str(folder), list(tests), output.name, cpu_seconds))
        process.start()
        end = time.monotonic() + WALL_SECONDS_MAX
        while process.is_alive() and not stop and time.monotonic() < end:
            process.join(_POLL_SECONDS)
        if stop or process.is_alive():
            _kill_group(process)
            stop.check()
            return Ran(None, output.read())
        timed_out = process.exitcode == -signal.SIGXCPU
        return Ran(None if timed_out else process.exitcode, output.read())


def _kill_group(process: ForkServerProcess) -> None:
    """End a test process and what it started, also if the server that forked it was ended by the same signal."""
    assert process.pid is not None, "it was started"
    with suppress(ProcessLookupError):  # it has no group of its own yet
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _pytest(folder: str, tests: list[str], output: str, cpu_seconds: int) -> None:
    """The process that runs the tests, with the copy's cores and clients instead of those that are imported already."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
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

    # what the server had open when it forked is none of the tests' business: no warnings of unclosed resources
    plugins = ["-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    arguments = ["-x", "-v", *plugins, "--hypothesis-seed=0", *tests]
    code = pytest.main(arguments, plugins=[_FirstFailure()])
    sys.stdout.flush()
    os._exit(int(code))


class _FirstFailure:
    """A failure of a property is enough: the smallest example of it would take minutes to find."""

    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        settings.register_profile("mutation", phases=[Phase.explicit, Phase.generate], database=None)
        settings.load_profile("mutation")
