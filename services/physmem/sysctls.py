"""The sysctls of physmem: the page side's settings, the address ranges, and the meter read-only."""

from __future__ import annotations

from services.physmem.machine import Machine
from services.physmem.state import SYSCTLS, Sysctl, publish
from services.ports.common import Setting, Settings
from services.runtime.errors import Reason, Refused

_SWAPPING = ("vm.swap_enabled", "vm.swap_idle_enabled")
"""Read-only, and 0, in a kernel that is built with NO_SWAPPING."""


def sysctl_get(vm: Machine) -> Settings:
    """All sysctls, sorted by name; a u_long of an address is shown as the int64 with the same bits."""
    publish(vm)
    values = {name: getattr(_holder(vm, entry), entry.attribute) for name, entry in SYSCTLS.items()}
    values |= {name: value for name, value in vm.ctx.counters.items() if name.startswith("vm.stats.")}
    values["vm.min_kernel_address"] = _int64(vm.kernel_map.min_offset)
    values["vm.max_kernel_address"] = _int64(vm.kernel_map.max_offset)
    values["vm.swap_reserved"] = vm.swap_reserved
    for name in ("nsfbufs", "nsfbufspeak", "nsfbufsused"):
        values[f"kern.ipc.{name}"] = getattr(vm.sf_pool, name)
    values["hw.pagesize"] = vm.arch.page_size
    values["hw.physmem"] = vm.cnt.v_page_count * vm.arch.page_size
    values["hw.usermem"] = (vm.cnt.v_page_count - vm.cnt.v_wire_count) * vm.arch.page_size
    return Settings([Setting(name, values[name]) for name in sorted(values)])


def sysctl_set(vm: Machine, setting: Setting) -> None:
    """Set a sysctl; thresholds take effect at once.

    Raises:
        Refused: There is none of this name that can be written, or its C type cannot hold the value.
    """
    entry = SYSCTLS.get(setting.name)
    if entry is None or not entry.writable or (vm.no_swapping and setting.name in _SWAPPING):
        raise Refused(Reason.UNKNOWN_SYSCTL, "name", setting.name, "a sysctl of physmem that can be written")
    low, high = (-(1 << 31), (1 << 31) - 1) if entry.signed else (0, (1 << 32) - 1)
    if not low <= setting.value <= high:
        raise Refused(Reason.FIELD_OUT_OF_RANGE, "value", setting.value, f"{low} to {high}")
    setattr(_holder(vm, entry), entry.attribute, setting.value)


def _holder(vm: Machine, entry: Sysctl) -> object:
    return vm.tun if hasattr(vm.tun, entry.attribute) else vm.cnt


def _int64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
