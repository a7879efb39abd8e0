"""Situations: processes, threads and address spaces placed, changed and shown as a caller describes them."""

from __future__ import annotations

from collections.abc import Callable

from hardware_sim.clock import US_PER_SECOND, c_int, c_uint
from hardware_sim.cpu import Pcb
from services.ports.common import Answers
from services.ports.scheduler import Change, ChangeField, ProcState, ProcStates, ThreadState, VmspaceState
from services.runtime.errors import Reason, Refused
from services.scheduler.glue_swap import resident_question
from services.scheduler.kern import Kern
from services.scheduler.proc_flags import TDI_SLEEPING, Prs, Tds
from services.scheduler.runq import sched_add
from services.scheduler.state import Proc, Thread, Vmspace

_ZERO_PCB = bytes(Pcb.LAYOUT.size)
"""Registers at the top of a placed stack."""


def allowed(k: Kern, field: str, value: object) -> None:
    """Refuse what changes processes behind the kernel's back.

    Raises:
        Refused: The system was not started to allow injection.
    """
    if not k.ctx.env.allow_inject:
        raise Refused(Reason.INJECTION_REFUSED, field, value, "a system that was started with injection allowed")


# Placing


def place(k: Kern, procs: list[ProcState], vmspaces: list[VmspaceState]) -> None:
    """Put address spaces, and processes at the head of the list, which the newest process otherwise is.

    Raises:
        Refused: An id is taken or unknown, or a state is none; nothing was changed.
    """
    s = k.s
    _check_ids(k, procs, vmspaces)
    for state in procs:
        _check_states(state)
    for space in vmspaces:
        s.vmspaces[space.vmspace] = Vmspace(space.refcnt, space.swrss, vm_shm=space.shm)
    for state in reversed(procs):
        _place_proc(k, state)
        s.last_pid = max(s.last_pid, state.pid)


def _check_ids(k: Kern, procs: list[ProcState], vmspaces: list[VmspaceState]) -> None:
    s = k.s
    spaces, pids, tids = set(s.vmspaces) | {0}, {*s.allproc, *s.zombproc}, set(s.threads)
    for space in vmspaces:
        _add(spaces, space.vmspace, "vmspaces")
    for state in procs:
        _add(pids, state.pid, "procs.pid")
        if state.pid < 0:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "procs.pid", state.pid, "0 or more")
        if state.vmspace not in spaces:
            raise Refused(Reason.UNKNOWN_ID, "procs.vmspace", state.vmspace, "an address space that was placed, or 0")
        for thread in state.threads:
            _add(tids, thread.tid, "procs.threads.tid")


def _add(known: set[int], new: int, field: str) -> None:
    if new in known:
        raise Refused(Reason.FIELD_OUT_OF_RANGE, field, new, "an id that is free")
    known.add(new)


def _check_states(state: ProcState) -> None:
    _enum(Prs, state.state, "procs.state")
    for thread in state.threads:
        _enum(Tds, thread.state, "procs.threads.state")


def _enum(states: type[Prs] | type[Tds], value: int, field: str) -> None:
    if not 0 <= value < len(states):
        raise Refused(Reason.FIELD_OUT_OF_RANGE, field, value, f"0 to {len(states) - 1}")


def _place_proc(k: Kern, state: ProcState) -> None:
    """A process at the head of the list."""
    p = Proc(
        state.pid,
        state.name,
        p_state=Prs(state.state),
        p_flag=state.flags,
        p_lock=state.lock,
        p_swtick=state.swtick,
        p_nice=state.nice,
        p_vmspace=state.vmspace,
        p_start_us=k.s.now_us,
    )
    k.allproc_insert_head(p)
    p.p_threads = [_place_thread(k, state.pid, thread) for thread in state.threads]
    k.candidates.update_all(p)


def _place_thread(k: Kern, pid: int, state: ThreadState) -> Thread:
    """A thread; the registers at the top of its placed stack are zeros."""
    td = Thread(
        state.tid,
        pid,
        td_flags=state.flags,
        td_inhibitors=state.inhibitors,
        td_state=Tds(state.state),
        td_slptick=state.slptick,
        td_pri_class=state.pri_class,
        ru_nswap=state.nswap,
        td_kstack=state.kstack,
        td_kstack_pages=state.kstack_pages,
        td_pcb=_ZERO_PCB,
    )
    k.s.threads[td.td_tid] = td
    k.s.last_tid = max(k.s.last_tid, td.td_tid)
    _queue(k, td, queued=False)
    return td


def _queue(k: Kern, td: Thread, queued: bool) -> None:
    """Put a thread where its state says that it is: on the run queue, on a sleep queue of its own, or nowhere.

    Args:
        k: The kernel.
        td: The thread.
        queued: It is on the run queue now.
    """
    s = k.s
    if td.td_state is Tds.RUNQ and not queued:
        sched_add(k, td)
    elif td.td_state is not Tds.RUNQ and queued:
        s.runq = sorted(entry for entry in s.runq if entry[2] != td.td_tid)
    sleeps = td.td_inhibitors & TDI_SLEEPING != 0
    if sleeps and not td.td_wchan:
        td.td_wchan = td.td_wmesg = f"placed:{td.td_tid}"
        td.td_asleep_since_us = s.now_us
        s.sleepqs.setdefault(td.td_wchan, []).append(td.td_tid)
    elif td.td_wchan and not sleeps:
        _unsleep(k, td)


def _unsleep(k: Kern, td: Thread) -> None:
    """Take a thread off its sleep queue and leave its state as it is."""
    queue = k.s.sleepqs[td.td_wchan]
    queue.remove(td.td_tid)
    if not queue:
        del k.s.sleepqs[td.td_wchan]
    td.td_wchan = td.td_wmesg = ""
    td.td_timeout = 0


# Changes


def check_changes(k: Kern, changes: list[Change]) -> None:
    """See that changes can be applied.

    Raises:
        Refused: A process, thread or address space is unknown, or a state is none.
    """
    for change in changes:
        _FIELDS[change.field].check(k, change)


def apply(k: Kern, changes: list[Change]) -> None:
    """Change what the changes, which were checked, say, in order."""
    for change in changes:
        k.next_seq()  # a scan that looks at it sees that something changed
        _FIELDS[change.field].apply(k, change)


class _Field:
    """A field of a process or a thread, or whatever else a change sets.

    Attributes:
        check: Refuses a change that cannot be applied.
        apply: Applies one that can.
    """

    def __init__(self, check: Callable[[Kern, Change], object], apply: Callable[[Kern, Change], None]) -> None:
        self.check, self.apply = check, apply


def _of_proc(attribute: str, convert: Callable[[int], int]) -> _Field:
    def set_it(k: Kern, change: Change) -> None:
        p = proc(k, change.id)
        setattr(p, attribute, convert(change.value))
        k.candidates.update_all(p)

    return _Field(lambda k, change: proc(k, change.id), set_it)


def _of_thread(attribute: str, convert: Callable[[int], int]) -> _Field:
    def set_it(k: Kern, change: Change) -> None:
        td = thread(k, change.id)
        setattr(td, attribute, convert(change.value))
        k.candidates.update(k.proc(td.td_pid), td)
        _queue(k, td, queued=any(tid == td.td_tid for _, _, tid in k.s.runq))

    return _Field(lambda k, change: thread(k, change.id), set_it)


def _of_space(apply: Callable[[Kern, Change], None]) -> _Field:
    return _Field(lambda k, change: _space(k, change.id), apply)


def _state(field: _Field, states: type[Prs] | type[Tds]) -> _Field:
    """A field whose values are states."""

    def check(k: Kern, change: Change) -> None:
        field.check(k, change)
        _enum(states, change.value, "changes.value")

    return _Field(check, field.apply)


def _tick(k: Kern, change: Change) -> None:
    k.ctx.ticks = c_int(k.ctx.ticks + change.value)
    k.ctx.now_us += max(change.value, 0) * US_PER_SECOND // k.hz


def _set_resident(k: Kern, change: Change) -> None:
    k.ctx.env.inject([Answers(resident_question(change.id), [], change.value, has_after=True)])


def _set_map_locked(k: Kern, change: Change) -> None:
    """Somebody else takes the map's lock, unless it is taken already, or gives it back."""
    held = k.s.held_maps
    if change.value and change.id not in held:
        if k.physmem.vm_map_trylock([change.id]).locked[0]:
            held.append(change.id)
    elif not change.value and change.id in held:
        k.physmem.vm_map_unlock([change.id])
        held.remove(change.id)


_FIELDS: dict[ChangeField, _Field] = {
    ChangeField.TICKS: _Field(lambda *_: None, _tick),
    ChangeField.P_STATE: _state(_of_proc("p_state", Prs), Prs),
    ChangeField.P_FLAG: _of_proc("p_flag", c_uint),
    ChangeField.P_LOCK: _of_proc("p_lock", c_int),
    ChangeField.P_SWTICK: _of_proc("p_swtick", c_uint),
    ChangeField.P_NICE: _of_proc("p_nice", c_int),
    ChangeField.TD_STATE: _state(_of_thread("td_state", Tds), Tds),
    ChangeField.TD_FLAGS: _of_thread("td_flags", c_uint),
    ChangeField.TD_INHIBITORS: _of_thread("td_inhibitors", c_uint),
    ChangeField.TD_PRI_CLASS: _of_thread("td_pri_class", c_uint),
    ChangeField.TD_SLPTICK: _of_thread("td_slptick", c_int),
    ChangeField.VM_RESIDENT: _of_space(_set_resident),
    ChangeField.VM_MAP_LOCKED: _of_space(_set_map_locked),
}


def proc(k: Kern, pid: int) -> Proc:
    """A process, living or zombie.

    Raises:
        Refused: There is none.
    """
    found = k.s.allproc.get(pid) or k.s.zombproc.get(pid)
    if found is None:
        raise Refused(Reason.UNKNOWN_ID, "pid", pid, "a process")
    return found


def thread(k: Kern, tid: int) -> Thread:
    """A thread of a living process.

    Raises:
        Refused: There is none.
    """
    found = k.s.threads.get(tid)
    if found is None:
        raise Refused(Reason.UNKNOWN_ID, "tid", tid, "a thread")
    return found


def _space(k: Kern, vmspace: int) -> Vmspace:
    found = k.s.vmspaces.get(vmspace)
    if found is None:
        raise Refused(Reason.UNKNOWN_ID, "vmspace", vmspace, "an address space")
    return found


# Showing


def proc_states(k: Kern) -> ProcStates:
    """Processes in the order of allproc, then zombies; address spaces by id."""
    s = k.s
    procs = [*reversed(s.allproc.values()), *s.zombproc.values()]
    spaces = [VmspaceState(id_, vm.vm_refcnt, vm.vm_swrss, vm.vm_shm) for id_, vm in sorted(s.vmspaces.items())]
    return ProcStates([_proc_state(p) for p in procs], spaces)


def _proc_state(p: Proc) -> ProcState:
    threads = [_thread_state(td) for td in p.p_threads]
    return ProcState(p.p_pid, p.p_comm, p.p_state, p.p_flag, p.p_lock, p.p_swtick, p.p_nice, p.p_vmspace, threads)


def _thread_state(td: Thread) -> ThreadState:
    return ThreadState(
        td.td_tid,
        td.td_state,
        td.td_flags,
        td.td_inhibitors,
        td.td_pri_class,
        td.td_slptick,
        td.ru_nswap,
        td.td_kstack,
        td.td_kstack_pages,
    )
