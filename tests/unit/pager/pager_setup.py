"""A booted pager and helpers of its tests."""

import numpy as np

from services.pager.core import PagerCore
from services.ports.pager import PagerBoot, PutRun, SwapDisk, VmPager
from services.runtime.context import Context
from services.runtime.events import unpack


def booted(swap_pages=256, page_count=4096, seed=1, swap_file=None):
    """A booted pager core with one device."""
    return booted_with([SwapDisk(swap_pages)] if swap_pages else [], page_count, seed, swap_file)


def booted_with(devices, page_count=4096, seed=1, swap_file=None):
    """A booted pager core with some devices."""
    core = PagerCore(Context("pager", inject_permitted=True), swap_file)
    core.boot(PagerBoot(devices, page_count, seed, allow_inject=True))
    return core


def page(number):
    """Contents that differ from page to page."""
    return (np.arange(512, dtype=np.uint64) * np.uint64(number * 2 + 1) + np.uint64(number)).tobytes()


def pages(*numbers):
    return b"".join(page(number) for number in numbers)


def put(core, obj, first, *numbers, sync=False):
    """Write pages and finish the writes; the chunks."""
    (answer,) = core.put_pages_start([PutRun(obj, first, len(numbers))], pages(*numbers), sync).runs
    finish_writes(core, [chunk.io for chunk in answer.chunks if chunk.status is VmPager.PEND])
    return answer.chunks


def put_file(core, file, first, *numbers):
    """Write pages of a file and finish the writes; the statuses."""
    (answer,) = core.put_pages_start([PutRun(9, first, len(numbers), file)], pages(*numbers), False).runs
    return finish_writes(core, [chunk.io for chunk in answer.chunks])


def finish_writes(core, ios):
    wait(core)
    return core.put_pages_finish(ios).statuses


def wait(core):
    """Let the clock run until all that was started is due."""
    core._ctx.now_us = max([core._ctx.now_us, *(io.due_us for io in core._ios.pending.values())])


def get(core, obj, kind, pindex, behind=0, ahead=0, file=0):
    """Read pages; first page, count and the finished read."""
    start = core.get_pages_start(obj, kind, file, pindex, behind, ahead, False)
    assert start.status is VmPager.PEND
    wait(core)
    (read,) = core.get_pages_finish([start.io]).reads
    return start.first, start.count, read


def counter(core, name):
    values = core.counters()
    return dict(zip(values.names, values.values, strict=True))[name]


def events(core):
    return unpack(core.events(0, 10_000).records)
