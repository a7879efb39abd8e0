"""A device at the far end of a network: requests follow one another on the link, and each waits for its round trip."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_sim.disk.model import Transfer


@dataclass(frozen=True, slots=True)
class Link:
    """A link of some bandwidth, with the far end's time in the round trip."""

    block_us: int
    """Time of a block on the link, in microseconds."""
    delay_us: int
    """Round trip, in microseconds; the link is free for others meanwhile."""
    channels: int = 1
    """One link."""
    jitter_permille: int = 100
    """Largest deviation of the time on the link in either direction, in thousandths."""

    def channel_us(self, transfer: Transfer) -> int:
        """The blocks, one after another."""
        return transfer.blocks * self.block_us


NETWORK = Link(block_us=340, delay_us=2_000)
"""Swap on a server behind Fast Ethernet (IEEE 802.3u, 100 Mbit/s): 4096 bytes in three frames with their headers are
about 4,250 bytes on the wire, 340 us; 2 ms for the way and the server.
"""
