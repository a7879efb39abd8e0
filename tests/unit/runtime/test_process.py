"""What a process can tell about the memory that it may take, and a limit of it."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from services.runtime import process
from services.runtime.process import growth_limited, memory_left

MEBIBYTE = 1 << 20


def test_the_memory_of_a_container_is_less_than_that_of_the_host(tmp_path, monkeypatch):
    limit, absent, none = tmp_path / "limit", tmp_path / "absent", tmp_path / "max"
    none.write_text("max\n")
    monkeypatch.setattr(process, "_CONTAINER_LIMITS", (none, absent))
    of_the_host = memory_left()
    assert of_the_host > 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    limit.write_text(f"{used + 10 * MEBIBYTE}\n")
    monkeypatch.setattr(process, "_CONTAINER_LIMITS", (none, limit))
    assert 9 * MEBIBYTE < memory_left() < used + 10 * MEBIBYTE
    limit.write_text("4096\n")
    assert memory_left() == 0


def test_growth_is_limited_and_then_is_not():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with growth_limited(64 * MEBIBYTE):
        assert len(np.zeros(16 * MEBIBYTE, np.uint8)) > 0
        with pytest.raises(MemoryError):
            np.zeros(128 * MEBIBYTE, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len(np.zeros(128 * MEBIBYTE, np.uint8)) > 0
