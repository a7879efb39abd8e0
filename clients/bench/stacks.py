"""Kernel stacks: a thousand in one request against a thousand requests."""

from __future__ import annotations

from clients.bench.figure import Figure, best_s
from clients.bench.processor import HZ, boot
from clients.kernel import Kernel, local_kernel
from clients.system import System, SystemConfig
from hardware_sim.arch import arch
from hardware_sim.clock import initial_ticks
from services.ports.common import Setting
from services.ports.kstack import KstackBoot, ThreadStack

STACKS = 1000
ROUNDS = 3


def stacks() -> list[Figure]:
    """vm_thread_new with an empty cache: pages grabbed, wired and mapped each time; local, then over gRPC."""
    kernel = local_kernel()
    try:
        local = _compare("vm_thread_new in batches of 1,000, local", kernel)
    finally:
        kernel.close()
    with System.start(SystemConfig()) as system:
        return [local, _compare("vm_thread_new in batches of 1,000, gRPC", system.kernel)]


def boot_kstack(kernel: Kernel) -> None:
    """Boot kstack for the machine that physmem was booted for, without a cache."""
    amd64 = arch("amd64")
    kernel.kstack.boot(KstackBoot(amd64.kstack_pages, amd64.kstack_guard_pages, HZ, initial_ticks(HZ)))
    kernel.kstack.sysctl_set(Setting("vm.kstack_cache_size", 0))


def _compare(name: str, kernel: Kernel) -> Figure:
    boot(kernel, ram_pages=1 << 16)
    boot_kstack(kernel)
    batch_s, single_s = [], []
    for _ in range(ROUNDS):
        batch_s.append(best_s(lambda: kernel.kstack.vm_thread_new(_threads(), 0), 1))
        _dispose(kernel)
        single_s.append(best_s(lambda: [kernel.kstack.vm_thread_new([t], 0) for t in _threads()], 1))
        _dispose(kernel)
    return Figure(name, "stacks/s", STACKS / min(batch_s), "one by one", STACKS / min(single_s))


def _threads() -> list[ThreadStack]:
    return [ThreadStack(tid, 0) for tid in range(1, STACKS + 1)]


def _dispose(kernel: Kernel) -> None:
    kernel.kstack.vm_thread_dispose(list(range(1, STACKS + 1)))
