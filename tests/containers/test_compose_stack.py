"""The compose file's four services run `tiny` to the same hash as one process does."""

from __future__ import annotations

import pytest
from systems import start_system

from clients.run import Run
from clients.system import System, SystemConfig
from clients.workload import load_workload

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


def run_tiny(system: System) -> dict:
    run = Run(system.kernel, load_workload("tiny"))
    run.boot()
    return run.report(run.execute())


def test_tiny_has_the_hash_of_the_local_wiring(stack):
    with System.join(stack.addresses, SystemConfig(stack.machine, stack.redis)) as system:
        there = run_tiny(system)
    with start_system("local") as system:
        here = run_tiny(system)
    assert there["end"] == "complete"
    assert there["integrity"]["mismatches"] == 0
    assert there["counters_differ"] == {}
    assert there["event_hash"] == here["event_hash"]
