"""The machine's swap devices: checked when they are configured, swapped to by swapon and no more by swapoff."""

from __future__ import annotations

import errno
from pathlib import Path

from hardware_sim.disk import KINDS, MILLION, DeviceQueue, Faults
from services.pager.swap_pager import IoTable, SwapPager
from services.pager.swap_space import SWAPOFF_RESERVE
from services.ports.pager import DiskFaults, SwapDisk
from services.runtime.context import Context
from services.runtime.errors import Reason, Refused
from services.runtime.events import Kind
from services.runtime.limits import SWAP_DEVICES_MAX

_PAGES_MIN = 3
"""The first two blocks of a device are never used."""
_SEED_BITS = 64


def check_devices(disks: list[SwapDisk], field: str) -> None:
    """Look at devices before any is made.

    Raises:
        Refused: There are too many, or one has no usable block, no known kind or a chance above a million.
    """
    if len(disks) > SWAP_DEVICES_MAX:
        raise Refused(Reason.QUOTA, field, f"{len(disks)} devices", f"at most {SWAP_DEVICES_MAX}")
    for number, disk in enumerate(disks):
        where = f"{field}[{number}]"
        if disk.pages < _PAGES_MIN:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, f"{where}.pages", disk.pages, f"at least {_PAGES_MIN} pages")
        if disk.kind not in KINDS:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, f"{where}.kind", disk.kind, f"one of {', '.join(KINDS)}")
        for name in ("read", "write", "latency", "full"):
            chance = getattr(disk.faults, f"{name}_per_million")
            if chance > MILLION:
                named = f"{where}.faults.{name}_per_million"
                raise Refused(Reason.FIELD_OUT_OF_RANGE, named, chance, f"at most {MILLION}")


def device_path(swap_file: Path | None, number: int) -> Path | None:
    """Where a device keeps its bytes: the first in the swap file, others beside it; None: in a temporary file."""
    if swap_file is None or not number:
        return swap_file
    return swap_file.with_name(f"{swap_file.name}.{number}")


class SwapDevices:
    """The devices that the machine has, whether they are swapped to or not.

    Attributes:
        disks: How they were configured, by number.
        seed: Seed of their latencies.
    """

    def __init__(
        self, ctx: Context, swap: SwapPager, ios: IoTable, disks: list[SwapDisk], seed: int, swap_file: Path | None
    ) -> None:
        self._ctx, self._swap, self._ios, self._swap_file = ctx, swap, ios, swap_file
        self.disks, self.seed = disks, seed

    def swapon(self, number: int) -> int:
        """sys_swapon of a device: 0, ENODEV if there is none of that number, EBUSY if it is in use.

        Raises:
            Refused: The host cannot make its file.
        """
        if number >= len(self.disks):
            return errno.ENODEV
        space, disk = self._swap.space, self.disks[number]
        if space.device(number):
            return errno.EBUSY
        try:
            space.swaponsomething(number, disk.pages, device_path(self._swap_file, number), self._queue(number))
        except OSError as error:
            why = f"{error.strerror}: {error.filename or 'temporary file'}"
            expected = f"a size for which the swap file can be made ({why})"
            raise Refused(Reason.FIELD_OUT_OF_RANGE, f"swap_devices[{number}].pages", disk.pages, expected) from error
        return 0

    def swapoff_begin(self, number: int, free_pages: int) -> int:
        """swapoff_one: 0; EINVAL if the device is not swapped to; ENOMEM if memory and swap cannot take its pages.

        Like in C what is free on the device itself counts as well.
        """
        space = self._swap.space
        device = space.device(number)
        if device is None or device.closing:
            return errno.EINVAL
        if free_pages + space.avail < device.nblks + SWAPOFF_RESERVE:
            return errno.ENOMEM
        space.swapoff_one(device)
        self._ctx.event(Kind.SWAPOFF, number, device.nblks, device.used)
        return 0

    def swapoff_pages(self, number: int, obj: int, pindex: int, limit: int) -> list[tuple[int, int]]:
        """Object and index of pages on a device (swp_pager_isondev), in order from one page on."""
        device = self._swap.space.device(number)
        return self._swap.meta.pages_on(device.first, device.end, obj, pindex, limit) if device else []

    def swapoff_end(self, number: int) -> int:
        """Blocks of a closing device that somebody has or reads; at 0 it goes (swapoff_one behind the paging in).

        Raises:
            Refused: Swapoff was not begun.
        """
        space = self._swap.space
        device = space.device(number)
        if device is None or not device.closing:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "device", number, "a device on which swapoff was begun")
        moving = sum(io.count for io in self._ios.pending.values() if device.first <= io.block < device.end)
        if left := max(device.used, moving):
            return left
        space.swapoff_end(device)
        return 0

    def _queue(self, number: int) -> DeviceQueue:
        """When operations of a device end; each has a stream of latencies of its own."""
        disk = self.disks[number]
        return DeviceQueue(disk.kind, (self.seed + number) % (1 << _SEED_BITS), faults=_faults(disk.faults))


def _faults(faults: DiskFaults) -> Faults:
    return Faults(
        rng=faults.seed,
        read_per_million=faults.read_per_million,
        write_per_million=faults.write_per_million,
        latency_per_million=faults.latency_per_million,
        latency_us=faults.latency_us,
        full_per_million=faults.full_per_million,
    )
