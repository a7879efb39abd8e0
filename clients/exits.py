"""Exit codes of the command line, numbered here alone."""

from __future__ import annotations

import signal
from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    """Done, and everything that was compared agrees."""
    FAILED = 1
    """Something failed: a mismatch, a violated invariant, a deadlock, a failed case, a missed goal."""
    BAD_INPUT = 2
    """The command, a file or a value is wrong; one line says what, where, and what would be right."""
    SERVICE_LOST = 3
    """A service ended or cannot be reached; its name, exit status and last log lines are printed."""
    PANIC = 4
    """The kernel panicked; text, C function and line are printed."""
    HANGUP = 128 + signal.SIGHUP
    """The terminal went away."""
    INTERRUPTED = 128 + signal.SIGINT
    """Ctrl-C: 130."""
    TERMINATED = 128 + signal.SIGTERM
    """SIGTERM."""


class BadInput(Exception):
    """The user's mistake in one line: what, where, and what would be right."""


class SystemFailed(Exception):
    """The system cannot be used any more; the text says which service, why, and shows the tail of its log."""
