"""One process's stream of lackey text: accesses to runs, system calls to operations."""

from __future__ import annotations

import os
import re
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clients.capture.layout import FileTable, pages_of, parse_maps
from clients.capture.parser import NEED_TEXT, OTHER_LINE, flush_run, new_state, parse
from clients.trace import (
    COUNT_MAX,
    KIND_LOAD,
    KIND_STORE,
    MAP_ANON,
    MAP_FILE,
    MAP_PRIVATE,
    MAP_SHARED,
    PAGE_SHIFT,
    Op,
    Region,
    Runs,
    pack_run,
)
from services.scheduler.syscalls import Action, lookup

BUFFER_RUNS = 1 << 18
BLOCKED_S = 0.003
"""A call whose answer took longer than this to arrive is taken to have slept."""
SLOWDOWN = 100
"""How much slower a program runs under lackey: a wait for another captured process is divided by it."""
MREMAP, NANOSLEEP, CLONE, VFORK, EXECVE, EXIT, WAIT4, CLOCK_NANOSLEEP = 25, 35, 56, 58, 59, 60, 61, 230
DUP, DUP2, FCNTL, DUP3, GETRANDOM = 32, 33, 72, 292, 318
HEX_CALLS = {CLONE, 158}
"""Calls whose arguments are printed in hexadecimal without a prefix: clone, arch_prctl."""
VECTORED = {19, 20, 46, 47}
"""Transfers whose buffers are listed in the program's memory: readv, writev, sendmsg, recvmsg."""
OPENS = {2: 0, 85: 0, 257: 1}
"""Calls that open a path: position of the path among the arguments."""
STAT_BUFFERS = {4: 1, 5: 1, 6: 1, 262: 2}
"""Calls that fill a struct stat: position of its address."""
STAT_BYTES = 144
TIMEOUTS_MS = {7: 2, 232: 3, 281: 3}
"""poll and epoll: position of the timeout in milliseconds."""
TIMEOUTS_AT = {23: (4, 1), 270: (4, 1000), 271: (2, 1000), 202: (3, 1000), 128: (2, 1000)}
"""Calls with a pointer to (seconds, fraction): position and fractions in a microsecond."""
VSLOCK_BUFFERS = {63: (0, 390), 99: (0, 112), 204: (2, 128)}
"""sysctl-like calls: position and length of the buffer."""
POKES, POKE_BYTES = (4, 5), 8
"""Requests of ptrace that write a word of the child, PTRACE_POKETEXT and PTRACE_POKEDATA, and its size."""
SOCKET_CALLS = {42, 43, 288}
TIMER_ABSTIME = 1
WNOHANG = 1
CLONE_VFORK = 0x4000
F_DUPFD, F_DUPFD_CLOEXEC = 0, 1030

_CALL = re.compile(rb"^SYSCALL\[(\d+),(\d+)\]\(\s*(\d+)\)\s+(.*)$")
_ARG = re.compile(rb"(0x[0-9a-fA-F]+|-?\d+)(?:\(([^)]*)\))?")
_HEX_ARG = re.compile(rb"\b(?:0x)?([0-9a-fA-F]+)\s*[,)]")
_CREATED = re.compile(rb"created child (\d+)")
_RESULT = re.compile(rb"--> (?:\[\S+\] )?(Success|Failure)\(0x([0-9a-fA-F]+)")
_RUNS = re.compile(rb"^--\d+--\s+SCHED\[(\d+)\]:\s+acquired lock \((.*)\)$")
_SIGNAL = re.compile(rb"Process terminating with default action of signal (\d+)")


@dataclass(slots=True)
class Call:
    """A system call that has begun."""

    number: int
    """Linux x86-64 number."""
    args: list[int]
    """Arguments as printed; file descriptors and lengths unsigned."""
    path: str
    """First path among the arguments."""
    begun_s: float
    """When its line was read."""
    refs: int
    """References of the stream so far: unchanged at its end if nothing else ran."""
    sleep_us: int = -1
    """Length of a timed sleep, read from the program's memory; -1: none or unknown."""


@dataclass(slots=True)
class Layout:
    """An image's start."""

    name: str
    """Basename of the program."""
    regions: list[Region] = field(default_factory=list)
    """From /proc/PID/maps."""
    brk_vpn: int = -1
    """First page of the heap."""


class Stream:
    """Decoder of one process's text, kept across exec."""

    def __init__(self, pid: int, files: FileTable, *, root: bool) -> None:
        """Begin; the root process starts with an image, others by fork."""
        self.pid = pid
        self.ops: list[tuple[int, int, int, int, int, int]] = []
        self.layouts: list[Layout] = []
        self.children: list[int] = []
        self.fds: dict[int, str] = {}
        self.ended = False
        self.root = root
        self._files = files
        self._state = new_state()
        self._out = np.zeros(BUFFER_RUNS, np.uint64)
        self._n = 0
        self._chunks: list[Runs] = []
        self._base = 0
        self._carry = b""
        self._calls: dict[int, Call] = {}
        self._starting = root
        self._want_maps = False
        self._brk_end = 0
        self._signal = 0
        self._threads: dict[int, int] = {}
        self._made = self._running = 0

    @property
    def references(self) -> int:
        """Original references so far."""
        return int(self._state[4])

    @property
    def instructions(self) -> int:
        """Program instructions so far."""
        return int(self._state[5])

    @property
    def started(self) -> bool:
        """Whether any text has come."""
        return bool(self._carry or self._state[4] or self.ops or self.layouts)

    def runs(self) -> Runs:
        """Return all records."""
        self._flush()
        return np.concatenate((*self._chunks, self._out[: self._n]))

    def feed(self, data: bytes) -> None:
        """Decode the next piece of text."""
        text = self._carry + data
        view = np.frombuffer(text, np.uint8)
        pos = 0
        while True:
            pos, self._n, why = parse(view, pos, self._state, self._out, self._n)
            if why == NEED_TEXT:
                break
            if why == OTHER_LINE:
                end = text.find(b"\n", pos)
                if end < 0:
                    break
                self._line(text[pos:end])
                pos = end + 1
            else:
                self._spill()
        self._carry = text[pos:]

    def finish(self, status: int) -> None:
        """End the task if its exit was not recorded: killed, or the recording stopped."""
        if not self.ended:
            self._op(Op.EXIT, self._signal or status)
            self.ended = True

    def _spill(self) -> None:
        self._chunks.append(self._out[: self._n].copy())
        self._base += self._n
        self._n = 0

    def _flush(self) -> None:
        if self._n + 8 > BUFFER_RUNS:
            self._spill()
        self._n = flush_run(self._state, self._out, self._n)

    def _record(self, vpn: int, kinds: int, refs: int, instrs: int) -> None:
        self._flush()
        self._out[self._n] = pack_run(vpn, kinds, refs, instrs)
        self._n += 1

    def _op(self, op: Op, a: int, b: int = 0, c: int = 0, d: int = 0) -> None:
        self._flush()
        self.ops.append((self._base + self._n, int(op), a, b, c, d))

    def _line(self, line: bytes) -> None:
        if line.startswith(b"SYSCALL["):
            self._syscall(line)
        elif line.startswith(b"=="):
            self._banner(line)
        elif found := _RUNS.match(line):
            self._runs_on(int(found.group(1)), made=b"new thread" in found.group(2))

    def _runs_on(self, tid: int, made: bool) -> None:
        """Thread `tid` has the processor now; the first one of an image is whoever ran before it.

        Those that an exit_group kills run once more, to end.
        """
        if not self._threads:
            self._threads[tid] = self._running
        elif made:
            self._made += 1
            self._threads[tid] = self._made
        number = self._threads.get(tid, self._running)
        if number != self._running and not self.ended:
            self._op(Op.THR_TURN, number)
            self._running = number

    def _banner(self, line: bytes) -> None:
        """Handle valgrind's own lines: a Command line opens an image, except a forked task's first."""
        body = line.partition(b"== ")[2]
        if body.startswith(b"Command: "):
            if self._starting:
                name = body[len(b"Command: ") :].decode(errors="replace").split(" ")[0]
                if self.layouts or not self.root:
                    self._op(Op.EXEC, len(self.layouts) - (1 if self.root else 0))
                self.layouts.append(Layout(Path(name).name))
                self._want_maps = True
                self._brk_end = 0
            self._starting = False
            self._calls.clear()
            self._threads.clear()
        elif found := _SIGNAL.search(body):
            self._signal = int(found.group(1))

    def _read_maps(self) -> None:
        self._want_maps = False
        try:
            text = Path(f"/proc/{self.pid}/maps").read_text()
        except OSError:
            return
        self.layouts[-1].regions = parse_maps(text, self._files)

    def _syscall(self, line: bytes) -> None:
        if self._want_maps:
            self._read_maps()
        found = _CALL.match(line)
        if found is None:
            return
        tid, number, rest = int(found.group(2)), int(found.group(3)), found.group(4)
        if rest.startswith(b"... [async]"):
            call = self._calls.pop(tid, None)
            if call is not None:
                self._complete(call, _result(rest))
            return
        earlier = self._calls.pop(tid, None)
        if earlier is not None:
            self._complete(earlier, None)
        call = self._begin(number, rest)
        if number == EXIT and len(self._threads) > 1:
            self._kernel(call)
            self._op(Op.THR_EXIT, 0)
            del self._threads[tid]
            return
        if created := _CREATED.search(rest):
            self.children.append(int(created.group(1)))
            vfork = number == VFORK or (number == CLONE and call.args[0] & CLONE_VFORK != 0)
            self._op(Op.FORK, int(created.group(1)), int(vfork))
        elif number == EXECVE and b"-->" not in rest:
            self._starting = True
            self._calls[tid] = call
        elif b"[async] ..." in rest:
            self._calls[tid] = call
        else:
            self._starting |= number == EXECVE and b"Failure" not in rest
            self._complete(call, _result(rest))

    def _begin(self, number: int, rest: bytes) -> Call:
        inside = rest.partition(b"(")[2].partition(b"-->")[0]
        path = ""
        if number in HEX_CALLS:
            args = [int(value, 16) for value in _HEX_ARG.findall(inside)]
        else:
            found = _ARG.findall(inside)
            args = [int(value, 0) for value, _ in found]
            path = next((text.decode(errors="replace") for _, text in found if text), "")
        call = Call(number, args + [0] * (6 - len(args)), path, time.monotonic(), self.references)
        call.sleep_us = self._sleep_length(call)
        return call

    def _sleep_length(self, call: Call) -> int:
        """Return a timed sleep's length in us from the program's memory: only a pointer is printed."""
        args = call.args
        if call.number in TIMEOUTS_MS:
            ms = _signed32(args[TIMEOUTS_MS[call.number]])
            return ms * 1000 if ms >= 0 else -1
        if call.number in TIMEOUTS_AT:
            where, fractions = TIMEOUTS_AT[call.number]
            return self._timespec(args[where], fractions)
        if call.number == NANOSLEEP:
            return self._timespec(args[0], 1000)
        if call.number == CLOCK_NANOSLEEP:
            length = self._timespec(args[2], 1000)
            if length >= 0 and args[1] & TIMER_ABSTIME:
                length = max(0, length - time.clock_gettime_ns(args[0]) // 1000)
            return length
        return -1

    def _timespec(self, address: int, fractions: int) -> int:
        if address == 0:
            return -1
        try:
            fd = os.open(f"/proc/{self.pid}/mem", os.O_RDONLY)
            try:
                seconds, part = struct.unpack("qq", os.pread(fd, 16, address))
            finally:
                os.close(fd)
        except (OSError, struct.error):
            return -1
        if not (0 <= seconds < 1 << 40 and 0 <= part < 1_000_000 * fractions):
            return -1
        return int(seconds * 1_000_000 + part // fractions)

    def _complete(self, call: Call, result: int | None) -> None:
        """Record a finished call; result is None if it was not printed, negative if it failed."""
        action = lookup(call.number).action
        if result is not None and result < 0 and action not in (Action.SLEEP, Action.USERACC):
            self._kernel(call)
        elif call.number in OPENS or call.number in (DUP, DUP2, FCNTL, DUP3):
            self._opened(call, result or 0)
            self._kernel(call)
        elif action in (Action.MMAP, Action.MUNMAP, Action.MPROTECT, Action.BRK):
            self._memory(call, result or 0, action)
        elif action is Action.WAIT:
            self._wait(call, result)
        elif action is Action.EXIT:
            self._exit(call)
        elif action is Action.VSLOCK:
            where, length = VSLOCK_BUFFERS[call.number]
            self._op(Op.SYSCALL, call.number, -1, call.args[where], length)
            self._touch(call.args[where], length, KIND_STORE)
        elif action is Action.PTRACE and call.args[0] in POKES:
            self._op(Op.SYSCALL, call.number, -1, call.args[2], POKE_BYTES)
        elif action is Action.MLOCK:
            addr, length = (*call.args, 0, 0)[:2]
            self._op(Op.SYSCALL, call.number, -1, addr, length)
        elif action in (Action.SLEEP, Action.USERACC):
            self._sleep(call, result)
        elif action in (Action.READ, Action.WRITE):
            self._transfer(call, result or 0, action)
        else:
            self._kernel(call)
            if call.number in STAT_BUFFERS:
                self._touch(call.args[STAT_BUFFERS[call.number]], STAT_BYTES, KIND_STORE)
            elif call.number == GETRANDOM:
                self._touch(call.args[0], result or 0, KIND_STORE)

    def _kernel(self, call: Call) -> None:
        """Record in-kernel time in band."""
        left = lookup(call.number).kernel_instructions
        count = 1
        while left > 0:
            self._record(0, 0, count, min(left, COUNT_MAX))
            left -= COUNT_MAX
            count = 0

    def _touch(self, address: int, length: int, kinds: int) -> None:
        """Record the kernel's copy to or from the program's memory."""
        end = address + length
        while address < end:
            piece = min(end, ((address >> PAGE_SHIFT) + 1) << PAGE_SHIFT) - address
            self._record(address >> PAGE_SHIFT, kinds, 0, 8 + piece // 8)
            address += piece

    def _blocked_us(self, call: Call) -> int:
        """Return how long a call slept, 0 if it did not or if another thread ran meanwhile."""
        elapsed = time.monotonic() - call.begun_s
        if elapsed < BLOCKED_S or self.references != call.refs:
            return 0
        return int(elapsed * 1_000_000)

    def _opened(self, call: Call, result: int) -> None:
        if call.number in OPENS:
            path = call.path
            if not path.startswith("/"):
                path = _readlink(f"/proc/{self.pid}/fd/{result}") or path
            self.fds[result] = path
        elif call.args[0] in self.fds and (call.number != FCNTL or call.args[1] in (F_DUPFD, F_DUPFD_CLOEXEC)):
            self.fds[result] = self.fds[call.args[0]]

    def _memory(self, call: Call, result: int, action: Action) -> None:
        args = call.args
        first, pages = args[0] >> PAGE_SHIFT, pages_of(args[1])
        if call.number == MREMAP:
            self._mremap(args, result)
        elif action is Action.MMAP:
            self._mmap(args, result)
        elif action is Action.MUNMAP:
            self._op(Op.MUNMAP, first, pages)
        elif action is Action.MPROTECT:
            self._op(Op.MPROTECT, first, pages, args[2] & 7)
        else:
            self._brk(call, result)

    def _brk(self, call: Call, result: int) -> None:
        layout = self.layouts[-1] if self.layouts else None
        end = pages_of(result)
        if layout is not None and layout.brk_vpn < 0:
            layout.brk_vpn = result >> PAGE_SHIFT
            self._brk_end = layout.brk_vpn + 1
        if call.args[0] != 0 and end != self._brk_end:
            self._op(Op.BRK, end)
            self._brk_end = end
        else:
            self._kernel(call)

    def _mmap(self, args: list[int], result: int) -> None:
        flags = MAP_SHARED if args[3] & 1 else MAP_PRIVATE
        where = 0
        if args[3] & 0x20:
            flags |= MAP_ANON
        else:
            flags |= MAP_FILE
            path = self.fds.get(args[4]) or _readlink(f"/proc/{self.pid}/fd/{args[4]}") or "unknown"
            where = self._files.id_of(path) << 32 | args[5] >> PAGE_SHIFT
        self._op(Op.MMAP, result >> PAGE_SHIFT, pages_of(args[1]), args[2] & 7 | flags, where)

    def _mremap(self, args: list[int], result: int) -> None:
        """Record mremap as the mappings it leaves; moved contents are not carried over."""
        old, old_pages, new, new_pages = (
            args[0] >> PAGE_SHIFT,
            pages_of(args[1]),
            result >> PAGE_SHIFT,
            pages_of(args[2]),
        )
        anon = KIND_LOAD | KIND_STORE | MAP_ANON | MAP_PRIVATE
        if new != old:
            self._op(Op.MMAP, new, new_pages, anon)
            self._op(Op.MUNMAP, old, old_pages)
        elif new_pages > old_pages:
            self._op(Op.MMAP, old + old_pages, new_pages - old_pages, anon)
        elif new_pages < old_pages:
            self._op(Op.MUNMAP, old + new_pages, old_pages - new_pages)

    def _wait(self, call: Call, result: int | None) -> None:
        at_once = result == 0 or (result is None and call.args[2] & WNOHANG)
        if call.number == WAIT4 and at_once:
            self._kernel(call)
        else:
            self._op(Op.WAIT, result if result and call.number == WAIT4 else -1)

    def _exit(self, call: Call) -> None:
        if call.number == EXIT and self._calls:
            self._kernel(call)
        elif not self.ended:
            self._op(Op.EXIT, (call.args[0] & 0xFF) << 8)
            self.ended = True

    def _sleep(self, call: Call, result: int | None) -> None:
        if call.number in (NANOSLEEP, CLOCK_NANOSLEEP):
            where = call.args[0 if call.number == NANOSLEEP else 2]
            if call.sleep_us >= 0 and self.references == call.refs:
                self._op(Op.SLEEP, call.sleep_us, call.number, where)
            else:
                self._kernel(call)
            return
        slept = self._blocked_us(call)
        timed_out = result in (0, -110) and call.number not in SOCKET_CALLS
        if slept and timed_out and call.sleep_us > 0:
            self._op(Op.SYSCALL, call.number, call.sleep_us, call.args[0], 0)
        elif slept:
            self._op(Op.SYSCALL, call.number, max(1, slept // SLOWDOWN), call.args[0], 0)
        else:
            self._kernel(call)

    def _transfer(self, call: Call, length: int, action: Action) -> None:
        slept = self._blocked_us(call)
        if slept:
            self._op(Op.SYSCALL, call.number, max(1, slept // SLOWDOWN), call.args[1], length)
        else:
            self._kernel(call)
        if call.number not in VECTORED:
            self._touch(call.args[1], length, KIND_STORE if action is Action.READ else KIND_LOAD)


def _result(rest: bytes) -> int | None:
    """Return a call's printed result, -errno for a failure, None if there is none."""
    found = _RESULT.search(rest)
    if found is None:
        return None
    number = int(found.group(2), 16)
    return -number if found.group(1) == b"Failure" else number


def _signed32(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def _readlink(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
