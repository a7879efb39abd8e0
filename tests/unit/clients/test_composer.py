"""Composed workloads: made-up programs, daemons, arrivals, pauses, phases of a day, and scaled memory."""

from pathlib import Path

import numpy as np
import pytest

from clients.arrivals import starts
from clients.made import MEMORY_VPN, ROUNDS, made_trace, visited_pages
from clients.scaled import STRETCH, scaled
from clients.streams import THINK_CALL, Stream, references
from clients.trace import MAP_FILE, Op, Trace, run_kinds, run_vpn
from clients.workload import TRACES, Program, WorkloadError, load_workload
from clients.workload_model import Phase
from services.ports.scheduler import TrapOp

MADE = """\
[phases]
evening = "2 h"

[[programs]]
name = "httpd"
phase = "evening"
start = "5 s"
daemon = { call = "accept", every = "3 s", wakeups = 4, memory = "64 KiB" }

[[programs]]
name = "batch"
arrivals = "poisson"
start_every = "1 s"
count = 3
  [[programs.phases]]
  pattern = "scan"
  memory = "1 MiB"
  references = 1000
  [[programs.phases]]
  pattern = "zipf"
  memory = "2 MiB"
  references = 4000
  burst = 1000
  think = "2 s"
  call = "select"
"""


def load(folder: Path, text: str):
    path = folder / "w.toml"
    path.write_text(text)
    return load_workload(str(path))


def test_made_programs_are_read(tmp_path):
    httpd, batch = load(tmp_path, MADE).programs
    assert (httpd.start_us, httpd.name) == (7_205_000_000, "httpd")
    fill, work = httpd.phases
    assert (fill.pattern, fill.pages, fill.writes) == ("scan", 16, 1.0)
    assert (work.call, work.think_us, work.references, work.burst) == ("accept", 3_000_000, 256, 64)
    assert [phase.pattern for phase in batch.phases] == ["scan", "zipf"]
    assert batch.arrivals == "poisson"


def test_threads_share_a_burst(tmp_path):
    alone = load(tmp_path, MADE).programs[1].phases
    shared = load(tmp_path, MADE.replace("burst = 1000", "burst = 1000\n  threads = 3")).programs[1].phases
    assert (alone[1].threads, shared[1].threads) == (1, 3)
    one, many = made_trace("batch", alone), made_trace("batch", shared)
    assert many.header.totals.references == one.header.totals.references
    main, *threads = many.tasks
    bursts = sum(row["op"] == Op.SLEEP for row in main.ops)
    assert len(threads) == 3 * bursts
    assert [Op(row["op"]) for row in main.ops[:8]] == [Op.SLEEP, *[Op.THR_NEW] * 3, *[Op.THR_JOIN] * 3, Op.SLEEP]
    assert [row["a"] for row in main.ops[1:7]] == [1, 2, 3, 1, 2, 3]
    assert all([row["op"] for row in thread.ops] == [Op.THR_EXIT] for thread in threads)
    assert np.array_equal(
        np.concatenate([main.runs, *(thread.runs for thread in threads)]), np.concatenate([t.runs for t in one.tasks])
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        (
            '"accept"',
            '"acept"',
            8,
            "expected one of nanosleep, accept, kqueue, select, procstat; did you mean 'accept'?",
        ),
        ("wakeups = 4, ", "", 8, "the key 'wakeups' is missing"),
        ('phase = "evening"', 'phase = "morning"', 6, "expected one of evening"),
        ('pattern = "zipf"', 'pattern = "zip"', 20, "did you mean 'zipf'?"),
        ("burst = 1000", "bursts = 1000", 23, "did you mean 'burst'?"),
        ('arrivals = "poisson"', 'trace = "sort"', 10, "trace and phases exclude one another"),
        ('arrivals = "poisson"', "memory_scale = 2", 12, "only a captured program's memory is scaled"),
        ("burst = 1000", "burst = 1\n  threads = 64", 19, "4000 bursts by 64 threads; expected at most 20000"),
        ("wakeups = 4,", "wakeups = 9999, threads = 4,", 8, "9999 bursts by 4 threads; expected at most 20000"),
        ("wakeups = 4,", "wakeups = 1000000, touches = 99999,", 8, "expected at most 25000000"),
    ],
)
def test_a_mistake_has_its_line_and_the_remedy(tmp_path, old, new, line, says):
    with pytest.raises(WorkloadError) as wrong:
        load(tmp_path, MADE.replace(old, new, 1))
    assert says in str(wrong.value)
    assert f"w.toml:{line}:" in str(wrong.value)


def test_patterns_visit_what_they_say():
    def visits(pattern, count, **more):
        return visited_pages(Phase(pattern, 64, 1, **more), count, seed=3)

    assert visits("scan", 130).tolist() == [*range(64), *range(64), 0, 1]
    loop = visits("loop", 8 * ROUNDS + 2)
    assert set(loop[: 8 * ROUNDS].tolist()) == set(range(8))
    assert loop[8 * ROUNDS :].tolist() == [8, 9]
    uniform = np.bincount(visits("uniform", 64_000), minlength=64)
    assert uniform.min() > 800
    assert uniform.max() < 1200
    zipf = np.sort(np.bincount(visits("zipf", 64_000), minlength=64))[::-1]
    assert zipf[0] / zipf[1] == pytest.approx(2, rel=0.1)
    assert zipf[0] / zipf[9] == pytest.approx(10, rel=0.2)


def test_a_made_trace_keeps_its_promise():
    phases = (Phase("scan", 16, 128, writes=1.0), Phase("zipf", 16, 800, burst=400, think_us=7, call="accept"))
    trace = made_trace("x", phases)
    (task,) = trace.tasks
    sleeps = [(int(row["a"]), int(row["b"])) for row in task.ops if row["op"] == Op.SLEEP]
    assert sleeps[:2] == [(7, 43), (7, 43)]
    assert task.ops[-1]["op"] == Op.EXIT
    memory = task.runs[run_vpn(task.runs) >= MEMORY_VPN]
    assert references(memory) == 928
    assert (run_kinds(memory[:16]) == 3).all()
    assert run_vpn(memory).max() < MEMORY_VPN + 16
    again = made_trace("x", phases).tasks[0]
    assert (again.runs == task.runs).all()
    assert again.ops.tolist() == task.ops.tolist()


def test_arrivals():
    regular = Program(Path("x"), "x", count=3, start_us=5, start_every_us=10)
    assert starts(regular, 1, 0) == [5, 15, 25]
    poisson = Program(Path("x"), "x", count=4000, start_us=5, start_every_us=1000, arrivals="poisson")
    times = starts(poisson, 1, 0)
    gaps = np.diff(times)
    assert times[0] == 5
    assert gaps.mean() == pytest.approx(1000, rel=0.05)
    assert gaps.std() == pytest.approx(1000, rel=0.08)
    assert times == starts(poisson, 1, 0)
    assert times != starts(poisson, 2, 0)
    assert times != starts(poisson, 1, 1)


def test_a_pause_between_two_executions():
    trace = made_trace("x", (Phase("scan", 4, 32),))
    stream = Stream(trace, trace.tasks[0], repeats_left=1, think_us=900)
    stream.advance(stream.limit())
    pause = stream.trap()
    assert (pause.op, pause.a, pause.b) == (TrapOp.SLEEP, 900, THINK_CALL)
    assert stream.at_operation()
    assert stream.trap().op is TrapOp.EXEC
    stream.advance(stream.limit())
    assert stream.trap().op is TrapOp.EXIT


def test_scaled_memory():
    trace = Trace.open(TRACES / "daemon.vmtrace")
    large = scaled(trace, 3)
    assert scaled(trace, 1) is trace
    for old, new in zip(trace.tasks, large.tasks, strict=True):
        memory = run_kinds(old.runs) != 0
        copies = run_vpn(new.runs)[memory] - run_vpn(old.runs)[memory] * 3
        expected = np.arange(len(old.runs))[memory] // STRETCH % 3
        assert np.array_equal(copies, expected)
        assert np.array_equal(new.runs << np.uint64(37), old.runs << np.uint64(37))
        assert [r.npages for r in new.info.regions] == [3 * r.npages for r in old.info.regions]
        for was, now in zip(old.ops, new.ops, strict=True):
            if was["op"] == Op.MMAP:
                assert (now["a"], now["b"]) == (3 * was["a"], 3 * was["b"])
                if was["c"] & MAP_FILE:
                    assert now["d"] >> 32 == was["d"] >> 32
                    assert now["d"] & 0xFFFFFFFF == 3 * (was["d"] & 0xFFFFFFFF)
            elif was["op"] == Op.BRK:
                assert now["a"] == 3 * was["a"]
            elif was["op"] in (Op.FORK, Op.EXEC, Op.EXIT, Op.WAIT):
                assert now.tolist() == was.tolist()
