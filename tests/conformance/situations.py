"""Hypothesis strategies for cases of families A, B, E, F and G, in the format of the case files."""

from __future__ import annotations

from hypothesis import strategies as st

PAGE = 4096
HZ = st.sampled_from([1000, 100, 128])
TICKS = st.sampled_from([1_000_000, 0, (1 << 31) - 5, -(1 << 31) + 700])
SECONDS = st.sampled_from([0, 1, 2, 3, 9, 10, 11, 12, 40, -3])
PAGER_FAILURES = ["BAD", "FAIL", "PEND", "ERROR", "AGAIN"]


def some(*values: str) -> st.SearchStrategy[list[str]]:
    """A subset of names."""
    return st.lists(st.sampled_from(values), unique=True)


def wrapped(value: int) -> int:
    """The C int with the low bits of a value."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def mostly(common: object, *rare: object) -> st.SearchStrategy:
    """One value most of the time, so that what has many parts is not always kept by one of them."""
    return st.sampled_from([common] * 9 * len(rare) + list(rare))


@st.composite
def slept_since(draw, ticks: int, hz: int) -> int:
    """A tick some seconds ago, long ones most of the time, on the edge of a second or just off it."""
    seconds = draw(st.sampled_from([40, 11, 12]) | SECONDS)
    return wrapped(ticks - seconds * hz + draw(st.sampled_from([0, 0, 1, -1])))


@st.composite
def stacks(draw) -> dict:
    """The pages of a stack in memory, or out of it in any state in which the kernel may leave them."""
    size = draw(st.sampled_from([1, 2, 4, 4, 4, 7]))
    kind = draw(st.sampled_from(["default", "default", "paged_out", "pages"]))
    if kind == "default":
        return {"pages": size}
    if kind == "paged_out":
        return {"content": "paged_out", "pages": size}
    valid = draw(st.text("VVVVVPI-", min_size=size, max_size=size))

    def row(alphabet: str) -> str:
        letters = draw(st.text(alphabet, min_size=size, max_size=size))
        return "".join("-" if page == "-" else letter for page, letter in zip(valid, letters, strict=True))

    return {"content": "pages", "valid": valid, "dirty": row(".D"), "wired": row("0001"), "queue": row("IIAN")}


@st.composite
def threads(draw, name: str, out: bool, ticks: int, hz: int, paging: bool) -> dict:
    """A thread that sleeps, in memory or swapped out with its process."""
    inhibitors = {"SWAPPED"} if out else {"SLEEPING"}
    inhibitors |= set(draw(mostly([], ["SLEEPING"], ["SUSPENDED"], ["LOCK"])))
    thread = {
        "name": name,
        "inhibitors": sorted(inhibitors),
        "flags": ["CANSWAP", *draw(some("SWAPINREQ"))] if out else ["CANSWAP", "INMEM"],
        "pri_class": draw(mostly("TIMESHARE", "IDLE", "REALTIME", "FIFO", "ITHD")),
        "slptick": draw(slept_since(ticks, hz)),
        "nswap": draw(st.integers(0, 3)),
    }
    if not out and draw(mostly(False, True)):
        thread["safe_answers"] = draw(st.lists(st.booleans(), max_size=4))
    if not out and draw(mostly(False, True)):
        thread["safe_cycle"] = draw(st.sampled_from([[True, False], [True, True, False], [True], [False]]))
    if paging:
        thread["stack"] = draw(stacks()) if out else {"pages": draw(st.sampled_from([1, 2, 4]))}
    return thread


@st.composite
def processes(draw, ticks: int, hz: int, paging: bool) -> list[dict]:
    """Processes in every state that the scans tell apart."""
    entries = []
    for at in range(1, draw(st.integers(1, 4 if paging else 6)) + 1):
        out = draw(st.booleans())
        flags = [] if out else ["INMEM"]
        flags += draw(mostly([], ["SYSTEM"], ["TRACED"], ["WEXIT"], ["SWAPPINGIN"], ["SWAPPINGOUT"]))
        count = draw(st.integers(1, 3))
        entries.append(
            {
                "name": f"p{at}",
                "state": draw(mostly("NORMAL", "NEW")),
                "flags": sorted(flags),
                "lock_count": draw(mostly(0, 1, -1)),
                "swtick": draw(slept_since(ticks, hz)),
                "nice": draw(st.sampled_from([0, 0, -20, 5, 20])),
                "threads": [draw(threads(f"t{at}.{n}", out, ticks, hz, paging)) for n in range(1, count + 1)],
            }
        )
    return entries


@st.composite
def spaces(draw, names: list[str]) -> dict:
    """Address spaces of some processes that are not as they are by default."""
    return {
        f"vm-{name}": {
            "refcnt": draw(mostly(1, 2, 0)),
            "resident": draw(st.integers(0, 1 << 20)),
            "swrss": draw(st.integers(0, 9)),
            "map_locked": draw(mostly(False, True)),
            "map_trylock": draw(mostly([], [False], [True, False], [False, True])),
        }
        for name in draw(some(*names))
    }


@st.composite
def changes(draw, listed: list[dict], hz: int) -> list[dict]:
    """What the rest of the kernel does during a sleep or a scan."""
    process = draw(st.sampled_from(listed))
    thread = draw(st.sampled_from(process["threads"]))["name"]
    name = process["name"]
    possible = [
        {"advance": draw(st.integers(0, 12)) * hz},
        {"proc": name, "flags": draw(some("INMEM", "SWAPPINGIN", "WEXIT"))},
        {"proc": name, "nice": 4, "swtick": draw(st.integers(-5, 5)), "lock_count": 1},
        {"thread": thread, "inhibitors": ["SWAPPED"], "state": "INHIBITED"},
        {"thread": thread, "slptick": draw(st.integers(-9, 9)), "pri_class": "IDLE"},
        {"vmspace": f"vm-{name}", "resident": 7},
        {"vmspace": f"vm-{name}", "map_locked": draw(st.booleans())},
    ]
    return draw(st.lists(st.sampled_from(possible), max_size=3))


@st.composite
def swapping_given(draw, paging: bool) -> dict:
    """A situation of families A, B and E; `paging`: stacks and a pager in all states."""
    ticks, hz = draw(TICKS), draw(HZ)
    listed = draw(processes(ticks, hz, paging))
    given = {
        "clock": {"ticks": ticks, "hz": hz},
        "tunables": {
            "swap_idle_threshold1": draw(st.integers(-1, 4)),
            "swap_idle_threshold2": draw(st.integers(8, 12)),
        },
        "processes": listed,
        "vmspaces": draw(spaces([entry["name"] for entry in listed])),
        "page_count_min": draw(st.lists(st.booleans(), max_size=3)),
    }
    if paging:
        given["pager"] = draw(st.lists(pager_entries(), max_size=6))
    return given


def swapping_calls(given: dict) -> dict[str, st.SearchStrategy[dict]]:
    """What may be called in such a situation, by kind of call."""
    listed, hz = given["processes"], given["clock"]["hz"]
    names = st.sampled_from([entry["name"] for entry in listed])
    threads = st.sampled_from([thread["name"] for entry in listed for thread in entry["threads"]])
    changed = changes(listed, hz)
    sleeps = st.lists(changed, max_size=2)
    actions = st.sampled_from([["NORMAL"], ["NORMAL"], ["IDLE"], ["IDLE", "NORMAL"], []])
    scans = st.dictionaries(st.sampled_from(["1", "2", "3"]), changed, max_size=2)
    calls = {
        "swapout_procs": {"action": actions},
        "swapper": {"on_sleep": sleeps, "after_scan": scans},
        "faultin": {"proc": names, "on_sleep": sleeps},
        "change": {"changes": changed},
        "wake_thread": {"thread": threads},
        "setrunnable": {"thread": threads},
        "kick_proc0": {},
        "advance": {"ticks": st.integers(1, 12).map(lambda seconds: seconds * hz)},
    }
    if "pager" in given:
        calls["evict"] = {"thread": threads, "pages": st.lists(st.integers(0, 4), unique=True)}
    return {name: st.fixed_dictionaries({"call": st.just(name), **fields}) for name, fields in calls.items()}


@st.composite
def swapping(draw, paging: bool) -> tuple[dict, list[dict]]:
    """Such a situation and what is called in it."""
    given = draw(swapping_given(paging))
    return given, draw(st.lists(st.one_of(*swapping_calls(given).values()), min_size=1, max_size=6))


@st.composite
def pager_entries(draw) -> dict:
    """What the pager does once with a run of pages."""
    entry: dict = {"result": draw(mostly("OK", *PAGER_FAILURES))}
    if draw(st.booleans()):
        entry["replace"] = draw(st.lists(st.integers(0, 4), max_size=2, unique=True))
    if draw(st.booleans()):
        entry["filled"] = draw(st.integers(0, 4))
    return entry | {"keep_busy": draw(st.booleans())}


@st.composite
def images(draw) -> tuple[dict, list[dict]]:
    """Image files and what exec does with their pages; mappings are undone in any order."""
    objects = {
        f"o{at}": {
            "pages": {
                str(index): {
                    "valid": draw(st.sampled_from(["all", "partial", "none"])),
                    "dirty": draw(st.booleans()),
                    "wired": draw(st.sampled_from([0, 0, 0, 1, 2])),
                    "held": draw(st.sampled_from([0, 0, 1])),
                    "queue": draw(st.sampled_from(["INACTIVE", "ACTIVE", "NONE"])),
                }
                for index in draw(st.sets(st.integers(0, 3), max_size=3))
            }
        }
        for at in (1, 2)
    }
    entry = st.fixed_dictionaries(
        {"result": st.sampled_from(["OK"] * 5 + PAGER_FAILURES)},
        optional={
            "filled": st.integers(0, 1),
            "replace": st.just([0]),
            "vanish": st.just([0]),
            "keep_busy": st.booleans(),
        },
    )
    given = {"objects": objects, "vmspaces": {"vm1": {}}, "pager": draw(st.lists(entry, max_size=5))}
    calls = st.one_of(
        st.builds(
            lambda name, page, byte: {"call": "vm_imgact_map_page", "object": name, "offset": page * PAGE + byte},
            st.sampled_from(["o1", "o2"]),
            st.integers(0, 4),
            st.sampled_from([0, 1, PAGE - 1]),
        ),
        st.builds(
            lambda space, addr, size: {"call": "vm_sync_icache", "map": space, "addr": hex(addr), "size": hex(size)},
            st.sampled_from(["kernel", "vm1"]),
            st.integers(0, (1 << 64) - 1),
            st.integers(0, (1 << 64) - 1),
        ),
        st.builds(lambda nth: {"call": "unmap", "nth": nth}, st.integers(0, 9)),
    )
    return given, draw(st.lists(calls, min_size=1, max_size=10))


@st.composite
def forking(draw) -> tuple[dict, list[dict]]:
    """Parents, children without an address space yet, and forks of all kinds; a child is used once."""
    shm = st.booleans()
    vmspaces = {f"vm{at}": {"refcnt": draw(st.integers(1, 5)), "shm": draw(shm)} for at in range(1, 6)}
    parents = [
        {"name": f"p{at}", "vmspace": f"vm{draw(st.sampled_from([1, at]))}", "threads": [{"name": f"t{at}"}]}
        for at in (1, 2)
    ]
    children = [{"name": f"c{at}", "vmspace": None, "threads": [{"name": f"u{at}"}]} for at in range(1, 5)]
    given = {
        "vmspaces": vmspaces,
        "processes": parents + children,
        "page_count_severe": draw(st.lists(st.booleans(), max_size=4)),
        "unshare_error": draw(st.sampled_from([None, None, "ENOMEM"])),
    }
    calls = []
    for at in range(1, draw(st.integers(1, 4)) + 1):
        flags = draw(some("RFPROC", "RFMEM", "RFFDG", "RFCFDG", "RFTHREAD", "RFPPWAIT", "RFSTOPPED"))
        forks = "RFPROC" in flags
        call = {
            "call": "vm_forkproc",
            "thread": draw(st.sampled_from(["t1", "t2"])),
            "child": f"c{at}" if forks else None,
            "child_thread": f"u{at}" if forks else None,
            "vmspace": draw(st.sampled_from(["vm3", "vm4", "vm5", None])) if forks else None,
            "flags": sorted(flags),
        }
        if draw(st.booleans()):
            call["leave_after_waits"] = draw(st.integers(1, 3))
        calls.append(call)
    return given, calls
