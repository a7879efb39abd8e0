"""Threads of a recorded process: seen in the recorder's text, split into tasks that take turns."""

import numpy as np

from clients.capture.decode import Stream
from clients.capture.layout import FileTable
from clients.capture.threads import split_threads
from clients.trace import KIND_LOAD, MAP_ANON, MAP_PRIVATE, OP_DTYPE, Op, Region, TaskInfo, TaskTrace, pack_run, run_vpn

TEXT = b"""\
==9== Command: ./pool
--9--   SCHED[1]:  acquired lock (thread_wrapper(starting new thread))
 L 00001000,8
SYSCALL[9,1](56) sys_clone ( 3d0f00, 0x52, 0x52, 0x52, 0x52 ) --> [pre-success] Success(0x1d7) --9--   SCHED[1]: yields
--9--   SCHED[2]:  acquired lock (thread_wrapper(starting new thread))
 L 00002000,8
--9--   SCHED[2]: releasing lock (VG_(client_syscall)[async]) -> VgTs_WaitSys
--9--   SCHED[1]:  acquired lock (VG_(vg_yield))
 L 00003000,8
--9--   SCHED[2]:  acquired lock (VG_(client_syscall)[async])
 L 00004000,8
SYSCALL[9,2](60) exit( 0 ) --> [pre-success] Success(0x0)
--9--   SCHED[1]:  acquired lock (VG_(vg_yield))
 L 00005000,8
--9--   SCHED[2]:  acquired lock (thread_wrapper(starting new thread))
 L 00006000,8
SYSCALL[9,2](231) exit_group( 3 )--9--   SCHED[2]: releasing lock (VG_(vg_yield)) -> VgTs_Yielding
--9--   SCHED[1]:  acquired lock (sigvgkill_handler)
"""


def operations(rows):
    return [(Op(int(row["op"])), int(row["a"])) for row in rows]


def recorded():
    stream = Stream(9, FileTable(), root=True)
    for line in TEXT.splitlines(keepends=True):
        stream.feed(line)
    return TaskTrace(TaskInfo(0, -1, "pool", ()), stream.runs(), np.array(stream.ops, OP_DTYPE))


def test_the_recorder_tells_which_thread_runs():
    turns = [(op, a) for op, a in operations(recorded().ops) if op in (Op.THR_TURN, Op.THR_EXIT, Op.EXIT)]
    thread = Op.THR_TURN
    assert turns == [(thread, 1), (thread, 0), (thread, 1), (Op.THR_EXIT, 0), (thread, 0), (thread, 2), (Op.EXIT, 768)]


def test_each_thread_is_a_task_and_hands_its_turn_on():
    main, first, second = split_threads(recorded(), 5)
    assert [task.info.index for task in (main, first, second)] == [0, 5, 6]
    assert operations(main.ops) == [
        (Op.THR_NEW, 5), (Op.THR_TURN, 0), (Op.THR_TURN, 5), (Op.THR_NEW, 6), (Op.THR_TURN, 0), (Op.THR_EXIT, 0),
    ]  # fmt: skip
    assert operations(first.ops) == [(Op.THR_TURN, 0), (Op.THR_EXIT, 0)]
    assert operations(second.ops) == [(Op.EXIT, 768)]
    visited = [[int(vpn) for vpn in run_vpn(task.runs) if vpn] for task in (main, first, second)]
    assert visited == [[1, 3, 5], [2, 4], [6]]
    assert [int(row["b"]) for row in main.ops if row["op"] == Op.THR_NEW] == [1, 1]


def test_a_process_of_one_thread_stays_as_it_is():
    runs = np.array([pack_run(1, KIND_LOAD, 1, 1)], np.uint64)
    task = TaskTrace(TaskInfo(3, 0, "one", ()), runs, np.array([(1, Op.EXIT, 0, 0, 0, 0)], OP_DTYPE))
    assert split_threads(task, 9) == [task]


def test_the_heap_of_several_threads_is_mapped():
    rows = [
        (0, Op.BRK, 110, 0, 0, 0),
        (0, Op.THR_TURN, 1, 0, 0, 0),
        (0, Op.BRK, 130, 0, 0, 0),
        (0, Op.THR_TURN, 0, 0, 0, 0),
        (0, Op.BRK, 120, 0, 0, 0),
        (0, Op.EXIT, 0, 0, 0, 0),
    ]
    info = TaskInfo(0, -1, "heap", (Region(100, 1, 3, "brk"),))
    main, thread = split_threads(TaskTrace(info, np.empty(0, np.uint64), np.array(rows, OP_DTYPE)), 1)
    assert operations(main.ops)[0] == (Op.BRK, 110)
    assert [tuple(row)[1:] for row in main.ops[3:4]] == [(Op.MUNMAP, 120, 10, 0, 0)]
    assert [tuple(row)[1:] for row in thread.ops[:1]] == [(Op.MMAP, 110, 20, 3 | MAP_ANON | MAP_PRIVATE, 0)]
