"""Swap devices as they are configured: checked, and made into the hardware behind them."""

from __future__ import annotations

from pathlib import Path

from hardware_sim.disk import KINDS, MILLION, DeviceQueue, Faults
from services.ports.pager import DiskFaults, SwapDisk
from services.runtime.errors import Reason, Refused
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


def device_queue(disk: SwapDisk, number: int, seed: int) -> DeviceQueue:
    """The queue of a machine's device; each number has a stream of latencies of its own."""
    return DeviceQueue(disk.kind, (seed + number) % (1 << _SEED_BITS), faults=_faults(disk.faults))


def device_path(swap_file: Path | None, number: int) -> Path | None:
    """Where a device keeps its bytes: the first in the swap file, others beside it; None: in a temporary file."""
    if swap_file is None or not number:
        return swap_file
    return swap_file.with_name(f"{swap_file.name}.{number}")


def _faults(faults: DiskFaults) -> Faults:
    return Faults(
        rng=faults.seed,
        read_per_million=faults.read_per_million,
        write_per_million=faults.write_per_million,
        latency_per_million=faults.latency_per_million,
        latency_us=faults.latency_us,
        full_per_million=faults.full_per_million,
    )
