"""Ctrl-C, SIGTERM and SIGHUP as a flag: the first asks for a clean end, the second Ctrl-C does not wait for it."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Self

from clients.exits import Exit

_SIGNALS = {
    signal.SIGINT: Exit.INTERRUPTED,
    signal.SIGTERM: Exit.TERMINATED,
    signal.SIGHUP: Exit.HANGUP,
}


class Interrupts:
    """Catches the signals that end a command, while it is entered.

    Attributes:
        exit: Exit code of the first signal; None: there was none.
    """

    def __init__(self) -> None:
        self.exit: Exit | None = None
        self._impatient = False
        self._before: dict[int, signal._HANDLER] = {}

    def __bool__(self) -> bool:
        """A signal asked for the end."""
        return self.exit is not None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._caught) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted if a signal asked for the end: for code that has nothing to finish."""
        if self.exit is not None:
            raise Interrupted(self.exit)

    def _caught(self, number: int, _: FrameType | None) -> None:
        if self.exit is not None and number == signal.SIGINT and not self._impatient:
            self._impatient = True  # what ends the system must not be interrupted a third time
            raise KeyboardInterrupt
        self.exit = self.exit or _SIGNALS[signal.Signals(number)]


class Interrupted(Exception):
    """A signal ended the command before it had a result.

    Attributes:
        exit: Exit code of the signal.
    """

    def __init__(self, code: Exit) -> None:
        super().__init__("interrupted")
        self.exit = code
