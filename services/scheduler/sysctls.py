"""The scheduler's sysctls (reference section 10)."""

from __future__ import annotations

from hardware_sim.clock import INT_MAX, INT_MIN
from services.ports.common import Setting, Settings
from services.runtime.errors import Reason, Refused
from services.scheduler.kern import Kern
from services.scheduler.runq import FSCALE, SLICE_US
from services.scheduler.shootdown import IPIS, SHOOTDOWNS
from services.scheduler.vm_meter import vmtotal

_ALWAYS = {"vm.panic_on_oom": "vm_panic_on_oom"}
_SWAPPING = {
    "vm.swap_idle_threshold1": "swap_idle_threshold1",
    "vm.swap_idle_threshold2": "swap_idle_threshold2",
}
_METER = (
    "vm.stats.sys.v_swtch",
    "vm.stats.sys.v_syscall",
    "vm.stats.sys.v_trap",
    SHOOTDOWNS,
    IPIS,
    *(f"vm.stats.vm.v_{kind}{what}" for kind in ("fork", "vfork", "rfork", "kthread") for what in ("s", "pages")),
)


def _writable(k: Kern) -> dict[str, str]:
    """Sysctls that can be written, and their fields; with NO_SWAPPING the thresholds are absent (vm_glue.c:830-845)."""
    return _ALWAYS if k.s.config.no_swapping else _ALWAYS | _SWAPPING


def sysctl_get(k: Kern) -> Settings:
    """All of them, sorted by name."""
    s = k.s
    values = {name: int(getattr(s, attribute)) for name, attribute in _writable(k).items()}
    values |= {
        "hw.ncpu": s.config.ncpu,
        "kern.hz": s.config.hz,
        "kern.lastpid": s.last_pid,
        "kern.sched.quantum": SLICE_US,
    }
    values |= {"vm.loadavg.fscale": FSCALE} | {f"vm.loadavg.{n}": load for n, load in enumerate(s.ldavg)}
    values |= {f"vm.vmtotal.{name}": threads for name, threads in vmtotal(k).items()}
    values |= {name: k.ctx.counters.get(name, 0) for name in _METER}
    return Settings([Setting(name, values[name]) for name in sorted(values)])


def sysctl_set(k: Kern, setting: Setting) -> None:
    """Set one: a C int without a handler, so anything that fits.

    Raises:
        Refused: There is no such sysctl, it is read-only, or the value does not fit.
    """
    writable = _writable(k)
    if setting.name not in writable:
        raise Refused(Reason.UNKNOWN_SYSCTL, "name", setting.name, "one of " + ", ".join(sorted(writable)))
    if not INT_MIN <= setting.value <= INT_MAX:
        raise Refused(Reason.FIELD_OUT_OF_RANGE, "value", setting.value, f"a C int, {INT_MIN} to {INT_MAX}")
    setattr(k.s, writable[setting.name], setting.value)
