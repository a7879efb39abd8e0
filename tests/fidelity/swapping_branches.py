"""Branches of vm_glue.c:617-1093: fork, wait, and the swapping of whole processes."""

from __future__ import annotations

from tests.fidelity.branch import SCHEDULER, Branch, Spot, at

FORK, SWAP, CANDIDATES = SCHEDULER + "glue_fork.py", SCHEDULER + "glue_swap.py", SCHEDULER + "candidates.py"
_OPTIONS = "tests/unit/scheduler/test_scheduler_options.py::"


def _skip(lines: str, rule: str, why: str, when: str = "", tests: tuple[str, ...] = ()) -> Branch:
    """A check of swapout_procs that leaves a process alone."""
    return at(lines, rule, Spot(SWAP, "_why_not", f"return Skip.{why}", when), tests=tests)


SWAPPING: dict[str, tuple[Branch, ...]] = {
    "vm_forkproc": (
        at(
            "628, 641-642",
            "no RFPROC: no child; cpu_fork of the caller, 0",
            Spot(FORK, "vm_forkproc", "cpu_fork(", "not args.flags & RFPROC"),
        ),
        at(
            "634",
            "RFMEM besides: the memory stays shared",
            Spot(FORK, "vm_forkproc", "cpu_fork(", "not args.flags & RFPROC and args.flags & RFMEM"),
        ),
        at("635-636", "more than one reference: a private copy", Spot(FORK, "vm_forkproc", "error = vmspace_unshare(")),
        at(
            "635",
            "the only reference: nothing to copy",
            Spot(FORK, "vm_forkproc", "cpu_fork(", "not args.flags & (RFPROC | RFMEM) and 'error' not in locals()"),
        ),
        at("637-638", "no memory for it: its error, before cpu_fork", Spot(FORK, "vm_forkproc", "return error")),
        at(
            "645-648",
            "RFMEM: the child shares, a reference more, before the wait",
            Spot(FORK, "vm_forkproc", "vmspace_ref("),
        ),
        at("650-652", "page count severe: VM_WAIT, and again", Spot(FORK, "vm_forkproc", "k.ctx.event(Kind.FORK_WAIT")),
        at(
            "654-655",
            "no RFMEM: the child gets the copy that was handed in",
            Spot(FORK, "vm_forkproc", "p2.p_vmspace = args.vm2"),
        ),
        at("656-657", "the parent has System V segments: shmfork", Spot(FORK, "vm_forkproc", "shmfork(")),
        at(
            "656",
            "it has none",
            Spot(
                FORK,
                "vm_forkproc",
                "cpu_fork(",
                "args.flags & RFPROC and not args.flags & RFMEM and not k.s.vmspaces[p1.p_vmspace].vm_shm",
            ),
        ),
        at("664-665", "cpu_fork; 0", Spot(FORK, "vm_forkproc", "cpu_fork(", "args.flags & RFPROC")),
    ),
    "vm_waitproc": (at("678", "the address space goes", Spot(FORK, "vm_waitproc", "vmspace_free(")),),
    "faultin": (
        at(
            "685-689",
            "NO_SWAPPING and not in memory: panic",
            Spot(SWAP, "faultin", "raise KernelPanic("),
            panic="faultin: proc swapped out with NO_SWAPPING!",
            tests=(_OPTIONS + "test_faultin_without_swapping_panics_about_a_process_that_is_out_and_leaves_others",),
        ),
        at("698-700", "another brings it in: sleep at PVM", Spot(SWAP, "faultin", "f.step = 1")),
        at("699", "woken while that goes on: sleep again", Spot(SWAP, "faultin", "f.step = 1", "f.step == 1")),
        at(
            "701",
            "when it has ended: return, without a look at P_INMEM",
            Spot(SWAP, "faultin", "return True", "f.step == 1 and not k.s.config.no_swapping"),
        ),
        at(
            "703",
            "in memory already: nothing",
            Spot(
                SWAP,
                "faultin",
                "return True",
                "f.step == 0 and p is not None and p.p_flag & P_INMEM and not k.s.config.no_swapping",
            ),
        ),
        at("708-710", "held and marked before the lock is dropped", Spot(SWAP, "faultin", "p.p_lock += 1")),
        at(
            "717-718",
            "every thread's stack comes in",
            Spot(SWAP, "_swapin_stacks", "answer = k.kstack.vm_thread_swapin("),
        ),
        at(
            "720-726",
            "swapclear, p_swtick, wakeup of those who waited, the hold goes",
            Spot(SWAP, "faultin", "swapclear("),
        ),
    ),
    "swapper": (
        at(
            "750-752",
            "page count below v_free_min: VM_WAIT, and again",
            Spot(SWAP, "swapper", "k.ctx.event(Kind.SWAPPER_WAIT"),
        ),
        at(
            "760",
            "a process in creation is passed over",
            Spot(
                CANDIDATES,
                "waits_to_come_in",
                "return td.td_inhibitors",
                "p.p_state is Prs.NEW and td.td_inhibitors == TDI_SWAPPED",
            ),
        ),
        at(
            "761-763",
            "in memory, or on its way: passed over",
            Spot(
                CANDIDATES,
                "waits_to_come_in",
                "return td.td_inhibitors",
                "td.td_inhibitors == TDI_SWAPPED and p.p_flag & SWAP_STATE",
            ),
        ),
        at(
            "773",
            "a thread that more than the swap-out inhibits is not considered",
            Spot(
                CANDIDATES,
                "waits_to_come_in",
                "return td.td_inhibitors",
                "td.td_inhibitors & TDI_SWAPPED and td.td_inhibitors != TDI_SWAPPED",
            ),
        ),
        at(
            "765, 773-775",
            "seconds out, unsigned, plus seconds asleep, signed",
            Spot(CANDIDATES, "_priorities", "priorities:", "table.shape[1]"),
        ),
        at(
            "776-777",
            "nobody asked for it: less eight times nice",
            Spot(CANDIDATES, "row_of", "nice =", "not td.td_flags & TDF_SWAPINREQ and p.p_nice"),
        ),
        at(
            "776",
            "asked for: nice does not count",
            Spot(CANDIDATES, "row_of", "nice =", "td.td_flags & TDF_SWAPINREQ and p.p_nice"),
        ),
        at(
            "784-786",
            "the greatest priority wins",
            Spot(SWAP, "_select", "(pid, priority), *losers =", "len(ranking) > 1"),
        ),
        at(
            "784",
            "of equals the first in the list",
            Spot(SWAP, "_select", "(pid, priority), *losers =", "len(ranking) > 1 and ranking[0][1] == ranking[1][1]"),
        ),
        at(
            "757, 784",
            "INT_MIN never wins: nothing is smaller",
            Spot(CANDIDATES, "choose", "return _best(", "len(able) < table.shape[1]"),
            tests=("tests/unit/scheduler/test_candidates.py::test_the_least_priority_is_never_chosen",),
        ),
        at("798-800", "nobody: tsleep on proc0 for MAXSLP * hz / 2", Spot(SWAP, "swapper", "timeout =")),
        at(
            "809-811",
            "it came in meanwhile, or is on its way: choose again",
            Spot(SWAP, "swapper", "if p.p_flag &", "p.p_flag & SWAP_STATE"),
        ),
        at("818-820", "faultin, and the next", Spot(SWAP, "swapper", "f.faultin = FaultinFrame(")),
    ),
    "kick_proc0": (
        at("827", "wakeup of proc0, whether it sleeps or not", Spot(SCHEDULER + "sleepq.py", "kick_proc0", "wakeup(")),
    ),
    "swapout_procs": (
        _skip("875-876", "a process in creation is passed over", "NEW"),
        _skip("883-884", "P_SYSTEM is passed over, before its address space is looked at", "SYSTEM"),
        _skip("897-899", "no address space any more: passed over", "NO_VMSPACE"),
        _skip("900-901", "its map is locked: passed over, never waited for", "MAP_LOCKED"),
        _skip("904", "held (p_lock): passed over", "HELD", "p.p_lock != 0"),
        _skip("905-907", "traced, stopped single, exiting: passed over", "HELD", "p.p_lock == 0"),
        _skip("914-915", "not in memory, or on its way: passed over", "NOT_INMEM"),
        _skip("917-921", "a state that is not PRS_NORMAL: passed over", "NOT_NORMAL"),
        _skip(
            "930-932", "a thread of realtime or interrupt class keeps it in; a FIFO bit does not hide it", "REALTIME"
        ),
        _skip("934-941", "a thread slept less than vm.swap_idle_threshold1 (whole seconds, strict)", "SLEPT_TOO_SHORT"),
        _skip("953-955", "a thread that is not safe to swap out", "UNSAFE"),
        _skip("963-967", "neither NORMAL nor IDLE was asked for", "NOT_IDLE", "not action & VM_SWAP_IDLE"),
        _skip(
            "963-967",
            "IDLE alone, and a thread slept less than vm.swap_idle_threshold2",
            "NOT_IDLE",
            "action & VM_SWAP_IDLE",
        ),
        at("970-971", "the shortest sleep of its threads counts", Spot(SWAP, "_why_not", "minslptime = min(")),
        at("980", "NORMAL: out", Spot(SWAP, "_why_not", "return None", "action & VM_SWAP_NORMAL")),
        at(
            "981-982",
            "IDLE, and all slept longer than vm.swap_idle_threshold2 (strict): out",
            Spot(SWAP, "_why_not", "return None", "not action & VM_SWAP_NORMAL"),
        ),
        _skip("982", "IDLE, and the shortest sleep equals it: not out", "MIN_NOT_IDLE"),
        at("983-984", "swapout() answered 0: counted", Spot(SWAP, "swapout_procs", "didswap += 1")),
        at(
            "983",
            "EBUSY: not counted, and the scan restarts as well",
            Spot(SWAP, "swapout_procs", "elif scan.retried("),
        ),
        at("989", "the scan restarts at the head", Spot(SWAP, "swapout_procs", "order, position =")),
        at(
            "863, 989",
            "more than 100 restarts in vain: a livelock, told to the caller",
            Spot(SWAP, "swapout_procs", "scan.livelock ="),
        ),
        at("1004-1005", "something went out: wakeup of proc0", Spot(SWAP, "swapout_procs", "wakeup(")),
        at("1004", "nothing did: no wakeup", Spot(SWAP, "swapout_procs", "if didswap", "not didswap")),
    ),
    "swapclear": (
        at(
            "1016-1020",
            "each thread is in memory, not asked for, not swapped",
            Spot(SWAP, "swapclear", "td.td_flags &= ~TDF_SWAPINREQ"),
        ),
        at(
            "1021-1022",
            "nothing else inhibits it: setrunnable",
            Spot(SWAP, "swapclear", "if td.td_state is Tds.CAN_RUN", "td.td_state is Tds.CAN_RUN"),
        ),
        at(
            "1021",
            "something else does: it stays",
            Spot(SWAP, "swapclear", "if td.td_state is Tds.CAN_RUN", "td.td_state is not Tds.CAN_RUN"),
        ),
        at(
            "1022-1030",
            "setrunnable asks for the swapper: panic",
            Spot(SWAP, "swapclear", "raise KernelPanic("),
            panic="not waking up swapper",
            tests=(_OPTIONS + "test_swapclear_ignores_a_wanted_swapper_without_invariants",),
        ),
        at(
            "1034-1035",
            "P_SWAPPINGIN and P_SWAPPINGOUT go, P_INMEM is set",
            Spot(SWAP, "swapclear", "p.p_flag |= P_INMEM"),
        ),
    ),
    "swapout": (
        at(
            "1045-1047",
            "SWAP_DEBUG: told",
            Spot(SWAP, "swapout", "k.ctx.event(Kind.SWAP_DEBUG"),
            tests=(_OPTIONS + "test_swap_debug_tells_about_every_swapout",),
        ),
        at(
            "1054-1055",
            "not in memory, or on its way: assertion",
            Spot(SWAP, "swapout", "k.ctx.kassert("),
            panic="swapout: lost a swapout race?",
            tests=(
                "tests/unit/scheduler/test_swapout_calls.py::test_swapout_of_what_is_not_in_memory_panics_and_those_before_it_are_out",
            ),
        ),
        at(
            "1060",
            "vm_swrss is set, also if it fails afterwards",
            Spot(SWAP, "swapout", "k.s.vmspaces[p.p_vmspace].vm_swrss ="),
        ),
        at(
            "1068-1071",
            "a thread is not safe any more: swapclear, EBUSY, no tick and no count",
            Spot(SWAP, "swapout", "return EBUSY"),
        ),
        at("1073-1074", "each thread is marked before any goes", Spot(SWAP, "swapout", "td.td_flags &= ~TDF_INMEM")),
        at("1077-1078", "ru_nswap of the first thread alone", Spot(SWAP, "swapout", "p.p_threads[0].ru_nswap += 1")),
        at("1086-1087", "then every stack", Spot(SWAP, "swapout", "scan.vm_thread_swapout(")),
        at("1090-1092", "P_SWAPPINGOUT goes, p_swtick, 0", Spot(SWAP, "swapout", "return 0")),
    ),
}
"""Rows by C function."""
