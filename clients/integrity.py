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
BoolArray = NDArray[np.bool_]

SEED, VERSION, WRITER, VERSION_COPY = 0, 3, 4, 5
"""Columns of an observed page: words 0 to 4 and 511 of the page."""
_VPN_SHIFT, _KIND_STORE, _WRITER_SHIFT = 27, 1 << 25, 40
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_HASH = np.uint64(0x4F1BBCD)
"""2^27 divided by the golden ratio: times a page number of 37 bits it stays below 2^64, so nothing wraps."""
_FIRST_SLOTS = 1024
_READ_ONLY = "Array(uint64, 1, 'C', readonly=True)"
"""Numba type of an array that may be a view of a message."""


@njit("uint64(uint64[::1], uint64)", cache=True)
def _slot(keys: U64Array, vpn: np.uint64) -> np.uint64:
    """Index of a page in the open-addressing table, or of the empty slot where it belongs."""
    mask = np.uint64(len(keys) - 1)
    slot = (vpn * _HASH) >> np.uint64(20) & mask
    while keys[slot] != _EMPTY and keys[slot] != vpn:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(f"void(uint64[::1], uint64[::1], uint64[::1], {_READ_ONLY}, uint64[::1], uint64[::1])", cache=True)
def _expected(
    keys: U64Array,
    versions: U64Array,
    writers: U64Array,
    vpns: U64Array,
    out_versions: U64Array,
    out_writers: U64Array,
) -> None:
    """Version and writer of every asked page; zero for a page that was never stored to."""
    for i in range(len(vpns)):
        slot = _slot(keys, vpns[i])
        known = keys[slot] == vpns[i]
        out_versions[i] = versions[slot] if known else np.uint64(0)
        out_writers[i] = writers[slot] if known else np.uint64(0)


@njit("void(uint64[::1], uint64[::1], uint64[::1], uint64[::1], uint64[::1], uint64[::1])", cache=True)
def _rehash(
    keys: U64Array,
    versions: U64Array,
    writers: U64Array,
    old_keys: U64Array,
    old_versions: U64Array,
    old_writers: U64Array,
) -> None:
    """Enter all pages of a table into a larger one."""
    for i in range(len(old_keys)):
        if old_keys[i] != _EMPTY:
            slot = _slot(keys, old_keys[i])
            keys[slot], versions[slot], writers[slot] = old_keys[i], old_versions[i], old_writers[i]


@njit(
    f"Tuple((int64, int64))(uint64[::1], uint64[::1], uint64[::1], int64, {_READ_ONLY}, int64, int64, uint64)",
    cache=True,
)
def _count_stores(
    keys: U64Array,
    versions: U64Array,
    writers: U64Array,
    used: int,
    runs: U64Array,
    start: int,
    stop: int,
    vmspace: np.uint64,
) -> tuple[int, int]:
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

    keys: U64Array = field(default_factory=lambda: np.full(_FIRST_SLOTS, _EMPTY, np.uint64))
    versions: U64Array = field(default_factory=lambda: np.zeros(_FIRST_SLOTS, np.uint64))
    writers: U64Array = field(default_factory=lambda: np.zeros(_FIRST_SLOTS, np.uint64))
    used: int = 0
    shared: list[tuple[int, int]] = field(default_factory=list)
    """Ranges mapped shared, first page and end: other address spaces store there too."""

    def copy(self) -> _Space:
        """The table of a forked child."""
        return _Space(self.keys.copy(), self.versions.copy(), self.writers.copy(), self.used, list(self.shared))

    def count(self, vmspace: int, runs: U64Array, start: int, stop: int) -> None:
        """Count the stores of runs[start:stop]."""
        while start < stop:
            start, self.used = _count_stores(
                self.keys, self.versions, self.writers, self.used, runs, start, stop, np.uint64(vmspace)
            )
            if start < stop:
                self._grow()

    def expected(self, vpns: U64Array) -> tuple[U64Array, U64Array]:
        """Version and writer of each page."""
        versions, writers = np.empty_like(vpns), np.empty_like(vpns)
        _expected(self.keys, self.versions, self.writers, vpns, versions, writers)
        return versions, writers

    def private(self, vpns: U64Array) -> BoolArray:
        """Which pages lie in no shared range."""
        private = np.ones(len(vpns), np.bool_)
        for start, end in self.shared:
            private &= (vpns < np.uint64(start)) | (vpns >= np.uint64(end))
        return private

    def written(self) -> U64Array:
        """Pages with stores since they were mapped, ascending."""
        pages: U64Array = np.sort(self.keys[(self.keys != _EMPTY) & (self.versions > 0)])
        return pages

    def _grow(self) -> None:
        old = self.keys, self.versions, self.writers
        size = 2 * len(self.keys)
        self.keys = np.full(size, _EMPTY, np.uint64)
        self.versions, self.writers = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
        _rehash(self.keys, self.versions, self.writers, *old)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A page whose contents are not what the executed stores explain."""

    vmspace: int
    """Address space."""
    vpn: int
    """Virtual page number."""
    expected_version: int
    """Stores that were executed."""
    found_version: int
    """Version in the page."""
    where: str
    """When it was compared."""

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

    CHECKPOINTED = ("_seed", "_spaces", "_keep", "pages_checked", "mismatch_count", "mismatches")
    """What a checkpoint holds: all."""
    _seed: np.uint64
    _spaces: dict[int, _Space]
    _keep: int
    pages_checked: int
    mismatch_count: int
    mismatches: list[Mismatch]

    def __init__(self, seed: int, keep: int = 100) -> None:
        self._seed = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
        self._spaces = {}
        self._keep = keep
        self.pages_checked = 0
        self.mismatch_count = 0
        self.mismatches = []

    def executed(self, vmspace: int, runs: U64Array, start: int, stop: int, observed: bytes) -> None:
        """Records runs[start:stop] were executed; `observed` holds pages mapped after a page-in on the way.

        Args:
            vmspace: Address space.
            runs: The batch's packed run records.
            start: First record executed.
            stop: End, exclusive.
            observed: 8 uint64 a page: record index, vpn, words 0 to 4 and 511; ordered by record index. A page was
                observed before the record of that index was executed.
        """
        space = self._spaces.get(vmspace)
        if space is None:
            space = self._spaces[vmspace] = _Space()
        if observed:
            seen = np.frombuffer(observed, np.uint64).reshape(-1, 8)
            for rows in np.split(seen, np.flatnonzero(np.diff(seen[:, 0])) + 1):
                index = max(start, min(int(rows[0, 0]), stop))
                space.count(vmspace, runs, start, index)
                start = index
                self._compare(vmspace, space, rows[:, 1].copy(), rows[:, 2:], "read back from the pager")
        space.count(vmspace, runs, start, stop)

    def forked(self, parent: int, child: int) -> None:
        """The child's pages are what the parent's are now."""
        self._spaces[child] = self._spaces.get(parent, _Space()).copy()

    def share(self, vmspace: int, start_vpn: int, npages: int) -> None:
        """A range is mapped shared: other address spaces store there too, so it is not compared from now on."""
        self._spaces.setdefault(vmspace, _Space()).shared.append((start_vpn, start_vpn + npages))

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

    def verify(self, vmspace: int, vpns: bytes, words: bytes) -> None:
        """Compare every written page of an address space with the machine's, wherever it is.

        Args:
            vmspace: Address space.
            vpns: The machine's anonymous pages, little-endian uint64, ascending.
            words: Words 0 to 4 and 511 of each: 6 uint64 a page.
        """
        space = self._spaces.get(vmspace, _Space())
        pages = np.frombuffer(vpns, np.uint64)
        self._compare(vmspace, space, pages, np.frombuffer(words, np.uint64).reshape(-1, 6), "at the end")
        lost = np.setdiff1d(space.written(), pages, assume_unique=True)
        lost = lost[space.private(lost)]
        self.pages_checked += len(lost)
        for vpn, version in zip(lost.tolist(), space.expected(lost)[0].tolist(), strict=True):
            self._report(Mismatch(vmspace, vpn, version, 0, "the page is lost"))

    def _compare(self, vmspace: int, space: _Space, vpns: U64Array, words: U64Array, where: str) -> None:
        """Compare pages: both version words, and for a written page its seed and its last writer."""
        versions, writers = space.expected(vpns)
        private = space.private(vpns)
        stamped = (words[:, WRITER] == writers) & (words[:, SEED] == self._seed)
        right = (words[:, VERSION] == versions) & (words[:, VERSION_COPY] == versions) & (stamped | (versions == 0))
        self.pages_checked += int(np.count_nonzero(private))
        for i in np.flatnonzero(private & ~right):
            self._report(Mismatch(vmspace, int(vpns[i]), int(versions[i]), int(words[i, VERSION]), where))

    def _report(self, mismatch: Mismatch) -> None:
        self.mismatch_count += 1
        if len(self.mismatches) < self._keep:
            self.mismatches.append(mismatch)
