"""Conformance cases on the scheduler's own functions, without a service below: what the C code answers about processes.

The state of `given` is built into a scheduler over fakes; stacks and their pages are another service's and left out.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any
from unittest import mock

from fakes import machine

from hardware_sim.clock import c_int, c_uint
from services.ports.common import Answers
from services.ports.physmem import MapLocks
from services.runtime.env import Env
from services.runtime.errors import KernelPanic
from services.scheduler import glue_fork, glue_swap, sleepq
from services.scheduler.glue_fork import ForkprocArgs, vm_forkproc, vm_waitproc
from services.scheduler.glue_swap import faultin, swapin_channel, swapout_procs, swapper
from services.scheduler.proc_flags import (
    P_INMEM,
    P_STOPPED_SINGLE,
    P_SWAPPINGIN,
    P_SWAPPINGOUT,
    P_SYSTEM,
    P_TRACED,
    P_WEXIT,
    PRI_FIFO_BIT,
    PRI_IDLE,
    PRI_ITHD,
    PRI_REALTIME,
    PRI_TIMESHARE,
    TDF_CANSWAP,
    TDF_INMEM,
    TDF_SWAPINREQ,
    TDI_IWAIT,
    TDI_LOCK,
    TDI_SLEEPING,
    TDI_SUSPENDED,
    TDI_SWAPPED,
    Prs,
    Tds,
)
from services.scheduler.state import FaultinFrame, Proc, SwapperFrame, Thread, Vmspace
from services.scheduler.upcalls import absorb

Json = dict[str, Any]

P_FLAGS = {
    "INMEM": P_INMEM,
    "SWAPPINGIN": P_SWAPPINGIN,
    "SWAPPINGOUT": P_SWAPPINGOUT,
    "SYSTEM": P_SYSTEM,
    "TRACED": P_TRACED,
    "WEXIT": P_WEXIT,
    "STOPPED_SINGLE": P_STOPPED_SINGLE,
}
TD_FLAGS = {"INMEM": TDF_INMEM, "CANSWAP": TDF_CANSWAP, "SWAPINREQ": TDF_SWAPINREQ}
INHIBITORS = {
    "SLEEPING": TDI_SLEEPING,
    "SUSPENDED": TDI_SUSPENDED,
    "SWAPPED": TDI_SWAPPED,
    "LOCK": TDI_LOCK,
    "IWAIT": TDI_IWAIT,
}
CLASSES = {
    "ITHD": PRI_ITHD,
    "REALTIME": PRI_REALTIME,
    "TIMESHARE": PRI_TIMESHARE,
    "IDLE": PRI_IDLE,
    "FIFO": PRI_FIFO_BIT | PRI_REALTIME,
}
RF_FLAGS = {"RFPROC": 0x10, "RFMEM": 0x20}
SWAP_ACTIONS = {"NORMAL": 1, "IDLE": 2}


def bits(names: list[str], table: dict[str, int]) -> int:
    return sum(table[name] for name in names)


def names_of(value: int, table: dict[str, int]) -> list[str]:
    return sorted(name for name, bit in table.items() if value & bit)


def then_of(answer: Json) -> Json:
    """The part of an answer that concerns the scheduler: no pages, no stacks."""
    steps = [{key: value for key, value in step.items() if key != "page_requests"} for step in answer["steps"]]
    final = {**answer["final"]}
    if "processes" in final and "vmspace" not in next(iter(final["processes"].values()), {"vmspace": 0}):
        final["processes"] = {name: _without_stacks(process) for name, process in final["processes"].items()}
    return {"steps": steps, "final": final}


def _without_stacks(process: Json) -> Json:
    threads = {
        name: {key: value for key, value in thread.items() if key != "stack"}
        for name, thread in process["threads"].items()
    }
    return {**process, "threads": threads}


class Glue:
    """A scheduler in the state of a case."""

    def __init__(self, given: Json, scripted: bool = False) -> None:
        clock = given.get("clock", {})
        self.machine = machine(hz=clock.get("hz", 1000), start_ticks=clock.get("ticks", 0))
        self.k = self.machine.core.k
        self.k.s.allproc.clear()
        self.k.s.threads.clear()
        self.woken: list[str] = []
        self.vmspaces: dict[str, int] = {}
        self.script: list[Answers] = []
        self.names: dict[int, str] = {}
        for name, value in given.get("tunables", {}).items():
            self.set_tunable(name, value)
        processes = given.get("processes", [])
        spaces = {f"vm-{p['name']}": {} for p in processes if "vmspace" not in p} | given.get("vmspaces", {})
        for name, space in spaces.items():
            self._space(name, space)
        for at, process in reversed(list(enumerate(processes))):
            self._process(101 + at, process)
        self.order = [process["name"] for process in processes]
        self.pids = {name: pid for pid, name in self.names.items()}
        for question in ("page_count_min", "page_count_severe"):
            after = given.get(f"{question}_after", False)
            self._scripted(f"vm_{question}", given.get(question, []), after=int(after))
        if given.get("unshare_error"):
            self._scripted("vmspace_unshare", [], after=12)
        if self.script:
            self.k.ctx.env.inject(self.script)
        self.k.s.scripted = scripted or any("vm_map" in a.question or "thread" in a.question for a in self.script)

    def _scripted(self, question: str, answers: list[bool], after: int | None = None, cycle: bool = False) -> None:
        self.script.append(Answers(question, [int(a) for a in answers], after or 0, after is not None, cycle))

    def _space(self, name: str, space: Json) -> None:
        vmspace = self.machine.physmem.vmspace_alloc(0, 0).vmspace
        self.vmspaces[name] = vmspace
        self.machine.physmem.refs[vmspace] = space.get("refcnt", 1)
        self.machine.physmem.sizes[vmspace] = space.get("resident", 0)
        self.k.s.vmspaces[vmspace] = Vmspace(
            space.get("refcnt", 1), space.get("swrss", 0), vm_shm=space.get("shm", False)
        )
        if space.get("map_locked"):
            self.machine.physmem.locked.add(vmspace)
        if space.get("map_trylock"):
            self._scripted(f"vm_map_trylock:{vmspace}", space["map_trylock"])

    def _process(self, pid: int, given: Json) -> None:
        pid = given.get("pid", pid)
        name = given.get("vmspace", f"vm-{given['name']}")
        p = Proc(
            pid,
            given["name"],
            p_state=Prs[given.get("state", "NORMAL")],
            p_flag=bits(given.get("flags", ["INMEM"]), P_FLAGS),
            p_lock=given.get("lock_count", 0),
            p_swtick=c_uint(given.get("swtick", 0)),
            p_nice=given.get("nice", 0),
            p_vmspace=self.vmspaces[name] if name else 0,
        )
        self.names[pid] = given["name"]
        self.k.allproc_insert_head(p)
        for at, thread in enumerate(given.get("threads", [])):
            self._thread(p, pid * 100 + at, thread)

    def _thread(self, p: Proc, tid: int, given: Json) -> None:
        state = Tds[given.get("state", "INHIBITED")]
        default = ["SLEEPING"] if state is Tds.INHIBITED else []
        td = Thread(
            tid,
            p.p_pid,
            td_flags=bits(given.get("flags", ["CANSWAP", "INMEM"]), TD_FLAGS),
            td_inhibitors=bits(given.get("inhibitors", default), INHIBITORS),
            td_state=state,
            td_slptick=given.get("slptick", 0),
            td_pri_class=CLASSES[given.get("pri_class", "TIMESHARE")],
            ru_nswap=given.get("nswap", 0),
        )
        p.p_threads.append(td)
        self.k.s.threads[tid] = td
        self.k.candidates.update(p, td)
        self.names[tid] = given["name"]
        if td.td_flags & TDF_INMEM == 0:
            self.machine.kstack.saved[tid] = b""
        if given.get("safe_cycle"):
            self._scripted(f"thread_safetoswapout:{tid}", given["safe_cycle"], cycle=True)
        elif given.get("safe_answers"):
            self._scripted(f"thread_safetoswapout:{tid}", given["safe_answers"])

    # the calls that any case may contain

    def advance(self, ticks: int) -> Json:
        self.k.ctx.ticks = c_int(self.k.ctx.ticks + ticks)
        return {}

    def set_tunable(self, name: str, value: int) -> Json:
        if name.startswith("swap_idle"):
            setattr(self.k.s, name, c_int(value))
        return {}

    def change(self, changes: list[Json]) -> None:
        for change in changes:
            self.k.next_seq()
            if "advance" in change:
                self.advance(change["advance"])
            elif "proc" in change:
                self._change_proc(self.k.s.allproc[self.pids[change["proc"]]], change)
            elif "thread" in change:
                self._change_thread(self.k.s.threads[self.pids[change["thread"]]], change)
            else:
                raise AssertionError(f"not a change of processes: {change}")

    def _change_proc(self, p: Proc, change: Json) -> None:
        p.p_state = Prs[change["state"]] if "state" in change else p.p_state
        p.p_flag = bits(change["flags"], P_FLAGS) if "flags" in change else p.p_flag
        p.p_lock = change.get("lock_count", p.p_lock)
        p.p_swtick = c_uint(change.get("swtick", p.p_swtick))
        p.p_nice = change.get("nice", p.p_nice)
        self.k.candidates.update_all(p)

    def _change_thread(self, td: Thread, change: Json) -> None:
        td.td_state = Tds[change["state"]] if "state" in change else td.td_state
        td.td_flags = bits(change["flags"], TD_FLAGS) if "flags" in change else td.td_flags
        td.td_inhibitors = bits(change["inhibitors"], INHIBITORS) if "inhibitors" in change else td.td_inhibitors
        td.td_pri_class = CLASSES[change["pri_class"]] if "pri_class" in change else td.td_pri_class
        td.td_slptick = change.get("slptick", td.td_slptick)
        self.k.candidates.update(self.k.proc(td.td_pid), td)

    # families A and B

    @contextmanager
    def recorded(self):
        """Note the channels that are woken, sleepers or not."""
        self.woken = []

        def wakeup(k, channel):
            self.woken.append(f"swapin:{self.names[int(channel[7:])]}" if channel.startswith("swapin:") else channel)
            return original(k, channel)

        original = sleepq.wakeup
        with mock.patch.object(sleepq, "wakeup", wakeup), mock.patch.object(glue_swap, "wakeup", wakeup):
            yield

    def swapout_procs(self, action: list[str]) -> Json:
        physmem = self.machine.physmem
        physmem.vm_map_trylock = lambda spaces: _locks(physmem, spaces)
        with self.recorded():
            scan = swapout_procs(self.k, bits(action, SWAP_ACTIONS))
        if scan.livelock:
            raise Livelock([self.names[pid] for pid in scan.livelock])
        out, busy = ([self.names[pid] for pid in pids] for pids in (scan.swapped_out, scan.busy))
        return {"swapped_out": out, "busy": busy, "wakeups": self.woken}

    def _swapins(self) -> int:
        return len(self.machine.kstack.named("vm_thread_swapin"))

    def _new_sleeper(self) -> Thread:
        """A thread of the kernel that makes the call."""
        tid = 1 + max(self.k.s.threads, default=0)
        self.k.allproc_insert_head(Proc(0, "kernel", p_state=Prs.NORMAL, p_flag=P_INMEM | P_SYSTEM))
        td = self.k.s.threads[tid] = Thread(tid, 0, td_state=Tds.RUNNING)
        return td

    def _done_sleeper(self, td: Thread) -> None:
        if td.td_wchan:
            self.k.s.sleepqs[td.td_wchan].remove(td.td_tid)
        del self.k.s.threads[td.td_tid], self.k.s.allproc[0]
        self.k.s.runq = [entry for entry in self.k.s.runq if entry[2] != td.td_tid]

    def swapper(self, on_sleep=(), after_scan=None, leave_after_waits=None) -> Json:
        scans, sleeps, waits = 0, [], 0

        def preempt(point: str) -> None:
            nonlocal scans
            if point == "swapper:793":
                scans += 1
                self.change((after_scan or {}).get(str(scans), []))

        td, frame, before = self._new_sleeper(), SwapperFrame(), self._swapins()
        self.k.ctx.env.preempt = preempt
        left = ""
        with self.recorded():
            while not left:
                if swapper(self.k, td, frame):
                    continue
                absorb(self.k)
                if td.td_wchan == "v_free_count":
                    waits += 1
                    left = "vm_wait" if waits == leave_after_waits else ""
                else:
                    sleeps.append(self._sleep(td))
                    left = "sleep" if len(sleeps) > len(on_sleep) else ""
                    self.change([] if left else on_sleep[len(sleeps) - 1])
                if not left:
                    sleepq.sleepq_remove(self.k, td)
        self.k.ctx.env.preempt = Env().preempt
        self._done_sleeper(td)
        swapped = [self.names[tids[0] // 100] for tids, _ in self.machine.kstack.named("vm_thread_swapin")[before:]]
        return {"swapped_in": swapped, "vm_waits": waits, "sleeps": sleeps, "wakeups": self.woken, "left": left}

    def _sleep(self, td: Thread) -> Json:
        if td.td_wchan == "proc0":
            return {"channel": "proc0", "timeout": 10 * self.k.hz}
        return {"channel": f"swapin:{self.names[int(td.td_wchan[7:])]}", "timeout": 0}

    def faultin(self, proc: str, on_sleep=()) -> Json:
        td, frame, before = self._new_sleeper(), FaultinFrame(self.pids[proc]), self._swapins()
        sleeps: list[Json] = []
        left = "returned"
        with self.recorded():
            while not faultin(self.k, td, frame):
                assert td.td_wchan == swapin_channel(frame.pid)
                sleeps.append(self._sleep(td))
                if len(sleeps) > len(on_sleep):
                    left = "sleep"
                    break
                self.change(on_sleep[len(sleeps) - 1])
                sleepq.sleepq_remove(self.k, td)
        self._done_sleeper(td)
        return {"swapped_in": self._swapins() > before, "sleeps": sleeps, "wakeups": self.woken, "left": left}

    def kick_proc0(self) -> Json:
        with self.recorded():
            sleepq.kick_proc0(self.k)
        return {"wakeups": self.woken}

    def setrunnable(self, thread: str) -> Json:
        with self.recorded():
            wanted = sleepq.setrunnable(self.k, self.k.s.threads[self.pids[thread]])
            if wanted:
                sleepq.kick_proc0(self.k)
        return {"wakeups": self.woken, "wakeup_swapper": wanted}

    def wake_thread(self, thread: str) -> Json:
        sleepq.td_clr_inhib(self.k, self.k.s.threads[self.pids[thread]], TDI_SLEEPING)
        return self.setrunnable(thread)

    # family G

    def vm_forkproc(self, thread, child, child_thread, vmspace, flags, leave_after_waits=None) -> Json:
        calls: list[Json] = []
        threads = {self.names[tid]: td for tid, td in self.k.s.threads.items()}
        args = ForkprocArgs(
            threads[thread],
            self.k.s.allproc[self.pids[child]] if child else None,
            threads[child_thread] if child_thread else None,
            self.vmspaces[vmspace] if vmspace else 0,
            bits([flag for flag in flags if flag in RF_FLAGS], RF_FLAGS),
        )
        p1 = self.k.s.allproc[args.td.td_pid]

        def cpu_fork(k, parent, passed):
            assert parent is p1
            assert passed is args
            named = {"thread": thread, "child": child, "child_thread": child_thread}
            space = self._space_name(args.p2.p_vmspace) if args.p2 else None
            calls.append({"call": "cpu_fork", **named, "child_vmspace": space, "flags": flags})
            cpu_fork_itself(k, parent, passed)

        def unshare(k, p):
            calls.append({"call": "unshare", "proc": self.names[p.p_pid]})
            old = self._space_name(p.p_vmspace)
            error = unshare_itself(k, p)
            if not error:
                self.vmspaces[f"{old}@{self.names[p.p_pid]}"] = p.p_vmspace
            return error

        def shmfork(k, parent, p2):
            names = {"parent": self.names[parent.p_pid], "child": self.names[p2.p_pid]}
            calls.append({"call": "shmfork", **names, "child_vmspace": self._space_name(p2.p_vmspace)})
            shmfork_itself(k, parent, p2)

        cpu_fork_itself, unshare_itself = glue_fork.cpu_fork, glue_fork.vmspace_unshare
        shmfork_itself = glue_fork.shmfork
        with (
            mock.patch.object(glue_fork, "cpu_fork", cpu_fork),
            mock.patch.object(glue_fork, "vmspace_unshare", unshare),
            mock.patch.object(glue_fork, "shmfork", shmfork),
        ):
            waits = 0
            while (error := vm_forkproc(self.k, args, resumed=waits > 0)) is None:
                waits += 1
                if waits == leave_after_waits:
                    return {"calls": calls, "vm_waits": waits, "left": "vm_wait"}
                absorb(self.k)
                sleepq.sleepq_remove(self.k, args.td)
        return {"calls": calls, "vm_waits": waits, "left": "returned", "error": "ENOMEM" if error else None}

    def _space_name(self, vmspace: int) -> str | None:
        return next((name for name, vm in self.vmspaces.items() if vm == vmspace), None)

    def vm_waitproc(self, proc: str) -> Json:
        vm_waitproc(self.k, self.k.s.allproc[self.pids[proc]])
        return {}

    def final_forking(self) -> Json:
        """The final state as family G shows it."""
        processes = {name: self.k.s.allproc[self.pids[name]] for name in self.order}
        refs = self.machine.physmem.refs
        return {
            "processes": {name: {"vmspace": self._space_name(p.p_vmspace)} for name, p in processes.items()},
            "vmspaces": {name: {"refcnt": refs[vm]} for name, vm in self.vmspaces.items()},
        }

    def final(self) -> Json:
        processes = {name: self.k.s.allproc[self.pids[name]] for name in self.order}
        return {
            "ticks": self.k.ctx.ticks,
            "processes": {name: self._proc_state(p) for name, p in processes.items()},
            "vmspaces": {
                name: {"refcnt": self.k.s.vmspaces[vm].vm_refcnt, "swrss": self.k.s.vmspaces[vm].vm_swrss}
                for name, vm in self.vmspaces.items()
            },
        }

    def _proc_state(self, p: Proc) -> Json:
        return {
            "state": p.p_state.name,
            "flags": names_of(p.p_flag, P_FLAGS),
            "lock_count": p.p_lock,
            "swtick": c_int(p.p_swtick),
            "threads": {
                self.names[td.td_tid]: {
                    "state": td.td_state.name,
                    "inhibitors": names_of(td.td_inhibitors, INHIBITORS),
                    "flags": names_of(td.td_flags, TD_FLAGS),
                    "slptick": td.td_slptick,
                    "nswap": td.ru_nswap,
                }
                for td in p.p_threads
            },
        }


class Livelock(Exception):
    """A scan that would never end."""


def _locks(physmem, spaces):
    return MapLocks([s not in physmem.locked for s in spaces], [physmem.sizes.get(s, 0) for s in spaces])


def play(glue: Any, when: list[Json]) -> Json:
    """Make the calls of a case."""
    forking = any(call["call"] in ("vm_forkproc", "vm_waitproc") for call in when)
    steps: list[Json] = []
    for call in when:
        arguments = {key: value for key, value in call.items() if key != "call"}
        try:
            steps.append(getattr(glue, call["call"])(**arguments))
        except KernelPanic as panic:
            return {"steps": [*steps, {"panic": panic.text}], "final": {"stopped": "panic"}}
        except Livelock as livelock:
            steps.append({"livelock": True, "processes": livelock.args[0]})
            return {"steps": steps, "final": {"stopped": "livelock"}}
    return {"steps": steps, "final": glue.final_forking() if forking else glue.final()}
