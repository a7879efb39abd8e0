"""The services against the naive models, call by call, for as long as it takes: swapping, wiring, fork.

What a call answers and the whole state after it must be the model's. A panic must be the model's panic; it ends the
machine.
"""

from __future__ import annotations

from functools import cache

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from naive import MODELS
from naive.words import Livelock as NaiveLivelock
from naive.words import Panic
from playing import Situation, composed
from situations import some, swapping_calls, swapping_given
from test_cores_against_models import checks, maps, ranges

from clients.conform.compare import differences
from clients.conform.driver import Livelock
from services.runtime.errors import KernelPanic

USER = 0x400000


@cache
def kernel():
    """The services of all machines; each boots them anew."""
    return composed()[0]


class Compared(RuleBasedStateMachine):
    """A situation in the services, and in the model."""

    over = True

    def begin(self, family, given):
        self.family, self.given = family, given
        self.played, self.model, self.over = Situation(kernel(), family, given), MODELS[family](given), False

    def both(self, call, **arguments):
        """Make a call on both."""
        try:
            wanted = getattr(self.model, call)(**arguments)
        except Panic as panic:
            wanted = {"panic": str(panic)}
        except NaiveLivelock as livelock:
            wanted = {"livelock": livelock.processes}
        try:
            got = self.played.call(call, **arguments)
        except KernelPanic as panic:
            got = {"panic": panic.text}
        except Livelock as livelock:
            got = {"livelock": livelock.processes}
        assert list(differences(wanted, got)) == []
        self.over = "panic" in wanted or "livelock" in wanted

    @precondition(lambda self: self.over)
    @rule()
    def boot_anew(self):
        self.begin(self.family, self.given)

    @invariant()
    def same_state(self):
        if not self.over:
            assert list(differences(self.model.final(), self.played.final())) == []


going = precondition(lambda self: not self.over)


class Swapping(Compared):
    """Flags, inhibitors, counters, clock: processes go out, are woken, wanted, held and brought in."""

    paging = False

    @initialize(data=st.data())
    def boot(self, data):
        given = data.draw(swapping_given(self.paging))
        self.calls = swapping_calls(given)
        self.begin("B_swapper_faultin", given)

    def one(self, data, call):
        self.both(**data.draw(self.calls[call]))

    @going
    @rule(data=st.data())
    def swapout_procs(self, data):
        self.one(data, "swapout_procs")

    @going
    @rule(data=st.data())
    def swapper(self, data):
        self.one(data, "swapper")

    @going
    @rule(data=st.data())
    def faultin(self, data):
        self.one(data, "faultin")

    @going
    @rule(data=st.data(), call=st.sampled_from(["wake_thread", "setrunnable", "kick_proc0", "change"]))
    def others(self, data, call):
        self.one(data, call)

    @going
    @rule(data=st.data())
    def advance(self, data):
        self.one(data, "advance")

    @going
    @rule(name=st.sampled_from(["swap_idle_threshold1", "swap_idle_threshold2"]), value=st.integers(-2, 12))
    def set_tunable(self, name, value):
        self.both("set_tunable", name=name, value=value)


class Paging(Swapping):
    """The same with stacks in all states, whose pages the page daemon takes and the pager brings, or does not."""

    paging = True

    @going
    @rule(data=st.data())
    def evict(self, data):
        self.one(data, "evict")


class Wiring(Compared):
    """Checks and wirings of a map with holes, forbidden pages, and pages that cannot be brought in."""

    @initialize(
        user=maps(USER, wired=True), kernel_map=maps(0xFFFFFE0000000000, wired=False), limit=st.integers(-1, 12)
    )
    def boot(self, user, kernel_map, limit):
        given = {"user_map": user, "kernel_map": kernel_map, "tunables": {"vm_page_max_wired": limit}}
        self.begin("D_access_and_wiring", given)
        self.locked = []
        self.entries = [(int(entry["start"], 16), int(entry["end"], 16)) for entry in user["entries"]]

    @going
    @rule(call=ranges("vslock", USER) | ranges("vslock", 0))
    def vslock(self, call):
        self.both(**call)
        self.locked.append({**call, "call": "vsunlock"})

    @going
    @rule(data=st.data(), call=st.sampled_from(["vslock", "vslock", "vsunlock"]))
    def whole_entries(self, data, call):
        """From some entry to another: what lies between may forbid it, or be a hole, or not be there to be wired."""
        first = data.draw(st.integers(0, len(self.entries) - 1))
        last = data.draw(st.integers(first, len(self.entries) - 1))
        start, end = self.entries[first][0], self.entries[last][1]
        self.both(call, addr=hex(start), len=hex(end - start))

    @going
    @rule(call=ranges("vsunlock", USER))
    def vsunlock(self, call):
        self.both(**call)

    @precondition(lambda self: not self.over and self.locked)
    @rule(data=st.data())
    def vsunlock_of_a_vslock(self, data):
        self.both(**self.locked.pop(data.draw(st.integers(0, len(self.locked) - 1))))

    @going
    @rule(call=checks("useracc", USER) | checks("kernacc", 0xFFFFFE0000000000), illegal=st.integers(0, 15))
    def access(self, call, illegal):
        """A check; one in sixteen with a bit that is no protection, which is a panic."""
        bits = {"prot_bits": 8} if illegal == 15 else {}
        self.both(**call, **bits)

    @going
    @rule(limit=st.sampled_from([-1, 0, 4, 12, 40, 40, 40]))
    def set_limit(self, limit):
        self.both("set_tunable", name="vm_page_max_wired", value=limit)


class Forking(Compared):
    """Forks of all kinds by parents that share their memory or do not, waits for memory, and reaped children."""

    CHILDREN = 12

    @initialize(
        shared=st.booleans(),
        refcnts=st.lists(st.integers(1, 3), min_size=5, max_size=5),
        shm=st.lists(st.booleans(), min_size=5, max_size=5),
        severe=st.lists(st.booleans(), max_size=12),
        unshare_error=st.sampled_from([None, None, "ENOMEM"]),
    )
    def boot(self, shared, refcnts, shm, severe, unshare_error):
        spaces = {f"vm{at}": {"refcnt": refcnts[at - 1] + 3, "shm": shm[at - 1]} for at in range(1, 6)}
        parents = [
            {"name": f"p{at}", "vmspace": f"vm{1 if shared else at}", "threads": [{"name": f"t{at}"}]} for at in (1, 2)
        ]
        children = [
            {"name": f"c{at}", "vmspace": None, "threads": [{"name": f"u{at}"}]} for at in range(1, self.CHILDREN + 1)
        ]
        given = {"vmspaces": spaces, "processes": parents + children, "page_count_severe": severe}
        self.begin("G_fork_and_wait", {**given, "unshare_error": unshare_error})
        self.unborn = list(range(1, self.CHILDREN + 1))
        self.born = []

    @going
    @rule(
        thread=st.sampled_from(["t1", "t2"]),
        flags=some("RFMEM", "RFFDG", "RFCFDG", "RFTHREAD", "RFPPWAIT", "RFSTOPPED"),
        leave=st.none() | st.integers(1, 3),
    )
    def divorce(self, thread, flags, leave):
        self.fork(thread, None, None, flags, leave)

    @precondition(lambda self: not self.over and self.unborn)
    @rule(
        thread=st.sampled_from(["t1", "t2"]),
        vmspace=st.sampled_from(["vm3", "vm4", "vm5"]),
        flags=some("RFMEM", "RFFDG", "RFCFDG", "RFTHREAD", "RFPPWAIT", "RFSTOPPED"),
        leave=st.none() | st.integers(1, 3),
    )
    def fork_a_child(self, thread, vmspace, flags, leave):
        child = self.unborn.pop(0)
        self.fork(thread, child, vmspace, [*flags, "RFPROC"], leave)
        self.born.append(child)

    def fork(self, thread, child, vmspace, flags, leave):
        arguments = {"child": f"c{child}" if child else None, "child_thread": f"u{child}" if child else None}
        if leave is not None:
            arguments["leave_after_waits"] = leave
        self.both("vm_forkproc", thread=thread, vmspace=vmspace, flags=sorted(flags), **arguments)

    @precondition(lambda self: not self.over and self._reapable())
    @rule(data=st.data())
    def vm_waitproc(self, data):
        child = data.draw(st.sampled_from(self._reapable()))
        self.born.remove(child)
        self.both("vm_waitproc", proc=f"c{child}")

    def _reapable(self):
        """Children whose address space others hold as well, as vmspace0 is held."""
        spaces, owned = self.model.spaces, self.model.processes
        return [c for c in self.born if owned[f"c{c}"] is not None and spaces[owned[f"c{c}"]].refcnt > 1]


MACHINES = (Swapping, Paging, Wiring, Forking)
for machine in MACHINES:
    machine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestSwapping, TestPaging, TestWiring, TestForking = (machine.TestCase for machine in MACHINES)
