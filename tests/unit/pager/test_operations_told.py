"""Device operations under way, as the pager tells them to whoever asks what a machine waits for."""

from pager_setup import booted, finish_writes, pages

from services.ports.pager import ObjectKind, PutRun
from services.runtime.limits import SUSPENDED_TOLD_MAX


def told(core):
    found = core.suspended()
    assert found.total == len(found.operations)
    return [(row.op, row.function, row.subject, row.channel, row.wmesg) for row in found.operations]


def test_reads_and_writes_of_swap_and_files_are_told_until_they_end():
    core = booted(swap_pages=100)
    assert core.suspended().total == 0
    (chunk,) = core.put_pages_start([PutRun(7, 3, 2)], pages(1, 2), False).runs[0].chunks
    (row,) = core.suspended().operations
    assert told(core) == [(chunk.io, "swap_pager_putpages", "object 7, 2 pages from 3", f"io:{chunk.io}", "")]
    assert (row.since_us, row.until_us) == (0, chunk.due_us)
    finish_writes(core, [chunk.io])
    assert core.suspended().total == 0
    swap = core.get_pages_start(7, ObjectKind.SWAP, 0, 3, 0, 1, False)
    file = core.vnode_open("cc", 20).file
    vnode = core.get_pages_start(0, ObjectKind.VNODE, file, 5, 1, 0, False)
    assert told(core) == [
        (swap.io, "swap_pager_getpages", "object 7, 2 pages from 3", f"io:{swap.io}", "swread"),
        (vnode.io, "vnode_pager_getpages", "file cc, 2 pages from 4", f"io:{vnode.io}", "vnread"),
    ]
    assert {row.since_us for row in core.suspended().operations} == {chunk.due_us}


def test_a_bounded_number_is_told_and_how_many_there_are():
    core = booted(swap_pages=2000)
    for obj in range(1, SUSPENDED_TOLD_MAX + 6):
        core.put_pages_start([PutRun(obj, 0, 1)], pages(1), False)
    found = core.suspended()
    assert (len(found.operations), found.total) == (SUSPENDED_TOLD_MAX, SUSPENDED_TOLD_MAX + 5)
