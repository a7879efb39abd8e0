"""docs/waits.md against the code and against runs: every wait is in it, and none outlasts C's own bound."""

import ast
from pathlib import Path

import pytest

from clients.kernel import Kernel
from clients.orchestrator import Orchestrator
from clients.workload import load_workload
from hardware_sim.clock import US_PER_SECOND
from services.compose import compose_local
from services.ports.scheduler import DispatchKind
from services.runtime.context import Context
from services.runtime.counters import MemoryBoard
from services.scheduler.proc_flags import MAXSLP
from services.scheduler.state import VMDAEMON
from services.scheduler.syscalls import SYSCALLS

ROOT = Path(__file__).parents[2]
MESSAGE_AT = {"msleep": 4, "Suspension": 3, "vm_page_busy_sleep": 2, "_wait_for_pages": 2}
"""Position of the wait message among the arguments of whatever begins a sleep."""
HANDED_ON = {"wmesg", "sleep.wmesg", "suspension.wmesg", "row.wmesg"}
"""Messages that were chosen elsewhere: an argument, the sleep of the layer below, the table of system calls."""
BOUNDS = {"none": 0, "hz": 1, "hz / 2": 0.5, "hz / 20": 0.05, "20 * hz": 20, "MAXSLP * hz / 2": MAXSLP / 2}
"""Seconds."""
ANY = ("as recorded", "as asked")
TICK_US = 10_000
"""The longest tick, by which a timeout may end late."""


def table():
    """Bound in seconds of each wait message; 0: none, -1: the length that was asked for."""
    bounds = {}
    for line in (ROOT / "docs/waits.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0] != "message" and set(cells[0]) != {"-"}:
            assert cells[0] not in bounds, f"{cells[0]} has two rows"
            bounds[cells[0]] = -1 if cells[3] in ANY else BOUNDS[cells[3]]
    return bounds


def used():
    """Wait messages that the services' code has, with the places."""
    found = {row.wmesg: "services/scheduler/syscalls.py" for row in SYSCALLS if row.wmesg}
    for path in sorted((ROOT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            at = MESSAGE_AT.get(node.func.id)
            if at is None:
                continue
            named = [keyword.value for keyword in node.keywords if keyword.arg == "wmesg"]
            (message,) = named or node.args[at : at + 1]
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            if isinstance(message, ast.Constant):
                found[message.value] = where
            else:
                assert ast.unparse(message) in HANDED_ON, f"{where}: where does {ast.unparse(message)} come from?"
    return found


def test_every_wait_message_has_a_row_and_every_row_a_place():
    rows, places = set(table()), used()
    assert {message: places[message] for message in places.keys() - rows} == {}
    assert rows - places.keys() == set()


@pytest.mark.parametrize("name", ["tiny", "random:2", "random:11", "random:19"])
def test_no_sleep_outlasts_its_bound(name):
    bounds, seen = table(), set()
    ctx, board = Context("orchestrator"), MemoryBoard()
    system = compose_local(ctx, board, allow_inject=False)
    kernel = Kernel(
        ctx, system.pager, system.physmem, system.kstack, system.scheduler, board, "local", list, [system.close]
    )
    try:
        run = Orchestrator(kernel, load_workload(name))
        run.boot()
        while run.step():
            s = system.cores[3].k.s
            timers = {timer[1]: timer[0] for timer in s.timers}
            for td in s.threads.values():
                if td.td_wchan:
                    seen.add(td.td_wmesg)
                    assert _in_bounds(td, bounds[td.td_wmesg], timers, s.now_us), f"{td.td_wmesg} of tid {td.td_tid}"
        assert run.dispatch.kind is DispatchKind.FINISHED
    finally:
        kernel.close()
    assert {"swapin", "psleep", "wait"} < seen


def _in_bounds(td, seconds, timers, now_us):
    """The sleep ends in time, and has not gone on for longer; psleep is the vmdaemon's too, which has no timeout."""
    if seconds <= 0 or td.td_pid == VMDAEMON:
        return seconds < 0 or not td.td_timeout
    if not td.td_timeout:
        return False
    limit = td.td_asleep_since_us + int(seconds * US_PER_SECOND) + TICK_US
    return now_us <= limit and timers[td.td_timeout] <= limit
