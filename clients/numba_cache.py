"""Where compiled code is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def numba_cache() -> Path:
    """The directory of compiled code; set in the environment, for this process and its children."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.setdefault("NUMBA_CACHE_DIR", str(base / "vmglue" / "numba")))


def is_compiled() -> bool:
    """Some earlier run has left compiled code."""
    return next(numba_cache().rglob("*.nbi"), None) is not None
