"""The pager's sysctls and the limits that follow from the machine's size."""

from __future__ import annotations

from dataclasses import dataclass

from services.pager.swap_meta import SWAP_META_PAGES
from services.pager.swap_space import SwapSpace
from services.ports.common import Setting
from services.runtime.errors import Reason, Refused

_SWBLOCK_BYTES = 288
"""sizeof(struct swblock) with 64-bit pointers: 32 blocks of 8 bytes, object, index, count, hash link."""
_DMMAX = 32
_XSWDEV_VERSION = 1
_NSWBUF_MIN, _NSWBUF_MAX = 16, 256


@dataclass(slots=True)
class Tunables:
    """Limits of the swap pager for a machine of `page_count` pages."""

    page_count: int
    """v_page_count."""
    swap_async_max: int = 4
    """vm.swap_async_max: asynchronous writes in flight."""

    @property
    def meta_blocks_max(self) -> int:
        """Metadata blocks of the swap zone (swap_pager_swap_init): half of the pages."""
        return self.page_count // 2

    @property
    def nswbuf(self) -> int:
        """Swap buffers: a quarter of the file system's buffers (kern_vfs_bio_buffer_alloc), 16 to 256."""
        kib = self.page_count * 4
        nbuf = 50
        if kib > 4096:
            nbuf += min((kib - 4096) // 64, 65536 // 64)
        if kib > 65536:
            nbuf += min((kib - 65536) * 2 // 320, 32 * 1024 * 1024 // 320)
        return max(min(nbuf // 4, _NSWBUF_MAX), _NSWBUF_MIN)

    def values(self, space: SwapSpace) -> dict[str, int]:
        """Sysctls that are no counters."""
        values = {
            "kern.maxswzone": 0,
            "kern.nswbuf": self.nswbuf,
            "vm.dmmax": _DMMAX,
            "vm.swap_async_max": self.swap_async_max,
            "vm.swap_maxpages": self.meta_blocks_max * SWAP_META_PAGES,
            "vm.swzone": self.meta_blocks_max * _SWBLOCK_BYTES,
        }
        for number, device in enumerate(space.devices):
            prefix = f"vm.swap_info.{number}."
            values[prefix + "version"] = _XSWDEV_VERSION
            values[prefix + "dev"] = device.number
            values[prefix + "flags"] = device.flags
            values[prefix + "nblks"] = device.nblks
            values[prefix + "used"] = device.used
        return values

    def set(self, setting: Setting) -> None:
        """Set one.

        Raises:
            Refused: No such sysctl, a read-only one, or out of the handler's range (EINVAL in C).
        """
        if setting.name != "vm.swap_async_max":
            raise Refused(Reason.UNKNOWN_SYSCTL, "name", setting.name, "vm.swap_async_max, the only one to write here")
        if not 1 <= setting.value <= self.nswbuf // 2:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "value", setting.value, f"1 to {self.nswbuf // 2}")
        self.swap_async_max = setting.value
