"""Access checks: kernacc and useracc over a thousand ranges in one call against a thousand calls."""

from __future__ import annotations

from collections.abc import Callable

from clients.bench.figure import Figure, best_s
from clients.bench.processor import PAGE, boot
from clients.kernel import Kernel, local_kernel
from clients.system import System, SystemConfig
from services.ports.physmem import KERNEL_SPACE, AccessCheck, AccessChecks, MapOp, MapOpKind

CHECKS = 1000
ROUNDS = 5
ENTRIES = 64
"""Entries of the maps that are checked."""
_KVA = 0xFFFFFE0000000000 + (1 << 30)
_UVA = 0x400000
_ENTRY_PAGES = 4
_READ, _WRITE = 1, 2
_ANSWERS = [True, True, True, False]
"""What the ranges of `_checks` get, in turn."""

Ask = Callable[[list[AccessCheck]], AccessChecks]


def access() -> list[Figure]:
    """Checks per second of both functions in both wirings."""
    kernel = local_kernel()
    try:
        local = figures("local", kernel)
    finally:
        kernel.close()
    with System.start(SystemConfig()) as system:
        return [*local, *figures("gRPC", system.kernel)]


def figures(wiring: str, kernel: Kernel) -> list[Figure]:
    """Both functions on one kernel."""
    boot(kernel, ram_pages=4096)
    space = kernel.physmem.vmspace_alloc(0, 0).vmspace
    for vmspace, base in ((KERNEL_SPACE, _KVA), (space, _UVA)):
        results = kernel.physmem.map_ops(vmspace, _map(base), 0).results
        assert not any(results), f"mappings refused: {results}"
    return [
        _compare(f"kernacc, {wiring}", kernel.physmem.kernacc, _checks(_KVA)),
        _compare(f"useracc, {wiring}", lambda checks: kernel.physmem.useracc(space, checks), _checks(_UVA)),
    ]


def _map(base: int) -> list[MapOp]:
    """Entries side by side, every fourth one read-only."""
    size = _ENTRY_PAGES * PAGE
    return [
        MapOp(MapOpKind.INSERT, base + at * size, size, _READ if at % 4 == 3 else _READ | _WRITE)
        for at in range(ENTRIES)
    ]


def _checks(base: int) -> list[AccessCheck]:
    """Ranges of two pages to be written, spread over the map."""
    size = _ENTRY_PAGES * PAGE
    return [AccessCheck(base + at % ENTRIES * size + PAGE, 2 * PAGE, _WRITE) for at in range(CHECKS)]


def _compare(name: str, ask: Ask, checks: list[AccessCheck]) -> Figure:
    batch_s, single_s = [], []
    assert ask(checks).ok == _ANSWERS * (CHECKS // len(_ANSWERS)), "a range was answered otherwise than its map says"
    for _ in range(ROUNDS):
        batch_s.append(best_s(lambda: ask(checks), 1))
        single_s.append(best_s(lambda: [ask([check]) for check in checks], 1))
    title, note = f"{name}, {CHECKS:,} ranges in a call", f"maps of {ENTRIES} entries"
    return Figure(title, "checks/s", CHECKS / min(batch_s), "one by one", CHECKS / min(single_s), note=note)
