"""System calls of programs: what a trap becomes, and the calls that are no larger than a function."""

from __future__ import annotations

from services.ports.common import Status
from services.ports.physmem import AccessCheck, MapOp, MapOpKind
from services.ports.scheduler import SpaceEvent, SpaceNotice, Trap, TrapOp
from services.scheduler import syscalls
from services.scheduler.glue_swap import faultin, prele
from services.scheduler.kern import Kern
from services.scheduler.kern_exec import exec_frame, map_op
from services.scheduler.kern_proc import procstat
from services.scheduler.proc_flags import ENOMEM, FORK_FLAGS, VFORK_FLAGS
from services.scheduler.sleepq import msleep
from services.scheduler.state import (
    ExitFrame,
    FaultinFrame,
    ForkFrame,
    Frame,
    MapFrame,
    MlockFrame,
    Proc,
    PtraceFrame,
    ShmFrame,
    SleepFrame,
    SwapDeviceFrame,
    Thread,
    ThrExitFrame,
    ThrJoinFrame,
    ThrNewFrame,
    ThrTurnFrame,
    VslockFrame,
    WaitFrame,
)
from services.scheduler.syscalls import Action, Syscall, lookup
from services.scheduler.upcalls import suspend

_NUMBERS = {
    TrapOp.MMAP: 9,
    TrapOp.MUNMAP: 11,
    TrapOp.MPROTECT: 10,
    TrapOp.BRK: 12,
    TrapOp.FORK: 57,
    TrapOp.EXEC: 59,
    TrapOp.EXIT: 231,
    TrapOp.WAIT: 61,
    TrapOp.THR_NEW: 435,
    TrapOp.THR_EXIT: 60,
    TrapOp.THR_JOIN: 202,
    TrapOp.THR_TURN: 202,
}
_VFORK = 58
_UINT_MAX = 0xFFFFFFFF
_TIMESPEC_BYTES = 16
_PROT_READ, _PROT_EXECUTE = 1, 4
_COPYOUT_BYTES_PER_INSTRUCTION = 8
_IPC_CREAT = 0o1000
_RLIM_INFINITY = (1 << 63) - 1


def syscall_of(trap: Trap) -> Syscall:
    """The row of the published table for a trap."""
    if trap.op is TrapOp.SYSCALL:
        return lookup(trap.a)
    if trap.op is TrapOp.SLEEP:
        return lookup(trap.b)
    return lookup(_VFORK if trap.op is TrapOp.FORK and trap.b else _NUMBERS[trap.op])


def enter_kernel(k: Kern, td: Thread, trap: Trap) -> None:
    """A thread traps: it spends the call's instructions and gets a frame for what the call does beside that."""
    row = syscall_of(trap)
    k.ctx.count("vm.stats.sys.v_syscall")
    k.spend_instructions(td, row.kernel_instructions, row.stack_bytes)
    td.td_frame = _frame(k, k.s.allproc[td.td_pid], trap, row)


def _frame(k: Kern, p: Proc, trap: Trap, row: Syscall) -> Frame | None:
    match trap.op:
        case TrapOp.SYSCALL:
            return _syscall(trap, row)
        case TrapOp.SLEEP:
            return SleepFrame(trap.b, trap.a, trap.c)
        case TrapOp.FORK:
            return ForkFrame(VFORK_FLAGS if trap.b else FORK_FLAGS, trap.cookie)
        case TrapOp.EXEC:
            return exec_frame(k, trap.name, trap.regions)
        case TrapOp.EXIT:
            return ExitFrame(exit_status(trap.a))
        case TrapOp.WAIT:
            return WaitFrame(trap.a)
        case TrapOp.THR_NEW:
            return ThrNewFrame(trap.cookie, trap.a, trap.b != 0)
        case TrapOp.THR_EXIT:
            return ThrExitFrame(trap.a)
        case TrapOp.THR_TURN:
            return ThrTurnFrame(trap.a)
        case TrapOp.THR_JOIN:
            return ThrJoinFrame(trap.a)
        case _:
            return _map_frame(k, p, trap)


def _syscall(trap: Trap, row: Syscall) -> Frame | None:
    if row.action is Action.VSLOCK:
        return VslockFrame(trap.c, trap.d)
    if row.action is Action.MLOCK:
        return MlockFrame(row.number, trap.c, trap.d)
    if row.action is Action.SHM:
        return ShmFrame(row.number, trap.b, trap.c, trap.d)
    if row.action is Action.PTRACE:
        return PtraceFrame(trap.c, trap.d)
    if row.action in (Action.SWAPON, Action.SWAPOFF):
        return SwapDeviceFrame(trap.c & _UINT_MAX, row.action is Action.SWAPON)
    if trap.b >= 0 and row.wmesg:
        return SleepFrame(row.number, trap.b, trap.c)
    return None


def exit_status(status: int) -> int:
    """A wait(2) status as exit code, or minus the signal."""
    signal = status & 0x7F
    return -signal if signal else status >> 8 & 0xFF


def _map_frame(k: Kern, p: Proc, trap: Trap) -> MapFrame:
    """mmap, munmap, mprotect or brk as changes of the map."""
    size = k.s.config.page_size
    if trap.op is TrapOp.MUNMAP:
        return MapFrame([MapOp(MapOpKind.REMOVE, trap.a * size, trap.b * size)])
    if trap.op is TrapOp.MPROTECT:
        return MapFrame([MapOp(MapOpKind.PROTECT, trap.a * size, trap.b * size, trap.c)])
    ops = [map_op(k, region) for region in trap.regions]
    if trap.op is TrapOp.BRK:
        if 0 <= trap.a < p.p_brk:
            ops.append(MapOp(MapOpKind.REMOVE, trap.a * size, (p.p_brk - trap.a) * size))
        p.p_brk = trap.a
        return MapFrame(ops, growth=sum(-op.size if op.kind is MapOpKind.REMOVE else op.size for op in ops) // size)
    return MapFrame(ops)


def map_change(k: Kern, td: Thread, f: MapFrame) -> bool:
    """Change the map; a failed change is the program's errno. False: the thread sleeps."""
    p = k.s.allproc[td.td_pid]
    if f.ops:
        answer = k.physmem.map_ops(p.p_vmspace, f.ops, f.op)
        if answer.status is Status.SUSPENDED:
            f.op = suspend(k, td, answer.suspension)
            return False
    size = k.s.config.page_size
    k.s.vmspaces[p.p_vmspace].vm_dsize += f.growth
    for op in f.ops:
        if op.kind is not MapOpKind.PROTECT:
            k.s.notices.append(
                SpaceNotice(SpaceEvent.UNMAPPED, p.p_vmspace, start_vpn=op.start // size, npages=op.size // size)
            )
    return True


def sleep_call(k: Kern, td: Thread, f: SleepFrame) -> bool:
    """A call that sleeps for the recorded time; nanosleep checks its argument with useracc first (EFAULT)."""
    row, p = lookup(f.number), k.s.allproc[td.td_pid]
    if f.step:
        if row.action is Action.PROCSTAT and not p.p_sig:
            td.td_frame = procstat(k)
            return False
        return True
    f.step = 1
    if row.action is Action.USERACC and f.addr:
        check = AccessCheck(f.addr, _TIMESPEC_BYTES, _PROT_READ)
        if not k.physmem.useracc(p.p_vmspace, [check]).ok[0]:
            return True
    length = k.sleep_length(f.sleep_us * p.p_sleep_percent // 100)
    if length <= 0:
        return True
    msleep(k, td, f"{row.wmesg}:{td.td_tid}", row.priority, row.wmesg, length, catch=True)
    return False


def sysctl_call(k: Kern, td: Thread, f: VslockFrame) -> bool:
    """sysctl(3): wire the buffer, copy out, unwire; a buffer too large to wire is filled unwired (ENOMEM)."""
    p = k.s.allproc[td.td_pid]
    answer = k.physmem.vslock(p.p_vmspace, f.addr, f.len, f.op)
    if answer.status is Status.SUSPENDED:
        f.op = suspend(k, td, answer.suspension)
        return False
    if answer.error in (0, ENOMEM):
        k.spend_instructions(td, f.len // _COPYOUT_BYTES_PER_INSTRUCTION, 0)
    if answer.error == 0:
        k.physmem.vsunlock(p.p_vmspace, f.addr, f.len)
    return True


def mlock_call(k: Kern, td: Thread, f: MlockFrame) -> bool:
    """mlock(2) and its kin; what is refused is the program's errno. False: the thread sleeps."""
    vmspace, physmem = k.s.allproc[td.td_pid].p_vmspace, k.physmem
    limit = k.s.allproc[td.td_pid].p_memlock_limit * k.s.config.page_size or _RLIM_INFINITY
    match f.number:
        case syscalls.MLOCK:
            answer = physmem.mlock(vmspace, f.addr, f.len, limit, f.op)
        case syscalls.MUNLOCK:
            answer = physmem.munlock(vmspace, f.addr, f.len)
        case syscalls.MLOCKALL:
            answer = physmem.mlockall(vmspace, f.addr, limit, f.op)
        case _:
            answer = physmem.munlockall(vmspace)
    if answer.status is Status.SUSPENDED:
        f.op = suspend(k, td, answer.suspension)
        return False
    return True


def swap_device_call(k: Kern, td: Thread, f: SwapDeviceFrame) -> bool:
    """sys_swapon, sys_swapoff; an error is the program's errno. False: the thread sleeps until a page has come in."""
    if f.on:
        k.physmem.swapon(f.device)
        return True
    answer = k.physmem.swapoff(f.device, f.op)
    if answer.status is Status.SUSPENDED:
        f.op = suspend(k, td, answer.suspension)
        return False
    return True


def shm_call(k: Kern, td: Thread, f: ShmFrame) -> bool:
    """shmget(2) and its kin; what is refused is the program's errno. False: the thread sleeps."""
    vmspace, physmem = k.s.allproc[td.td_pid].p_vmspace, k.physmem
    if f.number == syscalls.SHMDT:
        answer = physmem.shmdt(vmspace, f.addr, f.op)
        if answer.status is Status.SUSPENDED:
            f.op = suspend(k, td, answer.suspension)
            return False
        return True
    creates = f.number == syscalls.SHMGET
    segment = physmem.shmget(f.key, f.size if creates else 0, _IPC_CREAT if creates else 0)
    if creates or segment.error:
        return True
    if f.number == syscalls.SHMCTL:
        physmem.shmctl_rmid(segment.shmid)
    elif physmem.shmat(vmspace, segment.shmid, f.addr, 0).error == 0:
        k.s.vmspaces[vmspace].vm_shm = True
    return True


def ptrace_call(k: Kern, td: Thread, f: PtraceFrame) -> bool:
    """ptrace(PT_WRITE_I) by proc_rwmem; without the bytes, for nobody knows a program's contents. False: it sleeps.

    The child is held (_PHOLD), comes in if it is out, and what it may execute is made visible to the processor.
    """
    if f.pid == 0:
        f.pid = next((pid for pid in k.s.allproc[td.td_pid].p_children if pid in k.s.allproc), 0)
        if f.pid == 0:
            return True  # ESRCH
        k.s.allproc[f.pid].p_lock += 1
        f.faultin = FaultinFrame(f.pid)
    if f.faultin is not None and not faultin(k, td, f.faultin):
        return False
    p = k.s.allproc[f.pid]
    if k.physmem.useracc(p.p_vmspace, [AccessCheck(f.addr, f.len, _PROT_EXECUTE)]).ok[0]:
        k.physmem.vm_sync_icache(p.p_vmspace, f.addr, f.len)
    prele(k, p)
    return True
