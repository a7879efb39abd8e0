"""What a process can tell about the memory that it may take, and a limit of it."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from services.runtime import process
from services.runtime.process import growth_limited, memory_left

MEBIBYTE = 1 << 20


@pytest.mark.parametrize("stat", ["anon 300\nfile 5000\nshmem 100\n", "cache 5000\nrss 300\nshmem 100\n"])
def test_the_memory_of_a_container_is_less_than_that_of_the_host(tmp_path, monkeypatch, stat):
    limit, absent, none = tmp_path / "limit", tmp_path / "absent", tmp_path / "max"
    none.write_text("max\n")
    (tmp_path / "memory.stat").write_text(stat)
    monkeypatch.setattr(process, "_CONTAINER_LIMITS", (none, absent))
    assert memory_left() > 100 * MEBIBYTE
    limit.write_text("1000\n")
    monkeypatch.setattr(process, "_CONTAINER_LIMITS", (none, limit))
    assert memory_left() == 600
    limit.write_text("399\n")
    assert memory_left() == 0


def test_growth_is_limited_and_then_is_not():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with growth_limited(64 * MEBIBYTE):
        assert len(np.zeros(16 * MEBIBYTE, np.uint8)) > 0
        with pytest.raises(MemoryError):
            np.zeros(128 * MEBIBYTE, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len(np.zeros(128 * MEBIBYTE, np.uint8)) > 0
