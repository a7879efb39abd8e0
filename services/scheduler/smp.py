"""Several processors in virtual time: struct pcpu, and what sched_4bsd.c does with SMP.

Each processor has a clock of its own. The kernel runs on one of them, whose clock, thread and idle time are those of
the state; the others' are in `cpus`. The busy processor that is furthest behind goes on, and slices are cut short while
another one is busy: their clocks are apart by that much, and what the kernel takes, at most. An idle processor has no
part in this until a thread becomes runnable (forward_wakeup). `ticks` follows the clock that is furthest ahead.
"""

from __future__ import annotations

from services.scheduler.kern import Kern
from services.scheduler.state import Cpu, SchedState, Thread

SKEW_US = 1_000
"""Longest slice while another processor is busy."""
MAXCPU = 64
"""Processors that a machine may have."""


def boot_cpus(s: SchedState) -> None:
    """All processors are idle but the first."""
    s.cpus = [Cpu(idle=cpu > 0) for cpu in range(s.config.ncpu)]


def others_busy(s: SchedState) -> bool:
    """Another processor than the present one has something to do."""
    return len(s.cpus) > 1 and any(not cpu.idle for number, cpu in enumerate(s.cpus) if number != s.cpu)


def running(s: SchedState) -> list[int]:
    """The threads on processors."""
    return [cpu.curthread for cpu in registers(s) if cpu.curthread]


def registers(s: SchedState) -> list[Cpu]:
    """All processors as they are now."""
    here = Cpu(s.cpus[s.cpu].idle, s.now_us, s.idle_us, s.curthread, s.lastthread)
    return [*s.cpus[: s.cpu], here, *s.cpus[s.cpu + 1 :]]


def next_cpu(k: Kern) -> None:
    """Go on with the busy processor that is furthest behind; of equals the lowest-numbered."""
    s = k.s
    if len(s.cpus) == 1:
        return
    s.cpus[s.cpu] = registers(s)[s.cpu]
    behind = min((cpu.now_us, number) for number, cpu in enumerate(s.cpus) if not cpu.idle)[1]
    if behind != s.cpu:
        cpu, s.cpu = s.cpus[behind], behind
        s.idle_us, s.curthread, s.lastthread = cpu.idle_us, cpu.curthread, cpu.lastthread
        k.set_time(cpu.now_us)


def idle(k: Kern) -> None:
    """sched_idletd: nothing is runnable, but other processors are busy: stay idle until something is."""
    s = k.s
    s.lastthread = 0
    s.cpus[s.cpu].idle = True


def forward_wakeup(k: Kern) -> None:
    """A thread became runnable: the first idle processor looks for it."""
    s = k.s
    if len(s.cpus) == 1:
        return
    for number, cpu in enumerate(s.cpus):
        if cpu.idle and number != s.cpu:
            cpu.idle_us += max(s.now_us - cpu.now_us, 0)
            cpu.now_us, cpu.idle = max(s.now_us, cpu.now_us), False
            return


def wait_for(k: Kern, td: Thread) -> bool:
    """True: the thread was still elsewhere at this processor's time, which idles until it comes."""
    wait_us = td.td_runnable_us - k.s.now_us
    if wait_us <= 0:
        return False
    k.s.idle_us += wait_us
    k.set_time(td.td_runnable_us)
    return True


def busy_us(s: SchedState) -> list[int]:
    """What each processor has worked, in microseconds."""
    return [cpu.now_us - cpu.idle_us for cpu in registers(s)]
