"""Families A, B and E: swapout_procs, swapout, swapclear, swapper, faultin, kick_proc0 (vm_glue.c:681-1095).

Straight from the C: the process list is scanned from its head after every swapout(), nothing is remembered between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from naive.stacks import Pager, Stack
from naive.words import Json, Livelock, Panic, c_int, divide

MAXSLP = 20
INT_MIN = -(1 << 31)


class Left(Exception):
    """A call is left asleep, or at a wait for memory."""


@dataclass
class Thread:
    """A thread."""

    name: str
    state: str
    inhibitors: set[str]
    flags: set[str]
    pri_class: str
    slptick: int
    nswap: int
    stack: Stack
    safe_answers: list[bool]
    safe_cycle: list[bool]
    asked: int = 0

    def safe_to_swapout(self) -> bool:
        """thread_safetoswapout."""
        self.asked += 1
        if self.safe_cycle:
            return self.safe_cycle[(self.asked - 1) % len(self.safe_cycle)]
        if self.asked <= len(self.safe_answers):
            return self.safe_answers[self.asked - 1]
        return "CANSWAP" in self.flags

    def clear_inhibitor(self, inhibitor: str) -> None:
        """TD_CLR_SWAPPED and its like: the last one that goes makes the thread able to run."""
        if inhibitor in self.inhibitors:
            self.inhibitors.remove(inhibitor)
            if not self.inhibitors:
                self.state = "CAN_RUN"


@dataclass
class Process:
    """A process."""

    name: str
    pid: int
    state: str
    flags: set[str]
    lock_count: int
    swtick: int
    nice: int
    vmspace: str | None
    threads: list[Thread] = field(default_factory=list)


@dataclass
class Space:
    """An address space, as far as swapping looks at it."""

    refcnt: int = 1
    resident: int = 0
    swrss: int = 0
    map_locked: bool = False
    trylocks: list[bool] = field(default_factory=list)

    def trylock(self) -> bool:
        """vm_map_trylock."""
        answer = self.trylocks.pop(0) if self.trylocks else True
        return answer and not self.map_locked


@dataclass
class Trace:
    """What a call did, in the order of a result's lists."""

    swapped_in: list[str] = field(default_factory=list)
    vm_waits: int = 0
    sleeps: list[Json] = field(default_factory=list)
    wakeups: list[str] = field(default_factory=list)
    page_requests: list[Json] = field(default_factory=list)


class Swapping:
    """The process list, the clock, and what the kernel around answers."""

    def __init__(self, given: Json) -> None:
        clock, build = given.get("clock", {}), given.get("build", {})
        self.ticks, self.hz = clock.get("ticks", 0), clock.get("hz", 1000)
        self.kstack_pages = build.get("kstack_pages", 4)
        tunables = given.get("tunables", {})
        self.tunables = {"swap_idle_threshold1": 2, "swap_idle_threshold2": 10, **tunables}
        self.spaces = {
            name: Space(
                space.get("refcnt", 1),
                space.get("resident", 0),
                space.get("swrss", 0),
                space.get("map_locked", False),
                list(space.get("map_trylock", [])),
            )
            for name, space in given.get("vmspaces", {}).items()
        }
        self.count_min = list(given.get("page_count_min", []))
        self.count_min_after = given.get("page_count_min_after", False)
        self.pager = Pager(given.get("pager", []))
        self.processes = [self._process(entry, at) for at, entry in enumerate(given.get("processes", []))]
        self.threads = {thread.name: (process, thread) for process in self.processes for thread in process.threads}
        self.trace = Trace()

    def _process(self, given: Json, at: int) -> Process:
        name = given["name"]
        space = given.get("vmspace", f"vm-{name}")
        if "vmspace" not in given:
            self.spaces.setdefault(space, Space())
        process = Process(
            name,
            given.get("pid", 101 + at),
            given.get("state", "NORMAL"),
            set(given.get("flags", ["INMEM"])),
            given.get("lock_count", 0),
            given.get("swtick", 0),
            given.get("nice", 0),
            space,
        )
        process.threads = [self._thread(thread) for thread in given.get("threads", [])]
        return process

    def _thread(self, given: Json) -> Thread:
        state, flags = given.get("state", "INHIBITED"), set(given.get("flags", ["CANSWAP", "INMEM"]))
        default = ["SLEEPING"] if state == "INHIBITED" else []
        return Thread(
            given["name"],
            state,
            set(given.get("inhibitors", default)),
            flags,
            given.get("pri_class", "TIMESHARE"),
            given.get("slptick", 0),
            given.get("nswap", 0),
            Stack(given.get("stack"), "INMEM" in flags, self.kstack_pages),
            given.get("safe_answers", []),
            given.get("safe_cycle", []),
        )

    # the calls that any case may contain

    def advance(self, ticks: int) -> Json:
        """The clock moves on."""
        self.ticks = c_int(self.ticks + ticks)
        return {}

    def set_tunable(self, name: str, value: int) -> Json:
        """A tunable is set."""
        self.tunables[name] = c_int(value)
        return {}

    def change(self, changes: list[Json]) -> Json:
        """The rest of the kernel changes something."""
        for change in changes:
            if "advance" in change:
                self.advance(change["advance"])
                continue
            subject: Process | Thread | Space
            if "proc" in change:
                subject = next(process for process in self.processes if process.name == change["proc"])
            elif "thread" in change:
                subject = self.threads[change["thread"]][1]
            else:
                subject = self.spaces[change["vmspace"]]
            for key, value in change.items():
                if key not in ("proc", "thread", "vmspace"):
                    setattr(subject, key, set(value) if isinstance(value, list) else value)
        return {}

    # the scheduler's part

    def _setrunnable(self, process: Process, thread: Thread) -> bool:
        """setrunnable(9): True asks for the swapper."""
        if process.state == "ZOMBIE":
            raise Panic(f"setrunnable: pid {process.pid} is a zombie")
        if thread.state in ("RUNNING", "RUNQ"):
            return False
        if thread.state == "INHIBITED" and thread.inhibitors != {"SWAPPED"}:
            return False
        if thread.state == "INACTIVE":
            raise Panic("setrunnable(2)")
        if "INMEM" not in thread.flags:
            asks = "SWAPINREQ" not in thread.flags
            thread.flags.add("SWAPINREQ")
            return asks
        thread.state, thread.slptick = "RUNQ", 0
        thread.flags.discard("CANSWAP")
        return False

    def setrunnable(self, thread: str) -> Json:
        """setrunnable, and kick_proc0 if it asks for it."""
        asks = self._setrunnable(*self.threads[thread])
        return {"wakeups": ["proc0"] if asks else [], "wakeup_swapper": asks}

    def wake_thread(self, thread: str) -> Json:
        """The thread's sleep ends."""
        self.threads[thread][1].clear_inhibitor("SLEEPING")
        return self.setrunnable(thread)

    def kick_proc0(self) -> Json:
        """kick_proc0."""
        return {"wakeups": ["proc0"]}

    # vm_glue.c

    def _swapclear(self, process: Process) -> None:
        for thread in process.threads:
            thread.flags.add("INMEM")
            thread.flags.discard("SWAPINREQ")
            thread.clear_inhibitor("SWAPPED")
            if thread.state == "CAN_RUN" and self._setrunnable(process, thread):
                raise Panic("not waking up swapper")
        process.flags -= {"SWAPPINGIN", "SWAPPINGOUT"}
        process.flags.add("INMEM")

    def _swapout(self, process: Process) -> bool:
        """swapout(): False is EBUSY."""
        assert process.flags & {"INMEM", "SWAPPINGOUT", "SWAPPINGIN"} == {"INMEM"}
        assert process.vmspace is not None
        space = self.spaces[process.vmspace]
        space.swrss = space.resident
        process.flags.remove("INMEM")
        process.flags.add("SWAPPINGOUT")
        for thread in process.threads:
            if not thread.safe_to_swapout():
                self._swapclear(process)
                return False
            thread.flags.discard("INMEM")
            thread.state = "INHIBITED"
            thread.inhibitors.add("SWAPPED")
        process.threads[0].nswap += 1
        for thread in process.threads:
            thread.stack.swapout()
        process.flags.remove("SWAPPINGOUT")
        process.swtick = self.ticks
        return True

    def _wanted_out(self, process: Process, action: list[str]) -> bool:
        """One process of swapout_procs' scan, up to the call of swapout()."""
        if process.lock_count or process.flags & {"STOPPED_SINGLE", "TRACED", "SYSTEM", "WEXIT"}:
            return False
        if process.flags & {"INMEM", "SWAPPINGOUT", "SWAPPINGIN"} != {"INMEM"} or process.state != "NORMAL":
            return False
        minslptime = 100000
        for thread in process.threads:
            if thread.pri_class in ("REALTIME", "FIFO"):
                return False
            slptime = divide(c_int(self.ticks - thread.slptick), self.hz)
            if slptime < self.tunables["swap_idle_threshold1"] or not thread.safe_to_swapout():
                return False
            if "NORMAL" not in action and ("IDLE" not in action or slptime < self.tunables["swap_idle_threshold2"]):
                return False
            minslptime = min(minslptime, slptime)
        if "NORMAL" in action:
            return True
        return "IDLE" in action and minslptime > self.tunables["swap_idle_threshold2"]

    def _next_out(self, action: list[str]) -> Process | None:
        """The scan from the head of the list to the first process that is wanted out."""
        for process in self.processes:
            if process.state == "NEW" or "SYSTEM" in process.flags or process.vmspace is None:
                continue
            space = self.spaces[process.vmspace]
            if space.refcnt > 0 and space.trylock() and self._wanted_out(process, action):
                return process
        return None

    def swapout_procs(self, action: list[str]) -> Json:
        """swapout_procs."""
        swapped_out: list[str] = []
        busy: list[str] = []
        in_vain: dict[str, int] = {}
        while (process := self._next_out(action)) is not None:
            if self._swapout(process):
                swapped_out.append(process.name)
                in_vain = {}
            else:
                busy.append(process.name)
                in_vain[process.name] = in_vain.get(process.name, 0) + 1
                if in_vain[process.name] > 100:
                    raise Livelock([name for name in in_vain if name in busy[-100:]])
        return {"swapped_out": swapped_out, "busy": busy, "wakeups": ["proc0"] if swapped_out else []}

    def _sleep(self, channel: str, timeout: int, on_sleep: list[list[Json]]) -> None:
        """A sleep of the call: the next changes happen in it, or the call is left."""
        self.trace.sleeps.append({"channel": channel, "timeout": timeout})
        if len(self.trace.sleeps) > len(on_sleep):
            raise Left
        self.change(on_sleep[len(self.trace.sleeps) - 1])

    def _faultin(self, process: Process, on_sleep: list[list[Json]]) -> None:
        """faultin()."""
        if "SWAPPINGIN" in process.flags:
            while "SWAPPINGIN" in process.flags:
                self._sleep(f"swapin:{process.name}", 0, on_sleep)
            return
        if "INMEM" in process.flags:
            return
        process.lock_count += 1
        process.flags.add("SWAPPINGIN")
        for thread in process.threads:
            requests = thread.stack.swapin(self.pager, process.pid)
            self.trace.page_requests += [{**request, "thread": thread.name} for request in requests]
        self._swapclear(process)
        process.swtick = self.ticks
        self.trace.wakeups.append(f"swapin:{process.name}")
        self.trace.swapped_in.append(process.name)
        process.lock_count -= 1

    def _priority(self, process: Process, thread: Thread) -> int:
        swtime = c_int((self.ticks - process.swtick) % (1 << 32) // self.hz)
        slptime = divide(c_int(self.ticks - thread.slptick), self.hz)
        nice = 0 if "SWAPINREQ" in thread.flags else process.nice * 8
        return c_int(swtime + slptime - nice)

    def _candidate(self) -> Process | None:
        """The swapper's choice."""
        chosen, priority = None, INT_MIN
        for process in self.processes:
            if process.state == "NEW" or process.flags & {"SWAPPINGOUT", "SWAPPINGIN", "INMEM"}:
                continue
            for thread in process.threads:
                if thread.inhibitors == {"SWAPPED"} and self._priority(process, thread) > priority:
                    chosen, priority = process, self._priority(process, thread)
        return chosen

    def _count_min(self) -> bool:
        return self.count_min.pop(0) if self.count_min else self.count_min_after

    def _left(self, run: Callable[[], None], at_end: str) -> str:
        """Run a call that may be left; says how it was left."""
        self.trace = Trace()
        try:
            run()
        except Left as left:
            return str(left) or "sleep"
        return at_end

    def swapper(
        self,
        on_sleep: list[list[Json]] | None = None,
        after_scan: dict[str, list[Json]] | None = None,
        leave_after_waits: int | None = None,
    ) -> Json:
        """swapper(), until it is left."""

        def run() -> None:
            scans = 0
            while True:
                while self._count_min():
                    self.trace.vm_waits += 1
                    if self.trace.vm_waits == leave_after_waits:
                        raise Left("vm_wait")
                process = self._candidate()
                scans += 1
                self.change((after_scan or {}).get(str(scans), []))
                if process is None:
                    self._sleep("proc0", divide(c_int(MAXSLP * self.hz), 2), on_sleep or [])
                elif not process.flags & {"INMEM", "SWAPPINGOUT", "SWAPPINGIN"}:
                    self._faultin(process, on_sleep or [])

        left = self._left(run, "")
        return {**vars(self.trace), "left": left}

    def faultin(self, proc: str, on_sleep: list[list[Json]] | None = None) -> Json:
        """faultin() of a process."""
        process = next(process for process in self.processes if process.name == proc)
        left = self._left(lambda: self._faultin(process, on_sleep or []), "returned")
        done = vars(self.trace)
        return {
            "swapped_in": bool(self.trace.swapped_in),
            **{key: done[key] for key in ("sleeps", "wakeups", "page_requests")},
            "left": left,
        }

    # the page daemon and faults

    def evict(self, thread: str, pages: list[int]) -> Json:
        """The page daemon takes pages of a stack."""
        return {"evicted": self.threads[thread][1].stack.evict(pages)}

    def lose_page(self, thread: str, page: int) -> Json:
        """A page leaves a stack's object."""
        self.threads[thread][1].stack.pages.pop(page, None)
        return {}

    def final(self) -> Json:
        """Clock, processes, threads with their stacks, address spaces."""
        return {
            "ticks": self.ticks,
            "processes": {
                process.name: {
                    "state": process.state,
                    "flags": sorted(process.flags),
                    "lock_count": process.lock_count,
                    "swtick": process.swtick,
                    "threads": {thread.name: _thread_state(thread) for thread in process.threads},
                }
                for process in self.processes
            },
            "vmspaces": {name: {"refcnt": space.refcnt, "swrss": space.swrss} for name, space in self.spaces.items()},
        }


def _thread_state(thread: Thread) -> Json:
    return {
        "state": thread.state,
        "inhibitors": sorted(thread.inhibitors),
        "flags": sorted(thread.flags),
        "slptick": thread.slptick,
        "nswap": thread.nswap,
        "stack": thread.stack.state(),
    }
