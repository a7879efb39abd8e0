"""The pager looked at from outside: invariants and the digest of its state."""

from __future__ import annotations

import hashlib
from itertools import islice

import numpy as np

from services.pager.swap_pager import Io, IoTable, SwapPager
from services.pager.swap_space import LABEL_BLOCKS
from services.pager.vnode_pager import VnodePager
from services.ports.common import SuspendedOperation, SuspendedOperations, Violations
from services.runtime.limits import SUSPENDED_TOLD_MAX

EVENT_COUNTERS = (
    "vm.stats.vm.v_swapin",
    "vm.stats.vm.v_swapout",
    "vm.stats.vm.v_swappgsin",
    "vm.stats.vm.v_swappgsout",
    "vm.stats.vm.v_vnodein",
    "vm.stats.vm.v_vnodeout",
    "vm.stats.vm.v_vnodepgsin",
    "vm.stats.vm.v_vnodepgsout",
    "vmglue.pager.checksum_errors",
    "vmglue.pager.io_errors",
    "vmglue.pager.swap_zone_exhausted",
    "vmglue.pager.sync_puts",
)
"""Counters that only ever grow; they exist from boot on."""
_HASH_BLOCKS = 256


def check(swap: SwapPager, counters: dict[str, int]) -> Violations:
    """Compare the owners of swap blocks with bitmaps, device counts and swap_pager_avail.

    Args:
        swap: Swap space and metadata.
        counters: The service's counters.
    """
    found = swap.meta.violations()
    _, _, blocks = swap.meta.entries()
    owned = np.sort(blocks)
    if (twice := owned[1:][owned[1:] == owned[:-1]]).size:
        found.append(f"swap block {twice[0]} has two owners")
    for device in swap.space.devices:
        mine = owned[(owned >= device.first) & (owned < device.end)] - device.first
        free = device.blist.is_free()
        if free[mine].any():
            found.append(f"swap block {device.first + mine[free[mine]][0]} has an owner and is free")
        if len(mine) != device.used:
            found.append(f"a swap device counts {device.used} blocks in use, {len(mine)} have an owner")
        left = 0 if device.closing else device.nblks - LABEL_BLOCKS - device.used
        if int(free.sum()) != device.blist.free_count or device.blist.free_count != left:
            found.append(f"a swap device of {device.nblks} blocks has {free.sum()} free and {device.used} in use")
    unused = swap.space.total + swap.space.surplus - swap.space.used
    if swap.space.avail != unused:
        found.append(f"swap_pager_avail is {swap.space.avail}, {unused} are not in use")
    if counters["vmglue.pager.swap_used"] != len(owned):
        found.append(f"the counter tells {counters['vmglue.pager.swap_used']} pages in swap, there are {len(owned)}")
    return Violations(found, len(owned))


def suspended(ios: IoTable, vnodes: VnodePager) -> SuspendedOperations:
    """Device operations under way by id, a bounded number of them.

    Args:
        ios: All of them.
        vnodes: Knows the names of files.
    """
    told = [_operation(number, io, vnodes) for number, io in islice(ios.pending.items(), SUSPENDED_TOLD_MAX)]
    return SuspendedOperations(told, len(ios.pending))


def _operation(number: int, io: Io, vnodes: VnodePager) -> SuspendedOperation:
    """One of them; a read has the wait message of who sleeps for its pages, for a write nobody need sleep."""
    swap = io.block >= 0
    owner = f"object {io.obj}" if swap else f"file {vnodes.files[io.obj - 1].name}"
    return SuspendedOperation(
        op=number,
        function=f"{'swap' if swap else 'vnode'}_pager_{'putpages' if io.write else 'getpages'}",
        subject=f"{owner}, {io.count} pages from {io.first}",
        channel=f"io:{number}",
        wmesg="" if io.write else "swread" if swap else "vnread",
        since_us=io.begun_us,
        until_us=io.due_us,
    )


def digest(swap: SwapPager, vnodes: VnodePager, ios: IoTable) -> bytes:
    """Digest of metadata, contents of swap, devices, files and operations under way."""
    state = hashlib.blake2b(digest_size=32)
    space = swap.space
    numbers = [space.avail, space.full, space.almost_full, space.next_device, space.swapoffs, ios.last]
    for device in space.devices:
        queue = device.queue
        numbers += [
            device.number,
            device.first,
            device.nblks,
            device.used,
            device.flags,
            queue.rng,
            queue.head,
            queue.faults.rng,
        ]
        numbers += queue.busy_until_us
    numbers += [vnodes.queue.rng, *vnodes.queue.busy_until_us, *ios.async_ends_us]
    state.update(repr((numbers, sorted(swap.meta.objects))).encode())
    state.update(repr([(file.name, file.pages, file.key) for file in vnodes.files]).encode())
    for file in vnodes.files:
        state.update(repr(sorted(file.written)).encode())
        for pindex in sorted(file.written):
            state.update(file.written[pindex])
    for number, io in ios.pending.items():
        state.update(repr((number, io.write, io.obj, io.first, io.count, io.block, io.due_us, io.failed)).encode())
    entries = np.stack(swap.meta.entries())
    state.update(np.ascontiguousarray(entries).tobytes())
    for block, count in swap.owned_runs(entries[2]):
        for start in range(0, count, _HASH_BLOCKS):
            state.update(swap.contents(block + start, min(_HASH_BLOCKS, count - start)))
    return state.digest()
