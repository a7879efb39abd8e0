"""Real recordings under valgrind."""

import shutil

import numpy as np
import pytest

from clients.capture import CaptureError, capture
from clients.streams import Stream, references
from clients.trace import Op, Trace, run_kinds, run_vpn
from services.ports.scheduler import TrapOp

pytestmark = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")


def ops(task):
    return [(Op(int(row["op"])), int(row["a"]), int(row["b"])) for row in task.ops]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("capture") / "shell.vmtrace"
    summary = capture(["sh", "-c", "echo 2 | cat; sleep 0.25; exit 3"], path)
    return summary, Trace.open(path)


def test_a_shell_its_pipeline_and_a_sleep(recorded):
    summary, trace = recorded
    names = [task.name for task in trace.header.tasks]
    assert sorted(names) == ["cat", "sh", "sh", "sleep"]
    assert [task.parent for task in trace.header.tasks] == [-1, 0, 0, 0]
    assert (summary.exit_status, summary.tasks, summary.truncated) == (3, 4, False)
    assert ops(trace.tasks[0])[-1] == (Op.EXIT, 3 << 8, 0)
    assert sum(op is Op.WAIT for op, _, _ in ops(trace.tasks[0])) == 3
    sleeper = trace.tasks[names.index("sleep")]
    assert (Op.SLEEP, 250_000, 230) in ops(sleeper)


def test_every_image_was_read_from_its_process(recorded):
    _, trace = recorded
    files = [f.name for f in trace.header.files]
    for image in [trace.header.tasks[0], *(image for task in trace.header.tasks for image in task.execs)]:
        kinds = {region.kind for region in image.regions}
        assert kinds >= {"image", "stack", "brk"}
        mapped = {files[region.file] for region in image.regions if region.kind == "image"}
        assert {"sh": "dash"}.get(image.name, image.name) in mapped or image.name == "sh"


def test_every_reference_is_mapped_when_it_is_made(recorded):
    """Play the maps of each task page by page, without the code that completed them."""
    _, trace = recorded
    maps = {0: covered(trace.tasks[0].info.regions)}
    for task in trace.tasks:
        mapped = maps[task.info.index]
        brk = heap_end(task.info.regions)
        for runs, row in task.segments():
            used = {int(vpn) for vpn in np.unique(run_vpn(runs[run_kinds(runs) != 0]))}
            assert used <= mapped
            if row is None:
                continue
            op, a, b = Op(int(row["op"])), int(row["a"]), int(row["b"])
            if op is Op.MMAP:
                mapped |= set(range(a, a + b))
            elif op is Op.MUNMAP:
                mapped -= set(range(a, a + b))
            elif op is Op.BRK:
                mapped |= set(range(brk, a))
                mapped -= set(range(a, brk))
                brk = a
            elif op is Op.FORK:
                maps[a] = set(mapped)
            elif op is Op.EXEC:
                mapped = covered(task.info.execs[a].regions)
                brk = heap_end(task.info.execs[a].regions)


def covered(regions):
    return {vpn for r in regions for vpn in range(r.start_vpn, r.start_vpn + r.npages)}


def heap_end(regions):
    return max((r.start_vpn + r.npages for r in regions if r.kind == "brk"), default=0)


def test_the_header_adds_up(recorded):
    summary, trace = recorded
    totals = trace.header.totals
    assert totals.references == summary.references == sum(references(task.runs) for task in trace.tasks)
    assert totals.records == summary.records == sum(len(task.runs) for task in trace.tasks)
    assert totals.instructions < totals.references < 3 * totals.instructions


def test_a_stream_replays_it_to_the_end(recorded):
    _, trace = recorded
    stream, done = Stream(trace, trace.tasks[0]), []
    while not done or done[-1] is not TrapOp.EXIT:
        while not stream.at_operation():
            stream.advance(len(stream.batch()))
        done.append(stream.trap().op)
    assert stream.record == len(trace.tasks[0].runs)
    assert done.count(TrapOp.FORK) == 3


def test_a_recording_stops_at_its_limit(tmp_path):
    summary = capture(["sh", "-c", "while :; do :; done"], tmp_path / "t.vmtrace", max_refs=300_000)
    trace = Trace.open(tmp_path / "t.vmtrace")
    assert summary.truncated
    assert trace.header.truncated
    assert summary.references >= 300_000
    assert "--max-refs 300000" in trace.header.remake
    assert ops(trace.tasks[0])[-1] == (Op.EXIT, 9, 0)


def test_nothing_is_left_when_the_program_does_not_exist(tmp_path):
    with pytest.raises(CaptureError, match="no such command on PATH"):
        capture(["no-such-program"], tmp_path / "t.vmtrace")
    assert list(tmp_path.iterdir()) == []
