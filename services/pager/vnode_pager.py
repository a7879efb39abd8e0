"""Pages of files (vnode_pager.c): synthesised from the file's name and the offset until written.

They lie on a disk of their own, with its latency.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hardware_sim.disk import BLOCK_SIZE, DeviceQueue
from services.pager.checksum import WORDS

VNODE_CLUSTER_PAGES = 16
"""Pages of a file that lie together on its disk (MAXPHYS and a 64 KiB file system block)."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ZERO_WORDS = [3, 511]
_ELF_HEADER = np.frombuffer(
    b"\x7fELF\x02\x01\x01\x09" + bytes(8) + b"\x02\x00\x3e\x00\x01\x00\x00\x00",
    np.uint64,
)
"""e_ident (64 bits, little-endian, FreeBSD), ET_EXEC, EM_X86_64."""


@dataclass(slots=True)
class Vnode:
    """An opened file."""

    name: str
    """Base name."""
    pages: int
    """Size in pages."""
    key: int
    """What its contents are mixed from."""
    written: dict[int, bytes] = field(default_factory=dict)
    """Contents of the pages that were written, by pindex."""


@dataclass(slots=True)
class VnodePager:
    """All files, on one disk of their own."""

    seed: int
    """Seed of the contents and of the latency."""
    queue: DeviceQueue = field(init=False)
    """When reads and writes end."""
    files: list[Vnode] = field(default_factory=list)
    """Files by id - 1."""
    by_name: dict[str, int] = field(default_factory=dict)
    """Id of each name."""

    def __post_init__(self) -> None:
        self.queue = DeviceQueue("ssd", self.seed ^ 0x766E6F6465)

    def open(self, name: str, pages: int) -> int:
        """Return the id of a file; a size that is larger than before lets it grow."""
        file = self.by_name.get(name)
        if file is None:
            digest = hashlib.blake2b(name.encode(), key=self.seed.to_bytes(8, "little"), digest_size=8).digest()
            self.files.append(Vnode(name, pages, int.from_bytes(digest, "little")))
            file = self.by_name[name] = len(self.files)
        vnode = self.files[file - 1]
        vnode.pages = max(vnode.pages, pages)
        return file

    def contents(self, file: int, first: int, count: int) -> bytes:
        """Contents of pages as last written; before that mixed words, words 3 and 511 zero, and an ELF header first."""
        vnode = self.files[file - 1]
        words = _mixed(vnode.key, first * WORDS, count * WORDS).reshape(count, WORDS)
        words[:, _ZERO_WORDS] = 0
        if first == 0:
            words[0, : len(_ELF_HEADER)] = _ELF_HEADER
        for pindex in range(first, first + count) if vnode.written else ():
            if pindex in vnode.written:
                words[pindex - first] = np.frombuffer(vnode.written[pindex], np.uint64)
        return words.tobytes()

    def write(self, file: int, first: int, data: memoryview) -> None:
        """Replace the contents of consecutive pages; whoever reads them from now on gets these."""
        written = self.files[file - 1].written
        for at in range(0, len(data), BLOCK_SIZE):
            written[first + at // BLOCK_SIZE] = bytes(data[at : at + BLOCK_SIZE])


def _mixed(key: int, first: int, count: int) -> NDArray[np.uint64]:
    """Words `first` to `first + count` of the splitmix64 stream that starts at `key`."""
    words = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    words *= _GOLDEN
    words += np.uint64(key)
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words
