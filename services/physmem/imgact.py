"""Pages of executable images for exec: vm_imgact_hold_page, map_page and unmap_page (vm_glue.c:225-294)."""

from __future__ import annotations

from services.physmem.machine import Machine
from services.physmem.ops import HoldPagesOp, ImgactOp
from services.physmem.page_busy import vm_page_xunbusy
from services.physmem.sf_buf import sf_buf_alloc, sf_buf_free
from services.physmem.state import ObjectType, VmObject
from services.physmem.vm_object import vm_object_allocate
from services.physmem.vm_page import (
    VM_ALLOC_NORMAL,
    vm_page_activate,
    vm_page_free,
    vm_page_grab,
    vm_page_hold,
    vm_page_lookup,
    vm_page_unhold,
)
from services.physmem.vm_pager import get_pages_scripted, read_start, read_wait
from services.ports.common import Suspension
from services.ports.pager import VmPager
from services.ports.physmem import HeldPage, HeldPages, PageRequest
from services.runtime.events import Kind

HEADER_BYTES = 64
"""Bytes of an image that exec looks at."""


def vnode_object(vm: Machine, file: str, pages: int) -> VmObject:
    """The object of a file's pages, which all its mappings share; the file grows if it is now known to be larger."""
    if file not in vm.files:
        vm.files[file] = vm_object_allocate(vm, ObjectType.VNODE, pages, vm.pager.vnode_open(file, pages).file).id
    obj = vm.objects[vm.files[file]]
    if pages > obj.size:
        vm.pager.vnode_open(file, pages)
        obj.size = pages
    return obj


def vm_imgact_hold_page(vm: Machine, op: ImgactOp) -> int | Suspension | None:
    """vm_imgact_hold_page (vm_glue.c:230-262): the page at an index of a file, read if need be, held and active.

    Returns:
        The page; None (NULL) if the pager has none; or the sleep, after which it is called with the same `op`.
    """
    obj = vm.objects[op.object]
    if op.frame is None:
        m = vm_page_grab(vm, obj, op.pindex, VM_ALLOC_NORMAL)
        if isinstance(m, Suspension):
            vm.ctx.env.preempt("vm_imgact_hold_page:239")
            return m
        assert m is not None, "a grab without VM_ALLOC_NOWAIT gives a page or sleeps"
        op.frame = m
    if op.io or vm.pages.valid[op.frame] != vm.bits_all:
        rv = _get_page(vm, obj, op)
        if isinstance(rv, Suspension):
            vm.ctx.env.preempt("vm_imgact_hold_page:242")
            return rv
        op.page_requests.append(PageRequest(first=op.pindex, count=1, result=rv))
        found = vm_page_lookup(vm, obj, op.pindex)
        if found is None:
            return None
        if rv != VmPager.OK:
            vm_page_free(vm, found)
            return None
        op.frame = found
    vm_page_xunbusy(vm, op.frame)
    vm_page_hold(vm, op.frame)
    vm_page_activate(vm, op.frame)
    return op.frame


def hold_pages(vm: Machine, op: HoldPagesOp) -> Suspension | None:
    """vm_imgact_hold_page of each page that is still wanted; the sleep, or None: all were answered."""
    while len(op.held) < len(op.pages):
        m = vm_imgact_hold_page(vm, op.pages[len(op.held)])
        if isinstance(m, Suspension):
            return m
        op.held.append(m)
    return None


def held_pages(vm: Machine, op: HoldPagesOp) -> HeldPages:
    """The answers so far."""
    replaced = vm.objects[op.object].replaced
    pages = [
        HeldPage(pindex=page.pindex) if m is None else HeldPage(m, page.pindex, replaced.get(page.pindex, 0))
        for page, m in zip(op.pages, op.held, strict=False)
    ]
    return HeldPages(pages=pages, page_requests=[request for page in op.pages for request in page.page_requests])


def _get_page(vm: Machine, obj: VmObject, op: ImgactOp) -> VmPager | Suspension:
    """vm_pager_get_pages for one page."""
    assert op.frame is not None, "the page was grabbed"
    if op.io == 0:
        scripted = get_pages_scripted(vm, obj, op.pindex, [op.frame])
        if scripted is not None:
            return scripted
        started = read_start(vm, obj, op.pindex, op.frame, 0, 0)
        if started.status != VmPager.PEND:
            return started.status
        op.io = started.io
    status = vm.reads[op.io].status
    if status is None:
        return read_wait(vm, obj, op.frame)
    del vm.reads[op.io]
    op.io = 0
    return status


def vm_imgact_map_page(vm: Machine, op: ImgactOp) -> int | Suspension:
    """vm_imgact_map_page (vm_glue.c:268-278): a private mapping of the held page; its id, or 0 for NULL.

    The caller counts sched_pin() when a mapping is made, and not before.
    """
    if op.held is None:
        m = vm_imgact_hold_page(vm, op)
        if isinstance(m, Suspension):
            return m
        if m is None:
            return 0
        vm.ctx.env.preempt("vm_imgact_hold_page:260")
        op.held = m
    sf = sf_buf_alloc(vm, op.held)
    if isinstance(sf, Suspension):
        return sf
    vm.last_mapping += 1
    vm.sf_bufs[vm.last_mapping] = sf
    vm.ctx.event(Kind.IMGACT_MAP, op.object, op.pindex, vm.last_mapping)
    return vm.last_mapping


def vm_imgact_unmap_page(vm: Machine, mapping: int) -> None:
    """vm_imgact_unmap_page (vm_glue.c:283-294): give the mapping back, unpin, unhold the page."""
    sf = vm.sf_bufs.pop(mapping)
    sf_buf_free(vm, sf)
    vm.ctx.env.preempt("vm_imgact_unmap_page:290")
    vm_page_unhold(vm, sf.frame)
    vm.ctx.event(Kind.IMGACT_UNMAP, mapping)
