"""Kernel mappings of single pages (sys/sf_buf.h, kern/subr_sfbuf.c).

Where all memory is mapped anyway a page is its own sf_buf. Elsewhere there is a pool: a mapping that nobody uses any
more stays until its place is needed, and serves who wants the same page before that.
"""

from __future__ import annotations

from hardware_sim.arch import Arch
from services.physmem.machine import Machine, SfBufMapping
from services.physmem.pmap import pmap_qenter
from services.physmem.state import PVM, SfBuf
from services.physmem.vm_kern import kva_range
from services.ports.common import Suspension
from services.runtime.errors import kassert

SF_BUF_CHANNEL = "sf_buf_freelist"
_MAXUSERS_MIN, _MAXUSERS_MAX = 32, 384


def nsfbufs(arch: Arch, page_count: int) -> int:
    """kern.ipc.nsfbufs: 512 + maxusers * 16, maxusers being one for each 2 MiB of memory, 32 to 384, less beyond.

    Returns:
        The size of the pool; 0 where all memory is mapped.
    """
    if arch.direct_map:
        return 0
    maxusers = max(page_count // ((2 << 20) // arch.page_size), _MAXUSERS_MIN)
    if maxusers > _MAXUSERS_MAX:
        maxusers = _MAXUSERS_MAX + (maxusers - _MAXUSERS_MAX) // 8
    return 512 + maxusers * 16


def sf_buf_alloc(vm: Machine, m: int) -> SfBufMapping | Suspension:
    """sf_buf_alloc with SFB_CPUPRIVATE, without SFB_NOWAIT and SFB_CATCH: a kernel mapping of a page, or the sleep."""
    if vm.arch.direct_map:
        return SfBufMapping(m)
    pool = vm.sf_pool
    at = pool.active.get(m)
    if at is None:
        at = _place(vm)
        if at is None:
            pool.alloc_want = True
            return Suspension(channel=SF_BUF_CHANNEL, priority=PVM, wmesg="sfbufa")
        if pool.bufs[at].m >= 0:
            del pool.active[pool.bufs[at].m]
        pool.bufs[at].m = m
        pool.active[m] = at
        pmap_qenter(vm, pool.bufs[at].kva, [m])
    sf = pool.bufs[at]
    if sf.ref_count == 0:
        pool.freelist.pop(at, None)
        pool.nsfbufsused += 1
        pool.nsfbufspeak = max(pool.nsfbufspeak, pool.nsfbufsused)
    sf.ref_count += 1
    return SfBufMapping(m, sf.kva)


def _place(vm: Machine) -> int | None:
    """A place in the pool: a new one while there are less than nsfbufs, else the head of the free list; None: neither.

    The C code takes the address space of all at boot; here each place takes its page when it is used first.
    """
    pool = vm.sf_pool
    if len(pool.bufs) < pool.nsfbufs:
        kva = kva_range(vm, vm.arch.page_size)
        if kva:
            pool.bufs.append(SfBuf(kva))
            return len(pool.bufs) - 1
    return next(iter(pool.freelist), None)


def sf_buf_free(vm: Machine, mapping: SfBufMapping) -> None:
    """sf_buf_free: the last user puts the mapping at the end of the free list, as it is, and wakes who waits."""
    if mapping.kva == 0:
        return
    pool = vm.sf_pool
    at = pool.active[mapping.frame]
    sf = pool.bufs[at]
    kassert(sf.ref_count > 0, f"sf_buf_free: the mapping of page {mapping.frame} is free", "sf_buf_free")
    sf.ref_count -= 1
    if sf.ref_count:
        return
    pool.freelist[at] = None
    pool.nsfbufsused -= 1
    if pool.alloc_want:
        pool.alloc_want = False  # all are woken; who finds nothing asks again
        vm.ctx.wakeup(SF_BUF_CHANNEL)
