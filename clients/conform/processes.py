"""Processes of a case: named states, flags and classes as the values of sys/proc.h, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clients.conform.families import Json
from services.ports.scheduler import Change, ChangeField, ProcState, ThreadState

P_FLAGS = {
    "SYSTEM": 0x200,
    "TRACED": 0x800,
    "WEXIT": 0x2000,
    "STOPPED_SINGLE": 0x80000,
    "INMEM": 0x10000000,
    "SWAPPINGOUT": 0x20000000,
    "SWAPPINGIN": 0x40000000,
}
P_STATES = ("NEW", "NORMAL", "ZOMBIE")
TD_FLAGS = {"INMEM": 0x4, "CANSWAP": 0x40, "SWAPINREQ": 0x400000}
TD_STATES = ("INACTIVE", "INHIBITED", "CAN_RUN", "RUNQ", "RUNNING")
INHIBITORS = {"SUSPENDED": 0x1, "SLEEPING": 0x2, "SWAPPED": 0x4, "LOCK": 0x8, "IWAIT": 0x10}
PRI_CLASSES = {"ITHD": 1, "REALTIME": 2, "TIMESHARE": 3, "IDLE": 4, "FIFO": 10}
RF_FLAGS = {
    "RFFDG": 1 << 2,
    "RFPROC": 1 << 4,
    "RFMEM": 1 << 5,
    "RFNOWAIT": 1 << 6,
    "RFCFDG": 1 << 12,
    "RFTHREAD": 1 << 13,
    "RFSIGSHARE": 1 << 14,
    "RFSTOPPED": 1 << 17,
    "RFHIGHPID": 1 << 18,
    "RFPPWAIT": 1 << 31,
}


def bits(names: list[str], table: dict[str, int]) -> int:
    """The value of a list of flags."""
    value = 0
    for name in names:
        value |= table[name]
    return value


def names(value: int, table: dict[str, int]) -> list[str]:
    """The flags of a value, sorted by name; bits that a case does not know are left out."""
    return sorted(name for name, bit in table.items() if value & bit)


def c_int(value: int) -> int:
    """The C int with the bits of a u_int."""
    return value - (1 << 32) if value >> 31 else value


def inhibitors_of(given: Json) -> list[str]:
    """Inhibitors of a thread: by default those of a sleeper, if it is inhibited."""
    if given["inhibitors"] is not None:
        listed: list[str] = given["inhibitors"]
        return listed
    return ["SLEEPING"] if given["state"] == "INHIBITED" else []


def thread_state(given: Json, tid: int) -> ThreadState:
    """A thread as the scheduler places it, without its stack."""
    return ThreadState(
        tid,
        TD_STATES.index(given["state"]),
        bits(given["flags"], TD_FLAGS),
        bits(inhibitors_of(given), INHIBITORS),
        PRI_CLASSES[given["pri_class"]],
        given["slptick"],
        given["nswap"],
    )


def proc_state(given: Json, vmspace: int, threads: list[ThreadState]) -> ProcState:
    """A process as the scheduler places it."""
    return ProcState(
        given["pid"],
        given["name"],
        P_STATES.index(given["state"]),
        bits(given["flags"], P_FLAGS),
        given["lock_count"],
        given["swtick"] % (1 << 32),
        given["nice"],
        vmspace,
        threads,
    )


Fields = dict[str, tuple[ChangeField, Callable[[Any], int]]]
"""Of each key of a change: the field that it sets, and what turns its value into the field's."""

_PROC_FIELDS: Fields = {
    "state": (ChangeField.P_STATE, P_STATES.index),
    "flags": (ChangeField.P_FLAG, lambda listed: bits(listed, P_FLAGS)),
    "lock_count": (ChangeField.P_LOCK, int),
    "swtick": (ChangeField.P_SWTICK, int),
    "nice": (ChangeField.P_NICE, int),
}
_THREAD_FIELDS: Fields = {
    "state": (ChangeField.TD_STATE, TD_STATES.index),
    "flags": (ChangeField.TD_FLAGS, lambda listed: bits(listed, TD_FLAGS)),
    "inhibitors": (ChangeField.TD_INHIBITORS, lambda listed: bits(listed, INHIBITORS)),
    "pri_class": (ChangeField.TD_PRI_CLASS, PRI_CLASSES.__getitem__),
    "slptick": (ChangeField.TD_SLPTICK, int),
}
_SPACE_FIELDS: Fields = {
    "map_locked": (ChangeField.VM_MAP_LOCKED, int),
    "resident": (ChangeField.VM_RESIDENT, int),
}
_SUBJECTS = {"proc": _PROC_FIELDS, "thread": _THREAD_FIELDS, "vmspace": _SPACE_FIELDS}


def changes_of(given: list[Json], ids: dict[str, dict[str, int]]) -> list[Change]:
    """Changes of a case as the scheduler takes them.

    Args:
        given: Changes of the case.
        ids: Of each kind of subject (proc, thread, vmspace) the ids by name.
    """
    made: list[Change] = []
    for change in given:
        if "advance" in change:
            made.append(Change(ChangeField.TICKS, 0, change["advance"]))
            continue
        kind = next(kind for kind in _SUBJECTS if kind in change)
        subject = ids[kind][change[kind]]
        for key, (field, convert) in _SUBJECTS[kind].items():
            if change.get(key) is not None:
                made.append(Change(field, subject, convert(change[key])))
    return made
