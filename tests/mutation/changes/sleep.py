"""Mutations: sleep queues, wakeups and what the kernel's own threads ask for."""

from __future__ import annotations

from tests.mutation.change import GLUE_SWAP, KTHREADS, SLEEPQ, Change

CHANGES = (
    Change(
        "kick-for-every-wakeup",
        SLEEPQ,
        "    if td.td_flags & TDF_SWAPINREQ:\n        return False\n",
        "",
        "setrunnable, kern_synch.c",
        "the swapper is asked for a thread once",
        ("A", "B", "unit/scheduler"),
    ),
    Change(
        "canswap-above-psock",
        SLEEPQ,
        "prio >= PSOCK:",
        "prio > PSOCK:",
        "sched_sleep, sched_4bsd.c",
        "a sleep at PSOCK lets the thread be swapped out",
        ("unit/scheduler",),
    ),
    Change(
        "slptick-kept",
        SLEEPQ,
        "    td.td_slptick = 0\n",
        "",
        "sched_wakeup, sched_4bsd.c",
        "a thread that runs has slept for no time",
        ("A", "B", "unit/scheduler"),
    ),
    Change(
        "kick-dropped",
        SLEEPQ,
        '"wakeup")\n        kick_proc0(k)\n',
        '"wakeup")\n',
        "kick_proc0 823-828",
        "a wakeup of a thread that is out wakes the swapper",
        ("A", "B", "unit/scheduler"),
    ),
    Change(
        "prele-no-wakeup",
        GLUE_SWAP,
        "if p.p_flag & P_WEXIT and p.p_lock == 0:",
        "if p.p_flag & P_WEXIT and p.p_lock == 1:",
        "_PRELE, sys/proc.h",
        "the last release wakes an ending process",
        ("unit/scheduler",),
    ),
    Change(
        "lowmem-not-delivered",
        KTHREADS,
        "            k.kstack.vm_thread_stack_lowmem()\n",
        "            k.kstack.digest()\n",
        "kstack_cache_init 482-490",
        "vm_lowmem drains the stack cache",
        ("unit/scheduler",),
    ),
    Change(
        "action-kept",
        KTHREADS,
        "action, k.s.vm_pageout_req_swapout = k.s.vm_pageout_req_swapout, 0",
        "action = k.s.vm_pageout_req_swapout",
        "vm_daemon, vm_pageout.c",
        "a request to swap out is served once",
        ("unit/scheduler",),
    ),
)
