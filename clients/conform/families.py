"""The format of conformance cases, family by family: what `given` and the calls of `when` may hold.

One table for each kind of object; the defaults are those of the format's description, so that drivers see every key.
"""

from __future__ import annotations

from typing import Any

from clients.conform.shape import (
    REQUIRED,
    Reader,
    ShapeError,
    choice,
    flag,
    integer,
    letters,
    listed,
    nullable,
    number_key,
    record,
    table,
    text,
    variant,
    word,
)

Json = dict[str, Any]
"""A JSON object of a case, as its shape read it."""

Fields = dict[str, tuple[Reader, Any]]
"""Keys of an object: shape and default of each."""

PAGE_SIZE = 4096
KSTACK_MAX_PAGES = 32
COUNT = integer(0)
LARGE = integer(0, (1 << 63) - 1)
PROC_FLAGS = listed(choice("INMEM", "SWAPPINGIN", "SWAPPINGOUT", "SYSTEM", "TRACED", "WEXIT", "STOPPED_SINGLE"))
PROC_STATE = choice("NEW", "NORMAL", "ZOMBIE")
THREAD_FLAGS = listed(choice("INMEM", "CANSWAP", "SWAPINREQ"))
THREAD_STATE = choice("INACTIVE", "INHIBITED", "CAN_RUN", "RUNQ", "RUNNING")
INHIBITORS = listed(choice("SLEEPING", "SUSPENDED", "SWAPPED", "LOCK", "IWAIT"))
PRI_CLASS = choice("ITHD", "REALTIME", "TIMESHARE", "IDLE", "FIFO")
TUNABLES = ("swap_idle_threshold1", "swap_idle_threshold2", "kstack_cache_size", "vm_page_max_wired")
KERN_CODES = (
    "KERN_SUCCESS",
    "KERN_INVALID_ADDRESS",
    "KERN_PROTECTION_FAILURE",
    "KERN_NO_SPACE",
    "KERN_INVALID_ARGUMENT",
    "KERN_FAILURE",
    "KERN_RESOURCE_SHORTAGE",
    "KERN_NOT_RECEIVER",
    "KERN_NO_ACCESS",
)
FORK_FLAGS = (
    "RFPROC", "RFMEM", "RFFDG", "RFNOWAIT", "RFCFDG", "RFTHREAD", "RFSIGSHARE", "RFSTOPPED", "RFHIGHPID", "RFPPWAIT",
)  # fmt: skip  # one line reads better than ten

BUILD = record(
    {"kstack_pages": (integer(1, 32), 4), "kstack_guard_pages": (integer(0, 1024), 1)},
)
CLOCK = record({"ticks": (integer(), 0), "hz": (integer(1), 1000)})
_TUNABLE_TABLE = record(
    {
        "swap_idle_threshold1": (integer(), 2),
        "swap_idle_threshold2": (integer(), 10),
        "kstack_cache_size": (integer(), 128),
        "vm_page_max_wired": (integer(), 262144),
    }
)
VMSPACE = record(
    {
        "refcnt": (integer(), 1),
        "shm": (flag, False),
        "resident": (COUNT, 0),
        "swrss": (COUNT, 0),
        "map_locked": (flag, False),
        "map_trylock": (listed(flag), []),
    }
)
_STACK = record(
    {
        "pages": (nullable(integer(1, KSTACK_MAX_PAGES)), None),
        "content": (choice("resident", "swapped", "paged_out", "pages"), None),
        "valid": (letters("VPI-"), None),
        "dirty": (letters("D.-"), None),
        "wired": (letters("0123456789-"), None),
        "queue": (letters("IAN-"), None),
        "mapped": (flag, False),
    }
)


def _stack(value: Any, path: str) -> Any:
    """A stack: with `pages` as its content, strings of one length with "-" for the same pages."""
    read = _STACK(value, path)
    valid = read["valid"]
    if read["content"] == "pages" and valid is None:
        raise ShapeError(f"{path}.valid", "missing")
    if valid is None:
        return read
    if read["pages"] not in (None, len(valid)) or not 1 <= len(valid) <= KSTACK_MAX_PAGES:
        raise ShapeError(f"{path}.valid", f"{len(valid)} pages found, {read['pages'] or '1 to 32'} expected")
    for key in ("dirty", "wired", "queue"):
        letters_ = read[key]
        if letters_ is not None and [letter == "-" for letter in letters_] != [letter == "-" for letter in valid]:
            raise ShapeError(f"{path}.{key}", f"{letters_!r} is not about the pages of {valid!r}")
    return read


THREAD = record(
    {
        "name": (text, REQUIRED),
        "state": (THREAD_STATE, "INHIBITED"),
        "inhibitors": (INHIBITORS, None),
        "flags": (THREAD_FLAGS, ["CANSWAP", "INMEM"]),
        "pri_class": (PRI_CLASS, "TIMESHARE"),
        "slptick": (integer(), 0),
        "nswap": (COUNT, 0),
        "stack": (_stack, None),
        "safe_answers": (listed(flag), []),
        "safe_cycle": (listed(flag), None),
    }
)
PROCESS = record(
    {
        "name": (text, REQUIRED),
        "pid": (integer(1), None),
        "state": (PROC_STATE, "NORMAL"),
        "flags": (PROC_FLAGS, ["INMEM"]),
        "lock_count": (integer(), 0),
        "swtick": (integer(), 0),
        "nice": (integer(-128, 127), 0),
        "vmspace": (nullable(text), REQUIRED),
        "threads": (listed(THREAD), []),
    }
)
PAGER_ANSWER = record(
    {
        "result": (choice("OK", "BAD", "FAIL", "PEND", "ERROR", "AGAIN"), "OK"),
        "filled": (nullable(COUNT), None),
        "keep_busy": (flag, False),
        "replace": (listed(COUNT), []),
        "vanish": (listed(COUNT), []),
    }
)
_ENTRY = record(
    {
        "start": (word, REQUIRED),
        "end": (word, REQUIRED),
        "prot": (letters("rwx-"), "rw"),
        "wired": (COUNT, 0),
        "unfaultable": (flag, False),
    }
)


def _entries(value: Any, path: str) -> Any:
    """Map entries: page aligned, in address order, not overlapping."""
    read = listed(_ENTRY)(value, path)
    behind = 0
    for index, entry in enumerate(read):
        at = f"{path}[{index}]"
        if (entry["start"] | entry["end"]) % PAGE_SIZE:
            raise ShapeError(at, "start and end must be page aligned")
        if not behind <= entry["start"] < entry["end"]:
            raise ShapeError(at, "entries must be in address order, none empty, none overlapping")
        behind = entry["end"]
    return read


MAP = record({"min": (word, None), "max": (word, None), "entries": (_entries, [])})
IMAGE_PAGE = record(
    {
        "valid": (choice("all", "partial", "none"), "all"),
        "dirty": (flag, False),
        "wired": (COUNT, 0),
        "held": (COUNT, 0),
        "queue": (choice("INACTIVE", "ACTIVE", "NONE"), "INACTIVE"),
    }
)
IMAGE = record({"size": (LARGE, 16), "pages": (table(IMAGE_PAGE, number_key(0)), {})})
STACK_RANGE = record({"base": (word, REQUIRED), "pages": (COUNT, REQUIRED)})


def _processes(value: Any, path: str) -> Any:
    """The process list: a process without a vmspace key has a private one, and pids count up from 101."""
    read = listed(lambda entry, at: PROCESS(_with_private_space(entry), at))(value, path)
    for index, process in enumerate(read):
        process["pid"] = process["pid"] if process["pid"] is not None else 101 + index
    _distinct([process["name"] for process in read], path)
    _distinct([process["pid"] for process in read], f"{path}.pid")
    _distinct([thread["name"] for process in read for thread in process["threads"]], f"{path}.threads")
    return read


def _with_private_space(entry: Any) -> Any:
    if isinstance(entry, dict) and "vmspace" not in entry and isinstance(entry.get("name"), str):
        return {**entry, "vmspace": f"vm-{entry['name']}"}
    return entry


def _distinct(names: list[Any], path: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ShapeError(path, f"{twice} is used twice")


_SHARED: Fields = {
    "build": (BUILD, BUILD({}, "")),
    "clock": (CLOCK, CLOCK({}, "")),
    "tunables": (_TUNABLE_TABLE, _TUNABLE_TABLE({}, "")),
    "vmspaces": (table(VMSPACE), {}),
    "processes": (_processes, []),
    "page_count_min": (listed(flag), []),
    "page_count_min_after": (flag, False),
    "page_count_severe": (listed(flag), []),
    "page_count_severe_after": (flag, False),
    "pager": (listed(PAGER_ANSWER), []),
    "kva_fail": (listed(integer(1)), []),
    "wire_results": (listed(choice(*KERN_CODES, "MODEL")), []),
    "unshare_error": (nullable(choice("ENOMEM")), None),
}
"""Keys of `given` that every family may have."""

_OWN: dict[str, Fields] = {
    "D_access_and_wiring": {"kernel_map": (MAP, MAP({}, "")), "user_map": (MAP, None)},
    "F_imgact_and_icache": {"objects": (table(IMAGE), {})},
    "H_stack_usage": {"threads": (table(STACK_RANGE), {})},
}
"""Keys of `given` that one family has beside them."""

_PROC_CHANGE: Fields = {
    "proc": (text, REQUIRED),
    "state": (PROC_STATE, None),
    "flags": (PROC_FLAGS, None),
    "lock_count": (integer(), None),
    "swtick": (integer(), None),
    "nice": (integer(-128, 127), None),
}
_THREAD_CHANGE: Fields = {
    "thread": (text, REQUIRED),
    "state": (THREAD_STATE, None),
    "flags": (THREAD_FLAGS, None),
    "inhibitors": (INHIBITORS, None),
    "pri_class": (PRI_CLASS, None),
    "slptick": (integer(), None),
}
_SPACE_CHANGE: Fields = {
    "vmspace": (text, REQUIRED),
    "map_locked": (flag, None),
    "resident": (COUNT, None),
}


def change(value: Any, path: str) -> Any:
    """A change that the rest of the kernel makes: of the clock, a process, a thread or an address space."""
    for subject, fields in (("proc", _PROC_CHANGE), ("thread", _THREAD_CHANGE), ("vmspace", _SPACE_CHANGE)):
        if isinstance(value, dict) and subject in value:
            return record(fields)(value, path)
    return record({"advance": (integer(), REQUIRED)})(value, path)


CHANGES = listed(change)
_ANY_CALL: dict[str, Fields] = {
    "advance": {"ticks": (integer(), REQUIRED)},
    "change": {"changes": (CHANGES, REQUIRED)},
    "set_tunable": {"name": (choice(*TUNABLES), REQUIRED), "value": (integer(), REQUIRED)},
}
_ACTION: Fields = {"action": (listed(choice("NORMAL", "IDLE")), REQUIRED)}
_FAULTIN: Fields = {"proc": (text, REQUIRED), "on_sleep": (listed(CHANGES), [])}
_EVICT: Fields = {"thread": (text, REQUIRED), "pages": (listed(COUNT), REQUIRED)}
_OF_THREAD: Fields = {"thread": (text, REQUIRED)}
_CHECK: Fields = {
    "addr": (word, REQUIRED),
    "len": (integer(), REQUIRED),
    "prot": (letters("rwx-"), None),
    "prot_bits": (integer(), None),
}
_RANGE: Fields = {"addr": (word, REQUIRED), "len": (word, REQUIRED)}
_CALLS: dict[str, dict[str, Fields]] = {
    "A_swapout_procs": {"swapout_procs": _ACTION},
    "B_swapper_faultin": {
        "swapper": {
            "on_sleep": (listed(CHANGES), []),
            "after_scan": (table(CHANGES, number_key(1)), {}),
            "leave_after_waits": (nullable(integer(1)), None),
        },
        "faultin": _FAULTIN,
        "kick_proc0": {},
        "setrunnable": _OF_THREAD,
        "wake_thread": _OF_THREAD,
        "swapout_procs": _ACTION,
        "evict": _EVICT,
    },
    "C_kernel_stacks": {
        "vm_thread_new": {**_OF_THREAD, "pages": (integer(), 0)},
        "vm_thread_dispose": _OF_THREAD,
        "lowmem": {},
        "lose_page": {"stack": (text, REQUIRED), "page": (COUNT, REQUIRED)},
    },
    "D_access_and_wiring": {"kernacc": _CHECK, "useracc": _CHECK, "vslock": _RANGE, "vsunlock": _RANGE},
    "E_stack_paging": {
        "faultin": _FAULTIN,
        "swapout_procs": _ACTION,
        "evict": _EVICT,
        "lose_page": {**_OF_THREAD, "page": (COUNT, REQUIRED)},
    },
    "F_imgact_and_icache": {
        "vm_imgact_map_page": {"object": (text, REQUIRED), "offset": (LARGE, REQUIRED)},
        "vm_imgact_unmap_page": {"mapping": (text, REQUIRED)},
        "set_page": {
            "object": (text, REQUIRED),
            "page": (LARGE, REQUIRED),
            "valid": (choice("all", "partial", "none"), REQUIRED),
            "dirty": (flag, False),
        },
        "vm_sync_icache": {"map": (text, REQUIRED), "addr": (word, REQUIRED), "size": (word, REQUIRED)},
    },
    "G_fork_and_wait": {
        "vm_forkproc": {
            "thread": (text, REQUIRED),
            "child": (nullable(text), REQUIRED),
            "child_thread": (nullable(text), REQUIRED),
            "vmspace": (nullable(text), REQUIRED),
            "flags": (listed(choice(*FORK_FLAGS)), REQUIRED),
            "leave_after_waits": (nullable(integer(1)), None),
        },
        "vm_waitproc": {"proc": (text, REQUIRED)},
    },
    "H_stack_usage": {
        "intr_prof_stack_use": {
            **_OF_THREAD,
            "from_user": (flag, REQUIRED),
            "sp": (word, REQUIRED),
            "race": (listed(integer()), []),
        },
        "set_stack": {**_OF_THREAD, "base": (word, REQUIRED), "pages": (COUNT, REQUIRED)},
    },
}

FAMILIES = tuple(_CALLS)
"""Names of all families, in order."""
GIVEN: dict[str, Reader] = {family: record({**_SHARED, **_OWN.get(family, {})}) for family in FAMILIES}
"""Shape of `given` in each family."""
WHEN: dict[str, Reader] = {
    family: listed(variant("call", {name: record(fields) for name, fields in {**_ANY_CALL, **calls}.items()}))
    for family, calls in _CALLS.items()
}
"""Shape of `when` in each family."""
