"""Records are sent once, and again if they are not there any more."""

from types import SimpleNamespace

import numpy as np
import pytest

from clients import references
from clients.references import References
from clients.trace import TaskTrace
from services.runtime.errors import Reason, Refused


class Physmem:
    """Notes what is sent and issued."""

    def __init__(self):
        self.kept, self.sent, self.issued = {}, 0, []

    def access_kept(self, vmspace, name, runs, start, end, budget_us, phase, op):
        if runs:
            self.kept[name] = np.frombuffer(runs, np.uint64)
            self.sent += 1
        if name not in self.kept:
            raise Refused(Reason.UNKNOWN_ID, "name", name, "kept runs")
        if vmspace == 0:
            raise Refused(Reason.UNKNOWN_ID, "vmspace", vmspace, "an address space")
        self.issued.append(self.kept[name][start:end].tolist())
        return budget_us, phase, op


@pytest.fixture
def issued(monkeypatch):
    """What issues, physmem behind it, and a task of ten records in chunks of four."""
    monkeypatch.setattr(references, "CHUNK_RECORDS", 4)
    physmem = Physmem()
    task = TaskTrace(None, np.arange(10, dtype=np.uint64), None)
    return References(SimpleNamespace(physmem=physmem)), physmem, task


def test_a_batch_ends_with_its_chunk_and_a_chunk_is_sent_once(issued):
    issuing, physmem, task = issued
    assert issuing.issue(1, task, 1, 10, 5, 6, 7) == (5, 6, 7)
    for first, end in ((4, 6), (6, 10), (8, 10), (1, 3)):
        issuing.issue(1, task, first, end, 1, 0, 0)
    assert physmem.issued == [[1, 2, 3], [4, 5], [6, 7], [8, 9], [1, 2]]
    assert physmem.sent == 3


def test_what_had_to_go_is_sent_again(issued):
    issuing, physmem, task = issued
    issuing.issue(1, task, 0, 4, 1, 0, 0)
    physmem.kept.clear()
    issuing.issue(1, task, 1, 4, 1, 0, 0)
    assert (physmem.issued[-1], physmem.sent) == ([1, 2, 3], 2)


def test_other_refusals_are_no_reason_to_send(issued):
    issuing, physmem, task = issued
    with pytest.raises(Refused):
        issuing.issue(0, task, 0, 4, 1, 0, 0)
    assert physmem.sent == 1


def test_nobody_else_has_the_names(issued):
    issuing, physmem, task = issued
    issuing.issue(1, task, 0, 1, 1, 0, 0)
    References(issuing.kernel).issue(1, task, 0, 1, 1, 0, 0)
    assert len(physmem.kept) == 2


def test_records_are_shown_and_not_copied(issued):
    issuing, physmem, task = issued
    issuing.issue(1, task, 0, 4, 1, 0, 0)
    (kept,) = physmem.kept.values()
    assert np.shares_memory(kept, task.runs)
    assert not kept.flags.writeable
