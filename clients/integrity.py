"""An independent shadow of every page's contents, kept outside the machine from the references that it executed.

The machine's processor writes (seed, object, page, version, writer) into a page at each store record. The shadow counts
the same stores by address space and virtual page, copies its table at fork, and compares whatever comes back from the
pager and every written page at the end of an address space.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

U64Array = NDArray[np.uint64]

VERSION, WRITER, VERSION_COPY = 3, 4, 5
"""Columns of an observed page: words 0 to 4 and 511 of the page."""
_VPN_SHIFT, _KIND_STORE, _WRITER_SHIFT = 27, 1 << 25, 40
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


@njit("uint64(uint64[:], uint64)", cache=True)
def _slot(keys, vpn):  # type: ignore[no-untyped-def]
    """Index of a page in the open-addressing table, or of the empty slot where it belongs."""
    mask = np.uint64(len(keys) - 1)
    slot = (vpn * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20) & mask
    while keys[slot] != _EMPTY and keys[slot] != vpn:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit("Tuple((int64, int64))(uint64[:], uint64[:], uint64[:], int64, uint64[:], int64, int64, uint64)", cache=True)
def _count_stores(keys, versions, writers, used, runs, start, stop, vmspace):  # type: ignore[no-untyped-def]
    """Count the store records of runs[start:stop]; stops early when the table is more than half full."""
    limit = len(keys) // 2
    for i in range(start, stop):
        if runs[i] & np.uint64(_KIND_STORE):
            vpn = runs[i] >> np.uint64(_VPN_SHIFT)
            slot = _slot(keys, vpn)
            if keys[slot] == _EMPTY:
                if used >= limit:
                    return i, used
                keys[slot] = vpn
                used += 1
            versions[slot] += np.uint64(1)
            writers[slot] = (vmspace << np.uint64(_WRITER_SHIFT)) | vpn
    return stop, used


@dataclass(slots=True)
class _Space:
    """Expected version and writer of every page of one address space that was ever stored to."""

    keys: U64Array = field(default_factory=lambda: np.full(1024, _EMPTY, np.uint64))
    versions: U64Array = field(default_factory=lambda: np.zeros(1024, np.uint64))
    writers: U64Array = field(default_factory=lambda: np.zeros(1024, np.uint64))
    used: int = 0

    def copy(self) -> _Space:
        """The table of a forked child."""
        return _Space(self.keys.copy(), self.versions.copy(), self.writers.copy(), self.used)

    def grow(self) -> None:
        """Double the table."""
        live = self.keys != _EMPTY
        old = self.keys[live], self.versions[live], self.writers[live]
        size = len(self.keys) * 2
        self.keys, self.versions, self.writers = np.full(size, _EMPTY), np.zeros(size, np.uint64), np.zeros(size, np.uint64)
        for vpn, version, writer in zip(*old, strict=True):
            slot = int(_slot(self.keys, vpn))
            self.keys[slot], self.versions[slot], self.writers[slot] = vpn, version, writer

    def expected(self, vpn: int) -> tuple[int, int]:
        """Version and writer; (0, 0) for a page that was never stored to."""
        slot = int(_slot(self.keys, np.uint64(vpn)))
        return int(self.versions[slot]), int(self.writers[slot])


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A page whose contents are not what the executed stores explain."""

    vmspace: int
    vpn: int
    expected_version: int
    found_version: int
    where: str

    def __str__(self) -> str:
        return (
            f"address space {self.vmspace}, page {self.vpn:#x}: version {self.found_version}, "
            f"expected {self.expected_version} ({self.where})"
        )


class Shadow:
    """Expected contents of all address spaces.

    Attributes:
        pages_checked: Pages compared so far.
        mismatches: The first differences, at most `keep`.
        mismatch_count: All differences.
    """

    def __init__(self, seed: int, keep: int = 100) -> None:
        self._seed = seed & 0xFFFFFFFFFFFFFFFF
        self._spaces: dict[int, _Space] = {}
        self._shared: dict[int, list[tuple[int, int]]] = {}
        self._keep = keep
        self.pages_checked = 0
        self.mismatch_count = 0
        self.mismatches: list[Mismatch] = []

    def executed(self, vmspace: int, runs: U64Array, start: int, stop: int, observed: bytes) -> None:
        """Records runs[start:stop] were executed; `observed` holds pages mapped after a page-in on the way.

        Args:
            vmspace: Address space.
            runs: The batch's packed run records.
            start: First record executed.
            stop: End, exclusive.
            observed: 8 uint64 a page: record index, vpn, words 0 to 4 and 511; ordered by record index.
        """
        space = self._spaces.setdefault(vmspace, _Space())
        position = start
        for row in np.frombuffer(observed, np.uint64).reshape(-1, 8):
            index = min(int(row[0]), stop)
            self._count(space, vmspace, runs, position, index)
            position = max(position, index)
            self._compare(vmspace, int(row[1]), space.expected(int(row[1])), row[2:], "read back from the pager")
        self._count(space, vmspace, runs, position, stop)

    def forked(self, parent: int, child: int) -> None:
        """The child's pages are what the parent's are now."""
        self._spaces[child] = self._spaces.get(parent, _Space()).copy()
        self._shared[child] = list(self._shared.get(parent, ()))

    def share(self, vmspace: int, start_vpn: int, npages: int) -> None:
        """A range is mapped shared: other address spaces store there too, so its versions are not compared."""
        self._shared.setdefault(vmspace, []).append((start_vpn, start_vpn + npages))

    def unmapped(self, vmspace: int, start_vpn: int, npages: int) -> None:
        """Pages of a range are fresh from now on."""
        space = self._spaces.get(vmspace)
        if space is not None:
            hit = (space.keys >= np.uint64(start_vpn)) & (space.keys < np.uint64(start_vpn + npages))
            space.versions[hit] = 0
            space.writers[hit] = 0

    def freed(self, vmspace: int) -> None:
        """The address space is gone."""
        self._spaces.pop(vmspace, None)
        self._shared.pop(vmspace, None)

    def verify(self, vmspace: int, vpns: bytes, words: bytes) -> None:
        """Compare every written page of an address space with the machine's, wherever it is."""
        space = self._spaces.get(vmspace, _Space())
        pages = np.frombuffer(vpns, np.uint64)
        stamps = np.frombuffer(words, np.uint64).reshape(-1, 6)
        for vpn, stamp in zip(pages, stamps, strict=True):
            self._compare(vmspace, int(vpn), space.expected(int(vpn)), stamp, "at the end of the address space")
        written = space.keys[(space.keys != _EMPTY) & (space.versions > 0)]
        for vpn in np.setdiff1d(written, pages):
            self.pages_checked += 1
            self._report(vmspace, int(vpn), space.expected(int(vpn))[0], 0, "the page is lost")

    def _count(self, space: _Space, vmspace: int, runs: U64Array, start: int, stop: int) -> None:
        while start < stop:
            start, space.used = _count_stores(
                space.keys, space.versions, space.writers, space.used, runs, start, stop, np.uint64(vmspace)
            )
            if start < stop:
                space.grow()

    def _compare(self, vmspace: int, vpn: int, expected: tuple[int, int], words: U64Array, where: str) -> None:
        if any(start <= vpn < end for start, end in self._shared.get(vmspace, ())):
            return
        self.pages_checked += 1
        version, writer = int(words[VERSION]), int(words[WRITER])
        written = expected[0] > 0
        right = version == expected[0] == int(words[VERSION_COPY])
        if written:
            right = right and writer == expected[1] and int(words[0]) == self._seed
        if not right:
            self._report(vmspace, vpn, expected[0], version, where)

    def _report(self, vmspace: int, vpn: int, expected: int, found: int, where: str) -> None:
        self.mismatch_count += 1
        if len(self.mismatches) < self._keep:
            self.mismatches.append(Mismatch(vmspace, vpn, expected, found, where))
