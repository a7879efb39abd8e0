"""execve (kern_exec.c): the image's first page through vm_imgact_map_page, then a new address space."""

from __future__ import annotations

from hardware_sim.cpu import COSTS
from services.ports.common import Region, Status
from services.ports.physmem import KernReturn, MapOp, MapOpKind
from services.runtime.events import Kind
from services.scheduler.glue_fork import vmspace_free
from services.scheduler.kern import Kern
from services.scheduler.kern_exit import switch_vmspace
from services.scheduler.kern_thr import thread_single
from services.scheduler.proc_flags import P_EXEC, P_INEXEC, SIGABRT
from services.scheduler.state import ExecFrame, ExitFrame, Thread, Vmspace
from services.scheduler.upcalls import suspend

ELF_MAGIC = b"\x7fELF"
"""First bytes of an image that can be executed."""
_HEADER, _SPACE, _MAP = range(3)
_PROT_WRITE, _PROT_EXECUTE = 2, 4
SGROWSIZ = 128 << 10
"""Bytes of a stack at exec (vmparam.h)."""


def map_op(k: Kern, region: Region, prefault: bool = False) -> MapOp:
    """A region of a trace as an insertion, which replaces what was there; exec maps all that is resident of it."""
    size = k.s.config.page_size
    return MapOp(
        MapOpKind.INSERT,
        region.start_vpn * size,
        region.npages * size,
        region.prot,
        region.file,
        region.offset_pages,
        region.file_pages,
        region.shared,
        replace=True,
        prefault=prefault,
    )


def exec_frame(k: Kern, name: str, regions: list[Region]) -> ExecFrame:
    """execve of a program; its header is in the file of its own name, else in the first one mapped for execution."""
    files = [region for region in regions if region.file]
    image = next((r for r in files if r.file == name), None) or next((r for r in files if r.prot & _PROT_EXECUTE), None)
    frame = ExecFrame(name, [map_op(k, region, prefault=True) for region in regions], step=_SPACE)
    if image is not None:
        frame.file, frame.file_pages, frame.step = image.file, image.file_pages, _HEADER
    return frame


def kern_execve(k: Kern, td: Thread, f: ExecFrame) -> bool:
    """kern_execve: False: the thread sleeps, or it goes on to its end because the image is unusable."""
    p = k.s.allproc[td.td_pid]
    if not thread_single(k, td):
        return False
    p.p_flag |= P_INEXEC
    if f.step == _HEADER:
        usable = _header(k, td, f)
        if usable is None:
            return False
        if not usable:
            return _abort(k, td)
        f.step = _SPACE
    if f.step == _SPACE:
        answer = k.physmem.vmspace_alloc(0, 0)
        if answer.error:
            return _abort(k, td)
        f.vmspace, f.step = answer.vmspace, _MAP
        size = k.s.config.page_size
        k.s.vmspaces[f.vmspace] = Vmspace(
            vm_swrss=k.s.vmspaces[p.p_vmspace].vm_swrss, vm_dsize=_data_bytes(f.ops) // size, vm_ssize=SGROWSIZ // size
        )
    mapped = k.physmem.map_ops(f.vmspace, f.ops, f.op)
    if mapped.status is Status.SUSPENDED:
        f.op = suspend(k, td, mapped.suspension)
        return False
    if any(result is not KernReturn.SUCCESS for result in mapped.results):
        vmspace_free(k, f.vmspace)
        return _abort(k, td)
    switch_vmspace(k, p, f.vmspace)
    p.p_comm, p.p_brk = f.name, -1
    p.p_flag = p.p_flag & ~P_INEXEC | P_EXEC
    k.spend(td, COSTS.exec_us)
    k.ctx.event(Kind.PROC_EXEC, p.p_pid, p.p_vmspace)
    return True


def _data_bytes(ops: list[MapOp]) -> int:
    """The data segment of an image: what it maps of files to be written privately."""
    return sum(op.size for op in ops if op.file and op.prot & _PROT_WRITE and not op.shared)


def _header(k: Kern, td: Thread, f: ExecFrame) -> bool | None:
    """exec_map_first_page and its check; None: the thread sleeps while the page is read."""
    answer = k.physmem.vm_imgact_map_page(f.file, f.file_pages, 0, td.td_pinned, f.op)
    if answer.status is Status.SUSPENDED:
        f.op = suspend(k, td, answer.suspension)
        return None
    f.op = 0
    td.td_pinned = answer.pins
    if answer.mapping == 0:
        return False
    usable = answer.header.startswith(ELF_MAGIC)
    td.td_pinned = k.physmem.vm_imgact_unmap_page(answer.mapping, td.td_pinned).pins
    return usable


def _abort(k: Kern, td: Thread) -> bool:
    """An image that cannot be started ends the process (exec_fail): its trace holds nothing for the old one."""
    k.s.allproc[td.td_pid].p_flag &= ~P_INEXEC
    td.td_frame = ExitFrame(-SIGABRT)
    return False
