"""Faults of a device, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_sim.disk.prng import splitmix64

MILLION = 1_000_000
"""Chances are counted in millionths."""


@dataclass(slots=True)
class Faults:
    """How often a device fails; a kind of fault whose chance is 0 draws nothing."""

    rng: int = 0
    """State of the splitmix64 stream that decides."""
    read_per_million: int = 0
    """Reads that end with an error, of a million."""
    write_per_million: int = 0
    """Writes that end with an error, of a million."""
    latency_per_million: int = 0
    """Operations that take `latency_us` longer, of a million."""
    latency_us: int = 0
    """Length of such a stall, in microseconds."""
    full_per_million: int = 0
    """Searches for space that find none although there is some, of a million."""

    def fails(self, write: bool) -> bool:
        """Whether an operation ends with an error."""
        return self._hits(self.write_per_million if write else self.read_per_million)

    def stall_us(self) -> int:
        """Microseconds by which an operation takes longer."""
        return self.latency_us if self._hits(self.latency_per_million) else 0

    def full(self) -> bool:
        """Whether a search for space finds none."""
        return self._hits(self.full_per_million)

    def _hits(self, per_million: int) -> bool:
        if not per_million:
            return False
        self.rng, draw = splitmix64(self.rng)
        return draw % MILLION < per_million
