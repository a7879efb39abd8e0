"""swapon and swapoff during a run: what lies on the device comes in, nothing is lost, and where C panics we do."""

import errno
from signal import SIGSEGV

import pytest
from systems import WIRINGS, start_system

from clients.checkpoint import restore, take
from clients.run import Ending, Limit, Run
from clients.system import System
from clients.workload import load_workload
from services.ports.common import Status
from services.ports.pager import PagerBoot, SwapDisk
from services.ports.physmem import PhysmemBoot
from services.runtime.events import Kind, unpack

WORKLOAD = """
[machine]
ram = "6 MiB"
swap = [
  {{ kind = "hdd", size = "16 MiB", faults = {{ read = {read} }} }},
  {{ kind = "nvme", size = "16 MiB" }},
  {{ size = "8 MiB", later = true }},
]
[[programs]]
name = "work"
count = 3
  [[programs.phases]]
  pattern = "scan"
  memory = "3 MiB"
  references = 230_400
  visit = 100
  writes = 1.0
  burst = 76_800
  think = "4 s"
[[programs]]
name = "busy"
start = "9.5 s"
  [[programs.phases]]
  pattern = "loop"
  memory = "64 KiB"
  references = 60_000_000
  visit = 1000
[[programs]]
name = "admin"
  [[programs.phases]]
  pattern = "scan"
  memory = "16 KiB"
  references = 8
  think = "10 s"
  swapoff = 0
  [[programs.phases]]
  pattern = "scan"
  memory = "16 KiB"
  references = 8
  think = "200 ms"
  swapon = 2
"""


@pytest.fixture
def workload(tmp_path):
    def load(read=0):
        (tmp_path / "off.toml").write_text(WORKLOAD.format(read=read))
        return load_workload(str(tmp_path / "off.toml"))

    return load


def report_of(run):
    run.boot()
    return run.report(run.execute())


def test_pages_of_a_device_that_goes_are_not_lost(workload):
    hashes = set()
    for wiring in WIRINGS:
        with start_system(wiring) as system:
            run = Run(system.kernel, workload(), check=True)
            report = report_of(run)
            hashes.add(report["event_hash"])
            assert report["end"] == "complete"
            assert (report["integrity"]["mismatches"], report["identities"]) == (0, [])
            assert report["pageins"] > 500
            events = unpack(system.kernel.pager.events(0, 1 << 20).records)
            told = [(e.kind, e.subject, e.outcome) for e in events if e.kind in (Kind.SWAPON, Kind.SWAPOFF)]
            assert told == [(Kind.SWAPOFF, 0, 0), (Kind.SWAPOFF, 0, 1), (Kind.SWAPON, 2, 0)]
            assert next(e for e in events if e.kind == Kind.SWAPOFF).b > 50
            status = system.kernel.pager.swap_status()
            assert [(row.device, row.kind) for row in status.devices] == [(1, "nvme"), (2, "ssd")]
            assert (status.total, status.avail + status.used) == (6144, 6146)
    assert len(hashes) == 1


def test_a_checkpoint_in_the_middle_of_swapoff_goes_on_alike(workload):
    with System.local() as system, System.local() as other:
        run = Run(system.kernel, workload())
        run.boot()
        for slices in range(1, 10_000):
            if any(op.function == "swap_pager_swapoff" for op in system.kernel.physmem.suspended().operations):
                break
            assert run.execute(limit=Limit(dispatches=slices)) is Ending.PAUSED
        (row,) = (row for row in system.kernel.pager.swap_status().devices if row.flags)
        assert row.used > 10
        restored = restore(other.kernel, take(run))
        assert restored.report(restored.execute())["event_hash"] == run.report(run.execute())["event_hash"]


def test_a_page_that_cannot_be_read_back_panics(workload):
    with System.local() as system:
        run = Run(system.kernel, workload(read=100_000))
        report = report_of(run)
        assert {row["status"] for row in report["processes"]} == {0, -SIGSEGV}
        assert (report["end"], run.panic.text) == ("panic", "swap_pager_force_pagein: read from swap failed")


@pytest.mark.parametrize("wiring", WIRINGS)
def test_what_swapon_and_swapoff_refuse_and_what_the_last_device_leaves(wiring):
    with start_system(wiring) as system:
        kernel = system.kernel
        kernel.ctx.reboot(1000, 0, allow_inject=False)
        kernel.pager.boot(PagerBoot([SwapDisk(600), SwapDisk(300, "hdd", later=True)], page_count=1000))
        kernel.physmem.boot(PhysmemBoot(ram_pages=1000))
        assert kernel.physmem.swapon(0).error == errno.EBUSY
        assert kernel.physmem.swapon(2).error == errno.ENODEV
        assert kernel.physmem.swapoff(1, 0).error == errno.EINVAL
        answer = kernel.physmem.swapoff(0, 0)
        assert (answer.status, answer.error) == (Status.DONE, 0)
        status = kernel.pager.swap_status()
        assert (status.total, status.avail, status.full, status.almost_full, status.devices) == (0, 2, 2, 1, [])
        assert kernel.physmem.swapon(1).error == 0
        status = kernel.pager.swap_status()
        assert (status.total, status.avail, status.full, status.almost_full) == (300, 302, 0, 1)
        assert kernel.pager.check().violations == []


def test_swapoff_needs_room_for_what_it_brings_in():
    with System.local() as system:
        kernel = system.kernel
        kernel.ctx.reboot(1000, 0, allow_inject=False)
        kernel.pager.boot(PagerBoot([SwapDisk(600)], page_count=100))
        kernel.physmem.boot(PhysmemBoot(ram_pages=100))
        assert kernel.physmem.swapoff(0, 0).error == errno.ENOMEM
        assert kernel.pager.swap_status().devices[0].flags == 0
