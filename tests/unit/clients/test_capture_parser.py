"""The compiled parser of lackey's text against a plain one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.capture.parser import NEED_TEXT, OTHER_LINE, OUTPUT_FULL, flush_run, new_state, parse
from clients.trace import COUNT_MAX, KIND_EXEC, KIND_LOAD, KIND_STORE, pack_run

KINDS = {"I ": KIND_EXEC, " L": KIND_LOAD, " S": KIND_STORE, " M": KIND_LOAD | KIND_STORE}


def line(kind, address, size):
    return f"{kind} {address:08x},{size}\n"


def naive(accesses):
    """Collapse accesses one by one, as the format's description says."""
    records = []
    for kind, address, size in accesses:
        instrs = int(kind == "I ")
        touched = [(address >> 12, 1, instrs)]
        if (address + size - 1) >> 12 != address >> 12:
            touched.append(((address + size - 1) >> 12, 0, 0))
        for vpn, refs, instructions in touched:
            last = records[-1] if records else None
            if last and last[0] == vpn and last[2] + refs <= COUNT_MAX and last[3] + instructions <= COUNT_MAX:
                records[-1] = [vpn, last[1] | KINDS[kind], last[2] + refs, last[3] + instructions]
            else:
                records.append([vpn, KINDS[kind], refs, instructions])
    return [pack_run(*record) for record in records]


def collapse(text, pieces=(), room=1 << 14):
    """Feed a text in pieces, each from where the parser stopped in the one before."""
    state, out, n = new_state(), np.zeros(room, np.uint64), 0
    records, carry, done = [], b"", 0
    for end in [*pieces, len(text)]:
        piece = carry + text[done:end]
        done, pos, why = end, 0, OUTPUT_FULL
        while why == OUTPUT_FULL:
            pos, n, why = parse(np.frombuffer(piece, np.uint8), pos, state, out, n)
            if why == OUTPUT_FULL:
                records += out[:n].tolist()
                n = 0
        assert why == NEED_TEXT
        carry = piece[pos:]
    assert carry == b""
    return records + out[: flush_run(state, out, n)].tolist(), state


ACCESSES = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 5).map(lambda p: (p << 12) + 0xFFC), st.integers(1, 16)),
    max_size=200,
)


@settings(max_examples=60, deadline=None)
@given(ACCESSES, st.lists(st.integers(0, 3000), max_size=4))
def test_accesses_collapse_to_runs_wherever_the_text_is_cut(accesses, cuts):
    text = "".join(line(*a) for a in accesses).encode()
    records, state = collapse(text, sorted(min(cut, len(text)) for cut in cuts), room=40)
    assert records == naive(accesses)
    assert state[4] == len(accesses)
    assert state[5] == sum(kind == "I " for kind, _, _ in accesses)


def test_a_full_record_is_followed_by_another_of_the_page():
    accesses = [("I ", 0x1000, 4)] * (COUNT_MAX + 2)
    records, _ = collapse("".join(line(*a) for a in accesses).encode())
    assert records == [pack_run(1, KIND_EXEC, COUNT_MAX, COUNT_MAX), pack_run(1, KIND_EXEC, 2, 2)]


def test_another_line_is_left_to_the_caller():
    text = b"I  00001000,4\nSYSCALL[1,1]( 39) sys_getpid ()\n"
    pos, n, why = parse(np.frombuffer(text, np.uint8), 0, new_state(), np.zeros(16, np.uint64), 0)
    assert (text[pos : pos + 7], n, why) == (b"SYSCALL", 0, OTHER_LINE)
