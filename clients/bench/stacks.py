"""Kernel stacks: taken from the cache or built anew, a thousand in one request against a thousand requests."""

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
    """vm_thread_new with an empty cache (pages grabbed, wired and mapped each time) and with a full one."""
    kernel = local_kernel()
    try:
        local = figures("local", kernel)
    finally:
        kernel.close()
    with System.start(SystemConfig()) as system:
        return [*local, *figures("gRPC", system.kernel)]


def boot_kstack(kernel: Kernel, cached: int = 0) -> None:
    """Boot kstack for the machine that physmem was booted for, with room for so many stacks in its cache."""
    amd64 = arch("amd64")
    kernel.kstack.boot(KstackBoot(amd64.kstack_pages, amd64.kstack_guard_pages, HZ, initial_ticks(HZ)))
    kernel.kstack.sysctl_set(Setting("vm.kstack_cache_size", cached))


def figures(wiring: str, kernel: Kernel) -> list[Figure]:
    """Misses and hits in batches against one by one, and hits against misses one by one."""
    miss_batch, miss = _stacks_per_s(kernel, cached=0)
    hit_batch, hit = _stacks_per_s(kernel, cached=STACKS)
    unit, batches = "stacks/s", f"in batches of {STACKS:,}, {wiring}"
    return [
        Figure(f"vm_thread_new, misses {batches}", unit, miss_batch, "one by one", miss),
        Figure(f"vm_thread_new, hits {batches}", unit, hit_batch, "one by one", hit),
        Figure(f"vm_thread_new, hits one by one, {wiring}", unit, hit, "misses one by one", miss),
    ]


def _stacks_per_s(kernel: Kernel, cached: int) -> tuple[float, float]:
    """Stacks per second in one request and in a request each; with a cache it is full before each measurement."""
    boot(kernel, ram_pages=1 << 16)
    boot_kstack(kernel, cached)
    batch_s, single_s = [], []
    if cached:
        kernel.kstack.vm_thread_new(_threads(), 0)
        _dispose(kernel)
    for _ in range(ROUNDS):
        batch_s.append(best_s(lambda: kernel.kstack.vm_thread_new(_threads(), 0), 1))
        _dispose(kernel)
        single_s.append(best_s(lambda: [kernel.kstack.vm_thread_new([t], 0) for t in _threads()], 1))
        _dispose(kernel)
    counters = kernel.kstack.counters()
    hits = dict(zip(counters.names, counters.values, strict=True))["vmglue.kstack.cache_hits"]
    assert hits == (2 * ROUNDS * STACKS if cached else 0), f"{hits} stacks came from the cache"
    return STACKS / min(batch_s), STACKS / min(single_s)


def _threads() -> list[ThreadStack]:
    return [ThreadStack(tid, 0) for tid in range(1, STACKS + 1)]


def _dispose(kernel: Kernel) -> None:
    kernel.kstack.vm_thread_dispose(list(range(1, STACKS + 1)))
