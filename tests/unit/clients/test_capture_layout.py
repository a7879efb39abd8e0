"""Layouts: what is the program's and what is valgrind's, and that every reference ends up mapped."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.capture.layout import Coverage, FileTable, parse_maps, with_heap_and_stack
from clients.trace import KIND_EXEC, KIND_LOAD, KIND_STORE, MAP_OTHER, Op, Region, pack_run

MAPS = """\
00108000-00109000 r--p 00000000 00:1b 1   /usr/bin/prog
00109000-0010b000 r-xp 00001000 00:1b 1   /usr/bin/prog
0012b000-0012d000 rw-p 00022000 00:1b 1   /usr/bin/prog
04000000-04001000 r--p 00000000 00:1b 2   /usr/lib/ld-linux-x86-64.so.2
04035000-04036000 rwxp 00000000 00:00 0
58000000-581dd000 r-xp 00001000 00:1b 3   /usr/libexec/valgrind/lackey-amd64-linux
581dd000-58200000 rwxp 00000000 00:00 0
1002001000-1002f7f000 rwxp 00000000 00:00 0
1ffeffd000-1fff001000 rw-p 00000000 00:00 0
7ffc3d1c5000-7ffc3d1e6000 rw-p 00000000 00:00 0   [stack]
"""


def test_the_programs_own_regions_are_kept():
    files = FileTable()
    regions = parse_maps(MAPS, files)
    assert [(r.start_vpn, r.npages, r.prot, r.kind, r.file, r.offset_pages) for r in regions] == [
        (0x108, 1, 1, "image", 0, 0),
        (0x109, 2, 5, "image", 0, 1),
        (0x12B, 2, 3, "image", 0, 0x22),
        (0x4000, 1, 1, "image", 1, 0),
        (0x4035, 1, 7, "anon", -1, 0),
        (0x1FFEFFD, 4, 3, "stack", -1, 0),
    ]
    assert [f.name for f in files.files] == ["prog", "ld-linux-x86-64.so.2"]


def test_heap_and_stack_are_completed_and_the_programs_own_mappings_left_out():
    regions = parse_maps(MAPS, FileTable())
    layout = with_heap_and_stack(regions, 0x4035, 0x1FFEFF0, [(0x4000, 2)])
    assert [(r.start_vpn, r.npages, r.kind) for r in layout] == [
        (0x108, 1, "image"),
        (0x109, 2, "image"),
        (0x12B, 2, "image"),
        (0x4035, 1, "brk"),
        (0x1FFEFF0, 0x11, "stack"),
    ]


def missing(cover, *touches):
    return cover.missing(np.array([pack_run(vpn, kinds, 1, 0) for vpn, kinds in touches], np.uint64))


def test_references_outside_every_region_get_one():
    cover = Coverage(np.array([1, 2, 3, 9], np.int64))
    cover.exec((Region(1, 1, 1, "image", 0, 0),))
    rows = missing(cover, (1, KIND_LOAD), (2, KIND_LOAD), (3, KIND_STORE), (9, KIND_EXEC))
    assert [(op, a, b, c & 7) for op, a, b, c, _ in rows] == [(Op.MMAP, 2, 2, 3), (Op.MMAP, 9, 1, 7)]
    assert all(c & MAP_OTHER for _, _, _, c, _ in rows)
    assert missing(cover, (2, KIND_STORE), (9, KIND_LOAD)) == []


def test_a_reference_that_a_region_forbids_changes_its_protection():
    cover = Coverage(np.array([1, 2], np.int64))
    cover.exec((Region(1, 2, 1, "image", 0, 0),))
    assert missing(cover, (1, KIND_STORE)) == [(Op.MPROTECT, 1, 1, 3, 0)]
    assert missing(cover, (1, KIND_STORE)) == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(Op.MMAP), st.integers(0, 9), st.integers(1, 4), st.sampled_from([1, 3, 5])),
        st.tuples(st.just(Op.MUNMAP), st.integers(0, 9), st.integers(1, 4), st.just(0)),
        st.tuples(st.just(Op.MPROTECT), st.integers(0, 9), st.integers(1, 4), st.sampled_from([0, 1, 3])),
        st.tuples(st.just("touch"), st.integers(0, 9), st.sampled_from([1, 2, 3, 4]), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_with_the_added_rows_every_reference_is_allowed(steps):
    cover, prots = Coverage(np.arange(10, dtype=np.int64)), {}

    def apply(op, a, b, c):
        for vpn in range(a, a + b):
            if op == Op.MUNMAP:
                prots.pop(vpn, None)
            elif op == Op.MMAP or vpn in prots:
                prots[vpn] = c & 7

    for op, a, b, c in steps:
        if op == "touch":
            for row in missing(cover, (a, b)):
                apply(*row[:4])
            assert prots[a] & b == b
        else:
            cover.apply(op, a, b, c)
            apply(op, a, b, c)
