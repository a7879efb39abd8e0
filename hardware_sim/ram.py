"""Main memory: real bytes, backed by the host only where they were touched."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

_MAP_NORESERVE = 0x4000
"""Linux's flag; the mmap module names it only since Python 3.13."""
STAMP_WORDS = (0, 1, 2, 3, 4)
"""Words of a page that a stamp fills; the last word of the page repeats the version."""

_SCAN_FRAMES = 4096
"""Frames looked at together for contents."""

Frames = list[int] | NDArray[np.int32] | NDArray[np.int64]
"""Frame numbers."""


class Ram:
    """Page frames of one machine.

    Attributes:
        pages: Number of frames.
        page_size: Bytes of a frame.
        words: All memory as uint64[pages, page_size / 8].
    """

    def __init__(self, pages: int, page_size: int = 4096) -> None:
        if pages <= 0:
            raise ValueError(f"pages: {pages}, expected at least one")
        self.pages = pages
        self.page_size = page_size
        self._map = mmap.mmap(-1, pages * page_size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        self.words: NDArray[np.uint64] = np.frombuffer(self._map, np.uint64).reshape(pages, page_size // 8)

    def zero(self, frame: int) -> None:
        """pmap_zero_page."""
        self.words[frame] = 0

    def copy(self, source: int, destination: int) -> None:
        """pmap_copy_page."""
        self.words[destination] = self.words[source]

    def read(self, frame: int, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a frame from `offset` on; by default up to its end."""
        start = frame * self.page_size + offset
        return self._map[start : (frame + 1) * self.page_size if length is None else start + length]

    def write(self, frame: int, data: bytes, offset: int = 0) -> None:
        """Store bytes in a frame; they must not run past its end.

        Raises:
            ValueError: They do.
        """
        if not 0 <= offset <= offset + len(data) <= self.page_size:
            raise ValueError(f"{len(data)} bytes at {offset} do not fit in a frame of {self.page_size}")
        start = frame * self.page_size + offset
        self._map[start : start + len(data)] = data

    def touched(self) -> NDArray[np.int64]:
        """Frames that hold anything but zeros, ascending."""
        parts = (self.words[first : first + _SCAN_FRAMES].any(axis=1) for first in range(0, self.pages, _SCAN_FRAMES))
        return np.flatnonzero(np.concatenate(list(parts)))

    def gather(self, frames: Frames) -> bytes:
        """Contents of several frames, one after the other."""
        return self.words[np.asarray(frames, np.int64)].tobytes()

    def stamps(self, frames: Frames) -> NDArray[np.uint64]:
        """Words 0 to 4 and the last one of each frame: uint64[n, 6]."""
        columns = np.array([*STAMP_WORDS, self.words.shape[1] - 1])
        stamps: NDArray[np.uint64] = self.words[np.asarray(frames, np.int64)[:, None], columns]
        return stamps
