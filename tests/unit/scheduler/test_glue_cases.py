"""The scheduler's vm_glue functions answer as the C code does: public cases, and random states against the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from glue_cases import Glue, play, then_of
from hypothesis import given, settings
from hypothesis import strategies as st
from naive.swapping import Swapping
from naive.words import play as play_naive

CASES = Path(__file__).parents[2] / "conformance"
OF_THE_STACKS = {"A-0050", "B-0039"}
"""Cases that end in a panic of the stack service."""


def cases(family):
    read = [json.loads(line) for line in (CASES / f"{family}.jsonl").read_text().splitlines()]
    return [case for case in read if case["id"] not in OF_THE_STACKS]


@pytest.mark.parametrize("scripted", [False, True], ids=["resumes the scan", "restarts the scan"])
@pytest.mark.parametrize("family", ["A_swapout_procs", "B_swapper_faultin", "G_fork_and_wait"])
def test_answers_as_the_c_code(family, scripted):
    wrong = []
    for case in cases(family):
        got, wanted = play(Glue(case["given"], scripted), case["when"]), then_of(case["then"])
        if got != wanted:
            wrong.append((case["id"], got, wanted))
    assert wrong == []


SECONDS = st.sampled_from([0, 1, 2, 3, 9, 10, 11, 12, 40, -3])
HZ = st.sampled_from([1000, 100, 128])


def subset(names):
    return st.lists(st.sampled_from(names), unique=True)


@st.composite
def processes(draw, ticks, hz, swapped):
    entries = []
    for at in range(draw(st.integers(1, 7))):
        out = swapped and draw(st.booleans())
        flags = [] if out else ["INMEM"]
        flags += draw(st.lists(st.sampled_from(["SYSTEM", "TRACED", "WEXIT", "SWAPPINGIN", "SWAPPINGOUT"]), max_size=1))
        threads = []
        for n in range(draw(st.integers(1, 3))):
            inhibitors = ["SWAPPED"] if out else ["SLEEPING"]
            inhibitors += draw(st.lists(st.sampled_from(["SLEEPING", "SUSPENDED", "LOCK"]), max_size=1))
            thread = {
                "name": f"t{at}.{n}",
                "state": "INHIBITED",
                "inhibitors": sorted(set(inhibitors)),
                "flags": draw(subset(["CANSWAP", "SWAPINREQ"])) if out else ["CANSWAP", "INMEM"],
                "pri_class": draw(st.sampled_from(["TIMESHARE"] * 5 + ["IDLE", "REALTIME", "FIFO", "ITHD"])),
                "slptick": _wrapped(ticks - draw(SECONDS) * hz - draw(st.integers(0, 1)) * (hz - 1)),
            }
            if not out and draw(st.integers(0, 4)) == 0:
                thread["safe_answers"] = draw(st.lists(st.booleans(), max_size=4))
            threads.append(thread)
        entries.append(
            {
                "name": f"p{at}",
                "state": draw(st.sampled_from(["NORMAL"] * 6 + ["NEW"])),
                "flags": flags,
                "lock_count": draw(st.sampled_from([0, 0, 0, 1])),
                "swtick": _wrapped(ticks - draw(SECONDS) * hz),
                "nice": draw(st.sampled_from([0, 0, -2, 5, 20])),
                "threads": threads,
            }
        )
    return entries


def _wrapped(value):
    return (value + 2**31) % 2**32 - 2**31


@st.composite
def situations(draw):
    ticks, hz = draw(st.sampled_from([1_000_000, 0, 2**31 - 5, -(2**31) + 700])), draw(HZ)
    listed = draw(processes(ticks, hz, swapped=True))
    names = [entry["name"] for entry in listed]
    spaces = {
        f"vm-{name}": {
            "resident": draw(st.integers(0, 9)),
            "map_trylock": draw(st.lists(st.booleans(), max_size=2)),
            "refcnt": draw(st.sampled_from([1, 1, 2, 0])),
        }
        for name in draw(subset(names))
    }
    situation = {
        "clock": {"ticks": ticks, "hz": hz},
        "tunables": {
            "swap_idle_threshold1": draw(st.integers(-1, 4)),
            "swap_idle_threshold2": draw(st.integers(8, 12)),
        },
        "processes": listed,
        "vmspaces": spaces,
        "page_count_min": draw(st.lists(st.booleans(), max_size=3)),
    }
    threads = [thread["name"] for entry in listed for thread in entry["threads"]]
    call = st.one_of(
        st.builds(lambda action: {"call": "swapout_procs", "action": action}, subset(["NORMAL", "IDLE"])),
        st.just({"call": "swapper"}),
        st.builds(lambda name: {"call": "faultin", "proc": name}, st.sampled_from(names)),
        st.builds(lambda name: {"call": "wake_thread", "thread": name}, st.sampled_from(threads)),
        st.builds(lambda n: {"call": "advance", "ticks": n * hz}, st.integers(1, 12)),
    )
    return situation, draw(st.lists(call, min_size=1, max_size=6))


@settings(max_examples=150, deadline=None)
@given(situations())
def test_random_states_answer_as_the_model(situation):
    given_state, when = situation
    wanted = then_of(play_naive(Swapping(given_state), when))
    assert play(Glue(given_state), when) == wanted


def test_a_hold_count_below_zero_keeps_a_process_in():
    flags = ["CANSWAP", "INMEM"]
    thread = {"name": "t", "state": "INHIBITED", "inhibitors": ["SLEEPING"], "flags": flags, "slptick": 0}
    held = {"name": "p", "state": "NORMAL", "flags": ["INMEM"], "lock_count": -1, "threads": [thread]}
    situation = {"clock": {"ticks": 100_000, "hz": 1000}, "processes": [held], "vmspaces": {"vm-p": {"resident": 1}}}
    when = [{"call": "swapout_procs", "action": ["NORMAL"]}]
    got = play(Glue(situation), when)
    assert got == then_of(play_naive(Swapping(situation), when))
    assert got["final"]["processes"]["p"]["lock_count"] == -1
