"""Issuing references: physmem gets each chunk of a task's records once, and is told from then on which come next."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, cast

import numpy as np

from clients.trace import TaskTrace
from services.runtime.errors import Reason, Refused

if TYPE_CHECKING:
    from clients.kernel import Kernel
    from services.ports.physmem import Accessed

CHUNK_RECORDS = 1 << 17
"""Run records that are kept under one name: 1 MiB. No batch goes beyond its chunk; that changes no result."""


class References:
    """The records of tasks, as far as a kernel's physmem has them.

    Attributes:
        kernel: The services.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._prefix = uuid.uuid4().hex
        self._names: dict[tuple[TaskTrace, int], str] = {}

    def issue(
        self, vmspace: int, task: TaskTrace, first: int, end: int, budget_us: int, phase: int, resume_op: int
    ) -> Accessed:
        """Issue records of a task in an address space, not always all of them; the answer counts from the first.

        Args:
            vmspace: The address space.
            task: Whose records.
            first: The first.
            end: Behind the last.
            budget_us: Length of the slice, in virtual microseconds.
            phase: Instructions executed beyond the last whole microsecond.
            resume_op: The suspended operation of the first record; 0: none.
        """
        chunk, start = divmod(first, CHUNK_RECORDS)
        name, runs = self._names.get((task, chunk)), b""
        if name is None:
            name = self._names[task, chunk] = f"{self._prefix}-{len(self._names)}"
            runs = _records(task, chunk)
        stop, access = min(start + end - first, CHUNK_RECORDS), self.kernel.physmem.access_kept
        try:
            return access(vmspace, name, runs, start, stop, budget_us, phase, resume_op)
        except Refused as refused:
            if (refused.reason, refused.field) != (Reason.UNKNOWN_ID, "name"):
                raise
        # they had to go for others, or another process stands in physmem's place
        return access(vmspace, name, _records(task, chunk), start, stop, budget_us, phase, resume_op)


def _records(task: TaskTrace, chunk: int) -> bytes:
    """A chunk of a task's records, as a view: a physmem of this process reads them where they are."""
    runs = task.runs[chunk * CHUNK_RECORDS : (chunk + 1) * CHUNK_RECORDS]
    return cast("bytes", runs.view(np.uint8).data.toreadonly())  # ports take views of bytes for bytes
