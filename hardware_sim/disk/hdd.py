"""Hard disks: the arm moves, the platter turns, the blocks pass under the head."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from hardware_sim.disk.model import Transfer


@dataclass(frozen=True, slots=True)
class Hdd:
    """A disk of one zone; blocks that follow one another fill a track, and tracks follow one another."""

    rotation_us: int
    """Time of one revolution, in microseconds."""
    track_blocks: int
    """Blocks of a track."""
    tracks: int
    """Tracks that the arm can be moved over: the full stroke."""
    read_seek_us: tuple[int, int]
    """Seek to the next track and over the full stroke before a read, in microseconds."""
    write_seek_us: tuple[int, int]
    """The same before a write, which must settle longer."""
    channels: int = 1
    """One arm."""
    jitter_permille: int = 0
    """The positions decide everything."""
    delay_us: int = 0
    """Nothing beside."""

    def channel_us(self, transfer: Transfer) -> int:
        """Seek, rotation to the first block, transfer."""
        at_us, head, block, blocks, write = transfer
        seek = self.seek_us(abs(block // self.track_blocks - head // self.track_blocks), write)
        return seek + self._turn_us(at_us + seek, block) + self._pass_us(blocks)

    def seek_us(self, tracks: int, write: bool) -> int:
        """Time to move over some tracks: it grows with the root of the distance, as the arm speeds up and brakes."""
        if not tracks:
            return 0
        shortest, longest = self.write_seek_us if write else self.read_seek_us
        part = isqrt(min(tracks, self.tracks) * 1_000_000 // self.tracks)  # thousandths
        return shortest + (longest - shortest) * part // 1000

    def _turn_us(self, at_us: int, block: int) -> int:
        """Time until the block comes under the head; the angle of the platter is a function of virtual time alone."""
        angle = block % self.track_blocks * self.rotation_us // self.track_blocks
        return (angle - at_us) % self.rotation_us

    def _pass_us(self, blocks: int) -> int:
        """Time for blocks to pass; the next track begins where the arm arrives after a seek to it."""
        return blocks * self.rotation_us // self.track_blocks


HDD = Hdd(
    rotation_us=11_111,
    track_blocks=160,
    tracks=488_000,
    read_seek_us=(1_000, 20_000),
    write_seek_us=(1_100, 21_000),
)
"""A notebook's disk: revolution and seeks of Hitachi's Travelstar 5K320 (specification, revision 1.5, 4.4.2).

Its average seeks, 12 and 13 ms, are what the root of a third of the stroke gives. The length of a track is not in
there; 640 KiB make 59 MB/s, and 320 GB the number of tracks.
"""
