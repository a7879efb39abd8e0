"""Mutations: stop and continue, classes, limits, the out-of-memory choice, several processors."""

from __future__ import annotations

from tests.mutation.change import VM_DAEMON, Change

_KERN_SIG = "services/scheduler/kern_sig.py"
_VM_OOM = "services/scheduler/vm_oom.py"
_RUNQ = "services/scheduler/runq.py"
_SMP = "services/scheduler/smp.py"


def _test(name: str) -> tuple[str, ...]:
    return (f"unit/scheduler/test_{name}.py",)


CHANGES = (
    Change(
        "stop-in-disk-wait",
        _KERN_SIG,
        " and td.td_flags & TDF_SINTR\n        if asleep",
        "\n        if asleep",
        "sig_suspend_threads, kern_sig.c",
        "a thread in an uninterruptible sleep is suspended at its return to user mode alone",
        _test("stop"),
    ),
    Change(
        "sigkill-stays-stopped",
        _KERN_SIG,
        "        if signal == SIGKILL:\n            _continue(k, p)\n",
        "",
        "tdsendsignal, kern_sig.c",
        "SIGKILL sets a stopped process running",
        _test("stop"),
    ),
    Change(
        "suspended-unswappable",
        "services/scheduler/kern_suspend.py",
        "    sched_sleep(k, td, 0)\n",
        "",
        "thread_suspend_one, kern_thread.c",
        "who is suspended may be swapped out",
        _test("stop"),
    ),
    Change(
        "zone-counts-resident",
        _VM_OOM,
        " if shortage == VM_OOM_MEM else 0",
        "",
        "vm_pageout_oom, vm_pageout.c",
        "with the swap zone full pages in swap count alone",
        _test("oom"),
    ),
    Change(
        "oom-oldest-of-equals",
        _VM_OOM,
        "if size > bigsize:",
        "if size and size >= bigsize:",
        "vm_pageout_oom, vm_pageout.c",
        "the first in the list of equals is killed",
        _test("oom"),
    ),
    Change(
        "rss-limit-kept",
        VM_DAEMON,
        " >= _rss_limit(p)]",
        " > _rss_limit(p)]",
        "vm_daemon, vm_pageout.c",
        "pages go from a size equal to the limit on",
        _test("classes"),
    ),
    Change(
        "idle-preempted-last",
        _RUNQ,
        "preempted=td.td_priority >= PRI_MIN_IDLE and not expired",
        "preempted=False",
        "sched_switch, sched_4bsd.c",
        "a preempted idle thread is the first of its queue",
        _test("classes"),
    ),
    Change(
        "weight-of-one-processor",
        _RUNQ,
        "return 8 * len(k.s.cpus)",
        "return 8",
        "INVERSE_ESTCPU_WEIGHT, sched_4bsd.c",
        "recent processor time weighs less on more processors",
        _test("smp"),
    ),
    Change(
        "processor-ahead-goes-on",
        _SMP,
        "behind = min((cpu.now_us, number)",
        "behind = max((cpu.now_us, number)",
        "clocks of processors",
        "the busy processor that is furthest behind goes on",
        _test("smp"),
    ),
    Change(
        "thread-in-two-times",
        _SMP,
        "    if wait_us <= 0:\n",
        "    if True:\n",
        "clocks of processors",
        "a thread runs no earlier than it left another processor",
        _test("smp"),
    ),
    Change(
        "look-without-hold",
        "services/scheduler/kern_proc.py",
        "            p.p_lock += 1\n",
        "",
        "pget, kern_proc.c",
        "who is looked at is held",
        _test("procstat"),
    ),
)
