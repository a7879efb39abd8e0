"""Start of the kernel: process 0, init, the page daemon and the vmdaemon."""

from __future__ import annotations

from services.ports.common import Status
from services.ports.kstack import ThreadStack
from services.runtime.errors import kassert
from services.scheduler.glue_fork import vmspace_ref
from services.scheduler.kern import Kern
from services.scheduler.kthreads import new_kproc
from services.scheduler.state import (
    FIRST_TID,
    INIT,
    PAGEDAEMON,
    PROC0,
    VMDAEMON,
    Frame,
    InitFrame,
    PagedaemonFrame,
    SwapperFrame,
    VmdaemonFrame,
    Vmspace,
)
from services.scheduler.upcalls import absorb

_NAMES = {PROC0: "kernel", INIT: "init", PAGEDAEMON: "pagedaemon", VMDAEMON: "vmdaemon"}


def boot_kernel(k: Kern) -> None:
    """Build the kernel's processes; all but thread0, whose stack is boot memory, get a stack of vm_thread_new."""
    s = k.s
    s.last_tid = FIRST_TID + 99
    if s.config.bare:
        new_kproc(k, PROC0, _NAMES[PROC0], FIRST_TID, SwapperFrame())
        return
    s.vmspace0 = _new_vmspace(k)
    frames: dict[int, Frame] = {
        PROC0: SwapperFrame(),
        INIT: InitFrame(),
        PAGEDAEMON: PagedaemonFrame(),
    }
    if not s.config.no_swapping:
        frames[VMDAEMON] = VmdaemonFrame()
    for pid, frame in frames.items():
        new_kproc(k, pid, _NAMES[pid], FIRST_TID + pid, frame)
        if pid not in (PROC0, INIT):
            vmspace_ref(k, s.vmspace0)
    s.allproc[INIT].p_vmspace = _new_vmspace(k)
    tids = [FIRST_TID + pid for pid in frames if pid != PROC0]
    answer = k.kstack.vm_thread_new([ThreadStack(tid, 0) for tid in tids], 0)
    kassert(answer.status is Status.DONE, "no memory for the kernel's own threads", "kproc_create")
    for tid, stack in zip(tids, answer.stacks, strict=True):
        kassert(stack.ok, "no kernel address space for the kernel's own threads", "kproc_create")
        s.threads[tid].td_kstack, s.threads[tid].td_kstack_pages = stack.td_kstack, stack.td_kstack_pages
    k.ctx.count("vm.stats.vm.v_kthreads", len(tids))
    absorb(k)


def _new_vmspace(k: Kern) -> int:
    answer = k.physmem.vmspace_alloc(0, 0)
    kassert(answer.error == 0, "no address space for the kernel's own processes", "vmspace_alloc")
    k.s.vmspaces[answer.vmspace] = Vmspace()
    return answer.vmspace
