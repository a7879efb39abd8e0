"""The queue of a device in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from hardware_sim.disk.faults import Faults
from hardware_sim.disk.flash import NVME, SSD
from hardware_sim.disk.hdd import HDD
from hardware_sim.disk.model import DeviceModel, Transfer
from hardware_sim.disk.network import NETWORK
from hardware_sim.disk.prng import splitmix64

KINDS: MappingProxyType[str, DeviceModel] = MappingProxyType({"ssd": SSD, "hdd": HDD, "nvme": NVME, "network": NETWORK})
"""Kinds of devices by name."""


class Operation(NamedTuple):
    """A queued operation."""

    due_us: int
    """Virtual time at which it ends, in microseconds."""
    failed: bool
    """It ends with an error."""


@dataclass(slots=True)
class DeviceQueue:
    """Operations begin in the order in which they are queued, each on the channel that is free first.

    All of its state is plain integers, so that a checkpoint can write it down.
    """

    kind: str
    """Kind of the device, one of KINDS."""
    rng: int
    """State of the splitmix64 stream behind the jitter."""
    busy_until_us: list[int] = field(default_factory=list)
    """Virtual time at which each channel is free, in microseconds; made to fit if it is empty."""
    head: int = 0
    """Block behind the one that was transferred last."""
    faults: Faults = field(default_factory=Faults)
    """How it fails."""
    blocks_read: int = 0
    """Blocks of all reads that were queued, failed ones included."""
    blocks_written: int = 0
    """The same of writes."""

    def __post_init__(self) -> None:
        self.busy_until_us = self.busy_until_us or [0] * KINDS[self.kind].channels

    def misfit(self) -> str:
        """What contradicts itself; empty: nothing."""
        if self.kind not in KINDS:
            return f"a kind of {', '.join(KINDS)}"
        if len(self.busy_until_us) != KINDS[self.kind].channels:
            return f"{KINDS[self.kind].channels} channels"
        return ""

    def start(self, now_us: int, block: int, blocks: int, write: bool) -> Operation:
        """Queue an operation.

        Args:
            now_us: Virtual time before which it does not begin, in microseconds.
            block: First block.
            blocks: Number of blocks.
            write: It writes.
        """
        model, busy = KINDS[self.kind], self.busy_until_us
        channel = busy.index(min(busy))
        begins = max(now_us, busy[channel])
        nominal = model.channel_us(Transfer(begins, self.head, block, blocks, write))
        self.rng, draw = splitmix64(self.rng)
        spread = model.jitter_permille
        took = nominal * (1000 - spread + draw % (2 * spread + 1)) // 1000
        busy[channel] = begins + took + self.faults.stall_us()
        self.head = block + blocks
        if write:
            self.blocks_written += blocks
        else:
            self.blocks_read += blocks
        return Operation(busy[channel] + model.delay_us, self.faults.fails(write))
