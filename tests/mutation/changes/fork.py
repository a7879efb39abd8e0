"""Mutations: address spaces in fork and wait (vm_forkproc, vm_waitproc)."""

from __future__ import annotations

from tests.mutation.change import GLUE_FORK, SCHEDULER, Change

_G = ("G", "unit/scheduler/test_life.py")

CHANGES = (
    Change(
        "unshare-alone",
        GLUE_FORK,
        ".vm_refcnt > 1:",
        ".vm_refcnt > 0:",
        "vm_forkproc 635",
        "an address space that nobody shares is not copied",
        _G,
    ),
    Change(
        "unshare-despite-rfmem",
        GLUE_FORK,
        "if args.flags & RFMEM == 0 and k.s.vmspaces",
        "if k.s.vmspaces",
        "vm_forkproc 634",
        "RFMEM leaves the memory shared",
        _G,
    ),
    Change(
        "unshare-error-ignored",
        GLUE_FORK,
        "            if error:\n                return error\n        cpu_fork",
        "        cpu_fork",
        "vm_forkproc 637-638",
        "an error of vmspace_unshare is answered, without cpu_fork",
        _G,
    ),
    Change(
        "rfmem-reference-twice",
        GLUE_FORK,
        "if args.flags & RFMEM and not resumed:",
        "if args.flags & RFMEM:",
        "vm_forkproc 645-648",
        "one reference, however often it sleeps",
        ("G", *SCHEDULER),
    ),
    Change(
        "rfmem-reference-after-wait",
        GLUE_FORK,
        "    if args.flags & RFMEM and not resumed:\n"
        "        p2.p_vmspace = p1.p_vmspace\n"
        "        vmspace_ref(k, p1.p_vmspace)\n"
        "    if k.vm_page_count_severe():\n"
        "        k.ctx.event(Kind.FORK_WAIT, p1.p_pid)\n"
        "        suspend(k, args.td, k.physmem.vm_wait())\n"
        '        k.ctx.env.preempt("vm_forkproc:651")\n'
        "        return None\n",
        "    if k.vm_page_count_severe():\n"
        "        k.ctx.event(Kind.FORK_WAIT, p1.p_pid)\n"
        "        suspend(k, args.td, k.physmem.vm_wait())\n"
        "        return None\n"
        "    if args.flags & RFMEM:\n"
        "        p2.p_vmspace = p1.p_vmspace\n"
        "        vmspace_ref(k, p1.p_vmspace)\n",
        "vm_forkproc 645-652",
        "the reference is taken before the wait for memory",
        ("G", *SCHEDULER),
    ),
    Change(
        "fork-waits-below-min",
        GLUE_FORK,
        "if k.vm_page_count_severe():",
        "if k.vm_page_count_min():",
        "vm_forkproc 650",
        "fork waits below v_free_severe",
        _G,
    ),
    Change(
        "fork-without-wait",
        GLUE_FORK,
        "if k.vm_page_count_severe():",
        "if k.vm_page_count_severe() and not resumed:",
        "vm_forkproc 650-652",
        "after the sleep memory is looked at again",
        _G,
    ),
    Change(
        "fork-shm-always",
        GLUE_FORK,
        "        if k.s.vmspaces[p1.p_vmspace].vm_shm:\n            shmfork(k, p1, p2)\n",
        "        shmfork(k, p1, p2)\n",
        "vm_forkproc 656-657",
        "shmfork only where segments are attached",
        _G,
    ),
    Change(
        "waitproc-keeps-vmspace",
        GLUE_FORK,
        "    vmspace, p.p_vmspace = p.p_vmspace, 0\n    vmspace_free(k, vmspace)\n",
        "    p.p_vmspace = 0\n",
        "vm_waitproc 678",
        "reaping gives the address space back",
        _G,
    ),
    Change(
        "fork-child-on-parents-space",
        GLUE_FORK,
        "        p2.p_vmspace = args.vm2\n",
        "        p2.p_vmspace = p1.p_vmspace\n",
        "vm_forkproc 655",
        "a child without RFMEM has the copy",
        ("G", *SCHEDULER),
    ),
    Change(
        "fork-rfmem-replaced",
        GLUE_FORK,
        "    if args.flags & RFMEM == 0:\n        p2.p_vmspace",
        "    if args.vm2:\n        p2.p_vmspace",
        "vm_forkproc 654",
        "RFMEM keeps the parent's address space",
        ("G", *SCHEDULER),
    ),
    Change(
        "unshare-without-cpu-fork",
        GLUE_FORK,
        "        cpu_fork(k, p1, args)\n        return 0\n    p2",
        "        return 0\n    p2",
        "vm_forkproc 641",
        "without a child cpu_fork is called too",
        _G,
    ),
    Change(
        "unshare-keeps-reference",
        GLUE_FORK,
        "    shared, p.p_vmspace = p.p_vmspace, copy.vmspace\n    vmspace_free(k, shared)\n",
        "    p.p_vmspace = copy.vmspace\n",
        "vmspace_unshare, vm_map.c",
        "who got a copy gives its share back",
        _G,
    ),
    Change(
        "vmspace-gone-early",
        GLUE_FORK,
        "    if vm.vm_refcnt == 0:\n",
        "    if vm.vm_refcnt <= 1:\n",
        "vmspace_free, vm_map.c",
        "the last reference ends an address space",
        ("G", *SCHEDULER),
    ),
)
