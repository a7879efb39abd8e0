"""Lackey's text as operations: every kind of system call, in the words that valgrind prints."""

import ctypes
import os
import struct
import time

import pytest

from clients.capture import decode
from clients.capture.decode import BLOCKED_S, SLOWDOWN, Stream
from clients.capture.layout import FileTable
from clients.trace import (
    KIND_LOAD,
    KIND_STORE,
    MAP_ANON,
    MAP_FILE,
    MAP_PRIVATE,
    MAP_SHARED,
    Op,
    run_instrs,
    run_kinds,
    run_refs,
    run_vpn,
)
from services.scheduler.syscalls import lookup

PID = 999_999_999
"""No such process: what capture reads from /proc is missing."""
BANNER = f"=={PID}== Command: "


class Clock:
    """The time at which lines arrive."""

    def __init__(self):
        self.now_s = 0.0

    def monotonic(self):
        return self.now_s

    clock_gettime_ns = staticmethod(time.clock_gettime_ns)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(decode, "time", clock)
    return clock


@pytest.fixture
def stream():
    started = Stream(PID, FileTable(), root=True)
    started.feed(f"{BANNER}/bin/prog x\n".encode())
    return started


def call(number, rest, tid=1):
    return f"SYSCALL[{PID},{tid}]({number:3}) {rest}\n".encode()


def ops(stream):
    return [(Op(op), a, b, c, d) for _, op, a, b, c, d in stream.ops]


def touched(stream):
    """Pages that the kernel touched: (vpn, kinds)."""
    runs = stream.runs()
    return [(int(v), int(k)) for v, k in zip(run_vpn(runs), run_kinds(runs), strict=True) if k]


def kernel_time(stream):
    """In-kernel records: (system calls, instructions)."""
    runs = stream.runs()
    kernel = runs[run_kinds(runs) == 0]
    return int(run_refs(kernel).sum()), int(run_instrs(kernel).sum())


def test_a_call_without_effect_is_time_in_the_kernel(stream):
    stream.feed(call(39, "sys_getpid ()[sync] --> Success(0x1)"))
    assert kernel_time(stream) == (1, lookup(39).kernel_instructions)
    assert ops(stream) == []


def test_kernel_time_longer_than_a_record_counts_one_call(stream):
    stream.feed(call(257, "sys_openat ( 4294967196, 0x10(/etc/x), 0 )[sync] --> Failure(0x2) "))
    assert lookup(257).kernel_instructions < 4096
    stream.feed(call(83, "sys_mkdir ( 0x10(/tmp/x), 511 )[sync] --> Success(0x0) "))
    assert kernel_time(stream) == (2, lookup(257).kernel_instructions + lookup(83).kernel_instructions)


@pytest.mark.parametrize(
    ("number", "text", "vfork"),
    [
        (56, "sys_clone ( 1200011, 0x0, 0x0, 0x4a27a10, 0x0 )   clone(fork): process 1 created child 77", 0),
        (56, "sys_clone ( 4111, 0x4f4bff0, 0x0, 0x0, 0x0 )   clone(fork): process 1 created child 77", 1),
        (57, "sys_fork ( )   fork: process 1 created child 77", 0),
        (58, "sys_fork ( )   fork: process 1 created child 77", 1),
    ],
)
def test_forks(stream, number, text, vfork):
    stream.feed(call(number, text))
    assert ops(stream) == [(Op.FORK, 77, vfork, 0, 0)]
    assert stream.children == [77]


def test_a_new_thread_is_no_fork(stream):
    stream.feed(
        call(56, "sys_clone ( 3d0f00, 0x5742f70, 0x5743990, 0x5743990, 0x57436c0 ) --> [pre-success] Success(0x9)")
    )
    assert ops(stream) == []
    assert kernel_time(stream)[0] == 1


def test_exec_opens_an_image_and_a_failed_one_does_not(stream):
    stream.feed(call(59, "sys_execve ( 0x1(/bin/no), 0x2, 0x3 ) --> [pre-fail] Failure(0x2) "))
    stream.feed(f"{BANNER}/bin/not-this\n".encode())
    assert [layout.name for layout in stream.layouts] == ["prog"]
    stream.feed(call(59, "sys_execve ( 0x1(/bin/other), 0x2, 0x3 )"))
    stream.feed(f"{BANNER}/bin/other -v\n".encode())
    assert ops(stream) == [(Op.EXEC, 0, 0, 0, 0)]
    assert [layout.name for layout in stream.layouts] == ["prog", "other"]


def test_a_forked_process_has_no_image_until_it_execs():
    child = Stream(PID, FileTable(), root=False)
    child.feed(f"{BANNER}/bin/parent\n".encode())
    assert child.layouts == []
    child.feed(call(59, "sys_execve ( 0x1(/bin/other), 0x2, 0x3 )") + f"{BANNER}/bin/other\n".encode())
    assert ops(child) == [(Op.EXEC, 0, 0, 0, 0)]


def test_mappings(stream):
    stream.feed(
        call(257, "sys_openat ( 4294967196, 0x1(/lib/libx.so), 524288 ) --> [async] ... ")
        + call(257, "... [async] --> Success(0x4) ")
        + call(9, "sys_mmap ( 0x0, 8193, 1, 2050, 4, 4096 ) --> [pre-success] Success(0x4836000) ")
        + call(9, "sys_mmap ( 0x0, 4096, 3, 33, 4294967295, 0 ) --> [pre-success] Success(0x5000000) ")
        + call(9, "sys_mmap ( 0x0, 4096, 3, 34, 4294967295, 0 ) --> [pre-fail] Failure(0xc) ")
        + call(10, "sys_mprotect ( 0x4836000, 4096, 1 )[sync] --> Success(0x0) ")
        + call(11, "sys_munmap ( 0x4836000, 8193 )[sync] --> Success(0x0) ")
    )
    assert ops(stream) == [
        (Op.MMAP, 0x4836, 3, 1 | MAP_FILE | MAP_PRIVATE, 1),
        (Op.MMAP, 0x5000, 1, 3 | MAP_ANON | MAP_SHARED, 0),
        (Op.MPROTECT, 0x4836, 1, 1, 0),
        (Op.MUNMAP, 0x4836, 3, 0, 0),
    ]


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ("20480, 1, 0x0 ) --> [pre-success] Success(0x5000000)", [(Op.MMAP, 0x5004, 1)]),
        ("8192, 1, 0x0 ) --> [pre-success] Success(0x5000000)", [(Op.MUNMAP, 0x5002, 2)]),
        ("20480, 1, 0x0 ) --> [pre-success] Success(0x6000000)", [(Op.MMAP, 0x6000, 5), (Op.MUNMAP, 0x5000, 4)]),
    ],
)
def test_mremap_is_what_it_leaves(stream, new, expected):
    stream.feed(call(25, f"sys_mremap ( 0x5000000, 16384, {new}"))
    assert [row[:3] for row in ops(stream)] == expected


def test_the_heap_grows_and_shrinks(stream):
    for asked in (0, 0x4056000, 0x4077000, 0x4056000):
        result = asked or 0x4035000
        stream.feed(call(12, f"sys_brk ( {asked:#x} ) --> [pre-success] Success({result:#x}) "))
    assert ops(stream) == [(Op.BRK, vpn, 0, 0, 0) for vpn in (0x4056, 0x4077, 0x4056)]
    assert stream.layouts[0].brk_vpn == 0x4035


def test_reads_and_writes_touch_the_buffer(stream):
    stream.feed(
        call(0, "sys_read ( 3, 0x4a2bff0, 131072 ) --> [async] ... ") + call(0, "... [async] --> Success(0x20) ")
    )
    stream.feed(call(1, "sys_write ( 1, 0x5000000, 6 ) --> [async] ... ") + call(1, "... [async] --> Success(0x6) "))
    stream.feed(call(0, "sys_read ( 3, 0x6000000, 9 ) --> [async] ... ") + call(0, "... [async] --> Failure(0x9) "))
    assert touched(stream) == [(0x4A2B, KIND_STORE), (0x4A2C, KIND_STORE), (0x5000, KIND_LOAD)]
    assert kernel_time(stream)[0] == 3


def test_a_read_that_blocked_sleeps_as_long_as_it_would_have_at_full_speed(stream, clock):
    stream.feed(call(0, "sys_read ( 3, 0x4a2b000, 131072 ) --> [async] ... "))
    clock.now_s += 0.5
    stream.feed(call(0, "... [async] --> Success(0x20) "))
    assert ops(stream) == [(Op.SYSCALL, 0, 500_000 // SLOWDOWN, 0x4A2B000, 0x20)]


def test_sysctl_like_calls_wire_and_fill_their_buffer(stream):
    stream.feed(call(63, "sys_newuname ( 0x1fff000100 )[sync] --> Success(0x0) "))
    assert ops(stream) == [(Op.SYSCALL, 63, -1, 0x1FFF000100, 390)]
    assert touched(stream) == [(0x1FFF000, KIND_STORE)]


@pytest.mark.parametrize(
    ("text", "result", "expected"),
    [
        ("sys_wait4 ( 4294967295, 0x1, 0, 0x0 ) --> [async] ... ", "... [async] --> Success(0x4d) ", [77]),
        ("sys_wait4 ( 4294967295, 0x1, 1, 0x0 ) --> [async] ... ", "... [async] --> Success(0x4d) ", [77]),
        ("sys_wait4 ( 4294967295, 0x1, 1, 0x0 ) --> [async] ... ", "... [async] --> Success(0x0) ", []),
        ("sys_wait4 ( 4294967295, 0x1, 0, 0x0 ) --> [async] ... ", "... [async] --> Failure(0xa) ", []),
        ("sys_wait4 ( 4294967295, 0x1, 0, 0x0 ) --> [async] ... ", None, [-1]),
        ("sys_wait4 ( 4294967295, 0x1, 1, 0x0 ) --> [async] ... ", None, []),
    ],
    ids=["child", "child at once", "none ready", "no children", "answer lost to a signal", "WNOHANG, answer lost"],
)
def test_waits(stream, text, result, expected):
    stream.feed(
        call(61, text) + (call(61, result) if result else b"") + call(39, "sys_getpid ()[sync] --> Success(0x1)")
    )
    assert ops(stream) == [(Op.WAIT, child, 0, 0, 0) for child in expected]


def test_the_length_of_a_sleep_is_read_from_the_programs_memory():
    request = ctypes.create_string_buffer(struct.pack("qq", 2, 500_000_000), 16)
    stream = Stream(os.getpid(), FileTable(), root=True)
    at = ctypes.addressof(request)
    stream.feed(call(230, f"sys_clock_nanosleep( 0, 0, {at:#x}, 0x0 ) --> [async] ... "))
    stream.feed(call(230, "... [async] --> Success(0x0) "))
    assert ops(stream) == [(Op.SLEEP, 2_500_000, 230, at, 0)]


def test_a_sleep_to_a_point_in_time_lasts_until_then():
    until = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 3_000_000_000
    request = ctypes.create_string_buffer(struct.pack("qq", *divmod(until, 1_000_000_000)), 16)
    stream = Stream(os.getpid(), FileTable(), root=True)
    stream.feed(call(230, f"sys_clock_nanosleep( 1, 1, {ctypes.addressof(request):#x}, 0x0 ) --> [async] ... "))
    stream.feed(call(230, "... [async] --> Success(0x0) "))
    assert 2_000_000 < ops(stream)[0][1] <= 3_000_000


def test_a_poll_that_times_out_sleeps_its_whole_time(stream, clock):
    stream.feed(call(7, "sys_poll ( 0x1, 1, 250 ) --> [async] ... "))
    clock.now_s += BLOCKED_S * 2
    stream.feed(call(7, "... [async] --> Success(0x0) "))
    assert ops(stream) == [(Op.SYSCALL, 7, 250_000, 1, 0)]


def test_a_poll_that_answers_at_once_does_not_sleep(stream):
    stream.feed(call(7, "sys_poll ( 0x1, 1, 250 ) --> [async] ... ") + call(7, "... [async] --> Success(0x1) "))
    assert ops(stream) == []
    assert kernel_time(stream)[0] == 1


def test_another_threads_run_hides_a_sleep(stream, clock):
    stream.feed(call(202, "sys_futex ( 0x1, 128, 2, 0x0, 0x0 ) --> [async] ... "))
    clock.now_s += BLOCKED_S * 2
    stream.feed(b"I  00001000,4\n" + call(202, "... [async] --> Success(0x0) "))
    assert ops(stream) == []


def test_the_end_of_a_process(stream):
    stream.feed(call(231, "exit_group( 3 ) --> [pre-success] Success(0x0) "))
    stream.finish(9)
    assert ops(stream) == [(Op.EXIT, 3 << 8, 0, 0, 0)]


def test_a_killed_process_ends_with_its_signal(stream):
    stream.feed(f"=={PID}== Process terminating with default action of signal 15 (SIGTERM)\n".encode())
    stream.finish(9)
    assert ops(stream) == [(Op.EXIT, 15, 0, 0, 0)]


def test_a_thread_that_ends_before_others_does_not_end_the_process(stream):
    stream.feed(call(202, "sys_futex ( 0x1, 128, 2, 0x0, 0x0 ) --> [async] ... ", tid=1))
    stream.feed(call(60, "exit( 0 ) --> [pre-success] Success(0x0) ", tid=2))
    assert not stream.ended
