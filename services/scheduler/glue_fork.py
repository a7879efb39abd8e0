"""fork's and wait's actions on address spaces: vm_glue.c:609-679."""

from __future__ import annotations

from dataclasses import dataclass

from services.ports.scheduler import ForkStep, ForkStepKind
from services.runtime.events import Kind
from services.scheduler.kern import Kern
from services.scheduler.proc_flags import ENOMEM, RFMEM, RFPROC
from services.scheduler.state import Proc, Thread
from services.scheduler.upcalls import suspend


@dataclass(slots=True)
class ForkprocArgs:
    """Arguments of vm_forkproc: without RFPROC there is neither child nor address space."""

    td: Thread
    p2: Proc | None
    td2: Thread | None
    vm2: int
    flags: int


def vm_forkproc(k: Kern, args: ForkprocArgs, resumed: bool) -> int | None:
    """vm_forkproc (vm_glue.c:617-666).

    Args:
        k: The kernel.
        args: td, p2, td2, vm2, flags of the C function.
        resumed: It slept for memory before: RFMEM's reference is taken already.

    Returns:
        0 or ENOMEM; None: the calling thread was put to sleep for memory.
    """
    p1 = k.proc(args.td.td_pid)
    if args.flags & RFPROC == 0:
        if args.flags & RFMEM == 0 and k.s.vmspaces[p1.p_vmspace].vm_refcnt > 1:
            error = vmspace_unshare(k, p1)
            if error:
                return error
        cpu_fork(k, p1, args)
        return 0
    p2 = args.p2
    assert p2 is not None, "RFPROC comes with a child"
    if args.flags & RFMEM and not resumed:
        p2.p_vmspace = p1.p_vmspace
        vmspace_ref(k, p1.p_vmspace)
    if k.vm_page_count_severe():
        k.ctx.event(Kind.FORK_WAIT, p1.p_pid)
        suspend(k, args.td, k.physmem.vm_wait())
        k.ctx.env.preempt("vm_forkproc:651")
        return None
    if args.flags & RFMEM == 0:
        p2.p_vmspace = args.vm2
        if k.s.vmspaces[p1.p_vmspace].vm_shm:
            shmfork(k, p1, p2)
    cpu_fork(k, p1, args)
    return 0


def shmfork(k: Kern, p1: Proc, p2: Proc) -> None:
    """shmfork: the child has attached the System V segments that its parent has."""
    if k.record is not None:
        step = ForkStep(ForkStepKind.SHMFORK, p1.p_pid, child_pid=p2.p_pid, vmspace=p2.p_vmspace)
        k.record.fork_steps.append(step)
    if p2.p_vmspace and k.physmem.shmfork(p1.p_vmspace, p2.p_vmspace).segments:  # a situation's child may have none
        k.s.vmspaces[p2.p_vmspace].vm_shm = True
    k.ctx.event(Kind.SHMFORK, p2.p_pid, p1.p_pid)


def cpu_fork(k: Kern, p1: Proc, args: ForkprocArgs) -> None:
    """cpu_fork: the child's registers are the parent's."""
    if k.record is not None:
        k.record.fork_steps.append(_cpu_fork_step(p1, args))
    if args.p2 is not None and args.td2 is not None:
        args.td2.td_phase = 0
        args.td2.td_estcpu_us = args.td.td_estcpu_us
        k.ctx.event(Kind.PROC_FORK, args.p2.p_pid, p1.p_pid, args.flags, args.p2.p_vmspace)


def _cpu_fork_step(p1: Proc, args: ForkprocArgs) -> ForkStep:
    return ForkStep(
        ForkStepKind.CPU_FORK,
        p1.p_pid,
        args.td.td_tid,
        args.p2.p_pid if args.p2 else 0,
        args.td2.td_tid if args.td2 else 0,
        args.p2.p_vmspace if args.p2 else 0,
        args.flags,
    )


def vm_waitproc(k: Kern, p: Proc) -> None:
    """vm_waitproc (vm_glue.c:673-679): vmspace_exitfree."""
    vmspace, p.p_vmspace = p.p_vmspace, 0
    vmspace_free(k, vmspace)


def vmspace_ref(k: Kern, vmspace: int) -> None:
    """atomic_add_int(&vm_refcnt, 1)."""
    k.physmem.vmspace_ref(vmspace)
    k.s.vmspaces[vmspace].vm_refcnt += 1


def vmspace_free(k: Kern, vmspace: int) -> bool:
    """vmspace_free: give one reference back; True: it was the last and the address space is gone."""
    k.physmem.vmspace_free([vmspace])
    vm = k.s.vmspaces[vmspace]
    vm.vm_refcnt -= 1
    if vm.vm_refcnt == 0:
        del k.s.vmspaces[vmspace]
        return True
    return False


def vmspace_unshare(k: Kern, p: Proc) -> int:
    """vmspace_unshare: a private copy, if the address space is shared; 0 or ENOMEM."""
    step = ForkStep(ForkStepKind.UNSHARE, p.p_pid, old_vmspace=p.p_vmspace)
    if k.record is not None:
        k.record.fork_steps.append(step)
    error = k.ctx.env.ask("vmspace_unshare", lambda: 0)
    if error:
        return error
    copy = k.physmem.vmspace_fork(p.p_vmspace)
    if copy.error:
        return ENOMEM
    step.vmspace = copy.vmspace
    k.s.vmspaces[copy.vmspace] = k.s.vmspaces[p.p_vmspace].forked()
    k.ctx.event(Kind.UNSHARE, p.p_pid, copy.vmspace)
    shared, p.p_vmspace = p.p_vmspace, copy.vmspace
    vmspace_free(k, shared)
    return 0
