"""What a kind of device has to say about itself."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Transfer(NamedTuple):
    """An operation that a channel begins."""

    at_us: int
    """Virtual time at which it begins, in microseconds."""
    head: int
    """Block behind the one that was transferred last."""
    block: int
    """First block."""
    blocks: int
    """Number of blocks."""
    write: bool
    """It writes."""


class DeviceModel(Protocol):
    """The times of one kind of device; it has no state."""

    @property
    def channels(self) -> int:
        """Operations that the device works on at the same time."""
        ...

    @property
    def jitter_permille(self) -> int:
        """Largest deviation of a channel's time in either direction, in thousandths."""
        ...

    @property
    def delay_us(self) -> int:
        """Time that passes beside the channel's and keeps no other operation waiting, in microseconds."""
        ...

    def channel_us(self, transfer: Transfer) -> int:
        """How long an operation keeps its channel, in microseconds."""
        ...
