"""VM objects: references, termination, page removal, shadows and their collapse (sys/vm/vm_object.c)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from services.physmem.page_array import PG_DOOMED, VPB_UNBUSIED
from services.physmem.page_busy import vm_page_busied
from services.physmem.pmap import pmap_remove_all
from services.physmem.state import OBJ_DEAD, OBJ_MIGHTBEDIRTY, OBJ_ONEMAPPING, ObjectType, Vm, VmObject, vm_pager_flush
from services.physmem.swap_reserve import swap_release, swap_reserve
from services.physmem.vm_page import (
    vm_page_cache_free,
    vm_page_free,
    vm_page_free_all,
    vm_page_remove,
    vm_pager_freespace,
)
from services.runtime.errors import kassert


def vm_object_allocate(vm: Vm, type_: ObjectType, size: int, file: int = 0) -> VmObject:
    """A new object of `size` pages with one reference; for VNODE `file` is the pager's id of the file."""
    object_ = vm.objects.create(type_, size)
    object_.file = file
    if object_.anonymous:
        object_.flags = OBJ_ONEMAPPING
    return object_


def vm_object_reference(vm: Vm, object_: VmObject) -> None:
    """Add a reference."""
    object_.ref_count += 1
    vm.objects.referenced[object_.id] = 1


def vm_object_deallocate(vm: Vm, object_: VmObject) -> None:
    """Drop a reference; the last one terminates the object and drops its reference on the one behind it.

    When one reference is left and it is that of a single anonymous shadow, the object is collapsed into the shadow.
    A file's object outlives its last reference, as a vnode keeps its pages.
    """
    current: VmObject | None = object_
    while current is not None:
        kassert(
            current.ref_count > 0,
            f"vm_object_deallocate: object {current.id} deallocated too many times",
            "vm_object_deallocate",
        )
        _drop_reference(vm, current)
        if current.type == ObjectType.VNODE or current.ref_count > 1:
            return
        if current.ref_count == 1:
            current = _last_reference(vm, current)
            continue
        backing = _detach(vm, current)
        vm_object_terminate(vm, current)
        current = backing


def _drop_reference(vm: Vm, object_: VmObject) -> None:
    object_.ref_count -= 1
    if object_.ref_count == 0:
        vm.objects.referenced[object_.id] = 0


def _last_reference(vm: Vm, object_: VmObject) -> VmObject | None:
    """One reference is left: the object of which a temporary reference must be dropped next, or None."""
    if not object_.anonymous:
        return None
    if object_.shadow_count == 0:
        object_.flags |= OBJ_ONEMAPPING
    elif object_.shadow_count == 1:
        shadow = vm.objects[next(iter(object_.shadows))]
        if shadow.anonymous and shadow.ref_count > 0:
            vm_object_reference(vm, shadow)
            vm_object_collapse(vm, shadow)
            return shadow
    return None


def _detach(vm: Vm, object_: VmObject) -> VmObject | None:
    """Take the object off the one that it shadows; that one, whose reference the caller now holds."""
    if not object_.backing:
        return None
    backing = vm.objects[object_.backing]
    _unlink_shadow(object_, backing)
    object_.backing = object_.backing_offset = 0
    return backing


def _unlink_shadow(object_: VmObject, backing: VmObject) -> None:
    del backing.own("shadows")[object_.id]
    backing.shadow_count -= 1


def _link_shadow(object_: VmObject, backing: VmObject) -> None:
    backing.own("shadows")[object_.id] = None
    backing.shadow_count += 1
    object_.backing = backing.id


def vm_object_terminate(vm: Vm, object_: VmObject) -> None:
    """Free the pages of an object without references, and its swap blocks.

    C sleeps until no paging is in progress. Here the pages that the device still works on keep the dead object alive,
    and the end of that work finishes the termination (vm_object_pip_wakeup).
    """
    object_.flags |= OBJ_DEAD
    if object_.paging_in_progress:
        idle = [i for i in sorted(object_.resident) if not vm_page_busied(vm, object_.resident[i])]
        vm.cnt.v_pfree += _free_resident(vm, object_, idle)
    else:
        _terminate_finish(vm, object_)


def _free_resident(vm: Vm, object_: VmObject, pindexes: list[int]) -> int:
    """Unmap and free resident pages; wired ones only leave the object. Returns how many were freed."""
    rest = vm_page_free_all(vm, [object_.resident.pop(i) for i in pindexes])
    wired = 0
    for m in rest:
        object_.resident[vm.pages.pindex[m]] = m
        if vm.pages.wire_count[m]:
            vm_page_remove(vm, m)
            wired += 1
        else:
            vm_page_free(vm, m)
    return len(pindexes) - wired


def _terminate_finish(vm: Vm, object_: VmObject) -> None:
    """The object has no pages under way any more: it is gone."""
    vm_page_cache_free(vm, object_)
    vm.cnt.v_pfree += _free_resident(vm, object_, sorted(object_.resident))
    if object_.type == ObjectType.SWAP:
        vm.dealloced.append(object_.id)
    _release_charge(vm, object_)
    object_.type = ObjectType.DEAD
    vm.objects.drop(object_)


def _release_charge(vm: Vm, object_: VmObject) -> None:
    """vm_object_destroy: what was reserved for an object that goes is free."""
    if object_.charged:
        swap_release(vm, object_.charge)
        object_.charged, object_.charge = False, 0


def vm_object_pip_add(vm: Vm, object_: VmObject, count: int = 1) -> None:
    """`count` more page operations are under way."""
    kassert(object_.id in vm.objects, f"vm_object_pip_add: object {object_.id} is dead", "vm_object_pip_add")
    object_.paging_in_progress += count


def vm_object_pip_wakeup(vm: Vm, object_: VmObject, count: int = 1) -> None:
    """`count` page operations have ended; the last one of a dead object finishes its termination."""
    kassert(object_.paging_in_progress >= count, "vm_object_pip_wakeup: pip count underflow", "vm_object_pip_wakeup")
    object_.paging_in_progress -= count
    if object_.paging_in_progress == 0 and object_.flags & OBJ_DEAD:
        _terminate_finish(vm, object_)


def vm_object_set_writeable_dirty(object_: VmObject) -> None:
    """A page of the object may be written from now on: of a file that means that it may have to be written back."""
    if object_.type == ObjectType.VNODE:
        object_.flags |= OBJ_MIGHTBEDIRTY


def vm_object_page_remove(vm: Vm, object_: VmObject, start: int, end: int) -> None:
    """Free the object's pages of [start, end) and their swap blocks (vm_object_page_remove, swap_pager_freespace).

    C sleeps for busy pages. Here such a page, and its block, is freed when the device is done with it.
    """
    pages = vm.pages
    vm_page_cache_free(vm, object_, start, end)
    removed, busy = [], []
    for pindex in _resident_in(object_, start, end):
        m = object_.resident[pindex]
        if vm_page_busied(vm, m):
            pmap_remove_all(vm, m)
            pages.flags[m] |= PG_DOOMED
            busy.append(pindex)
        elif pages.wire_count[m]:
            pmap_remove_all(vm, m)
            pages.valid[m] = pages.dirty[m] = 0
        else:
            removed.append(pindex)
    _free_resident(vm, object_, removed)
    for first, last in pairwise([start - 1, *busy, end]):
        vm_pager_freespace(vm, object_, first + 1, last - first - 1)


def _resident_in(object_: VmObject, start: int, end: int) -> list[int]:
    """Indexes of resident pages of [start, end), ascending."""
    if end - start < len(object_.resident):
        return [i for i in range(start, end) if i in object_.resident]
    return sorted(i for i in object_.resident if start <= i < end)


def vm_object_shadow(vm: Vm, object_: VmObject, offset: int, length: int) -> tuple[VmObject, int]:
    """Put a new anonymous object in front of one, for copy on write.

    Args:
        vm: Memory.
        object_: The source; its reference goes over to the new object.
        offset: Where the caller's range begins in it, in pages.
        length: Pages of the range.

    Returns:
        The object to use and the range's offset in it: the source itself if nobody else refers to it.
    """
    if object_.ref_count == 1 and object_.anonymous:
        return object_, offset
    shadow = vm_object_allocate(vm, ObjectType.DEFAULT, length)
    _link_shadow(shadow, object_)
    shadow.backing_offset = offset
    object_.flags &= ~OBJ_ONEMAPPING
    return shadow, 0


def vm_object_split(vm: Vm, object_: VmObject, first: int, size: int) -> VmObject:
    """Before a fork: give a range of an anonymous object that others refer to as well an object of its own.

    Otherwise the child would keep all pages of the whole object alive. C sleeps for busy pages; here such a range
    keeps its object.

    Args:
        vm: Memory.
        object_: The object.
        first: First page of the range.
        size: Its pages.

    Returns:
        The range's object, which takes the caller's reference over; `first` is page 0 of a new one.
    """
    if object_.ref_count <= 1:
        return object_
    pindexes = _resident_in(object_, first, first + size)
    if _any_busy(vm, [object_.resident[i] for i in pindexes]):
        return object_
    new = vm_object_allocate(vm, ObjectType.DEFAULT, size)
    if object_.backing:
        source = vm.objects[object_.backing]
        vm_object_reference(vm, source)
        source.flags &= ~OBJ_ONEMAPPING
        _link_shadow(new, source)
        new.backing_offset = object_.backing_offset + first
    if object_.charged:
        new.charged, new.charge = True, size << vm.arch.page_shift
        object_.charge -= new.charge
        kassert(object_.charge >= 0, f"vm_object_split: object {object_.id} has no such charge", "vm_object_split")
    _rename_all(vm, object_, new, pindexes, first)
    if object_.type == ObjectType.SWAP:
        _split_swap(vm, object_, new, first)
    vm_object_deallocate(vm, object_)
    return new


def _split_swap(vm: Vm, object_: VmObject, new: VmObject, first: int) -> None:
    """Swap blocks and cached pages of the range of a new object go over to it (vm_page_cache_transfer)."""
    end = first + new.size
    swapped = [i for i in object_.swapped if first <= i < end]
    if swapped:
        vm_pager_flush(vm)
        vm.pager.swap_copy(object_.id, new.id, first, new.size, destroysource=False)
        new.type = ObjectType.SWAP
    for i in swapped:
        del object_.own("swapped")[i]
        new.own("swapped")[i - first] = None
    for i in [i for i in object_.cached if first <= i < end]:
        m = new.own("cached")[i - first] = object_.own("cached").pop(i)
        vm.pages.object[m], vm.pages.pindex[m] = new.id, i - first


def vm_object_coalesce(vm: Vm, object_: VmObject, end: int, length: int, reserved: bool) -> bool:
    """Let an anonymous object also back the `length` pages from page `end` on, where the caller's range in it ends.

    Of a charged object all pages are; `reserved`: swap is reserved for these already.

    Returns:
        It does; False: the range needs an object of its own.
    """
    if not object_.anonymous:
        return False
    vm_object_collapse(vm, object_)
    if object_.backing or (object_.ref_count > 1 and object_.size != end):
        return False
    if object_.charged:
        charge = length << vm.arch.page_shift
        if not reserved and not swap_reserve(vm, charge):
            return False
        object_.charge += charge
    if end < object_.size:
        vm_object_page_remove(vm, object_, end, end + length)
    object_.size = max(object_.size, end + length)
    return True


def vm_object_collapse(vm: Vm, object_: VmObject) -> None:
    """Merge backing objects that nobody else refers to into the object, and skip those it hides altogether."""
    while object_.backing:
        backing = vm.objects[object_.backing]
        if not (backing.anonymous and object_.anonymous) or (backing.flags | object_.flags) & OBJ_DEAD:
            return
        if object_.paging_in_progress or backing.paging_in_progress:
            vm_object_qcollapse(vm, object_, backing)
            return
        if backing.ref_count == 1:
            if not _absorb(vm, object_, backing):
                return
            vm.objects.collapses += 1
        else:
            if len(object_.resident) != object_.size and not _all_shadowed(object_, backing):
                return
            _bypass(vm, object_, backing)
            vm.objects.bypasses += 1


def vm_object_qcollapse(vm: Vm, object_: VmObject, backing: VmObject) -> None:
    """While pages are under way: take those of a backing object that nobody else refers to and that are not busy."""
    if backing.ref_count != 1:
        return
    offset, pages = object_.backing_offset, vm.pages
    unfilled = {i + offset for i, m in object_.resident.items() if not pages.valid[m]}
    idle = [i for i, m in backing.resident.items() if pages.valid[m] and not vm_page_busied(vm, m)]
    _move_pages(vm, object_, backing, [i for i in sorted(idle) if i not in unfilled])


def _absorb(vm: Vm, object_: VmObject, backing: VmObject) -> bool:
    """Move the backing object's pages and swap blocks into its only shadow; False while a page is busy."""
    if _any_busy(vm, list(backing.resident.values())):
        return False
    vm_page_cache_free(vm, backing)
    vm_page_cache_free(vm, object_)
    _move_pages(vm, object_, backing, sorted(backing.resident))
    if backing.type == ObjectType.SWAP:
        vm_pager_flush(vm)
        vm.pager.swap_copy(backing.id, object_.id, object_.backing_offset, object_.size, destroysource=True)
        offset, size = object_.backing_offset, object_.size
        moved = (i - offset for i in backing.swapped if offset <= i < offset + size)
        object_.own("swapped").update(dict.fromkeys(moved))
        vm.dealloced.append(backing.id)
        object_.type = ObjectType.SWAP
    _replace_backing(vm, object_, backing)
    if object_.backing:
        _unlink_shadow(backing, vm.objects[object_.backing])
    _release_charge(vm, backing)
    vm.objects.referenced[backing.id] = 0
    backing.ref_count, backing.type = 0, ObjectType.DEAD
    vm.objects.drop(backing)
    return True


def _any_busy(vm: Vm, frames: list[int]) -> bool:
    return bool((vm.pages.np.busy_lock[np.array(frames, np.int64)] != VPB_UNBUSIED).any())


def _move_pages(vm: Vm, object_: VmObject, backing: VmObject, pindexes: list[int]) -> None:
    """Of some pages rename those that the shadow lacks (they become dirty), free the others, and their swap blocks."""
    offset = object_.backing_offset
    inside = [i for i in pindexes if offset <= i < offset + object_.size]
    moved = [i for i in inside if i - offset not in object_.resident and i - offset not in object_.swapped]
    _rename_all(vm, backing, object_, moved, offset)
    _free_resident(vm, backing, [i for i in pindexes if i in backing.resident])
    for i in pindexes:
        vm_pager_freespace(vm, backing, i, 1)


def _rename_all(vm: Vm, source: VmObject, destination: VmObject, pindexes: list[int], offset: int) -> None:
    """vm_page_rename of pages that are not busy; `offset`: the page of the source that is the destination's page 0."""
    fields = vm.pages.np
    frames = np.array([source.resident.pop(i) for i in pindexes], np.int64)
    fields.object[frames] = destination.id
    fields.pindex[frames] -= offset
    fields.dirty[frames] = vm.bits_all
    destination.resident.update(zip((i - offset for i in pindexes), frames.tolist(), strict=True))


def _all_shadowed(object_: VmObject, backing: VmObject) -> bool:
    """The shadow has every page of the backing object within its window, in memory or in swap."""
    if backing.type != ObjectType.DEFAULT or backing.cached:
        return False
    offset, size = object_.backing_offset, object_.size
    hidden = (i - offset for i in backing.resident if offset <= i < offset + size)
    return all(i in object_.resident or i in object_.swapped for i in hidden)


def _bypass(vm: Vm, object_: VmObject, backing: VmObject) -> None:
    """Let the object shadow what its backing object shadows; the reference on the latter is dropped."""
    _replace_backing(vm, object_, backing)
    if object_.backing:
        vm_object_reference(vm, vm.objects[object_.backing])
    _drop_reference(vm, backing)


def _replace_backing(vm: Vm, object_: VmObject, backing: VmObject) -> None:
    """Take the backing object out of the chain between the object and what it shadows itself."""
    _unlink_shadow(object_, backing)
    object_.backing = 0
    object_.backing_offset += backing.backing_offset
    if backing.backing:
        _link_shadow(object_, vm.objects[backing.backing])
