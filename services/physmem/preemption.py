"""What others do with memory at a preemption point: the page daemon works, cached pages go, waiters are woken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from services.physmem.machine import Machine
from services.physmem.page_array import PQ_INACTIVE
from services.physmem.vm_page import vm_page_cache_free, vm_page_try_to_cache
from services.physmem.vm_pageout import pageout_scan
from services.runtime.preemption import Act, Choice, PreemptStream

_DEFICIT_MAX = 64
"""Pages that others failed to get, of which the page daemon hears."""


class MemoryPreemption:
    """No point of this service lies under an object's lock; a page that the C code works on is busy, held or wired."""

    def __init__(self, machine: Callable[[], Machine]) -> None:
        self._machine = machine

    def possible(self, _point: str, stream: PreemptStream) -> Iterator[Choice]:
        """What may happen."""
        vm = self._machine()
        yield Choice(Act.SCAN, partial(_scan, vm, 1 + stream.below(_DEFICIT_MAX)))
        yield Choice(Act.WAKEUP, partial(_wakeup, vm))
        inactive = np.flatnonzero(vm.pages.np.queue == PQ_INACTIVE)
        if len(inactive):
            yield Choice(Act.RECLAIM, partial(_reclaim, vm, int(inactive[stream.below(len(inactive))])))
        cached = [obj.id for obj in vm.objects if obj.cached]
        if cached:
            yield Choice(Act.UNCACHE, partial(_uncache, vm, cached[stream.below(len(cached))]))


def _scan(vm: Machine, deficit: int) -> int:
    """The page daemon's first pass for pages that others failed to get (vm_pageout_deficit)."""
    vm.vm_pageout_deficit += deficit
    return pageout_scan(vm, 1).laundered


def _wakeup(vm: Machine) -> int:
    """Who waits for memory is woken, whether there is any or not."""
    vm.ctx.wakeup("v_free_count")
    return vm.cnt.v_free_count


def _reclaim(vm: Machine, m: int) -> int:
    """A page leaves memory if it is clean and nobody uses it."""
    obj = vm.pages.object[m]
    vm_page_try_to_cache(vm, m)
    return obj


def _uncache(vm: Machine, obj: int) -> int:
    """The frames of an object's cached pages are free now."""
    vm_page_cache_free(vm, vm.objects[obj])
    return obj
