"""What readers of vmstat(8) rely on: counters that add up, whatever ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from clients.kernel import Kernel
from services.ports.scheduler import ProcessRow, SchedulerStats

P_SYSTEM = 0x200
"""Flag of the kernel's own processes (proc.h)."""
MAX_SWAP_CLUSTER = 32
"""Pages of the largest swap operation (SWB_NPAGES)."""

_METER = "vm.stats.vm."
_QUEUES = ("v_free_count", "v_cache_count", "v_active_count", "v_inactive_count", "v_wire_count")


def violated_by(kernel: Kernel) -> list[str]:
    """A sentence for each identity that does not hold in a kernel, as its services count."""
    counters: dict[str, int] = {}
    for port in kernel.ports().values():
        values = port.counters()
        counters.update(zip(values.names, values.values, strict=True))
    return violated(counters, kernel.scheduler.processes().processes, kernel.scheduler.stats())


def violated(counters: Mapping[str, int], rows: Sequence[ProcessRow], stats: SchedulerStats) -> list[str]:
    """A sentence for each identity that does not hold between two calls.

    Args:
        counters: All services' counters by name.
        rows: All processes, living and ended.
        stats: The scheduler's figures.
    """

    def v(name: str) -> int:
        return counters.get(_METER + name, 0)

    programs = [row for row in rows if row.flags & P_SYSTEM == 0]
    ended = sum(row.end_us >= 0 for row in programs)
    swapped = sum(row.state == "swapped" for row in programs)
    major, faults = sum(row.major_faults for row in rows), sum(row.minor_faults + row.major_faults for row in rows)
    forks = v("v_forks") + v("v_vforks") + v("v_rforks")
    at_most, equal = _at_most, _equal
    found = [
        at_most("pages on queues, free, cached and wired", sum(map(v, _QUEUES)), "v_page_count", v("v_page_count")),
        at_most("v_zfod + v_cow_faults", v("v_zfod") + v("v_cow_faults"), "v_vm_faults", v("v_vm_faults")),
        at_most("v_io_faults", v("v_io_faults"), "v_vm_faults", v("v_vm_faults")),
        at_most("v_ozfod", v("v_ozfod"), "v_zfod", v("v_zfod")),
        at_most("v_cow_optim", v("v_cow_optim"), "v_cow_faults", v("v_cow_faults")),
        at_most("faults of all processes", faults, "v_vm_faults", v("v_vm_faults")),
        at_most("v_trap", counters.get("vm.stats.sys.v_trap", 0), "v_vm_faults", v("v_vm_faults")),
        at_most("major faults of all processes", major, "v_io_faults", v("v_io_faults")),
        at_most("v_io_faults", v("v_io_faults"), "v_swapin + v_vnodein", v("v_swapin") + v("v_vnodein")),
        at_most("v_dfree + v_pfree", v("v_dfree") + v("v_pfree"), "v_tfree", v("v_tfree")),
        at_most("v_reactivated + v_cache_count", v("v_reactivated") + v("v_cache_count"), "v_tcached", v("v_tcached")),
        # a fork is counted when it is done, and one that waits for memory in the middle has its process already
        at_most("v_forks + v_vforks + v_rforks", forks, "programs started", len(programs)),
        at_most("programs ended", ended, "v_forks + v_vforks + v_rforks", forks),
        at_most("v_kthreadpages", v("v_kthreadpages"), "nothing", 0),
        equal("swapouts - swapins", stats.swapouts - stats.swapins, "processes swapped out", swapped),
        equal("swaps of all processes", sum(row.swaps for row in rows), "swapouts", stats.swapouts),
        *_transfers("in", v("v_swapin"), v("v_swappgsin")),
        *_transfers("out", v("v_swapout"), v("v_swappgsout")),
        at_most("v_vnodein", v("v_vnodein"), "v_vnodepgsin", v("v_vnodepgsin")),
        at_most("v_vnodeout", v("v_vnodeout"), "v_vnodepgsout", v("v_vnodepgsout")),
        *_pages_moved(counters, "in", "read"),
        *_pages_moved(counters, "out", "written"),
        equal(
            "swap_used + swap_avail",
            counters.get("vmglue.pager.swap_used", 0) + counters.get("vmglue.pager.swap_avail", 0),
            "pages of vm.swap_total + swap_surplus",
            counters.get("vm.swap_total", 0) // (v("v_page_size") or 1) + counters.get("vmglue.pager.swap_surplus", 0),
        ),
    ]
    return [sentence for sentence in found if sentence]


def _pages_moved(counters: Mapping[str, int], way: str, done: str) -> tuple[str, str]:
    """Three services count the pages of the same operations: physmem asks, the pager moves, the device works."""
    swap, files = counters.get(f"{_METER}v_swappgs{way}", 0), counters.get(f"{_METER}v_vnodepgs{way}", 0)
    asked = counters.get(f"vmglue.physmem.pages_{done}", 0)
    device = counters.get(f"vmglue.pager.device_pages_{done}", 0)
    return (
        _equal(f"pages that physmem had {done}", asked, f"v_swappgs{way} + v_vnodepgs{way}", swap + files),
        _equal(f"pages that swap devices have {done}", device, f"v_swappgs{way}", swap),
    )


def _transfers(way: str, operations: int, pages: int) -> tuple[str, str]:
    """Every swap operation moves at least one page, and at most a cluster."""
    return (
        _at_most(f"v_swap{way}", operations, f"v_swappgs{way}", pages),
        _at_most(f"v_swappgs{way}", pages, f"{MAX_SWAP_CLUSTER} v_swap{way}", MAX_SWAP_CLUSTER * operations),
    )


def _compared(word: str, holds: Callable[[int, int], bool]) -> Callable[[str, int, str, int], str]:
    def compare(left_name: str, left: int, right_name: str, right: int) -> str:
        return "" if holds(left, right) else f"{left_name} is {left}, expected {word} {right_name}, {right}"

    return compare


_at_most = _compared("at most", int.__le__)
_equal = _compared("exactly", int.__eq__)
