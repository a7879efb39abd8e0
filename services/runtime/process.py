"""What a process can tell about itself and others."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
"""Parameters of mallopt(3)."""


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
    of what a message of a mebibyte costs. Other C libraries than glibc are left as they are.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for parameter, size in ((_M_MMAP_THRESHOLD, 16 << 20), (_M_TRIM_THRESHOLD, 32 << 20), (_M_TOP_PAD, 2 << 20)):
            library.mallopt(parameter, size)


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
