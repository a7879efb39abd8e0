"""What a process can tell about itself and others."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def package_version() -> str:
    """Version of this package; empty where it runs uninstalled."""
    try:
        return version("vmglue")
    except PackageNotFoundError:
        return ""


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
