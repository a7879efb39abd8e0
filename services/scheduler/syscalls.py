"""Published table: what each Linux system call of a trace does in the simulated FreeBSD kernel.

Numbers are those of Linux on x86-64, which never change. docs/syscalls.md is made from this file by
``python -m services.scheduler.syscalls docs/syscalls.md``. Instruction counts and stack depths are estimates of the
length and depth of the FreeBSD 11 code path without sleeping, to the nearest hundred or so.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

PSWP = 80
"""Sleep priority of a read from swap."""
PRIBIO = 92
"""Sleep priority of disk input/output and pipes."""
PSOCK = 104
"""Sleep priority of sockets and kqueue; from here on a sleeper may be swapped out."""
PWAIT = 108
"""Sleep priority of nanosleep and wait4."""
PPAUSE = 116
"""Sleep priority of sigsuspend and sigtimedwait."""

SHMGET, SHMAT, SHMCTL, SHMDT = 29, 30, 31, 67
MLOCK, MUNLOCK, MLOCKALL, MUNLOCKALL = 149, 150, 151, 152
"""Numbers of calls that share an action."""


class Action(IntEnum):
    """What the kernel does beside spending the call's instructions."""

    NONE = 0
    """Nothing that concerns memory or sleep."""
    SLEEP = 1
    """Sleep on the row's wait message for the recorded time."""
    WAIT = 2
    """wait4: sleep until a child ends, then reap it (vm_waitproc)."""
    FORK = 3
    """fork1: kernel stack, address space, vm_forkproc."""
    EXEC = 4
    """execve: read the image's first page through vm_imgact_map_page, replace the address space."""
    EXIT = 5
    """exit1: give the address space back, become a zombie."""
    MMAP = 6
    """Enter a range into the map."""
    MUNMAP = 7
    """Remove a range from the map."""
    MPROTECT = 8
    """Change a range's protection."""
    BRK = 9
    """Move the end of the heap."""
    USERACC = 10
    """Check the user's argument with useracc, then sleep on the row's wait message."""
    VSLOCK = 11
    """A sysctl in FreeBSD: wire the user's buffer with vslock, copy out, vsunlock."""
    READ = 12
    """Copy out to the user's buffer; sleep first if the trace says that it blocked."""
    WRITE = 13
    """Copy in from the user's buffer; sleep first if the trace says that it blocked."""
    PTRACE = 14
    """A debugger's write to a child's memory: hold the child, faultin, vm_sync_icache where it is executable."""
    THREAD = 15
    """thr_new: a kernel stack, and a thread of the same process."""
    MLOCK = 16
    """Wire memory for the program within RLIMIT_MEMLOCK, or take that wiring off."""
    SWAPON = 17
    """Swap to another device."""
    SWAPOFF = 18
    """Bring in whatever lies on a device, and swap to it no more."""
    SHM = 19
    """System V shared memory: make a segment, attach or detach it, or let it go with its last detachment."""
    PROCSTAT = 20
    """A nanosleep, then kern.proc sysctls of every process, each of which is held and comes in for it."""


@dataclass(frozen=True, slots=True)
class Syscall:
    """One row."""

    name: str
    """Linux name."""
    number: int
    """Linux x86-64 number; -1 for the default row."""
    action: Action
    """What the kernel does."""
    wmesg: str
    """FreeBSD wait message, empty if the call never sleeps."""
    priority: int
    """Sleep priority (0: as cv_wait and umtx sleep)."""
    swappable: bool
    """A thread asleep here gets TDF_CANSWAP: priority >= PSOCK (sched_sleep)."""
    kernel_instructions: int
    """Instructions in the kernel, without sleeping and without the copy of user data."""
    stack_bytes: int
    """Depth of the kernel stack."""
    note: str
    """Where FreeBSD differs, or why the row is as it is."""


def _row(
    number: int,
    name: str,
    instructions: int,
    action: Action = Action.NONE,
    wmesg: str = "",
    priority: int = 0,
    stack: int = 800,
    note: str = "",
) -> Syscall:
    swappable = bool(wmesg) and priority >= PSOCK
    return Syscall(name, number, action, wmesg, priority, swappable, instructions, stack, note)


_PIPE = "a pipe sleeps at PRIBIO, so it is not swappable; a file's data is taken as cached"
_SYSCTL = "FreeBSD answers it by sysctl(3), which wires the buffer"
_SELECT = "cv_wait: priority 0, not swappable"
_SHM = "of made-up programs, which name a segment by its key; of captured ones no action"
_UMTX = "umtx: priority 0, not swappable"

SYSCALLS: tuple[Syscall, ...] = (
    _row(0, "read", 600, Action.READ, "piperd", PRIBIO, 1100, _PIPE),
    _row(1, "write", 700, Action.WRITE, "pipewr", PRIBIO, 1200, _PIPE),
    _row(2, "open", 4000, stack=1900),
    _row(3, "close", 500),
    _row(4, "stat", 2500, stack=1600),
    _row(5, "fstat", 500),
    _row(6, "lstat", 2500, stack=1600),
    _row(7, "poll", 900, Action.SLEEP, "select", 0, 1100, _SELECT),
    _row(8, "lseek", 300),
    _row(9, "mmap", 2000, Action.MMAP, stack=1100),
    _row(10, "mprotect", 1500, Action.MPROTECT, stack=900),
    _row(11, "munmap", 1500, Action.MUNMAP, stack=900),
    _row(12, "brk", 1200, Action.BRK, stack=900),
    _row(13, "rt_sigaction", 300, note="sigaction"),
    _row(14, "rt_sigprocmask", 250, note="sigprocmask"),
    _row(15, "rt_sigreturn", 400, note="sigreturn"),
    _row(16, "ioctl", 600),
    _row(17, "pread64", 700, Action.READ, "biord", PRIBIO, 1500, "a file's data is taken as cached"),
    _row(18, "pwrite64", 800, Action.WRITE, "biowr", PRIBIO, 1500),
    _row(19, "readv", 700, Action.READ, "piperd", PRIBIO, 1100, _PIPE),
    _row(20, "writev", 800, Action.WRITE, "pipewr", PRIBIO, 1200, _PIPE),
    _row(21, "access", 2300, stack=1600),
    _row(22, "pipe", 2500),
    _row(23, "select", 1200, Action.SLEEP, "select", 0, 1300, _SELECT),
    _row(24, "sched_yield", 300),
    _row(25, "mremap", 3000, Action.MMAP, stack=1100, note="recorded as munmap and mmap: FreeBSD has no mremap"),
    _row(28, "madvise", 900),
    _row(SHMGET, "shmget", 1500, Action.SHM, stack=900, note=_SHM),
    _row(SHMAT, "shmat", 2500, Action.SHM, stack=1100, note=_SHM),
    _row(SHMCTL, "shmctl", 800, Action.SHM, stack=900, note=_SHM + "; IPC_RMID"),
    _row(32, "dup", 400),
    _row(33, "dup2", 500),
    _row(34, "pause", 400, Action.SLEEP, "pause", PPAUSE, 800, "sigsuspend"),
    _row(35, "nanosleep", 700, Action.USERACC, "nanslp", PWAIT, 900),
    _row(39, "getpid", 100),
    _row(41, "socket", 2000),
    _row(42, "connect", 3000, Action.SLEEP, "connec", PSOCK, 1400),
    _row(43, "accept", 1500, Action.SLEEP, "accept", PSOCK, 1200),
    _row(44, "sendto", 1800, Action.WRITE, "sbwait", PSOCK, 1500),
    _row(45, "recvfrom", 1400, Action.READ, "sbwait", PSOCK, 1400),
    _row(46, "sendmsg", 2000, Action.WRITE, "sbwait", PSOCK, 1500),
    _row(47, "recvmsg", 1600, Action.READ, "sbwait", PSOCK, 1400),
    _row(53, "socketpair", 2500),
    _row(56, "clone", 9000, Action.FORK, stack=1300, note="fork or, with CLONE_VFORK, vfork; a new thread is not one"),
    _row(57, "fork", 9000, Action.FORK, stack=1300),
    _row(58, "vfork", 7000, Action.FORK, stack=1300),
    _row(59, "execve", 20000, Action.EXEC, stack=2600),
    _row(60, "exit", 2500, Action.EXIT, stack=1000, note="thr_exit for a thread that is not the last"),
    _row(61, "wait4", 900, Action.WAIT, "wait", PWAIT, 900),
    _row(63, "uname", 900, Action.VSLOCK, note=_SYSCTL),
    _row(SHMDT, "shmdt", 2000, Action.SHM, stack=1000, note=_SHM),
    _row(72, "fcntl", 400),
    _row(77, "ftruncate", 2000, stack=1500),
    _row(79, "getcwd", 1500, stack=1200),
    _row(80, "chdir", 2200, stack=1600),
    _row(83, "mkdir", 5000, stack=1900),
    _row(84, "rmdir", 5000, stack=1900),
    _row(87, "unlink", 5000, stack=1900),
    _row(89, "readlink", 2500, stack=1600),
    _row(96, "gettimeofday", 150),
    _row(97, "getrlimit", 200),
    _row(98, "getrusage", 400),
    _row(99, "sysinfo", 1200, Action.VSLOCK, note=_SYSCTL + " (hw.physmem, vm.vmtotal)"),
    _row(101, "ptrace", 1500, Action.PTRACE, stack=1000, note="PT_WRITE_I, PT_WRITE_D to the oldest child that lives"),
    _row(102, "getuid", 100),
    _row(104, "getgid", 100),
    _row(107, "geteuid", 100),
    _row(108, "getegid", 100),
    _row(110, "getppid", 120),
    _row(128, "rt_sigtimedwait", 600, Action.SLEEP, "sigwait", PPAUSE, 900, "sigtimedwait"),
    _row(130, "rt_sigsuspend", 500, Action.SLEEP, "pause", PPAUSE, 800, "sigsuspend"),
    _row(131, "sigaltstack", 200),
    _row(MLOCK, "mlock", 800, Action.MLOCK, stack=1000),
    _row(MUNLOCK, "munlock", 700, Action.MLOCK, stack=1000),
    _row(MLOCKALL, "mlockall", 900, Action.MLOCK, stack=1000),
    _row(MUNLOCKALL, "munlockall", 800, Action.MLOCK, stack=1000),
    _row(156, "_sysctl", 2000, Action.PROCSTAT, "nanslp", PWAIT, 1000, "of made-up programs: procstat -a, ps -e"),
    _row(158, "arch_prctl", 150, note="sysarch"),
    _row(167, "swapon", 20000, Action.SWAPON, stack=1900),
    _row(168, "swapoff", 5000, Action.SWAPOFF, "swread", PSWP, 1500, "sleeps for memory and busy pages as well"),
    _row(186, "gettid", 100, note="thr_self"),
    _row(202, "futex", 500, Action.SLEEP, "umtxn", 0, 900, _UMTX),
    _row(204, "sched_getaffinity", 600, Action.VSLOCK, note=_SYSCTL + " (hw.ncpu)"),
    _row(217, "getdents64", 2500, Action.READ, "biord", PRIBIO, 1500, "getdirentries; taken as cached"),
    _row(218, "set_tid_address", 100),
    _row(221, "fadvise64", 400, note="posix_fadvise"),
    _row(228, "clock_gettime", 150),
    _row(230, "clock_nanosleep", 700, Action.USERACC, "nanslp", PWAIT, 900, "nanosleep"),
    _row(231, "exit_group", 4000, Action.EXIT, stack=1000, note="exit"),
    _row(232, "epoll_wait", 900, Action.SLEEP, "kqread", PSOCK, 1200, "kevent"),
    _row(233, "epoll_ctl", 900, note="kevent"),
    _row(234, "tgkill", 600),
    _row(247, "waitid", 900, Action.WAIT, "wait", PWAIT, 900, "wait6"),
    _row(257, "openat", 4000, stack=1900),
    _row(262, "newfstatat", 2500, stack=1600, note="fstatat"),
    _row(263, "unlinkat", 5000, stack=1900),
    _row(267, "readlinkat", 2500, stack=1600),
    _row(269, "faccessat", 2300, stack=1600),
    _row(270, "pselect6", 1200, Action.SLEEP, "select", 0, 1300, _SELECT),
    _row(271, "ppoll", 1000, Action.SLEEP, "select", 0, 1100, _SELECT),
    _row(273, "set_robust_list", 100),
    _row(281, "epoll_pwait", 950, Action.SLEEP, "kqread", PSOCK, 1200, "kevent"),
    _row(288, "accept4", 1500, Action.SLEEP, "accept", PSOCK, 1200),
    _row(291, "epoll_create1", 1200, note="kqueue"),
    _row(292, "dup3", 500),
    _row(293, "pipe2", 2500),
    _row(302, "prlimit64", 250, note="getrlimit, setrlimit"),
    _row(318, "getrandom", 900, note="read of the random device; the buffer is touched as by read"),
    _row(332, "statx", 2600, stack=1600, note="fstatat"),
    _row(334, "rseq", 100),
    _row(435, "clone3", 4500, Action.THREAD, stack=1300, note="thr_new: how a program makes a thread"),
    _row(439, "faccessat2", 2300, stack=1600),
)
"""All rows, by number."""

DEFAULT = _row(-1, "(any other)", 800, note="no effect on memory, never sleeps")
"""Row of a system call that is not in the table."""

_BY_NUMBER = {row.number: row for row in SYSCALLS}


def lookup(number: int) -> Syscall:
    """Return the row of a Linux x86-64 system call number, or DEFAULT."""
    return _BY_NUMBER.get(number, DEFAULT)


def docs_text() -> str:
    """Return docs/syscalls.md."""
    lines = [
        "# System calls",
        "",
        "What each Linux system call of a trace does in the simulated FreeBSD kernel. Made from",
        "`services/scheduler/syscalls.py` by `python -m services.scheduler.syscalls docs/syscalls.md`; change it "
        "there.",
        "",
        "A thread that sleeps at priority 104 (PSOCK) or above may be swapped out with its process; below it may not.",
        "Instructions and stack depth are estimates.",
        "",
        "| call | number | action | wait message | priority | swappable | instructions | stack bytes | note |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in (*SYSCALLS, DEFAULT):
        number = str(row.number) if row.number >= 0 else ""
        sleep = (row.wmesg, str(row.priority), "yes" if row.swappable else "no") if row.wmesg else ("", "", "")
        cells = (row.name, number, row.action.name, *sleep, row.kernel_instructions, row.stack_bytes, row.note)
        lines.append("| " + " | ".join(str(c) for c in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(docs_text(), encoding="utf-8")
