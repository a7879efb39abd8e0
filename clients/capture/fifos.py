"""One FIFO per process: valgrind opens its log by pid, so pids that will come get their FIFO beforehand."""

from __future__ import annotations

import contextlib
import os
import selectors
from pathlib import Path

AHEAD = 256
"""FIFOs kept ready beyond the newest pid of the system."""
CHUNK = 1 << 20
PIPE_BYTES = 1 << 16
"""Small, so that a process's memory map is read soon after its image starts."""


class Fifos:
    """FIFOs named by pid in a directory of our own.

    Each is held open for reading and writing, so that opening never blocks and an exec, which closes and reopens the
    log, is not seen as its end.
    """

    def __init__(self, directory: Path) -> None:
        """Start with FIFOs for the next pids."""
        self._dir = directory
        self._fds: dict[int, int] = {}
        self._busy: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())
        self._next = _newest_pid() + 1
        self.extend()

    def extend(self) -> None:
        """Keep AHEAD pids ready; drop FIFOs of pids that went to other programs."""
        newest = _newest_pid()
        if (newest - self._next) % self._pid_max < self._pid_max // 2:
            self._next = newest + 1
        while (self._next - newest - 1) % self._pid_max < AHEAD:
            self._open(self._next)
            self._next = (self._next + 1) % self._pid_max or 1
        for pid in [p for p in self._fds if p not in self._busy and 0 < (newest - p) % self._pid_max < 1 << 14]:
            if not Path(f"/proc/{pid}").exists():
                self.close(pid)

    def ready(self, timeout_s: float) -> list[tuple[int, bytes]]:
        """Wait for text and return it as (pid, text) pairs."""
        out = []
        for key, _ in self._selector.select(timeout_s):
            with contextlib.suppress(BlockingIOError):
                data = os.read(key.fd, CHUNK)
                self._busy.add(key.data)
                out.append((key.data, data))
        return out

    def close(self, pid: int) -> None:
        """Give up a pid's FIFO."""
        fd = self._fds.pop(pid, None)
        if fd is not None:
            self._selector.unregister(fd)
            os.close(fd)
            (self._dir / str(pid)).unlink(missing_ok=True)
            self._busy.discard(pid)

    def close_all(self) -> None:
        """Give up every FIFO."""
        for pid in list(self._fds):
            self.close(pid)
        self._selector.close()

    def _open(self, pid: int) -> None:
        if pid in self._fds:
            return
        path = self._dir / str(pid)
        os.mkfifo(path, 0o600)
        self._fds[pid] = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._fds[pid], selectors.EVENT_READ, pid)


def _newest_pid() -> int:
    return int(Path("/proc/loadavg").read_text().split()[-1])
