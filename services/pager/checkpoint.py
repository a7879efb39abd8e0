"""The pager as plain data, for checkpoints: swap space with the contents of the blocks in use, files, operations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardware_sim.disk import BLOCK_SIZE, BlockFile, DeviceQueue
from services.pager.blist import Blist
from services.pager.devices import SwapDevices, device_path
from services.pager.swap_meta import SwapMeta
from services.pager.swap_pager import IoTable, SwapPager
from services.pager.swap_space import LABEL_BLOCKS, SwapDevice, runs_of
from services.pager.tunables import Tunables
from services.pager.vnode_pager import VnodePager
from services.ports.pager import SwapDisk
from services.runtime.snapshot import Registry


@dataclass(slots=True)
class DeviceState:
    """One swap device."""

    first: int
    """First global block number."""
    nblks: int
    """Blocks."""
    blist: Blist
    """Free blocks."""
    queue: DeviceQueue
    """When operations end."""
    checksums: NDArray[np.uint64]
    """Checksum of the page that was last written to each block."""
    number: int
    """Which of the machine's devices it is."""
    used: int
    """Blocks in use."""
    flags: int
    """SW_ bits."""
    blocks: NDArray[np.int64]
    """Global numbers of the blocks whose contents matter, ascending."""
    contents: bytes
    """Their bytes, one after the other."""

    def misfit(self) -> str:
        """What contradicts itself; empty: nothing."""
        if len(self.checksums) != self.nblks or self.blist.blocks < self.nblks:
            return f"books of {self.nblks} blocks"
        end = self.first + self.nblks
        if len(self.blocks) and not self.first <= self.blocks.min() <= self.blocks.max() < end:
            return f"contents of blocks {self.first} to {end - 1}"
        if len(self.contents) != len(self.blocks) * BLOCK_SIZE:
            return f"{BLOCK_SIZE} bytes for each of {len(self.blocks)} blocks"
        return ""


@dataclass(slots=True)
class PagerState:
    """All that the pager knows."""

    devices: list[DeviceState]
    avail: int
    full: int
    almost_full: int
    next_device: int
    swapoffs: int
    gone_read: int
    gone_written: int
    disks: list[SwapDisk]
    seed: int
    meta: SwapMeta
    ios: IoTable
    vnodes: VnodePager
    tunables: Tunables


def registry() -> Registry:
    """The classes of the state."""
    return Registry(PagerState, DeviceState)


def take(swap: SwapPager, ios: IoTable, devices: SwapDevices, vnodes: VnodePager, tunables: Tunables) -> PagerState:
    """The pager's state."""
    space = swap.space
    states = [_device(swap, device, ios) for device in space.devices]
    return PagerState(
        states, space.avail, space.full, space.almost_full, space.next_device, space.swapoffs, space.gone_read,
        space.gone_written, devices.disks,
        devices.seed, swap.meta, ios, vnodes, tunables,
    )  # fmt: skip


def restore(state: PagerState, swap: SwapPager, path: Path | None) -> None:
    """Bring a pager without devices to a state.

    Args:
        state: The state.
        swap: The pager.
        path: The swap file; None: temporary files without a name.

    Raises:
        OSError: The host refused.
    """
    space = swap.space
    space.avail, space.full, space.almost_full = state.avail, state.full, state.almost_full
    space.next_device, space.swapoffs, swap.meta = state.next_device, state.swapoffs, state.meta
    space.gone_read, space.gone_written = state.gone_read, state.gone_written
    for device in state.devices:
        file = BlockFile(device.nblks, device_path(path, device.number))
        space.devices.append(
            SwapDevice(
                device.first, device.nblks, device.blist, file, device.queue, device.checksums, device.number,
                device.used, device.flags,
            )
        )  # fmt: skip
        contents, done = memoryview(device.contents), 0
        for block, count in runs_of(device.blocks):
            file.write(block - device.first, contents[done : done + count * BLOCK_SIZE])
            done += count * BLOCK_SIZE


def _device(swap: SwapPager, device: SwapDevice, ios: IoTable) -> DeviceState:
    """A device with the blocks in use, and those of operations under way: a block may be freed while it is read."""
    needed = ~device.blist.is_free() & (device.checksums != 0)
    needed[:LABEL_BLOCKS] = False
    for io in ios.pending.values():
        if device.first <= io.block < device.end:
            needed[io.block - device.first : io.block - device.first + io.count] = True
    blocks = np.flatnonzero(needed) + device.first
    contents = b"".join(swap.contents(block, count) for block, count in runs_of(blocks))
    return DeviceState(
        device.first, device.nblks, device.blist, device.queue, device.checksums, device.number, device.used,
        device.flags, blocks, contents,
    )  # fmt: skip
