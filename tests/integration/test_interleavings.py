"""Two thousand seeded interleavings of a small machine; one of them in both wirings and over a checkpoint."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from systems import WIRINGS, start_system

from services.runtime.preemption import Act
from tests.interleaving.machine import boot, run, workload
from tests.interleaving.many import Total, run_all

pytestmark = pytest.mark.timeout(900)  # 40 s on two processors; the limit is for a host that does much else
ROOT = Path(__file__).parents[2]
SEEDS = range(1, 2001)
CALLED = re.compile(r"""(?:preempt|_unlocked)\(\s*"(\w+:\d+)\"""")
LISTED = re.compile(r"^\| `(\w+):(\d+)` \|", re.MULTILINE)


@pytest.fixture(scope="module")
def total():
    """All of them, with every processor of the host."""
    total = Total()
    for part in run_all(SEEDS, os.cpu_count() or 1):
        total.add(part)
    return total


def listed() -> list[str]:
    """Points of the table in docs/preemption.md."""
    return [":".join(found) for found in LISTED.findall((ROOT / "docs/preemption.md").read_text())]


def test_every_interleaving_keeps_the_invariants(total):
    assert total.runs == len(SEEDS)
    assert total.broken == [], "\n".join(total.broken)


def test_the_machine_went_through_what_it_is_there_for(total):
    seen = total.seen
    assert seen.swapouts > len(SEEDS)
    assert seen.swapins > len(SEEDS)
    assert seen.busy > 50
    assert {act for _, _, act in seen.acts} == set(Act)


def test_something_happened_at_every_point(total):
    lines = Counter(line for _, line, _ in total.seen.acts)
    assert set(lines) == {int(point.partition(":")[2]) for point in listed()}


def test_the_table_lists_the_points_of_the_code():
    sources = [path.read_text() for path in sorted((ROOT / "services").rglob("*.py"))]
    called = {point for text in sources for point in CALLED.findall(text)}
    assert sorted(called) == sorted(listed())


@pytest.fixture(scope="module")
def hashes():
    """Digests after one interleaving, by wiring."""
    found = {}
    for wiring in WIRINGS:
        with start_system(wiring) as system:
            run(system.kernel, 7)
            found[wiring] = {name: port.digest() for name, port in system.kernel.ports().items()}
    return found


def test_both_wirings_go_the_same_way(hashes):
    assert hashes["local"] == hashes["grpc"]


def test_without_a_seed_nothing_happens():
    with start_system("local") as system:
        machine = workload(0).machine
        assert machine.preempt_seed == 0
        assert sum(run(system.kernel, 0).acts.values()) == 0


def test_a_checkpoint_holds_the_streams(hashes):
    with start_system("local") as system:
        orchestrator = boot(system.kernel, 7)
        for _ in range(60):
            orchestrator.step()
        saved = {name: port.checkpoint_save(0).data for name, port in system.kernel.ports().items()}
        ctx = system.kernel.ctx
        clock, upcalls = (ctx.now_us, ctx.ticks), ctx.upcalls
    with start_system("local") as other:
        boot(other.kernel, 0)
        for name, port in other.kernel.ports().items():
            port.checkpoint_load(0, len(saved[name]), saved[name])
        for port in other.kernel.ports().values():
            port.checkpoint_commit()
        ctx = other.kernel.ctx
        (ctx.now_us, ctx.ticks), ctx.upcalls = clock, upcalls
        orchestrator.kernel = orchestrator._references.kernel = other.kernel
        while orchestrator.step():
            pass
        assert {name: port.digest() for name, port in other.kernel.ports().items()} == hashes["local"]
