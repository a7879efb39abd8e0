"""Flash: no position matters; a SATA disk has one channel here, an NVMe disk several that work at the same time."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_sim.disk.model import Transfer


@dataclass(frozen=True, slots=True)
class Flash:
    """How long an operation takes once a channel begins it: fixed + per block."""

    read_us: int
    """Fixed part of a read, in microseconds."""
    write_us: int
    """Fixed part of a write, in microseconds."""
    read_block_us: int
    """Part of each block that is read, in microseconds."""
    write_block_us: int
    """Part of each block that is written, in microseconds."""
    channels: int = 1
    """Operations at the same time."""
    jitter_permille: int = 100
    """Largest deviation in either direction, in thousandths."""
    delay_us: int = 0
    """Nothing beside."""

    def channel_us(self, transfer: Transfer) -> int:
        """The fixed part and that of the blocks."""
        if transfer.write:
            return self.write_us + transfer.blocks * self.write_block_us
        return self.read_us + transfer.blocks * self.read_block_us


SSD = Flash(read_us=110, write_us=70, read_block_us=10, write_block_us=10)
"""A SATA solid-state disk of 2014: about 400 MB/s."""
NVME = Flash(read_us=5, write_us=4, read_block_us=12, write_block_us=16, channels=8)
"""Intel's SSD DC P3700 (product specification 330566-005, 2014): latency of 20 us, 2800 and 2000 MB/s, 460 K reads a
second of a block each. Eight channels give all of them at once: 17 and 20 us, 2730 and 2048 MB/s, 470 K.
"""
