"""The scheduler's sysctls (reference section 10)."""

from __future__ import annotations

from hardware_sim.clock import INT_MAX, INT_MIN
from services.ports.common import Setting, Settings
from services.runtime.errors import Reason, Refused
from services.scheduler.kern import Kern
from services.scheduler.runq import SLICE_US

_WRITABLE = {
    "vm.swap_idle_threshold1": "swap_idle_threshold1",
    "vm.swap_idle_threshold2": "swap_idle_threshold2",
}


def sysctl_get(k: Kern) -> Settings:
    """All of them, sorted by name."""
    s = k.s
    values = {name: int(getattr(s, attribute)) for name, attribute in _WRITABLE.items()}
    values |= {"hw.ncpu": 1, "kern.hz": s.config.hz, "kern.lastpid": s.last_pid, "kern.sched.quantum": SLICE_US}
    return Settings([Setting(name, values[name]) for name in sorted(values)])


def sysctl_set(k: Kern, setting: Setting) -> None:
    """Set one: a C int without a handler, so anything that fits.

    Raises:
        Refused: There is no such sysctl, it is read-only, or the value does not fit.
    """
    if setting.name not in _WRITABLE:
        raise Refused(Reason.UNKNOWN_SYSCTL, "name", setting.name, "one of " + ", ".join(sorted(_WRITABLE)))
    if not INT_MIN <= setting.value <= INT_MAX:
        raise Refused(Reason.FIELD_OUT_OF_RANGE, "value", setting.value, f"a C int, {INT_MIN} to {INT_MAX}")
    setattr(k.s, _WRITABLE[setting.name], setting.value)
