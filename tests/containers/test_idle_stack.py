"""What the stack costs when nothing runs: processor time and memory, printed."""

from __future__ import annotations

import time

import pytest
from conftest import PROCESSES, Stack

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]
PARTS = (*PROCESSES, "redis")
WATCH_S = 30
IDLE_MAX = 0.05
"""Most of one processor that the idle stack may take, its health probes included."""
PSS_MAX_MIB = 700
CPU_USAGE = """
cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || sed -n 's/^usage_usec \\(.*\\)/\\1000/p' /sys/fs/cgroup/cpu.stat
"""
"""Nanoseconds of processor time of the container, in either version of control groups."""


def cpu_s(stack: Stack, part: str) -> float:
    return int(stack.inside(part, "sh", "-c", CPU_USAGE).stdout) / 1e9


def pss_mib(stack: Stack, part: str) -> float:
    """Proportional set size of a part's one process."""
    rollup = stack.inside(part, "cat", "/proc/1/smaps_rollup").stdout
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


@pytest.mark.slow
def test_idle_stack(built, tmp_path, capsys):  # noqa: ARG001 - the images must be there
    """With the interval of probes that the compose file has."""
    stack = Stack(tmp_path / "clients", VMGLUE_HEALTH_INTERVAL="5s")
    try:
        stack.up()
        before, begun = {part: cpu_s(stack, part) for part in PARTS}, time.monotonic()
        time.sleep(WATCH_S)
        # the two looks themselves cost a process or two each: they are in the figure
        cpu = {part: cpu_s(stack, part) - before[part] for part in PARTS}
        elapsed = time.monotonic() - begun
        pss = {part: pss_mib(stack, part) for part in PARTS}
    finally:
        stack.compose("down", "--volumes", "--timeout", "5")
    with capsys.disabled():
        print()
        for part in PARTS:
            print(f"{part:14}{cpu[part] / elapsed:7.2%} of a processor {pss[part]:7.1f} MiB PSS")
        print(f"{'idle stack':14}{sum(cpu.values()) / elapsed:7.2%} of a processor {sum(pss.values()):7.1f} MiB PSS")
    assert sum(cpu.values()) / elapsed < IDLE_MAX
    assert sum(pss.values()) < PSS_MAX_MIB
