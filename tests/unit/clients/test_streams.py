"""Streams: where a process stands in its trace, and the kernel entries that it makes."""

import numpy as np

from clients import trace as fmt
from clients.streams import Stream, references
from clients.trace import File, Header, Image, Op, Region, TaskInfo, TaskTrace, Totals, Trace
from services.ports.scheduler import TrapOp

PROGRAM = (Region(1, 2, 5, "image", 0, 3), Region(8, 1, 3, "brk"))
OTHER = (Region(4, 1, 5, "image", 1, 0),)


def make(ops, records=6, repeats=0):
    runs = np.array([fmt.pack_run(1, fmt.KIND_EXEC, 2, 2)] * records, np.uint64)
    infos = (
        TaskInfo(0, -1, "prog", PROGRAM, (Image("other", OTHER),)),
        TaskInfo(1, 0, "child", ()),
    )
    tasks = (
        TaskTrace(infos[0], runs, np.array(ops, fmt.OP_DTYPE)),
        TaskTrace(infos[1], runs[:1], np.array([(1, Op.BRK, 11, 0, 0, 0)], fmt.OP_DTYPE)),
    )
    header = Header(("prog",), "", False, infos, (File(0, "prog", 4), File(1, "lib", 9)), Totals(0, 0, 0, 0))
    trace = Trace(header, tasks)
    return Stream(trace, tasks[0], repeats_left=repeats)


def play(stream):
    """Run to the exit: (records executed so far, trap) at every operation."""
    stream.regions()
    out, done = [], 0
    while not out or out[-1][1].op is not TrapOp.EXIT:
        while not stream.at_operation():
            done += len(stream.batch())
            stream.advance(len(stream.batch()))
        out.append((done, stream.trap()))
    return out


def test_operations_come_behind_their_records():
    traps = play(make([(0, Op.MUNMAP, 7, 1, 0, 0), (2, Op.SLEEP, 100, 230, 4096, 0), (6, Op.EXIT, 256, 0, 0, 0)]))
    assert [(done, trap.op, trap.a) for done, trap in traps] == [
        (0, TrapOp.MUNMAP, 7),
        (2, TrapOp.SLEEP, 100),
        (6, TrapOp.EXIT, 256),
    ]
    assert (traps[1][1].b, traps[1][1].c) == (230, 4096)


def test_a_trace_without_an_exit_ends_with_one():
    assert [(done, trap.op, trap.a) for done, trap in play(make([]))] == [(6, TrapOp.EXIT, 0)]


def test_repetition_runs_the_first_image_again():
    traps = play(make([(3, Op.EXEC, 0, 0, 0, 0), (6, Op.EXIT, 0, 0, 0, 0)], repeats=1))
    assert [(done, trap.op, trap.name) for done, trap in traps] == [
        (3, TrapOp.EXEC, "other"),
        (6, TrapOp.EXEC, "prog"),
        (9, TrapOp.EXEC, "other"),
        (12, TrapOp.EXIT, ""),
    ]
    assert [(r.start_vpn, r.npages, r.file) for r in traps[1][1].regions] == [(1, 2, "prog"), (8, 1, "")]


def test_an_images_regions_carry_their_files():
    code, heap = make([]).regions()
    assert (code.file, code.offset_pages, code.file_pages, code.prot) == ("prog", 3, 5, 5)
    assert (heap.file, heap.file_pages, heap.prot) == ("", 0, 3)


def test_mappings_carry_file_and_sharing():
    anonymous = (0, Op.MMAP, 20, 2, 3 | fmt.MAP_ANON | fmt.MAP_PRIVATE, 0)
    shared = (0, Op.MMAP, 30, 2, 1 | fmt.MAP_FILE | fmt.MAP_SHARED, 1 << 32 | 8)
    traps = play(make([anonymous, shared]))
    (first,), (second,) = traps[0][1].regions, traps[1][1].regions
    assert (first.start_vpn, first.npages, first.prot, first.file, first.shared) == (20, 2, 3, "", False)
    assert (second.file, second.offset_pages, second.file_pages, second.shared) == ("lib", 8, 10, True)


def test_the_heap_hands_over_what_it_grew():
    traps = play(make([(0, Op.BRK, 12, 0, 0, 0), (0, Op.BRK, 10, 0, 0, 0), (0, Op.BRK, 13, 0, 0, 0)]))
    grown = [[(r.start_vpn, r.npages) for r in trap.regions] for _, trap in traps]
    assert grown == [[(9, 3)], [], [(10, 3)], []]


def test_a_child_inherits_the_heap_and_is_waited_for_by_its_cookie():
    stream = make(
        [(0, Op.BRK, 10, 0, 0, 0), (0, Op.FORK, 1, 0, 0, 0), (0, Op.WAIT, 1, 0, 0, 0), (0, Op.WAIT, -1, 0, 0, 0)]
    )
    stream.regions()
    stream.trap()
    fork = stream.trap()
    child = stream.child(fork.a)
    stream.children[fork.a] = 42
    assert (stream.trap().a, stream.trap().a) == (42, -1)
    child.advance(1)
    assert [(r.start_vpn, r.npages) for r in child.trap().regions] == [(10, 1)]


def test_a_batch_goes_to_the_next_operation():
    stream = make([(3, Op.SLEEP, 1, 230, 0, 0)], records=7)
    assert len(stream.batch()) == 3
    stream.advance(2)
    assert (len(stream.batch()), stream.at_operation()) == (1, False)
    stream.advance(1)
    assert (len(stream.batch()), stream.at_operation()) == (0, True)
    stream.trap()
    assert (len(stream.batch()), stream.record) == (4, 3)


def test_kernel_time_is_no_reference():
    runs = np.array(
        [fmt.pack_run(1, fmt.KIND_LOAD, 5, 0), fmt.pack_run(0, 0, 3, 9), fmt.pack_run(2, 4, 7, 7)], np.uint64
    )
    assert references(runs) == 12
