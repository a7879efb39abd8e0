"""Families A, B and E: whole processes and their stacks out and in, through the scheduler port."""

from __future__ import annotations

from clients.conform.driver import Livelock
from clients.conform.families import Json
from clients.conform.population import NEVER, Population
from clients.conform.processes import (
    INHIBITORS,
    P_FLAGS,
    P_STATES,
    TD_FLAGS,
    TD_STATES,
    bits,
    c_int,
    changes_of,
    names,
)
from clients.conform.stacks import pager_script, stack_strings
from clients.kernel import Kernel
from services.ports.pager import VmPager
from services.ports.scheduler import ChangesAt, Left, ProcState, StackRead, SwapinCall, ThreadState

_ACTIONS = {"NORMAL": 1, "IDLE": 2}


class Swapping(Population):
    """Processes that the scheduler swaps; the pager of their stacks is scripted."""

    def __init__(self, kernel: Kernel, given: Json) -> None:
        super().__init__(kernel, given)
        kernel.physmem.inject([pager_script(given["pager"])])
        changes = [
            {"vmspace": name, "resident": space["resident"] or None, "map_locked": space["map_locked"] or None}
            for name, space in given["vmspaces"].items()
            if space["resident"] or space["map_locked"]
        ]
        if changes:
            self.change(changes)

    def swapout_procs(self, action: list[str]) -> Json:
        """swapout_procs."""
        call = self.kernel.scheduler.swapout_procs(bits(action, _ACTIONS))
        if call.livelock:
            raise Livelock(self._procs(call.livelock))
        return {
            "swapped_out": self._procs(call.swapped_out),
            "busy": self._procs(call.busy),
            "wakeups": self._wakeups(call.wakeups),
        }

    def swapper(
        self, on_sleep: list[list[Json]], after_scan: dict[int, list[Json]], leave_after_waits: int | None
    ) -> Json:
        """swapper, until it is left."""
        script = self._on_sleep(on_sleep)
        script += [
            ChangesAt("swapper:793", scan, changes_of(changes, self.ids)) for scan, changes in after_scan.items()
        ]
        call = self.kernel.scheduler.swapper(script, len(on_sleep) + 1, leave_after_waits or NEVER)
        swapped_in = {"swapped_in": self._procs(call.swapped_in), "vm_waits": call.vm_waits}
        return {**swapped_in, **self._swapin(call)}

    def faultin(self, proc: str, on_sleep: list[list[Json]]) -> Json:
        """faultin of a process."""
        call = self.kernel.scheduler.faultin([self.ids["proc"][proc]], self._on_sleep(on_sleep), len(on_sleep) + 1)
        return {"swapped_in": bool(call.swapped_in), **self._swapin(call)}

    def _on_sleep(self, on_sleep: list[list[Json]]) -> list[ChangesAt]:
        return [ChangesAt("sleep", at, changes_of(changes, self.ids)) for at, changes in enumerate(on_sleep, start=1)]

    def _swapin(self, call: SwapinCall) -> Json:
        """What the results of swapper and faultin have in common."""
        self.set_ticks(call.ticks)
        return {
            "sleeps": [{"channel": self._channel(s.channel), "timeout": s.timeout_ticks} for s in call.sleeps],
            "wakeups": self._wakeups(call.wakeups),
            "page_requests": [self._request(request) for request in call.page_requests],
            "left": {Left.RETURNED: "returned", Left.SLEEP: "sleep", Left.VM_WAIT: "vm_wait"}[call.left],
        }

    def _request(self, request: StackRead) -> Json:
        return {
            "first": request.first,
            "count": request.count,
            "result": VmPager(request.result).name,
            "thread": self.names["thread"][request.tid],
        }

    def kick_proc0(self) -> Json:
        """kick_proc0."""
        return {"wakeups": self._wakeups(self.kernel.scheduler.kick_proc0().wakeups)}

    def setrunnable(self, thread: str) -> Json:
        """setrunnable, and kick_proc0 if it asks for it."""
        woken = self.kernel.scheduler.setrunnable(self.ids["thread"][thread])
        return {"wakeups": self._wakeups(woken.wakeups), "wakeup_swapper": woken.wakeup_swapper}

    def wake_thread(self, thread: str) -> Json:
        """A thread's sleep ends."""
        woken = self.kernel.scheduler.wake_thread(self.ids["thread"][thread])
        return {"wakeups": self._wakeups(woken.wakeups), "wakeup_swapper": woken.wakeup_swapper}

    def evict(self, thread: str, pages: list[int]) -> Json:
        """The page daemon takes pages of a stack."""
        return {"evicted": self.kernel.physmem.evict(self.stacks[thread].obj, pages).pindexes}

    def lose_page(self, thread: str, page: int) -> Json:
        """A page leaves a stack's object."""
        self.kernel.physmem.lose_page(self.stacks[thread].obj, page)
        return {}

    def _procs(self, pids: list[int]) -> list[str]:
        return [self.names["proc"][pid] for pid in pids]

    def _channel(self, channel: str) -> str:
        """The name of a sleep channel: &p->p_flag is called after the process."""
        kind, _, pid = channel.partition(":")
        return f"swapin:{self.names['proc'][int(pid)]}" if kind == "swapin" else channel

    def _wakeups(self, channels: list[str]) -> list[str]:
        """The channels that vm_glue.c wakes; VM_WAIT also wakes the page daemon."""
        return [self._channel(channel) for channel in channels if channel.startswith(("proc0", "swapin:"))]

    def final(self) -> Json:
        """Clock, processes, threads with their stacks, address spaces."""
        states = self.kernel.scheduler.proc_states()
        pages = self.kernel.physmem.object_pages(list(self.stacks.values())).objects
        strings = {name: stack_strings(stack) for name, stack in zip(self.stacks, pages, strict=True)}
        spaces = {self.names["vmspace"][space.vmspace]: space for space in states.vmspaces}
        return {
            "ticks": self.kernel.ctx.ticks,
            "processes": {
                self.names["proc"][p.pid]: self._process(p, strings)
                for p in states.procs
                if p.pid in self.names["proc"]
            },
            "vmspaces": {name: {"refcnt": space.refcnt, "swrss": space.swrss} for name, space in spaces.items()},
        }

    def _process(self, p: ProcState, strings: Json) -> Json:
        return {
            "state": P_STATES[p.state],
            "flags": names(p.flags, P_FLAGS),
            "lock_count": p.lock,
            "swtick": c_int(p.swtick),
            "threads": {self.names["thread"][td.tid]: self._thread(td, strings) for td in p.threads},
        }

    def _thread(self, td: ThreadState, strings: Json) -> Json:
        return {
            "state": TD_STATES[td.state],
            "inhibitors": names(td.inhibitors, INHIBITORS),
            "flags": names(td.flags, TD_FLAGS),
            "slptick": td.slptick,
            "nswap": td.nswap,
            "stack": strings[self.names["thread"][td.tid]],
        }
