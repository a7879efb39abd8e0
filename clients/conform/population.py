"""What families A, B, E and G share: processes, threads and address spaces placed in all services of a kernel."""

from __future__ import annotations

from clients.conform.driver import RAM_PAGES, Driver
from clients.conform.families import VMSPACE, Json
from clients.conform.processes import changes_of, proc_state, thread_state
from clients.conform.stacks import placed_stack
from clients.kernel import Kernel
from services.ports.common import Answers
from services.ports.kstack import ThreadOnStack
from services.ports.physmem import PlacedStack, StackPages
from services.ports.scheduler import ThreadState, VmspaceState

NEVER = (1 << 32) - 1
"""Number of a wait that is not reached."""
_ENOMEM = 12
_THRESHOLDS = {"swap_idle_threshold1": 2, "swap_idle_threshold2": 10}
"""Tunables of the scheduler and their values at boot."""
_FIRST_TID = 100_100
"""Thread id of the first thread of a case; those below are the kernel's."""


class Population(Driver):
    """Processes, threads and address spaces by name, in a kernel without any others.

    Attributes:
        ids: Ids by name, of each kind of subject: proc, thread, vmspace.
        names: Names by id, of each kind.
        stacks: The stack of each thread, by name.
    """

    def __init__(self, kernel: Kernel, given: Json) -> None:
        super().__init__(kernel, given)
        threads = [thread for process in given["processes"] for thread in process["threads"]]
        placed = [self._stack(thread) for thread in threads]
        self.boot(RAM_PAGES + 2 * sum(stack.size for stack in placed))
        self.boot_scheduler()
        for name, default in _THRESHOLDS.items():
            if given["tunables"][name] != default:
                self.set_tunable(name, given["tunables"][name])
        self.ids: dict[str, dict[str, int]] = {
            "proc": {process["name"]: process["pid"] for process in given["processes"]},
            "thread": {thread["name"]: _FIRST_TID + at for at, thread in enumerate(threads)},
            "vmspace": {},
        }
        self.stacks: dict[str, StackPages] = {}
        self._place(placed)
        self.names = {kind: {id_: name for name, id_ in ids.items()} for kind, ids in self.ids.items()}
        self._script(threads)

    def _stack(self, thread: Json) -> PlacedStack:
        return placed_stack(thread["stack"], "INMEM" in thread["flags"], self.given["build"]["kstack_pages"])

    def _place(self, stacks: list[PlacedStack]) -> None:
        """Place everything: pages and address spaces, then stacks, then processes."""
        given, spaces = self.given, self._spaces()
        placed = self.kernel.physmem.place(stacks, [], [space["refcnt"] for space in spaces.values()])
        self.ids["vmspace"] = dict(zip(spaces, placed.vmspaces, strict=True))
        self.stacks = dict(zip(self.ids["thread"], placed.stacks, strict=True))
        if self.stacks:
            self.kernel.kstack.place(
                [ThreadOnStack(self.ids["thread"][name], stack) for name, stack in self.stacks.items()]
            )
        self.kernel.scheduler.place(
            [
                proc_state(process, self.ids["vmspace"].get(process["vmspace"], 0), self._threads(process))
                for process in given["processes"]
            ],
            [
                VmspaceState(self.ids["vmspace"][name], space["refcnt"], space["swrss"], space["shm"])
                for name, space in spaces.items()
            ],
        )

    def _threads(self, process: Json) -> list[ThreadState]:
        made = []
        for given in process["threads"]:
            state, stack = thread_state(given, self.ids["thread"][given["name"]]), self.stacks[given["name"]]
            state.kstack, state.kstack_pages = stack.ks, stack.pages
            made.append(state)
        return made

    def _spaces(self) -> dict[str, Json]:
        """Address spaces by name: those of the case and the private ones of processes, with all defaults."""
        spaces = dict(self.given["vmspaces"])
        for process in self.given["processes"]:
            if process["vmspace"] is not None:
                spaces.setdefault(process["vmspace"], VMSPACE({}, ""))
        return spaces

    def _script(self, threads: list[Json]) -> None:
        """What the rest of the kernel is scripted to answer."""
        given, script = self.given, []
        for question in ("page_count_min", "page_count_severe"):
            script.append(_booleans(f"vm_{question}", given[question], after=given[f"{question}_after"]))
        if given["unshare_error"] is not None:
            script.append(Answers("vmspace_unshare", [], _ENOMEM, has_after=True))
        for thread in threads:
            question = f"thread_safetoswapout:{self.ids['thread'][thread['name']]}"
            if thread["safe_cycle"]:
                script.append(_booleans(question, thread["safe_cycle"], cycle=True))
            elif thread["safe_answers"]:
                script.append(_booleans(question, thread["safe_answers"]))
        for name, space in given["vmspaces"].items():
            if space["map_trylock"]:
                script.append(_booleans(f"vm_map_trylock:{self.ids['vmspace'][name]}", space["map_trylock"]))
        script = [entry for entry in script if entry.answers or entry.after]
        if script:
            self.kernel.scheduler.inject(script)

    def change(self, changes: list[Json]) -> Json:
        """The rest of the kernel changes something."""
        self.set_ticks(self.kernel.scheduler.change(changes_of(changes, self.ids)).ticks)
        return {}

    def set_ticks(self, ticks: int) -> None:
        """The clock is where a call left it."""
        self.kernel.ctx.ticks = ticks


def _booleans(question: str, answers: list[bool], after: bool | None = None, cycle: bool = False) -> Answers:
    return Answers(question, [int(answer) for answer in answers], int(after or 0), after is not None, cycle)
