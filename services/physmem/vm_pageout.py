"""The page daemon's pass: scans, laundering, swap-out requests, the out-of-memory vote (sys/vm/vm_pageout.c)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hardware_sim.clock import US_PER_SECOND, c_div, c_int
from hardware_sim.cpu import COSTS
from services.physmem import page_loops as loops
from services.physmem.page_array import PG_DOOMED, PQ_INACTIVE
from services.physmem.page_busy import vm_page_busied, vm_page_sbusy, vm_page_sunbusy
from services.physmem.page_loops import Escape
from services.physmem.pmap import pmap_remove, pmap_remove_all, pmap_remove_write, pmap_resident_count
from services.physmem.state import OBJ_DEAD, OBJ_UNMANAGED, ObjectType, PageWrite, Vm, VmObject, vm_pager_flush
from services.physmem.vm_object import vm_object_pip_add, vm_object_pip_wakeup
from services.physmem.vm_page import (
    vm_page_activate,
    vm_page_cache,
    vm_page_count_min,
    vm_page_count_severe,
    vm_page_dirty,
    vm_page_free,
    vm_page_requeue,
    vm_page_test_dirty,
    vm_page_try_to_cache,
    vm_page_undirty,
    vm_pager_page_unswapped,
    vm_paging_needed,
    vm_paging_target,
)
from services.ports.common import VM_OOM_MEM
from services.ports.pager import PutPagesStart, PutRun, VmPager
from services.ports.physmem import IdleScans, PageoutBegin, PageoutResult, PagesNeeded
from services.runtime.errors import kassert
from services.runtime.events import Kind

VM_SWAP_NORMAL = 1
VM_SWAP_IDLE = 2
_MAXLAUNDER_LATER = 10000
"""maxlaunder from the second pass on."""
_OOM_SWAP_AVAIL = 64
"""Free swap pages below which the daemon may vote for a kill."""


def pageout_wait_test(vm: Vm) -> PagesNeeded:
    """The worker's test at the top of its loop: wake who waits once memory is above v_free_min."""
    if vm.vm_pages_needed and not vm_page_count_min(vm):
        if not vm_paging_needed(vm):
            vm.vm_pages_needed = False
        vm.ctx.wakeup("v_free_count")
    return PagesNeeded(vm.vm_pages_needed)


def pageout_begin(vm: Vm, pass_: int) -> PageoutBegin:
    """The start of vm_pageout_scan: is the vm_lowmem event due, whose handlers run before the shortage is computed?"""
    ctx = vm.ctx
    if pass_ > 0:
        vm.cnt.v_pdwakeups += 1
        if c_div(c_int(ctx.ticks - vm.lowmem_ticks), ctx.hz) >= vm.tun.lowmem_period:
            vm.lowmem_ticks = ctx.ticks
            ctx.event(Kind.LOWMEM, vm.cnt.v_free_count)
            return PageoutBegin(lowmem=True)
    return PageoutBegin()


def pageout_scan(vm: Vm, pass_: int) -> PageoutResult:
    """vm_pageout_scan after the vm_lowmem event.

    Writes that the inactive scan decides on are handed to the pager together, at its end; where one fails for lack of
    swap space, the scan goes on with what the page would have counted for.
    """
    vm.in_pagedaemon = True
    try:
        return _scan(vm, pass_)
    finally:
        vm.in_pagedaemon = False


def pageout_idle(vm: Vm, until_us: int, lag_us: int, requests: bool) -> IdleScans:
    """Scans of pass 0 at the times at which the worker makes them while nobody else runs; see PhysmemPort."""
    ctx, done = vm.ctx, IdleScans()
    begun_us, begun_ticks = ctx.now_us, ctx.ticks
    begun_tick = begun_us * ctx.hz // US_PER_SECOND
    while True:
        vm_pager_flush(vm)
        done.cost_us.append(pageout_scan(vm, 0).cost_us)
        done.swap_request.append(ctx.upcalls.swap_request)
        ctx.upcalls.swap_request = 0
        asleep_tick = (ctx.now_us + done.cost_us[-1]) * ctx.hz // US_PER_SECOND
        wake_us = -(-(asleep_tick + ctx.hz) * US_PER_SECOND // ctx.hz)
        if ctx.upcalls or wake_us + lag_us >= until_us or (done.swap_request[-1] and not requests):
            break
        ctx.now_us = wake_us + lag_us
        ctx.ticks = c_int(begun_ticks + ctx.now_us * ctx.hz // US_PER_SECOND - begun_tick)
    ctx.now_us, ctx.ticks = begun_us, begun_ticks
    return done


def _scan(vm: Vm, pass_: int) -> PageoutResult:
    deficit = 0
    if pass_ > 0:
        deficit, vm.vm_pageout_deficit = vm.vm_pageout_deficit, 0
    scan = _Scan(pass_, maxlaunder=_MAXLAUNDER_LATER if pass_ > 1 else max(vm.tun.vm_max_launder, 1))
    shortage = vm_paging_target(vm) + deficit if pass_ > 0 else 0
    r = loops.registers(vm, maxscan=vm.cnt.v_inactive_count, shortage=shortage)
    r[loops.NEXT] = vm.pages.qnext[vm.pages.head(PQ_INACTIVE)]
    _inactive_scan(vm, scan, r)
    result = PageoutResult(page_shortage=int(r[loops.SHORTAGE]), freed=scan.freed, laundered=scan.laundered)
    if vm.tun.vm_swap_enabled and result.page_shortage > 0:
        vm.ctx.upcalls.swap_request |= VM_SWAP_NORMAL
    scanned = int(r[loops.SCANNED])
    result.deactivated, aged = _active_scan(vm, pass_, deficit + int(r[loops.ADDL]))
    result.scanned = scanned + aged
    vm.cnt.v_pdpages += result.scanned
    result.cost_us = result.scanned * COSTS.pageout_per_page_ns // 1000 + result.laundered * COSTS.launder_per_page_us
    _request_idle_swapout(vm)
    _mightbe_oom(vm, pass_)
    vm.ctx.event(
        Kind.PAGEOUT_SCAN, pass_, result.page_shortage, result.freed, result.laundered, result.deactivated
    )  # fmt: skip
    return result


@dataclass(slots=True)
class _Scan:
    """Progress of one inactive scan."""

    pass_: int
    maxlaunder: int
    freed: int = 0
    laundered: int = 0
    runs: list[list[int]] = field(default_factory=list)
    """Clusters whose pages are shared busy and wait to be handed to the pager."""


# Inactive scan


def _inactive_scan(vm: Vm, scan: _Scan, r: NDArray[np.int64]) -> None:
    """Scan and write until the queue, the limit or the shortage ends; the queue's marker keeps the place meanwhile."""
    pages, marker = vm.pages, vm.pages.marker(PQ_INACTIVE)
    done = False
    while not done:
        done = _inactive_pages(vm, scan, r)
        failed = _flush_runs(vm, scan)
        r[loops.SHORTAGE] += failed
        scan.maxlaunder += failed
        loops.load_counts(vm, r)
        r[loops.NEXT] = pages.qnext[marker]
        done = done and not failed
    pages.park(marker)


def _inactive_pages(vm: Vm, scan: _Scan, r: NDArray[np.int64]) -> bool:
    """Scan up to the end, or up to where it matters whether the pending writes can be started; True at the end."""
    pages, marker = vm.pages, vm.pages.marker(PQ_INACTIVE)
    while scan.maxlaunder > 0 or not scan.runs:
        escape = loops.inactive_scan(scan.pass_, scan.maxlaunder, r, pages.np, vm.mmu.state, vm.objects.referenced)
        loops.store_counts(vm, r)
        pages.unlink(marker)
        pages.link_before(int(r[loops.NEXT]), marker)
        if escape == Escape.DONE:
            return True
        if _handle(vm, scan, Escape(escape), int(r[loops.PAGE])):
            r[loops.SHORTAGE] -= 1
        loops.load_counts(vm, r)
        r[loops.NEXT] = pages.qnext[marker]
    return False


def _handle(vm: Vm, scan: _Scan, escape: Escape, m: int) -> bool:
    """Free, cache or launder a page; True if it counts against the shortage."""
    if escape == Escape.LAUNDER:
        return _launder(vm, scan, m)
    if escape == Escape.FREE:
        vm_page_free(vm, m)
        vm.cnt.v_dfree += 1
    else:
        vm_page_cache(vm, m)
    scan.freed += 1
    return True


def _launder(vm: Vm, scan: _Scan, m: int) -> bool:
    """vm_pageout_clean: choose a cluster around a dirty page; False if the page may not be written now."""
    object_ = vm.objects[vm.pages.object[m]]
    if object_.flags & OBJ_DEAD or (object_.anonymous and not _swap_pageouts_ok(vm)):
        vm_page_requeue(vm, m)
        return False
    run = _cluster(vm, object_, m)
    for page in run:
        kassert(
            vm.pages.valid[page] == vm.bits_all, f"vm_pageout_flush: partially invalid page {page}", "vm_pageout_flush"
        )
        vm_page_sbusy(vm, page)
        pmap_remove_write(vm, page)
    vm_object_pip_add(vm, object_, len(run))
    scan.runs.append(run)
    scan.maxlaunder -= 1
    return True


def vm_pageout_page(vm: Vm, m: int) -> bool:
    """Start to write one page for who is not the page daemon; it is shared busy meanwhile. False: it stays as it is."""
    scan = _Scan(pass_=0, maxlaunder=1)
    return _launder(vm, scan, m) and _flush_runs(vm, scan) == 0


def _swap_pageouts_ok(vm: Vm) -> bool:
    """Anonymous pages may be written now."""
    if vm.tun.disable_swap_pageouts:
        return False
    return not vm.tun.defer_swap_pageouts or vm_page_count_min(vm)


def _cluster(vm: Vm, object_: VmObject, m: int) -> list[int]:
    """vm_pageout_cluster: dirty inactive neighbours of a page in pindex order, at most vm_pageout_page_count."""
    limit, pindex = vm.vm_pageout_page_count, vm.pages.pindex[m]
    run, first, end = [m], pindex, pindex + 1
    backwards = True
    while backwards and len(run) < limit:
        while len(run) < limit:
            page = object_.resident.get(first - 1)
            if page is None or not _may_join(vm, page):
                backwards = False
                break
            run.insert(0, page)
            first -= 1
            if first % limit == 0:
                break
        while len(run) < limit and end < object_.size:
            page = object_.resident.get(end)
            if page is None or not _may_join(vm, page):
                break
            run.append(page)
            end += 1
    return run


def _may_join(vm: Vm, m: int) -> bool:
    """A neighbour may be written together with the page that is laundered."""
    if vm_page_busied(vm, m):
        return False
    vm_page_test_dirty(vm, m)
    return bool(vm.pages.dirty[m]) and vm.pages.queue[m] == PQ_INACTIVE and vm.pages.hold_count[m] == 0


# Writes


def _flush_runs(vm: Vm, scan: _Scan) -> int:
    """Hand all clusters to the pager in one call (vm_pageout_flush); returns how many could not be written at all."""
    runs, scan.runs = scan.runs, []
    if not runs:
        return 0
    vm_pager_flush(vm)
    requests = [_put_run(vm, run) for run in runs]
    data = vm.ram.gather([m for run in runs for m in run])
    answers = vm.pager.put_pages_start(requests, data, sync=False).runs
    failed = 0
    for run, answer in zip(runs, answers, strict=True):
        written = _put_started(vm, run, answer)
        vm.ctx.count("vmglue.physmem.pages_written", written)
        scan.laundered += written
        failed += written == 0
    return failed


def _put_run(vm: Vm, run: list[int]) -> PutRun:
    """What the pager is told of a cluster."""
    object_ = vm.objects[vm.pages.object[run[0]]]
    return PutRun(object_.id, vm.pages.pindex[run[0]], len(run), object_.file)


def _put_started(vm: Vm, run: list[int], answer: PutPagesStart) -> int:
    """Note the writes that the pager started for a cluster, give up the pages without swap space; pages written."""
    object_ = vm.objects[vm.pages.object[run[0]]]
    if answer.converted:
        object_.type = ObjectType.SWAP
    written, at = 0, 0
    for chunk in answer.chunks:
        frames = run[at : at + chunk.count]
        at += chunk.count
        if chunk.status == VmPager.PEND:
            vm.writes[chunk.io] = PageWrite(object_.id, chunk.first, frames)
            if object_.anonymous:
                object_.own("swapped").update(dict.fromkeys(range(chunk.first, chunk.first + chunk.count)))
            vm.ctx.io_started(chunk.io, chunk.due_us)
            vm.ctx.event(Kind.PAGEOUT_WRITE, object_.id, chunk.first, chunk.count)
            written += chunk.count
        else:
            _put_failed(vm, object_, frames)
    return written


def _put_failed(vm: Vm, object_: VmObject, frames: list[int]) -> None:
    """VM_PAGER_FAIL: no swap space; the pages stay dirty and become active so that the scan leaves them alone."""
    for m in frames:
        vm_page_activate(vm, m)
        vm_page_sunbusy(vm, m)
    vm_object_pip_wakeup(vm, object_, len(frames))


def finish_write(vm: Vm, ios: Sequence[int]) -> None:
    """End device writes that are due (swp_pager_async_iodone): one pager call for all."""
    statuses = vm.pager.put_pages_finish(list(ios)).statuses
    for io, status in zip(ios, statuses, strict=True):
        write = vm.writes.pop(io)
        vm.ctx.event(
            Kind.PAGEOUT_WRITTEN, write.object, write.first, len(write.frames), int(status), outcome=int(status)
        )  # fmt: skip
        for m in write.frames:
            _written(vm, m, status == VmPager.OK)
        vm_object_pip_wakeup(vm, vm.objects[write.object], len(write.frames))


def _written(vm: Vm, m: int, ok: bool) -> None:
    """A page's write ended: it is clean, or dirty and active again for another try."""
    pages = vm.pages
    if ok:
        vm_page_undirty(vm, m)
    else:
        vm_page_dirty(vm, m)
        vm_page_activate(vm, m)
    vm_page_sunbusy(vm, m)
    if pages.flags[m] & PG_DOOMED and not vm_page_busied(vm, m):
        vm_pager_page_unswapped(vm, m)
        pmap_remove_all(vm, m)
        vm_page_free(vm, m)
    elif ok and vm_page_count_severe(vm):
        vm_page_try_to_cache(vm, m)


# Active scan


def _active_scan(vm: Vm, pass_: int, additional: int) -> tuple[int, int]:
    """Age active pages until enough are inactive; pages deactivated and pages looked at."""
    cnt, period = vm.cnt, vm.tun.vm_pageout_update_period
    maxscan = cnt.v_active_count
    shortage = cnt.v_inactive_target - cnt.v_inactive_count + vm_paging_target(vm) + additional
    if pass_ == 0 and period:
        maxscan = shortage = c_div(maxscan, period)
    r = loops.registers(vm, maxscan, shortage)
    deactivated = loops.active_scan(r, vm.pages.np, vm.mmu.state, vm.objects.referenced)
    loops.store_counts(vm, r)
    return int(deactivated), int(r[loops.SCANNED])


def _request_idle_swapout(vm: Vm) -> None:
    """Once a second, ask the vmdaemon to swap out processes that sleep long."""
    second = vm.ctx.now_us // US_PER_SECOND
    if vm.tun.vm_swap_idle_enabled and second != vm.lsec:
        vm.ctx.upcalls.swap_request |= VM_SWAP_IDLE
        vm.lsec = second


def _mightbe_oom(vm: Vm, pass_: int) -> None:
    """vm_pageout_mightbe_oom: vote for a kill when neither memory nor swap space is left."""
    if pass_ <= 1 or not (vm_page_count_min(vm) or vm_paging_target(vm) > 0):
        return
    swap = vm.pager.swap_status()
    if (swap.avail < _OOM_SWAP_AVAIL and vm_page_count_min(vm)) or (swap.full and vm_paging_target(vm) > 0):
        vm.ctx.upcalls.oom |= VM_OOM_MEM


# Resident set limits


def vm_pageout_map_deactivate_pages(
    vm: Vm, space: int, objects: Sequence[VmObject], desired: int, wired: bool, start: int, end: int
) -> None:
    """Bring an address space's resident pages down to `desired`; its map is locked by the caller.

    Args:
        vm: Memory.
        space: Address space.
        objects: First object of each map entry that has one, in address order.
        desired: Pages to leave.
        wired: Some entry is wired.
        start: First page of the map's range.
        end: Its end, exclusive.
    """
    before = pmap_resident_count(vm, space)
    biggest: VmObject | None = None
    for object_ in objects:
        if object_.shadow_count <= 1 and (biggest is None or len(biggest.resident) < len(object_.resident)):
            biggest = object_
    for object_ in [biggest, *objects] if biggest else objects:
        if pmap_resident_count(vm, space) <= desired:
            break
        _object_deactivate_pages(vm, space, object_, desired)
    if desired == 0 and not wired:
        pmap_remove(vm, space, start, end)
    vm.ctx.event(Kind.MAP_DEACTIVATE, space, before, pmap_resident_count(vm, space))


def _object_deactivate_pages(vm: Vm, space: int, first: VmObject, desired: int) -> None:
    """vm_pageout_object_deactivate_pages: the object's pages, then those of the objects behind it."""
    object_: VmObject | None = first
    r = loops.registers(vm)
    while object_ is not None and pmap_resident_count(vm, space) > desired:
        if object_.flags & OBJ_UNMANAGED or object_.paging_in_progress:
            break
        frames = np.array([object_.resident[i] for i in sorted(object_.resident)], np.int64)
        shared = int(object_.shadow_count > 1)
        loops.object_deactivate(frames, space, desired, shared, r, vm.pages.np, vm.mmu.state)
        object_ = vm.objects.get(object_.backing)
    loops.store_counts(vm, r)
    vm.cnt.v_pdpages += int(r[loops.SCANNED])
