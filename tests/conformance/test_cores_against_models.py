"""Random cases: the cores answer as the naive models do, in both wirings."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from naive import answer

from clients.conform.cases import read_case
from clients.conform.compare import mismatches
from clients.conform.runner import play

RANDOM = settings(max_examples=40, deadline=None)
PAGE = 4096
KERNEL = 0xFFFFFE0000000000


def assert_agree(system, family: str, given_: dict, when: list[dict]) -> None:
    """The kernel plays the case as its model answers it."""
    case = {"id": "random", "family": family, "given": given_, "when": when}
    read = read_case({**case, "then": answer(case)})
    assert mismatches(read, *play(system.kernel, read)) == []


@st.composite
def maps(draw, base: int, wired: bool):
    """A map of a few entries within 32 pages from `base` on, which may end in the middle of them."""
    cuts = sorted(draw(st.sets(st.integers(0, 32), min_size=2, max_size=9)))
    entries = []
    for start, end in pairwise(cuts):
        if draw(st.booleans()) or not entries:
            entry = {"start": hex(base + start * PAGE), "end": hex(base + end * PAGE)}
            entry["prot"] = draw(st.sampled_from(["rw", "r", "rwx", "rx", "w", "x", "-"]))
            kind = draw(st.sampled_from(["plain", "plain", "wired", "unfaultable"])) if wired else "plain"
            entry |= {"plain": {}, "wired": {"wired": draw(st.integers(1, 2))}, "unfaultable": {"unfaultable": True}}[
                kind
            ]
            entries.append(entry)
    bounds = {"max": hex(base + draw(st.integers(1, 40)) * PAGE)} if draw(st.booleans()) else {}
    return {**bounds, "entries": entries}


def addresses(base: int):
    """Addresses about the pages of a map, and about the ends of the address space."""
    near = st.builds(lambda page, byte: base + page * PAGE + byte, st.integers(0, 34), st.sampled_from([0, 0, 1, 4095]))
    return near | st.sampled_from([0, 1, (1 << 64) - 1, (1 << 64) - PAGE, (1 << 63)])


def checks(call: str, base: int):
    lengths = st.integers(-3 * PAGE, 9 * PAGE) | st.sampled_from([0, 1, 2147483647, -2147483648])
    prots = st.sampled_from(["-", "r", "w", "x", "rw", "rwx"])
    return st.builds(
        lambda addr, length, prot: {"call": call, "addr": hex(addr), "len": length, "prot": prot},
        addresses(base),
        lengths,
        prots,
    )


def ranges(call: str, base: int):
    lengths = st.integers(0, 9 * PAGE) | st.sampled_from([0, 1, (1 << 64) - 1, (1 << 64) - PAGE])
    return st.builds(
        lambda addr, length: {"call": call, "addr": hex(addr), "len": hex(length)}, addresses(base), lengths
    )


@RANDOM
@given(maps(KERNEL, wired=False), st.lists(checks("kernacc", KERNEL), max_size=12))
def test_kernacc(system, kernel_map, when):
    assert_agree(system, "D_access_and_wiring", {"kernel_map": kernel_map}, when)


@RANDOM
@given(
    maps(0, wired=True) | maps(0x400000, wired=True),
    st.integers(-1, 12),
    st.lists(
        ranges("vslock", 0)
        | ranges("vsunlock", 0)
        | ranges("vslock", 0x400000)
        | ranges("vsunlock", 0x400000)
        | checks("useracc", 0x400000),
        max_size=14,
    ),
)
def test_wiring(system, user_map, limit, when):
    given_ = {"user_map": user_map, "tunables": {"vm_page_max_wired": limit}}
    assert_agree(system, "D_access_and_wiring", given_, when)


@st.composite
def stack_calls(draw):
    """Threads come, go and come back; sizes around the default and the limits."""
    threads: dict[str, bool] = {f"t{number}": False for number in range(1, 6)}
    calls = []
    for _ in range(draw(st.integers(1, 24))):
        kind = draw(st.sampled_from(["thread", "thread", "thread", "thread", "lowmem", "size"]))
        if kind == "thread":
            thread = draw(st.sampled_from(sorted(threads)))
            pages = draw(st.sampled_from([0, 0, 0, 1, -5, 2, 3, 4, 5, 32, 33, 2147483647]))
            new = {"call": "vm_thread_new", "thread": thread, "pages": pages}
            calls.append({"call": "vm_thread_dispose", "thread": thread} if threads[thread] else new)
            threads[thread] = not threads[thread]
        elif kind == "lowmem":
            calls.append({"call": "lowmem"})
        else:
            value = draw(st.sampled_from([-1, 0, 1, 2, 3, 128]))
            calls.append({"call": "set_tunable", "name": "kstack_cache_size", "value": value})
    return calls


@RANDOM
@given(
    st.fixed_dictionaries({"kstack_pages": st.sampled_from([1, 2, 4]), "kstack_guard_pages": st.integers(0, 2)}),
    st.sampled_from([-1, 0, 1, 2, 3, 128]),
    stack_calls(),
)
def test_stack_cache(system, build, cache_size, when):
    given_ = {"build": build, "tunables": {"kstack_cache_size": cache_size}}
    assert_agree(system, "C_kernel_stacks", given_, when)


@RANDOM
@given(
    st.lists(
        st.builds(
            lambda thread, user, depth, race: {
                "call": "intr_prof_stack_use",
                "thread": thread,
                "from_user": user,
                "sp": hex(KERNEL + depth),
                "race": race,
            },
            st.sampled_from(["t1", "t2"]),
            st.sampled_from([False, False, False, True]),
            st.integers(0, 40 * PAGE),
            st.lists(st.integers(0, 40 * PAGE), max_size=3),
        ),
        max_size=10,
    )
)
def test_stack_usage(system, when):
    threads = {"t1": {"base": hex(KERNEL + PAGE), "pages": 4}, "t2": {"base": hex(KERNEL + 8 * PAGE), "pages": 32}}
    assert_agree(system, "H_stack_usage", {"threads": threads}, when)
