"""`vmglue status` of a machine in which something sleeps: processes by wait message, operations by what they want."""

import json

import pytest

from clients.cli import main
from clients.exits import Exit
from clients.keep import listen_address, served
from clients.machine_client import MachineClient
from clients.system import System
from clients.workload import load_workload

SHORT_OF_MEMORY = """\
[machine]
ram = "2 MiB"
swap = "32 MiB"

[[programs]]
name = "large"
count = 2
  [[programs.phases]]
  pattern = "uniform"
  memory = "3 MiB"
  references = 400_000

[[programs]]
name = "pool"
daemon = { call = "kqueue", every = "50 ms", wakeups = 40, threads = 3 }
"""
STEPS = 3000
"""Slices after which something of the kind must have happened."""


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A served system with a workload that lacks memory, and a client of it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("VMGLUE_TARGET", raising=False)
    (tmp_path / "short.toml").write_text(SHORT_OF_MEMORY)
    with System.local() as system, served(system, listen_address("")), MachineClient("default") as client:
        client.load(load_workload(str(tmp_path / "short.toml")))
        yield client


def status(capsys):
    assert main(["status", "--json"]) == Exit.OK
    return json.loads(capsys.readouterr().out)


def until(client, condition):
    for _ in range(STEPS):
        found = client.status()
        if condition(found):
            return
        client.step(1)
    raise AssertionError("it never came to that")


def test_a_fault_that_reads_a_page_is_told(kept, capsys):
    sleeping = ("vm_fault", "swread")
    until(
        kept,
        lambda found: any((row.function, row.wmesg) == sleeping for work in found.suspended for row in work.operations),
    )
    found = status(capsys)
    work = {work["service"]: work["operations"] for work in found["suspended"]}
    row = next(row for row in work["physmem"] if row["wmesg"] == "swread")
    assert row["function"] == "vm_fault"
    assert row["subject"].startswith("address space ")
    assert row["waits_for"].startswith("page frame ")
    assert row["until_us"] == row["since_us"] + 20_000_000
    read = next(read for read in work["pager"] if read["since_us"] == row["since_us"])
    assert (read["function"], read["wmesg"], read["waits_for"]) == ("swap_pager_getpages", "swread", "the device")
    assert read["since_us"] < read["until_us"] < row["until_us"]
    waiting = [waiter for waiter in found["waiters"] if "swread" in waiter["wmesg"]]
    assert [waiter["name"] for waiter in waiting] == ["large"]
    assert main(["status"]) == Exit.OK
    table = capsys.readouterr().out
    assert "suspended operations" in table
    assert "vm_fault" in table


def test_all_waits_of_a_process_with_threads_are_told(kept, capsys):
    until(kept, lambda found: any("umtxn, " in waiter.wmesg for waiter in found.waiters))
    waits = {waiter["name"]: waiter["wmesg"] for waiter in status(capsys)["waiters"]}
    assert waits["pool"].startswith("umtxn, ")
    assert (waits["kernel"], waits["init"], waits["vmdaemon"]) == ("swapin", "wait", "psleep")
