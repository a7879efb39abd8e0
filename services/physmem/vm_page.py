"""Physical pages: allocation, queues, wiring, holding, busying, freeing, cached pages (sys/vm/vm_page.c).

A page is its frame number; fields are read and written as `vm.pages.field[m]`.
"""

from __future__ import annotations

import numpy as np

from services.physmem import page_loops as loops
from services.physmem.page_array import (
    ACT_INIT,
    PG_CACHED,
    PG_UNHOLDFREE,
    PG_WINATCFLS,
    PGA_REFERENCED,
    PQ_ACTIVE,
    PQ_COUNT,
    PQ_INACTIVE,
    PQ_NONE,
    VPB_ONE_SHARER,
    VPB_SINGLE_EXCLUSIVER,
    VPB_UNBUSIED,
    VPO_UNMANAGED,
)
from services.physmem.page_busy import (
    vm_page_busied,
    vm_page_busy_sleep,
    vm_page_flash,
    vm_page_sbusied,
    vm_page_sbusy,
    vm_page_xbusied,
    vm_page_xbusy,
)
from services.physmem.pmap import pmap_is_modified, pmap_page_is_mapped, pmap_remove_all
from services.physmem.state import OBJ_UNMANAGED, PUSER, PVM, ObjectType, Vm, VmObject
from services.ports.common import Suspension
from services.ports.pager import PageRange
from services.runtime.errors import KernelPanic, kassert
from services.runtime.events import Kind

VM_ALLOC_NORMAL = 0
VM_ALLOC_INTERRUPT = 1
VM_ALLOC_SYSTEM = 2
VM_ALLOC_CLASS_MASK = 3
VM_ALLOC_WIRED = 0x20
VM_ALLOC_ZERO = 0x40
VM_ALLOC_NOOBJ = 0x100
VM_ALLOC_NOBUSY = 0x200
VM_ALLOC_IFCACHED = 0x400
VM_ALLOC_IFNOTCACHED = 0x800
VM_ALLOC_IGN_SBUSY = 0x1000
VM_ALLOC_SBUSY = 0x4000
VM_ALLOC_NOWAIT = 0x8000
VM_ALLOC_COUNT_SHIFT = 16


# Thresholds and waiting


def vm_page_available(vm: Vm) -> int:
    """v_free_count + v_cache_count, in pages."""
    return vm.cnt.v_free_count + vm.cnt.v_cache_count


def vm_page_count_severe(vm: Vm) -> bool:
    """Fewer pages are available than v_free_severe."""
    return vm.cnt.v_free_severe > vm_page_available(vm)


def vm_page_count_min(vm: Vm) -> bool:
    """Fewer pages are available than v_free_min."""
    return vm.cnt.v_free_min > vm_page_available(vm)


def vm_page_count_target(vm: Vm) -> bool:
    """Fewer pages are available than v_free_target."""
    return vm.cnt.v_free_target > vm_page_available(vm)


def vm_paging_target(vm: Vm) -> int:
    """Pages to free until v_free_target is reached; may be negative."""
    return vm.cnt.v_free_target - vm_page_available(vm)


def vm_paging_needed(vm: Vm) -> bool:
    """The page daemon should be woken."""
    return vm_page_available(vm) < vm.tun.vm_pageout_wakeup_thresh


def pagedaemon_wakeup(vm: Vm) -> None:
    """Ask for the page daemon, unless it was asked already or is asking itself."""
    if not vm.vm_pages_needed and not vm.in_pagedaemon:
        vm.vm_pages_needed = True
        vm.ctx.upcalls.pagedaemon_wanted = True


def vm_wait(vm: Vm) -> Suspension:
    """VM_WAIT of a thread that is not the page daemon: sleep until pages are available; test again afterwards."""
    return _wait_for_pages(vm, PVM, "vmwait")


def vm_waitpfault(vm: Vm) -> Suspension:
    """VM_WAIT of a page fault: sleepers in vm_wait win."""
    return _wait_for_pages(vm, PUSER, "pfault")


def _wait_for_pages(vm: Vm, priority: int, wmesg: str) -> Suspension:
    pagedaemon_wakeup(vm)
    return Suspension(channel="v_free_count", priority=priority, wmesg=wmesg)


def vm_page_free_wakeup(vm: Vm) -> None:
    """Wake all sleepers on v_free_count when memory is no longer short (vm_page_free_wakeup)."""
    if vm.vm_pages_needed and not vm_page_count_min(vm):
        vm.vm_pages_needed = False
        vm.ctx.wakeup("v_free_count")


# Queues


def vm_page_enqueue(vm: Vm, queue: int, m: int) -> None:
    """Append to the tail of a page queue."""
    pages = vm.pages
    pages.link_before(pages.head(queue), m)
    pages.queue[m] = queue
    if queue == PQ_ACTIVE:
        vm.cnt.v_active_count += 1
    else:
        vm.cnt.v_inactive_count += 1


def vm_page_dequeue(vm: Vm, m: int) -> None:
    """Take the page off its queue, if it is on one."""
    pages = vm.pages
    queue = pages.queue[m]
    if queue == PQ_NONE:
        return
    pages.unlink(m)
    pages.queue[m] = PQ_NONE
    if queue == PQ_ACTIVE:
        vm.cnt.v_active_count -= 1
    else:
        vm.cnt.v_inactive_count -= 1


def vm_page_requeue(vm: Vm, m: int) -> None:
    """Move the page to the tail of its queue."""
    pages = vm.pages
    kassert(pages.queue[m] != PQ_NONE, f"vm_page_requeue: page {m} is not queued", "vm_page_requeue")
    pages.unlink(m)
    pages.link_before(pages.head(pages.queue[m]), m)


def vm_page_activate(vm: Vm, m: int) -> None:
    """Put the page on the active queue unless it is wired, and raise its score to ACT_INIT."""
    pages = vm.pages
    if pages.queue[m] == PQ_ACTIVE:
        pages.act_count[m] = max(pages.act_count[m], ACT_INIT)
    elif pages.wire_count[m] == 0 and not pages.oflags[m] & VPO_UNMANAGED:
        pages.act_count[m] = max(pages.act_count[m], ACT_INIT)
        vm_page_dequeue(vm, m)
        vm_page_enqueue(vm, PQ_ACTIVE, m)


def vm_page_deactivate(vm: Vm, m: int) -> None:
    """Put the page at the tail of the inactive queue unless it is there already or wired."""
    pages = vm.pages
    if pages.queue[m] == PQ_INACTIVE:
        return
    if pages.wire_count[m] == 0 and not pages.oflags[m] & VPO_UNMANAGED:
        pages.flags[m] &= ~PG_WINATCFLS & 0xFFFF
        vm_page_dequeue(vm, m)
        vm_page_enqueue(vm, PQ_INACTIVE, m)


# Wiring and holding


def vm_page_wire(vm: Vm, m: int) -> None:
    """Add a wiring; the first one takes the page off its queue."""
    pages = vm.pages
    if pages.wire_count[m] == 0:
        vm_page_dequeue(vm, m)
        vm.cnt.v_wire_count += 1
    pages.wire_count[m] += 1


def vm_page_unwire(vm: Vm, m: int, queue: int) -> None:
    """Take a wiring away; the last one puts the page at the tail of `queue`.

    Raises:
        KernelPanic: The page is not wired, or `queue` is not a page queue.
    """
    pages = vm.pages
    kassert(queue < PQ_COUNT, f"vm_page_unwire: invalid queue {queue} request for page {m}", "vm_page_unwire")
    if pages.wire_count[m] == 0:
        raise KernelPanic("vm_page_unwire: page's wire count is zero", "vm_page_unwire")
    pages.wire_count[m] -= 1
    if pages.wire_count[m]:
        return
    vm.cnt.v_wire_count -= 1
    if pages.oflags[m] & VPO_UNMANAGED or not pages.object[m]:
        return
    if queue == PQ_INACTIVE:
        pages.flags[m] &= ~PG_WINATCFLS & 0xFFFF
    vm_page_enqueue(vm, queue, m)


def vm_page_hold(vm: Vm, m: int) -> None:
    """Keep the frame from being reused."""
    vm.pages.hold_count[m] += 1


def vm_page_unhold(vm: Vm, m: int) -> None:
    """Drop a hold; the last one frees a page that was freed meanwhile.

    Raises:
        KernelPanic: The page is not held.
    """
    pages = vm.pages
    kassert(pages.hold_count[m] > 0, "vm_page_unhold: hold count < 0!!!", "vm_page_unhold")
    pages.hold_count[m] -= 1
    if pages.hold_count[m] == 0 and pages.flags[m] & PG_UNHOLDFREE:
        _free_toq(vm, m)


# Dirtiness


def vm_page_dirty(vm: Vm, m: int) -> None:
    """Mark the whole page dirty.

    Raises:
        KernelPanic: The page is cached, or not fully valid.
    """
    pages, bits_all = vm.pages, vm.bits_all
    vm.ctx.kassert(not pages.flags[m] & PG_CACHED, "vm_page_dirty: page in cache!", "vm_page_dirty")
    vm.ctx.kassert(pages.valid[m] == bits_all, "vm_page_dirty: page is invalid!", "vm_page_dirty")
    pages.dirty[m] = bits_all


def vm_page_undirty(vm: Vm, m: int) -> None:
    """Mark the page clean."""
    vm.pages.dirty[m] = 0


def vm_page_test_dirty(vm: Vm, m: int) -> None:
    """Dirty the page if a mapping modified it."""
    if vm.pages.dirty[m] != vm.bits_all and pmap_is_modified(vm, m):
        vm_page_dirty(vm, m)


def vm_pager_page_unswapped(vm: Vm, m: int) -> None:
    """Free the page's swap block; the pager hears of it before the call is answered (see vm_pager_flush)."""
    object_, pindex = vm.objects[vm.pages.object[m]], vm.pages.pindex[m]
    if pindex in object_.swapped:
        vm_pager_freespace(vm, object_, pindex, 1)


def vm_pager_freespace(vm: Vm, object_: VmObject, first: int, count: int) -> None:
    """Free the swap blocks of some pages of an object (swap_pager_freespace); the pager hears of it later."""
    swapped = object_.swapped
    if count < len(swapped):
        freed = [i for i in range(first, first + count) if i in swapped]
    else:
        freed = [i for i in swapped if first <= i < first + count]
    if freed:
        for i in freed:
            del object_.own("swapped")[i]
        vm.unswapped.append(PageRange(object_.id, first, count))


# Residency


def vm_page_lookup(vm: Vm, object_: VmObject, pindex: int) -> int | None:  # noqa: ARG001 - all here take vm first
    """The resident page at an index, or None; cached pages are not found."""
    return object_.resident.get(pindex)


def vm_page_insert(vm: Vm, m: int, object_: VmObject, pindex: int) -> None:
    """Make the page resident in an object."""
    kassert(not vm.pages.object[m], "vm_page_insert: page already inserted", "vm_page_insert")
    vm.pages.object[m], vm.pages.pindex[m] = object_.id, pindex
    object_.resident[pindex] = m


def vm_page_remove(vm: Vm, m: int) -> None:
    """Take the page out of its object; who waits for an exclusively busy one is woken."""
    pages = vm.pages
    if not pages.object[m]:
        return
    if vm_page_xbusied(vm, m):
        vm_page_flash(vm, m)
        pages.busy_lock[m] = VPB_UNBUSIED
    object_, pindex = vm.objects[pages.object[m]], pages.pindex[m]
    del object_.resident[pindex]
    if object_.replaced:
        object_.own("replaced").pop(pindex, None)
    pages.object[m] = 0


def vm_page_rename(vm: Vm, m: int, object_: VmObject, pindex: int) -> None:
    """Move the page to another object and index; it becomes dirty, since its swap block does not move with it."""
    pages = vm.pages
    busy = pages.busy_lock[m]
    del vm.objects[pages.object[m]].resident[pages.pindex[m]]
    pages.object[m] = 0
    vm_page_insert(vm, m, object_, pindex)
    pages.busy_lock[m] = busy
    vm_page_dirty(vm, m)


# Allocation


def vm_page_alloc(vm: Vm, object_: VmObject | None, pindex: int, req: int) -> int | None:
    """Allocate a page; never sleeps and never zeroes.

    Args:
        vm: Memory.
        object_: Its owner, None exactly if VM_ALLOC_NOOBJ is set.
        pindex: Index in the owner; no page may be resident there.
        req: VM_ALLOC_ class and flags.

    Returns:
        The page, exclusively busy unless the flags say otherwise; None if memory is short.
    """
    kassert((object_ is None) == bool(req & VM_ALLOC_NOOBJ), "vm_page_alloc: inconsistent object/req", "vm_page_alloc")
    kassert(
        req & (VM_ALLOC_NOBUSY | VM_ALLOC_SBUSY) != VM_ALLOC_NOBUSY | VM_ALLOC_SBUSY,
        "vm_page_alloc: inconsistent object/req",
        "vm_page_alloc",
    )
    kassert(
        object_ is None or pindex not in object_.resident, "vm_page_alloc: pindex already allocated", "vm_page_alloc"
    )
    if not _may_allocate(vm, req):
        _alloc_failed(vm, object_, pindex, req)
        return None
    m = _take_frame(vm, object_, pindex, req)
    if m is not None:
        _initialise(vm, m, object_, pindex, req)
        if vm_paging_needed(vm):
            pagedaemon_wakeup(vm)
    return m


def _may_allocate(vm: Vm, req: int) -> bool:
    """The class may take one more page; all comparisons are strict."""
    class_ = req & VM_ALLOC_CLASS_MASK
    if vm.in_pagedaemon and class_ != VM_ALLOC_INTERRUPT:
        class_ = VM_ALLOC_SYSTEM
    available = vm.cnt.v_free_count + vm.cnt.v_cache_count
    return (
        available > vm.cnt.v_free_reserved
        or (class_ == VM_ALLOC_SYSTEM and available > vm.cnt.v_interrupt_free_min)
        or (class_ == VM_ALLOC_INTERRUPT and available > 0)
    )


def _alloc_failed(vm: Vm, object_: VmObject | None, pindex: int, req: int) -> None:
    vm.vm_pageout_deficit += max(req >> VM_ALLOC_COUNT_SHIFT, 1)
    vm.ctx.event(
        Kind.PAGE_ALLOC_FAILED,
        object_.id if object_ else 0,
        pindex,
        req & VM_ALLOC_CLASS_MASK,
        vm.cnt.v_free_count,
        vm.cnt.v_cache_count,
    )
    pagedaemon_wakeup(vm)


def _take_frame(vm: Vm, object_: VmObject | None, pindex: int, req: int) -> int | None:
    """The cached page at the index, else a free frame, else the page that was cached first."""
    pages, cnt = vm.pages, vm.cnt
    if object_ is not None and pindex in object_.cached:
        if req & VM_ALLOC_IFNOTCACHED:
            return None
        m = object_.cached[pindex]
        valid = pages.valid[m]
        _uncache(vm, m)
        pages.valid[m] = valid
        cnt.v_reactivated += 1
        return m
    if req & VM_ALLOC_IFCACHED:
        return None
    if cnt.v_free_count:
        cnt.v_free_count -= 1
        return pages.free[cnt.v_free_count]
    m = pages.qnext[pages.cache_head]
    _uncache(vm, m)
    pages.oflags[m] = 0
    return m


def _initialise(vm: Vm, m: int, object_: VmObject | None, pindex: int, req: int) -> None:
    pages = vm.pages
    pages.flags[m] = pages.aflags[m] = pages.act_count[m] = 0
    unmanaged = object_ is None or object_.flags & OBJ_UNMANAGED
    pages.oflags[m] = VPO_UNMANAGED if unmanaged else 0
    if req & (VM_ALLOC_NOBUSY | VM_ALLOC_NOOBJ):
        pages.busy_lock[m] = VPB_UNBUSIED
    elif req & VM_ALLOC_SBUSY:
        pages.busy_lock[m] = VPB_UNBUSIED + VPB_ONE_SHARER
    else:
        pages.busy_lock[m] = VPB_SINGLE_EXCLUSIVER
    if req & VM_ALLOC_WIRED:
        pages.wire_count[m] = 1
        vm.cnt.v_wire_count += 1
    if object_ is not None:
        vm_page_insert(vm, m, object_, pindex)


def vm_page_grab(vm: Vm, object_: VmObject, pindex: int, flags: int) -> int | Suspension | None:
    """The resident page at an index, or a new one; busied and wired as the flags say, its contents may be anything.

    Returns:
        The page; a Suspension if the caller must sleep and call again; None only with VM_ALLOC_NOWAIT.
    """
    pages = vm.pages
    m = object_.resident.get(pindex)
    if m is None:
        return _grab_new(vm, object_, pindex, flags)
    if vm_page_xbusied(vm, m) if flags & VM_ALLOC_IGN_SBUSY else vm_page_busied(vm, m):
        if flags & VM_ALLOC_NOWAIT:
            return None
        pages.aflags[m] |= PGA_REFERENCED
        return vm_page_busy_sleep(vm, m, "pgrbwt")
    if flags & VM_ALLOC_WIRED:
        vm_page_wire(vm, m)
    if not flags & (VM_ALLOC_NOBUSY | VM_ALLOC_SBUSY):
        vm_page_xbusy(vm, m)
    if flags & VM_ALLOC_SBUSY:
        vm_page_sbusy(vm, m)
    return m


def _grab_new(vm: Vm, object_: VmObject, pindex: int, flags: int) -> int | Suspension | None:
    m = vm_page_alloc(vm, object_, pindex, flags & ~VM_ALLOC_IGN_SBUSY)
    if m is None:
        return None if flags & VM_ALLOC_NOWAIT else vm_wait(vm)
    if vm.pages.valid[m] == 0 and flags & VM_ALLOC_ZERO:
        vm.ram.zero(m)
    return m


# Freeing


def vm_page_free(vm: Vm, m: int) -> None:
    """Free a page (vm_page_free_toq); a held one is freed by its last unhold.

    Raises:
        KernelPanic: It is wired, shared busy or still mapped.
    """
    kassert(not pmap_page_is_mapped(vm, m), f"vm_page_free_toq: freeing mapped page {m}", "vm_page_free_toq")
    _free_toq(vm, m)


def _free_toq(vm: Vm, m: int) -> None:
    pages, cnt = vm.pages, vm.cnt
    cnt.v_tfree += 1
    if vm_page_sbusied(vm, m):
        raise KernelPanic("vm_page_free: freeing busy page", "vm_page_free_toq")
    vm_page_dequeue(vm, m)
    vm_page_remove(vm, m)
    pages.valid[m] = pages.dirty[m] = 0
    if pages.wire_count[m]:
        raise KernelPanic("vm_page_free: freeing wired page", "vm_page_free_toq")
    if pages.hold_count[m]:
        kassert(not pages.flags[m] & PG_UNHOLDFREE, f"vm_page_free: freeing PG_UNHOLDFREE page {m}", "vm_page_free_toq")
        pages.flags[m] |= PG_UNHOLDFREE
        return
    _give_back(vm, m)


def _give_back(vm: Vm, m: int) -> None:
    """The frame is free."""
    pages, cnt = vm.pages, vm.cnt
    pages.flags[m] = pages.aflags[m] = pages.oflags[m] = pages.act_count[m] = 0
    pages.pindex[m] = 0
    pages.free[cnt.v_free_count] = m
    cnt.v_free_count += 1
    vm_page_free_wakeup(vm)


def vm_page_free_all(vm: Vm, frames: list[int]) -> list[int]:
    """Unmap and free pages that their object no longer knows, in order.

    Returns:
        Those that are wired, held or busy: they are unmapped but not freed, and still name their object.
    """
    r, batch = loops.registers(vm), np.array(frames, np.int64)
    kept = int(loops.free_pages(batch, r, vm.pages.free_frames, vm.pages.np, vm.mmu.state))
    loops.store_counts(vm, r)
    vm.cnt.v_tfree += len(batch) - kept
    vm_page_free_wakeup(vm)
    rest: list[int] = batch[:kept].tolist()
    return rest


# Cached pages


def vm_page_cache(vm: Vm, m: int) -> bool:
    """Give the frame to the allocator but keep the contents for who asks for the same page first.

    A page without contents, or whose contents cannot be read again, is freed.

    Returns:
        The page was cached; False: it was freed.

    Raises:
        KernelPanic: It is busy, unmanaged, held, wired, dirty or mapped.
    """
    pages, cnt = vm.pages, vm.cnt
    if (
        vm_page_busied(vm, m)
        or pages.oflags[m] & VPO_UNMANAGED
        or pages.hold_count[m]
        or pages.wire_count[m]
    ):  # fmt: skip
        raise KernelPanic("vm_page_cache: attempting to cache busy page", "vm_page_cache")
    kassert(pages.dirty[m] == 0, f"vm_page_cache: page {m} is dirty", "vm_page_cache")
    kassert(not pmap_page_is_mapped(vm, m), f"vm_page_cache: page {m} is mapped", "vm_page_cache")
    object_ = vm.objects[pages.object[m]]
    if pages.valid[m] == 0 or (object_.type != ObjectType.VNODE and pages.pindex[m] not in object_.swapped):
        vm_page_free(vm, m)
        return False
    vm_page_dequeue(vm, m)
    pindex = pages.pindex[m]
    del object_.resident[pindex]
    object_.own("cached")[pindex] = m
    pages.flags[m] = (pages.flags[m] & ~PG_WINATCFLS & 0xFFFF) | PG_CACHED
    pages.aflags[m] = 0
    pages.link_before(pages.cache_head, m)
    cnt.v_cache_count += 1
    cnt.v_tcached += 1
    vm_page_free_wakeup(vm)
    return True


def vm_page_try_to_cache(vm: Vm, m: int) -> bool:
    """Cache or free the page if it is clean and nobody uses it."""
    pages = vm.pages
    if (
        pages.dirty[m]
        or pages.hold_count[m]
        or pages.wire_count[m]
        or vm_page_busied(vm, m)
        or pages.oflags[m] & VPO_UNMANAGED
    ):  # fmt: skip
        return False
    pmap_remove_all(vm, m)
    if pages.dirty[m]:
        return False
    vm_page_cache(vm, m)
    return True


def vm_page_cache_free(vm: Vm, object_: VmObject, start: int = 0, end: int | None = None) -> None:
    """Free the object's cached pages of [start, end); without an end all from `start` on."""
    for pindex in sorted(i for i in object_.cached if i >= start and (end is None or i < end)):
        m = object_.cached[pindex]
        _uncache(vm, m)
        _give_back(vm, m)


def _uncache(vm: Vm, m: int) -> None:
    """Take a page out of its object's cached pages and off the list of all; it owns nothing and holds nothing now."""
    pages = vm.pages
    pages.unlink(m)
    del vm.objects[pages.object[m]].own("cached")[pages.pindex[m]]
    pages.object[m] = 0
    pages.flags[m] &= ~PG_CACHED & 0xFFFF
    pages.valid[m] = 0
    vm.cnt.v_cache_count -= 1
