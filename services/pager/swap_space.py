"""Swap devices and the space on them: swaponsomething, swp_pager_getswapspace, swp_pager_freeswapspace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_sim.disk import BlockFile, DeviceQueue
from services.pager.blist import SWAPBLK_NONE, Blist
from services.ports.pager import SW_CLOSING
from services.runtime.errors import KernelPanic

NSWAP_LOWAT = 128
"""Below so many free pages swap is almost full (nswap_lowat)."""
NSWAP_HIWAT = 512
"""Above so many free pages it is not any more (nswap_hiwat)."""
SWAP_DEVICE_PAGES_MAX = 0x40000000 // 16
"""Pages of the largest device."""
SWAPOFF_RESERVE = NSWAP_LOWAT
"""Pages that swapoff leaves beside what the device holds (nswap_lowat)."""
LABEL_BLOCKS = 2
"""Blocks at the start of a device that are never given out: they may carry a disk label."""


@dataclass(slots=True)
class SwapDevice:
    """struct swdevt: one swap device."""

    first: int
    """First global block number."""
    nblks: int
    """Blocks."""
    blist: Blist
    """Free blocks."""
    file: BlockFile
    """Where the bytes lie."""
    queue: DeviceQueue
    """When operations end."""
    checksums: NDArray[np.uint64]
    """Checksum of the page that was last written to each block."""
    number: int = 0
    """Which of the machine's devices it is (sw_dev)."""
    used: int = 0
    """Blocks in use (sw_used)."""
    flags: int = 0
    """SW_ bits."""

    @property
    def closing(self) -> bool:
        """Swapoff is under way."""
        return bool(self.flags & SW_CLOSING)

    @property
    def end(self) -> int:
        """End of the global block numbers, exclusive."""
        return self.first + self.nblks


@dataclass(slots=True)
class SwapSpace:
    """All swap devices; blocks have global numbers, with an unowned one between devices."""

    on_full: Callable[[int, int], None]
    """Told what the C prints about: (pages wanted, swap_pager_full, or 1 when swap becomes almost full)."""
    devices: list[SwapDevice] = field(default_factory=list)
    """Devices in the order of swapon."""
    avail: int = 0
    """swap_pager_avail: free pages as the kernel counts them, 2 a device too many."""
    full: int = 2
    """swap_pager_full."""
    almost_full: int = 1
    """swap_pager_almost_full."""
    next_device: int = 0
    """swdevhd: where the round robin goes on."""
    swapoffs: int = 0
    """Swapoffs begun: each leaves swap_pager_avail two pages too high, since it takes only free blocks away."""

    gone_read: int = 0
    """Blocks that were read from devices that are gone."""
    gone_written: int = 0
    """Blocks that were written to them."""

    @property
    def total(self) -> int:
        """Pages of all devices that are not closing (vm.swap_total)."""
        return sum(device.nblks for device in self.devices if not device.closing)

    @property
    def used(self) -> int:
        """Pages in use."""
        return sum(device.used for device in self.devices)

    @property
    def surplus(self) -> int:
        """Pages in use and free ones, as the kernel counts them, beyond `total`: on closing devices, and C's error."""
        return sum(device.used for device in self.devices if device.closing) + LABEL_BLOCKS * self.swapoffs

    def swaponsomething(self, number: int, nblks: int, path: Path | None, queue: DeviceQueue) -> None:
        """Add a device of `nblks` pages (swaponsomething).

        Args:
            number: Which of the machine's devices it is.
            nblks: Pages, at least 3; at most SWAP_DEVICE_PAGES_MAX are used.
            path: Its backing file; None: a temporary one.
            queue: When its operations end.
        """
        nblks = min(nblks, SWAP_DEVICE_PAGES_MAX)
        blist = Blist(nblks)
        blist.free(LABEL_BLOCKS, nblks - LABEL_BLOCKS)
        first = self.devices[-1].end + 1 if self.devices else 0
        file = BlockFile(nblks, path)
        self.devices.append(SwapDevice(first, nblks, blist, file, queue, np.zeros(nblks, np.uint64), number))
        self.avail += nblks
        self._sizecheck()

    def device(self, number: int) -> SwapDevice | None:
        """The device of a number; None: it is not swapped to."""
        return next((device for device in self.devices if device.number == number), None)

    def swapoff_one(self, device: SwapDevice) -> None:
        """swapoff_one from its decision on: no space is given out on the device any more, its free blocks are gone."""
        device.flags |= SW_CLOSING
        self.avail -= device.blist.free_count
        device.blist = Blist(device.nblks)
        self.swapoffs += 1

    def swapoff_end(self, device: SwapDevice) -> None:
        """swapoff_one behind swap_pager_swapoff: the device is gone."""
        at = self.devices.index(device)
        del self.devices[at]
        self.gone_read += device.queue.blocks_read
        self.gone_written += device.queue.blocks_written
        device.file.close()
        if not self.devices:
            self.full, self.almost_full = 2, 1
        if self.next_device == at:
            self.next_device = 0
        elif self.next_device > at:
            self.next_device -= 1

    def getswapspace(self, npages: int) -> int:
        """swp_pager_getswapspace: adjacent blocks, devices taken in turn; SWAPBLK_NONE if there are none."""
        at = self.next_device
        for _ in self.devices:
            device = self.devices[at]
            skipped = device.closing or device.queue.faults.full()
            block = SWAPBLK_NONE if skipped else device.blist.alloc(npages)
            at = (at + 1) % len(self.devices)
            if block != SWAPBLK_NONE:
                device.used += npages
                self.avail -= npages
                self._sizecheck()
                self.next_device = at
                return device.first + block
        self.next_device = 0
        if self.full != 2:
            self.full, self.almost_full = 2, 1
            self.on_full(npages, 2)
        return SWAPBLK_NONE

    def freeswapspace(self, blocks: NDArray[np.int32]) -> None:
        """swp_pager_freeswapspace for any blocks."""
        if not len(blocks):
            return
        for block, count in runs_of(np.sort(blocks)):
            device = self.device_of(block)
            device.used -= count
            if device.closing:
                continue
            device.blist.free(block - device.first, count)
            self.avail += count
            self._sizecheck()

    def device_of(self, block: int) -> SwapDevice:
        """The device of a global block number.

        Raises:
            KernelPanic: No device has it.
        """
        for device in self.devices:
            if device.first <= block < device.end:
                return device
        raise KernelPanic("Swapdev not found", "swp_pager_freeswapspace")

    def close(self) -> None:
        """Give back the backing files."""
        for device in self.devices:
            device.file.close()

    def _sizecheck(self) -> None:
        """swp_sizecheck: hysteresis of almost_full between NSWAP_LOWAT and NSWAP_HIWAT."""
        if self.avail < NSWAP_LOWAT:
            if not self.almost_full:
                self.almost_full = 1
                self.on_full(0, 1)
            return
        self.full = 0
        if self.avail > NSWAP_HIWAT:
            self.almost_full = 0


def runs_of(blocks: NDArray[np.signedinteger[Any]]) -> list[tuple[int, int]]:
    """Runs of adjacent numbers among distinct ascending ones: (first, count)."""
    if not len(blocks):
        return []
    first, last = int(blocks[0]), int(blocks[-1])
    if last - first + 1 == len(blocks):
        return [(first, len(blocks))]
    ends = np.append(np.flatnonzero(np.diff(blocks) != 1) + 1, len(blocks))
    starts = np.append(0, ends[:-1])
    return list(zip(blocks[starts].tolist(), (ends - starts).tolist(), strict=True))
