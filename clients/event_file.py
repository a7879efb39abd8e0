"""Recorded events in a file: what every service decided, readable while it is written.

The file is a line ``vmglue-events 1``, a line of JSON (workload, seed, kernel), and chunks: a header of 24 bytes
(service index uint32, records uint32, first sequence number uint64, records dropped before it uint64, little-endian)
and its records of 64 bytes each (services/runtime/events.py).
"""

from __future__ import annotations

import heapq
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from clients.exits import BadInput
from clients.kernel import SERVICES, Kernel
from services.runtime.events import RECORD, Event, Kind, told, unpack

MAGIC = b"vmglue-events 1\n"
_KINDS = {int(kind): kind for kind in Kind}
_CHUNK = struct.Struct("<IIQQ")
_RECORDS_MAX = 16_384
"""Records asked for in one call: 1 MiB."""


class EventRecorder:
    """Writes events to a file as they are fetched.

    Attributes:
        dropped: Events that a service had given up before they were fetched.
    """

    def __init__(self, path: Path, about: dict[str, object]) -> None:
        """Create the file.

        Args:
            path: Where.
            about: What was run: workload, seed, kernel.
        """
        self.dropped = 0
        self._next = dict.fromkeys(SERVICES, 0)
        self._file: BinaryIO = path.open("wb")
        self._file.write(MAGIC + json.dumps(about, separators=(",", ":")).encode() + b"\n")

    def collect(self, kernel: Kernel) -> None:
        """Fetch and write what the services recorded since the last time."""
        for service, port in kernel.ports().items():
            while True:
                chunk = port.events(self._next[service], _RECORDS_MAX)
                self.write(service, chunk.first, chunk.records)
                if self._next[service] >= chunk.total or not chunk.records:
                    break

    def write(self, service: str, first: int, records: bytes) -> None:
        """Append records of a service that begin with sequence number `first`."""
        dropped, count = max(0, first - self._next[service]), len(records) // RECORD.size
        if count:
            self._file.write(_CHUNK.pack(SERVICES.index(service), count, first, dropped) + records)
            self.dropped += dropped
            self._next[service] = first + count

    def close(self) -> None:
        """Complete the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event of a file."""

    service: str
    """Who recorded it."""
    event: Event
    """The record."""

    @property
    def function(self) -> str:
        """C function that decided."""
        return _KINDS[self.event.kind].function

    def __str__(self) -> str:
        event, kind = self.event, _KINDS[self.event.kind]
        line, outcome = event.line, f" outcome={event.outcome}" if event.outcome else ""
        if kind is Kind.SWAPOUT_SKIP:  # its outcome is the line of the check that failed
            line, outcome = event.outcome, ""
        where = self.function + (f" vm_glue.c:{line}" if line else "")
        what = f"{kind.name.lower():<18} {told(kind, event)}{outcome}"
        return f"{event.time_us / 1e6:12.6f} {self.service:<9} {where:<34} {what}"


def read_about(path: Path) -> dict[str, object]:
    """What was run, from the head of a file.

    Raises:
        BadInput: Not a file of events.
    """
    with _opened(path) as file:
        return _about(file, path)


def read_events(path: Path) -> Iterator[RecordedEvent]:
    """All events of a file in order of virtual time; within a service in its own order.

    Raises:
        BadInput: Not a file of events, or one that was cut.
    """
    by_service: dict[str, list[bytes]] = {service: [] for service in SERVICES}
    with _opened(path) as file:
        _about(file, path)
        while head := file.read(_CHUNK.size):
            service, records = _chunk(file, head, path)
            by_service[service].append(records)
    streams = [_of_service(service, chunks) for service, chunks in by_service.items()]
    return heapq.merge(*streams, key=lambda recorded: recorded.event.time_us)


def _of_service(service: str, chunks: list[bytes]) -> Iterator[RecordedEvent]:
    for records in chunks:
        for event in unpack(records):
            yield RecordedEvent(service, event)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}; expected a file of `vmglue run --events`") from None


def _about(file: BinaryIO, path: Path) -> dict[str, object]:
    if file.readline(len(MAGIC)) != MAGIC:
        raise BadInput(f"{path}: not a file of events; expected one that `vmglue run --events` wrote")
    about: dict[str, object] = json.loads(file.readline())
    return about


def _chunk(file: BinaryIO, head: bytes, path: Path) -> tuple[str, bytes]:
    if len(head) == _CHUNK.size:
        index, count, _, _ = _CHUNK.unpack(head)
        if index < len(SERVICES) and count <= _RECORDS_MAX:
            records = file.read(count * RECORD.size)
            if len(records) == count * RECORD.size:
                return SERVICES[index], records
    raise BadInput(f"{path}: the file is cut or damaged at byte {file.tell()}; record it again")
