"""Physical memory looked at as a whole: its invariants, and the digest of its state."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from services.physmem import page_loops as loops
from services.physmem.page_array import (
    PG_CACHED,
    PG_UNHOLDFREE,
    PQ_ACTIVE,
    PQ_INACTIVE,
    PQ_NONE,
    VPB_BIT_EXCLUSIVE,
    VPB_BIT_SHARED,
    VPB_BIT_WAITERS,
    VPB_UNBUSIED,
    VPO_UNMANAGED,
    PageFields,
)
from services.physmem.state import Vm

_HASH_FRAMES = 1024
"""Frames whose contents are gathered at once for the digest."""


def check_pages(vm: Vm) -> tuple[list[str], int]:
    """Compare page array, free list, queues, busy words, objects, page tables and counters with one another.

    Returns:
        One sentence for each invariant that is violated, and how many pages and mappings were compared.
    """
    count = vm.pages.count
    fields = PageFields._make(array[:count] for array in vm.pages.np)
    free = np.zeros(count, np.bool_)
    free[vm.pages.free_frames[: vm.cnt.v_free_count]] = True
    managed, kernel = vm.mmu.mapped_frames()
    unused = [sf.m for sf in vm.sf_pool.bufs if sf.ref_count == 0 and sf.m >= 0]
    kernel = kernel[~np.isin(kernel, unused)]
    found = [
        *_check_classes(vm, fields, free),
        *_check_queues(vm, fields),
        *_check_busy(vm, fields, free),
        *_check_residency(vm, fields),
        *_check_mappings(fields, free, managed, kernel),
        *vm.mmu.check(),
    ]
    return found, count + len(managed) + len(kernel)


def _check_classes(vm: Vm, fields: PageFields, free: NDArray[np.bool_]) -> Iterator[str]:
    """Every page is in one class: free, cached, inactive, active, wired or unqueued; the counters agree."""
    cnt = vm.cnt
    classes = {
        "v_free_count": (free, cnt.v_free_count),
        "v_cache_count": ((fields.flags & PG_CACHED) != 0, cnt.v_cache_count),
        "v_inactive_count": (fields.queue == PQ_INACTIVE, cnt.v_inactive_count),
        "v_active_count": (fields.queue == PQ_ACTIVE, cnt.v_active_count),
        "v_wire_count": (fields.wire_count > 0, cnt.v_wire_count),
    }
    members = np.zeros(len(free), np.int8)
    for name, (mask, counter) in classes.items():
        members += mask
        if np.count_nonzero(mask) != counter:
            yield f"{name} is {counter}, {np.count_nonzero(mask)} pages are in the class"
    if (members > 1).any():
        yield f"page {int(np.argmax(members > 1))} is in more than one class (free, cached, queued, wired)"
    lost = (members == 0) & (fields.object == 0) & (fields.hold_count == 0)
    if lost.any():
        yield f"page {int(np.argmax(lost))} is lost: not free, and nobody has it"
    used = fields.object[free].any() or fields.hold_count[free].any() or (fields.valid | fields.dirty)[free].any()
    if used:
        yield "a free page has an owner, a hold or contents"


def _check_queues(vm: Vm, fields: PageFields) -> Iterator[str]:
    """The links of each queue lead once around all its pages; queued pages are managed and owned."""
    pages, cnt = vm.pages, vm.cnt
    lengths = (
        ("inactive", pages.head(PQ_INACTIVE), cnt.v_inactive_count),
        ("active", pages.head(PQ_ACTIVE), cnt.v_active_count),
        ("cached", pages.cache_head, cnt.v_cache_count),
    )
    for name, head, counter in lengths:
        length = loops.queue_length(head, pages.np)
        if length != counter:
            yield f"the {name} queue's links lead over {length} pages, {counter} are counted"
    queued = fields.queue != PQ_NONE
    if (fields.object[queued] == 0).any() or (fields.oflags[queued] & VPO_UNMANAGED).any():
        yield "a queued page is unmanaged or has no owner"


def _check_busy(vm: Vm, fields: PageFields, free: NDArray[np.bool_]) -> Iterator[str]:
    """Busy words are legal and belong to somebody; holds are independent of them."""
    word = fields.busy_lock & np.uint32(~VPB_BIT_WAITERS & 0xFFFFFFFF)
    exclusive = (word & VPB_BIT_EXCLUSIVE) != 0
    if (exclusive & (word != VPB_BIT_EXCLUSIVE)).any() or (~exclusive & (word & VPB_BIT_SHARED == 0)).any():
        yield "a busy word is neither unbusied, exclusive nor shared"
    busy = word != VPB_UNBUSIED
    if busy[free].any() or (fields.object[busy] == 0).any():
        yield "a page without an owner is busy"
    writing = np.zeros(len(word), np.bool_)
    for write in vm.writes.values():
        writing[write.frames] = True
    if (busy & ~exclusive & ~writing).any() or (writing & ~(busy & ~exclusive)).any():
        yield "the pages that are shared busy are not those that are being written"
    doomed = (fields.flags & PG_UNHOLDFREE) != 0
    if (fields.hold_count[doomed] == 0).any() or fields.object[doomed].any():
        yield "a page that waits for its last unhold is not held, or has an owner"
    if (fields.dirty & ~fields.valid).any():
        yield "a page is dirty where it is not valid"


def _check_residency(vm: Vm, fields: PageFields) -> Iterator[str]:
    """Objects and page array agree on who owns which frame, at which index."""
    for kind in ("resident", "cached"):
        owners, pindexes, frames = _owned(vm, kind)
        wrong = (fields.object[frames] != owners) | (fields.pindex[frames] != pindexes)
        if wrong.any():
            yield f"page {int(frames[wrong][0])} is {kind} in object {int(owners[wrong][0])} and names another owner"
        cached = (fields.flags & PG_CACHED) != 0
        owned = (fields.object != 0) & (cached if kind == "cached" else ~cached)
        if np.count_nonzero(owned) != len(frames):
            yield f"{np.count_nonzero(owned)} pages name an owner, {len(frames)} are {kind} in objects"
    for object_ in vm.objects:
        if bool(vm.objects.referenced[object_.id]) != (object_.ref_count != 0):
            yield f"object {object_.id} has {object_.ref_count} references and is marked otherwise"
        if object_.shadow_count != len(object_.shadows) or object_.ref_count < 0:
            yield f"object {object_.id} counts {object_.shadow_count} shadows and has {len(object_.shadows)}"


def _owned(vm: Vm, kind: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Object, pindex and frame of all pages that objects say are resident or cached."""
    owners: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    pindexes, frames = list(owners), list(owners)
    for object_ in vm.objects:
        pages: dict[int, int] = getattr(object_, kind)
        if pages:
            owners.append(np.full(len(pages), object_.id, np.int64))
            pindexes.append(np.fromiter(pages.keys(), np.int64, len(pages)))
            frames.append(np.fromiter(pages.values(), np.int64, len(pages)))
    return np.concatenate(owners), np.concatenate(pindexes), np.concatenate(frames)


def _check_mappings(
    fields: PageFields, free: NDArray[np.bool_], managed: NDArray[np.int64], kernel: NDArray[np.int64]
) -> Iterator[str]:
    """What user addresses map has an owner and contents; what kernel addresses map is not free."""
    if (fields.object[managed] == 0).any() or (fields.flags[managed] & PG_CACHED).any():
        yield "a page without an owner is mapped"
    if (fields.oflags[managed] & VPO_UNMANAGED).any():
        yield "an unmanaged page has a reverse mapping"
    if free[kernel].any() or (fields.flags[kernel] & PG_CACHED).any():
        yield "the kernel maps a free page"


def digest_pages(vm: Vm) -> bytes:
    """Digest of counters, objects, page array, free list, page tables, and contents of all pages in use."""
    digest = hashlib.blake2b(digest_size=32)
    digest.update(struct.pack(f"<{len(astuple(vm.cnt))}q", *astuple(vm.cnt)))
    for object_ in vm.objects:
        digest.update(
            struct.pack(
                "<10q", object_.id, object_.type, object_.size, object_.ref_count, object_.shadow_count, object_.flags,
                object_.paging_in_progress, object_.backing, object_.backing_offset, object_.file,
            )
        )  # fmt: skip
    for array in vm.pages.np:
        digest.update(array.data)
    digest.update(vm.pages.free_frames[: vm.cnt.v_free_count].data)
    slots = np.flatnonzero(vm.mmu.state.tables)
    digest.update(slots.data)
    digest.update(vm.mmu.state.tables[slots].data)
    frames = np.flatnonzero(vm.pages.np.object[: vm.pages.count])
    for at in range(0, len(frames), _HASH_FRAMES):
        digest.update(vm.ram.words[frames[at : at + _HASH_FRAMES]].data)
    return digest.digest()
