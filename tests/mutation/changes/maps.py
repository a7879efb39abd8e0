"""Mutations of wiring by programs, System V shared memory and kernel mappings of single pages."""

from __future__ import annotations

from tests.mutation.change import SF_BUF, SYSV_SHM, VM_MAP_DELETE, VM_MAP_WIRE, VM_MMAP, VMSPACE, Change

_MLOCK = ("unit/physmem/test_vm_mmap.py",)

CHANGES = (
    Change(
        "mlock-limit-strict",
        VM_MMAP,
        "<< vm.arch.page_shift > memlock:",
        "<< vm.arch.page_shift >= memlock:",
        "vm_mlock, vm_mmap.c",
        "exactly RLIMIT_MEMLOCK may be wired",
        _MLOCK,
    ),
    Change(
        "mlock-again-counts",
        VM_MAP_WIRE,
        "    elif op.user and entry.eflags & MAP_ENTRY_USER_WIRED:\n",
        "    elif op.user and entry.eflags & MAP_ENTRY_WIRE_SKIPPED:\n",
        "vm_map_wire, vm_map.c",
        "the user's wiring counts once",
        _MLOCK,
    ),
    Change(
        "munmap-leaves-wired",
        VM_MAP_DELETE,
        "        if entry.wired_count:\n            vm_map_entry_unwire(vm, map_, entry)\n",
        "",
        "vm_map_delete, vm_map.c",
        "the user's wiring goes with the mapping",
        _MLOCK,
    ),
    Change(
        "fork-inherits-wiring",
        VMSPACE,
        "~(MAP_ENTRY_USER_WIRED | MAP_ENTRY_IN_TRANSITION | MAP_ENTRY_NEEDS_WAKEUP)",
        "~(MAP_ENTRY_IN_TRANSITION | MAP_ENTRY_NEEDS_WAKEUP)",
        "vmspace_fork, vm_map.c",
        "a child's entries are never wired",
        _MLOCK,
    ),
    Change(
        "segment-freed-while-attached",
        SYSV_SHM,
        "    if seg.nattch == 0 and seg.removed:\n",
        "    if seg.removed:\n",
        "shm_delete_mapping, sysv_shm.c",
        "a removed segment lives until its last detachment",
        ("unit/physmem/test_sysv_shm.py",),
    ),
    Change(
        "sf-buf-place-leaked",
        SF_BUF,
        "    pool.freelist[at] = None\n",
        "",
        "sf_buf_free, subr_sfbuf.c",
        "a mapping without users makes way for another",
        ("unit/physmem/test_sf_buf.py",),
    ),
)
