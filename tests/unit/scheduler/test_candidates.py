"""The swapper's vectorised choice: the same as vm_glue.c's own loop, and never behind what the fields say."""

from __future__ import annotations

from fakes import machine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hardware_sim.clock import INT_MAX, INT_MIN, c_div, c_int
from services.ports.scheduler import Change, ChangeField, ProcState, ThreadState, VmspaceState
from services.runtime.events import PACKED, Kind, packed, told, unpack, unpacked
from services.scheduler.candidates import LOSERS, Candidates, row_of
from services.scheduler.inspect import check_state
from services.scheduler.proc_flags import (
    P_INMEM,
    P_SWAPPINGIN,
    P_SWAPPINGOUT,
    PRIO_MIN,
    TDF_CANSWAP,
    TDF_INMEM,
    TDF_SWAPINREQ,
    TDI_SLEEPING,
    TDI_SUSPENDED,
    TDI_SWAPPED,
    Prs,
    Tds,
)
from services.scheduler.sleepq import setrunnable, td_clr_inhib, td_set_inhib
from services.scheduler.state import Proc, Thread

UINT_MAX = 2**32 - 1
INTS = st.integers(INT_MIN, INT_MAX) | st.sampled_from([INT_MIN, INT_MIN + 1, -1, 0, 1, INT_MAX])
UINTS = st.integers(0, UINT_MAX) | st.sampled_from([0, 1, 2**31 - 1, 2**31, UINT_MAX])
HZ = st.sampled_from([1, 100, 128, 1000, 2**31 - 1])


def swapper_loop(allproc: list[Proc], ticks: int, hz: int) -> tuple[int, int] | None:
    """vm_glue.c:755-792 as it stands there: process id and ppri of pp."""
    pp, ppri = None, INT_MIN
    for p in allproc:
        if p.p_state is Prs.NEW or p.p_flag & (P_SWAPPINGOUT | P_SWAPPINGIN | P_INMEM):
            continue
        swtime = c_int((ticks - p.p_swtick) % 2**32 // hz)
        for td in p.p_threads:
            if td.td_inhibitors == TDI_SWAPPED:
                pri = c_int(swtime + c_div(c_int(ticks - td.td_slptick), hz))
                if not td.td_flags & TDF_SWAPINREQ:
                    pri = c_int(pri - p.p_nice * 8)
                if pri > ppri:
                    pp, ppri = p.p_pid, pri
    return None if pp is None else (pp, ppri)


def ranking(allproc: list[Proc], ticks: int, hz: int) -> list[tuple[int, int]]:
    """The loop's choice, its choice without that process, and so on."""
    found, left = [], list(allproc)
    while len(found) <= LOSERS and (best := swapper_loop(left, ticks, hz)) is not None:
        found.append(best)
        left = [p for p in left if p.p_pid != best[0]]
    return found


@st.composite
def procs(draw, ints=INTS, uints=UINTS):
    """A list as allproc has it, most of whose processes wait to come in; the newest first."""
    made = []
    for pid in draw(st.permutations(range(100, 100 + draw(st.integers(0, 14))))):
        state = draw(st.sampled_from([0] * 9 + [P_INMEM, P_SWAPPINGOUT, P_SWAPPINGIN]))
        threads = [
            Thread(
                pid * 10 + at,
                pid,
                td_flags=draw(st.sampled_from([TDF_CANSWAP, TDF_CANSWAP | TDF_SWAPINREQ])),
                td_inhibitors=draw(st.sampled_from([TDI_SWAPPED] * 4 + [TDI_SWAPPED | TDI_SLEEPING, TDI_SLEEPING])),
                td_slptick=draw(ints),
            )
            for at in range(draw(st.integers(0, 3)))
        ]
        nice, swtick = draw(st.integers(PRIO_MIN, 20) | ints), draw(uints)
        p_state = draw(st.sampled_from([Prs.NORMAL] * 5 + [Prs.NEW]))
        made.append(Proc(pid, "p", 0, p_state=p_state, p_flag=state, p_swtick=swtick, p_nice=nice, p_threads=threads))
    for seq, p in enumerate(reversed(made), 1):
        p.p_seq = seq
    return made


@settings(max_examples=150, deadline=None)
@given(procs(), INTS, HZ)
def test_any_values_are_ranked_as_the_loop_ranks_them(allproc, ticks, hz):
    assert Candidates(allproc).choose(ticks, hz) == ranking(allproc, ticks, hz)


@settings(max_examples=100, deadline=None)
@given(procs(st.sampled_from([0, 1000, 2000]), st.just(0)), st.randoms(use_true_random=False))
def test_equals_are_chosen_by_their_place_in_the_list_however_the_rows_came(allproc, random):
    candidates, shuffled = Candidates(), list(allproc)
    random.shuffle(shuffled)
    for p in shuffled + random.sample(allproc, len(allproc) // 2):
        candidates.update_all(p)
    for p in random.sample(allproc, len(allproc) // 2):
        p.p_flag ^= P_INMEM
        candidates.update_all(p)
    assert candidates.choose(5000, 1000) == ranking(allproc, 5000, 1000)


def test_many_threads_of_one_process_are_one_loser():
    wide = Proc(100, "wide", 1, p_state=Prs.NORMAL, p_flag=0)
    slept = {"td_inhibitors": TDI_SWAPPED}
    wide.p_threads = [Thread(at, 100, td_slptick=-at, **slept) for at in range(500)]
    narrow = [
        Proc(pid, "p", pid, p_state=Prs.NORMAL, p_flag=0, p_threads=[Thread(pid * 1000, pid, **slept)])
        for pid in range(101, 104)
    ]
    allproc = [*reversed(narrow), wide]
    assert Candidates(allproc).choose(1000, 1) == [(100, 2499), (103, 2000), (102, 2000), (101, 2000)]


def test_the_least_priority_is_never_chosen():
    p = Proc(100, "p", 1, p_state=Prs.NORMAL, p_flag=0, p_nice=2**28)
    p.p_threads = [Thread(1, 100, td_inhibitors=TDI_SWAPPED)]
    assert Candidates([p]).choose(0, 1000) == []
    p.p_nice -= 1
    assert Candidates([p]).choose(0, 1000) == [(100, INT_MIN + 8)]


@given(st.integers(0, INT_MAX), INTS)
def test_a_pid_and_a_priority_fit_in_an_integer_of_an_event(pid, priority):
    value = packed(pid, priority)
    assert -(2**63) <= value < 2**63
    assert value != -1
    assert unpacked(value) == (pid, priority)


def waiting(*tids):
    """A scheduler with a process that is out, all of whose threads wait to come in."""
    m = machine(bare=True, start_ticks=100_000)
    space = m.physmem.vmspace_alloc(0, 0).vmspace
    threads = [ThreadState(tid, int(Tds.INHIBITED), TDF_CANSWAP, TDI_SWAPPED) for tid in tids]
    m.core.place([ProcState(101, "p", 1, 0, vmspace=space, threads=threads)], [VmspaceState(space)])
    assert list(m.core.k.candidates.rows()) == list(tids)
    return m


def test_a_thread_that_something_else_keeps_does_not_wait_any_more():
    k = waiting(100_200).core.k
    td_set_inhib(k, k.s.threads[100_200], TDI_SUSPENDED)
    assert k.candidates.rows() == {}
    td_clr_inhib(k, k.s.threads[100_200], TDI_SUSPENDED)
    assert list(k.candidates.rows()) == [100_200]


def test_a_thread_that_is_made_to_run_does_not_wait_any_more():
    m = waiting(100_200, 100_201)
    m.core.vm_forkproc(100_200, 0, 0, 0, 0, 0)
    assert list(m.core.k.candidates.rows()) == [100_201]


def test_a_thread_in_memory_of_a_process_that_is_out_is_seen_as_it_is_woken():
    k = waiting(100_200).core.k
    td = k.s.threads[100_200]
    td.td_slptick, td.td_flags = 7, TDF_CANSWAP | TDF_INMEM
    k.candidates.update(k.proc(101), td)
    assert setrunnable(k, td) is False
    assert k.candidates.rows() == {100_200: row_of(k.proc(101), td)}
    assert td.td_slptick == 0


STATES = st.sampled_from([P_INMEM, 0, 0, P_SWAPPINGIN, P_SWAPPINGOUT])
CHANGES = {
    ChangeField.P_STATE: st.sampled_from([int(Prs.NEW), int(Prs.NORMAL)]),
    ChangeField.P_FLAG: STATES,
    ChangeField.P_SWTICK: st.integers(0, 90_000),
    ChangeField.P_NICE: st.integers(PRIO_MIN, 20),
    ChangeField.TD_FLAGS: st.sampled_from([TDF_CANSWAP, TDF_CANSWAP | TDF_INMEM, TDF_SWAPINREQ]),
    ChangeField.TD_INHIBITORS: st.sampled_from([TDI_SWAPPED, TDI_SLEEPING | TDI_SWAPPED, TDI_SUSPENDED, TDI_SLEEPING]),
    ChangeField.TD_SLPTICK: st.integers(-90_000, 90_000),
}
THREAD_FIELDS = (ChangeField.TD_FLAGS, ChangeField.TD_INHIBITORS, ChangeField.TD_SLPTICK)


class Swapping(RuleBasedStateMachine):
    """Everything that changes what the swapper's choice reads, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.m = machine(bare=True, start_ticks=100_000)
        self.k = self.m.core.k
        self.pids: list[int] = []

    @initialize()
    def begin(self):
        for _ in range(3):
            self._place(1, P_INMEM)

    @rule(threads=st.integers(1, 3), state=STATES)
    def place(self, threads, state):
        if len(self.pids) < 8:
            self._place(threads, state)

    def _place(self, threads: int, state: int) -> None:
        pid, vmspace = 101 + len(self.pids), self.m.physmem.vmspace_alloc(0, 0).vmspace
        flags, inhibitors = (TDF_CANSWAP | TDF_INMEM, TDI_SLEEPING) if state else (TDF_CANSWAP, TDI_SWAPPED)
        made = [
            ThreadState(200_000 + pid * 10 + at, int(Tds.INHIBITED), flags, inhibitors, slptick=at)
            for at in range(threads)
        ]
        for td in made:
            if not state:
                self.m.kstack.saved[td.tid] = bytes(80)
        self.m.core.place(
            [ProcState(pid, "p", int(Prs.NORMAL), state, vmspace=vmspace, threads=made)], [VmspaceState(vmspace)]
        )
        self.pids.append(pid)

    @rule(data=st.data(), field=st.sampled_from(sorted(CHANGES)))
    def change(self, data, field):
        pid = data.draw(st.sampled_from(self.pids))
        p = self.k.s.allproc[pid]
        subject = data.draw(st.sampled_from(p.p_threads)).td_tid if field in THREAD_FIELDS else pid
        self.m.core.change([Change(field, subject, data.draw(CHANGES[field]))])

    @rule(ticks=st.integers(0, 30_000))
    def advance(self, ticks):
        self.m.core.change([Change(ChangeField.TICKS, 0, ticks)])

    @rule(data=st.data())
    def wake(self, data):
        p = self.k.s.allproc[data.draw(st.sampled_from(self.pids))]
        td = data.draw(st.sampled_from(p.p_threads))
        if p.p_state is not Prs.ZOMBIE and td.td_state is not Tds.INACTIVE:
            self.m.core.wake_thread(td.td_tid)

    @rule()
    def swapper_chooses(self):
        wanted = ranking([*reversed(self.k.s.allproc.values())], self.k.ticks, self.k.hz)
        assert self.k.candidates.choose(self.k.ticks, self.k.hz) == wanted

    @invariant()
    def the_rows_are_the_fields(self):
        assert [found for found in check_state(self.k)[0] if "swapper sees" in found or "allproc" in found] == []


class SwappingOut(Swapping):
    """The same with the functions of vm_glue.c among it."""

    @rule(action=st.integers(1, 3))
    def swapout_procs(self, action):
        self.m.kstack.saved.clear()
        self.m.core.swapout_procs(action)

    @rule(data=st.data())
    def faultin(self, data):
        self._save()
        self.m.core.faultin([data.draw(st.sampled_from(self.pids))], [], 1)

    @rule()
    def swapper(self):
        self._save()
        self.m.core.swapper([], 1, 1)

    def _save(self) -> None:
        """Every thread's registers are on its stack, however it came to be out."""
        self.m.kstack.saved = {td.td_tid: td.td_pcb for td in self.k.s.threads.values()}


Swapping.TestCase.settings = SwappingOut.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
TestSwapping = Swapping.TestCase
TestSwappingOut = SwappingOut.TestCase


def test_a_choice_is_told_with_the_eight_next():
    m = machine(bare=True, start_ticks=100_000)
    made = [
        ProcState(
            101 + at, "p", 1, 0, swtick=0, nice=at, threads=[ThreadState(100_200 + at, 1, TDF_CANSWAP, TDI_SWAPPED)]
        )
        for at in range(11)
    ]
    m.core.place(made, [])
    k = m.core.k
    for td in k.s.threads.values():
        m.kstack.saved[td.td_tid] = td.td_pcb
    m.core.swapper([], 1, 1)
    _, records = m.ctx.log.since(0, 1000)
    events = [event for event in unpack(records) if event.kind in (Kind.SWAPPER_PICK, Kind.SWAPPER_LOSERS)]
    pick, first, second = events[:3]
    assert told(Kind.SWAPPER_PICK, pick) == "pid=101 priority=200 considered=11 losers=8"
    assert [told(Kind.SWAPPER_LOSERS, event) for event in (first, second)] == [
        "pid=101 " + " ".join(f"{PACKED}={101 + at}:{200 - 8 * at}" for at in range(1, 5)),
        "pid=101 " + " ".join(f"{PACKED}={101 + at}:{200 - 8 * at}" for at in range(5, 9)),
    ]
    assert told(Kind.SWAPPER_LOSERS, events[-2]) == "pid=110 pid:priority=111:120"
    assert told(Kind.SWAPPER_PICK, events[-1]) == "pid=111 priority=120 considered=1 losers=0"
