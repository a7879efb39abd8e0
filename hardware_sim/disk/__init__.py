"""Block devices: where the bytes really lie, when an operation ends, and when it fails."""

from hardware_sim.disk.block_file import BLOCK_SIZE, BlockFile, DiskRefused
from hardware_sim.disk.faults import MILLION, Faults
from hardware_sim.disk.prng import splitmix64
from hardware_sim.disk.queue import KINDS, DeviceQueue, Operation

__all__ = [
    "BLOCK_SIZE",
    "KINDS",
    "MILLION",
    "BlockFile",
    "DeviceQueue",
    "DiskRefused",
    "Faults",
    "Operation",
    "splitmix64",
]
