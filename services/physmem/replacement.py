"""Plain FIFO and Clock in the place of the page daemon's choice, on a machine reduced to one address space.

They make the machine's misses comparable with those of a cache simulator: pages leave one at a time, when a fault needs
the room, in the order of the active queue, which every page joins when it comes. v_free_target pages stay free, so
that the page daemon has nothing to do; the rest is the cache.
"""

from __future__ import annotations

from services.physmem.page_array import PQ_ACTIVE
from services.physmem.page_busy import vm_page_busy_sleep
from services.physmem.pmap import pmap_remove_all, pmap_ts_referenced
from services.physmem.state import Vm
from services.physmem.vm_page import vm_page_free, vm_page_requeue, vm_paging_target
from services.physmem.vm_pageout import vm_pageout_page
from services.ports.common import Suspension
from services.ports.physmem import Replacement


def make_room(vm: Vm) -> Suspension | None:
    """Let a page go if a fault has to replace one.

    A dirty page is written first and the fault sleeps; it chooses the same page again afterwards, since nothing refers
    to it any more. Where no page can be written, memory runs short as on any machine.

    Returns:
        The sleep until a page is written, or None: the fault may allocate.
    """
    if vm.replacement is Replacement.FREEBSD or vm_paging_target(vm) < 0 or not vm.cnt.v_active_count:
        return None
    m = _victim(vm)
    pmap_remove_all(vm, m)
    if not vm.pages.dirty[m]:
        vm_page_free(vm, m)
    elif vm_pageout_page(vm, m):
        return vm_page_busy_sleep(vm, m, "swwrt")
    return None


def _victim(vm: Vm) -> int:
    """The page at the head of the queue; Clock passes over those with a reference bit, once."""
    pages = vm.pages
    head = pages.head(PQ_ACTIVE)
    while vm.replacement is Replacement.CLOCK and pmap_ts_referenced(vm, pages.qnext[head]):
        vm_page_requeue(vm, pages.qnext[head])
    return pages.qnext[head]
