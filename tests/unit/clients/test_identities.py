"""Counters that add up: each identity is seen to be violated."""

import pytest

from clients.identities import violated
from services.ports.scheduler import ProcessRow, SchedulerStats

COUNTERS = {
    "vm.stats.vm.v_page_count": 100,
    "vm.stats.vm.v_page_size": 4096,
    "vm.stats.vm.v_free_count": 40,
    "vm.stats.vm.v_cache_count": 5,
    "vm.stats.vm.v_active_count": 20,
    "vm.stats.vm.v_inactive_count": 20,
    "vm.stats.vm.v_wire_count": 15,
    "vm.stats.vm.v_vm_faults": 30,
    "vm.stats.vm.v_io_faults": 9,
    "vm.stats.vm.v_cow_faults": 6,
    "vm.stats.vm.v_cow_optim": 2,
    "vm.stats.vm.v_zfod": 12,
    "vm.stats.vm.v_ozfod": 1,
    "vm.stats.sys.v_trap": 29,
    "vm.stats.vm.v_forks": 2,
    "vm.stats.vm.v_vforks": 1,
    "vm.stats.vm.v_tfree": 50,
    "vm.stats.vm.v_dfree": 20,
    "vm.stats.vm.v_pfree": 25,
    "vm.stats.vm.v_tcached": 12,
    "vm.stats.vm.v_reactivated": 4,
    "vm.stats.vm.v_vnodein": 7,
    "vm.stats.vm.v_vnodepgsin": 13,
    "vm.stats.vm.v_vnodeout": 2,
    "vm.stats.vm.v_vnodepgsout": 6,
    "vmglue.physmem.pages_read": 33,
    "vmglue.physmem.pages_written": 70,
    "vmglue.pager.device_pages_read": 20,
    "vmglue.pager.device_pages_written": 64,
    "vm.stats.vm.v_swapin": 3,
    "vm.stats.vm.v_swappgsin": 20,
    "vm.stats.vm.v_swapout": 2,
    "vm.stats.vm.v_swappgsout": 64,
    "vm.swap_total": 409_600,
    "vmglue.pager.swap_used": 44,
    "vmglue.pager.swap_avail": 56,
}
ROWS = [
    ProcessRow(pid=1, flags=0x200, end_us=-1),
    ProcessRow(pid=100, minor_faults=12, major_faults=4, swaps=2, state="swapped", end_us=-1),
    ProcessRow(pid=101, minor_faults=5, major_faults=5, swaps=1, state="ended"),
    ProcessRow(pid=102, state="run", end_us=-1),
]
STATS = SchedulerStats(swapouts=3, swapins=2)


def test_counters_that_add_up():
    assert violated(COUNTERS, ROWS, STATS) == []


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (
            "vm.stats.vm.v_wire_count",
            16,
            "free, cached and wired is 101, expected at most v_page_count",
        ),
        ("vm.stats.vm.v_zfod", 25, "v_zfod + v_cow_faults is 31"),
        ("vm.stats.vm.v_io_faults", 31, "v_io_faults is 31"),
        ("vm.stats.vm.v_io_faults", 8, "major faults of all processes is 9"),
        ("vm.stats.vm.v_ozfod", 13, "v_ozfod is 13"),
        ("vm.stats.vm.v_cow_optim", 7, "v_cow_optim is 7"),
        ("vm.stats.sys.v_trap", 31, "v_trap is 31"),
        ("vm.stats.vm.v_rforks", 1, "v_forks + v_vforks + v_rforks is 4, expected at most programs started, 3"),
        ("vm.stats.vm.v_forks", -1, "programs ended is 1, expected at most v_forks + v_vforks + v_rforks, 0"),
        ("vm.stats.vm.v_kthreadpages", 1, "v_kthreadpages is 1"),
        ("vm.stats.vm.v_vnodein", 5, "v_io_faults is 9, expected at most v_swapin + v_vnodein, 8"),
        ("vm.stats.vm.v_vnodein", 14, "v_vnodein is 14, expected at most v_vnodepgsin, 13"),
        ("vm.stats.vm.v_vnodeout", 7, "v_vnodeout is 7, expected at most v_vnodepgsout, 6"),
        ("vm.stats.vm.v_pfree", 31, "v_dfree + v_pfree is 51, expected at most v_tfree, 50"),
        ("vm.stats.vm.v_reactivated", 8, "v_reactivated + v_cache_count is 13, expected at most v_tcached, 12"),
        ("vmglue.physmem.pages_read", 32, "had read is 32, expected exactly v_swappgsin + v_vnodepgsin, 33"),
        ("vmglue.physmem.pages_written", 71, "had written is 71, expected exactly v_swappgsout + v_vnodepgsout, 70"),
        ("vmglue.pager.device_pages_read", 21, "devices have read is 21, expected exactly v_swappgsin, 20"),
        ("vmglue.pager.device_pages_written", 63, "devices have written is 63, expected exactly v_swappgsout, 64"),
        ("vm.stats.vm.v_swapin", 21, "v_swapin is 21"),
        ("vm.stats.vm.v_swapout", 1, "v_swappgsout is 64, expected at most 32 v_swapout, 32"),
        ("vmglue.pager.swap_used", 45, "101, expected exactly pages of vm.swap_total + swap_surplus, 100"),
    ],
)
def test_a_counter_that_does_not(name, value, says):
    assert says in "; ".join(violated({**COUNTERS, name: value}, ROWS, STATS))


@pytest.mark.parametrize(
    ("stats", "says"),
    [
        (SchedulerStats(swapouts=3, swapins=1), "swapouts - swapins is 2, expected exactly processes swapped out, 1"),
        (SchedulerStats(swapouts=4, swapins=3), "swaps of all processes is 3, expected exactly swapouts, 4"),
    ],
)
def test_processes_that_do_not(stats, says):
    assert says in "; ".join(violated(COUNTERS, ROWS, stats))


def test_faults_of_processes_are_counted_once():
    more = [*ROWS[:-1], ProcessRow(pid=102, state="run", minor_faults=5, end_us=-1)]
    assert "faults of all processes is 31" in violated(COUNTERS, more, STATS)[0]
