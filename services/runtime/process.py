"""What a process can tell about itself and others."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_ALLOCATION = ((_M_MMAP_THRESHOLD, 16 << 20), (_M_TRIM_THRESHOLD, 32 << 20), (_M_TOP_PAD, 2 << 20), (_M_ARENA_MAX, 1))
"""Parameters of mallopt(3)."""
_NEW_OBJECTS = 20_000
"""Objects that are made before Python looks for cycles among them; its default is 700."""
_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container reads its limit of memory, with control groups of version 2 and 1; beside it stands memory.stat."""
_TAKEN = ("anon", "rss", "shmem")
"""What cannot be given up in a container, in memory.stat of version 2 and 1: data, and files in memory."""
_DATA_LIMIT = resource.getrlimit(resource.RLIMIT_DATA)
"""Limit of data with which the process was started: what a shorter one ends with, even if two of them overlap."""


@cache
def package_version() -> str:
    """Version of this package; empty where it runs uninstalled."""
    try:
        return version("vmglue")
    except PackageNotFoundError:
        return ""


def keep_freed_memory() -> None:
    """Let the C library keep what large messages needed for the next ones.

    By default it takes memory of that size from the host and gives it back for every message, several times over: half
    of what a message of a mebibyte costs. All threads take from one arena, so that what one freed serves the others:
    one thread at a time has work. Other C libraries than glibc are left as they are.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for parameter, value in _ALLOCATION:
            library.mallopt(parameter, value)


def collect_rarely() -> None:
    """Look for cycles rarely, and only among objects that are made from now on.

    A service makes many objects in every call, hardly any cycles, and holds much that lives as long as its machine.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def pss_bytes(pid: int | str = "self") -> int:
    """Proportional set size of a process in bytes; 0 where the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


def memory_left() -> int:
    """Bytes that this process may still take: what its container, or else the host, has left."""
    left = [_host_available()]
    for path in _CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # other control groups, or no limit: "max"
            left.append(int(path.read_text("ascii")) - _taken(path.with_name("memory.stat")))
    return max(0, min(left))


@contextmanager
def growth_limited(size: int) -> Iterator[None]:
    """Let this process take no more than so much memory for a while; beyond, a MemoryError is raised.

    Args:
        size: Bytes of data, of all threads together.
    """
    taken = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * os.sysconf("SC_PAGESIZE")
    limits = [taken + size] + [limit for limit in _DATA_LIMIT if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), _DATA_LIMIT[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, _DATA_LIMIT)


def _taken(stat: Path) -> int:
    rows = (line.split() for line in stat.read_text("ascii").splitlines())
    return sum(int(size) for name, size in rows if name in _TAKEN)


def _host_available() -> int:
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
