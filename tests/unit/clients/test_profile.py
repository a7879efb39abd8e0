"""Where wall time goes: calls are counted and timed, and the run stays what it is."""

from types import SimpleNamespace

import pytest
from made_trace import make_workload
from systems import start_system

from clients.profile import PARTS, Profile
from clients.run import Run
from clients.workload import load_workload
from services.runtime.context import Context, WallTime
from services.runtime.errors import Refused, ServiceLost


def run(folder, profiled):
    workload = load_workload(str(make_workload(folder)))
    with start_system("local") as system:
        profile = Profile(system.kernel) if profiled else None
        timed = Run(system.kernel, workload, profile=profile)
        timed.boot()
        return timed.report(timed.execute())


def test_a_profiled_run_has_the_same_hash(tmp_path):
    plain, timed = run(tmp_path, False), run(tmp_path, True)
    assert plain["event_hash"] == timed["event_hash"]
    assert plain["profile"] == []
    rows = {row["what"]: row for row in timed["profile"]}
    assert rows["physmem.access_kept"]["calls"] > 100
    assert rows["scheduler.report"]["calls"] == timed["dispatches"]
    assert rows["physmem.access_kept"]["seconds"] > 0
    assert [row["what"] for row in timed["profile"]][-1] == "orchestrator"
    seconds = [row["seconds"] for row in timed["profile"][:-1]]
    assert seconds == sorted(seconds, reverse=True)


def test_a_refused_call_is_timed_and_stays_refused():
    with start_system("local") as system:
        profile = Profile(system.kernel)
        with pytest.raises(Refused):
            system.kernel.scheduler.next(0)
        assert profile.calls["scheduler", "next"][0] == 1


def test_the_parts_are_all_of_a_runs_wall_time(tmp_path):
    timed = run(tmp_path, True)
    rows = timed["wall_split"]
    assert [row["part"] for row in rows] == list(PARTS)
    assert sum(row["share"] for row in rows) == pytest.approx(100)
    assert sum(row["seconds"] for row in rows) == pytest.approx(timed["wall_seconds"], rel=0.02, abs=0.01)
    assert all(row["seconds"] > 0 for row in rows if row["part"] != "Redis")


class TimedKernel:
    """Four services whose wall times a test sets."""

    def __init__(self):
        self.ctx, self.lost = Context("orchestrator"), False
        self.times = {name: WallTime() for name in ("pager", "physmem", "kstack", "scheduler")}

    def ports(self):
        return {}

    def service_rows(self):
        return []

    def wall_times(self):
        if self.lost:
            raise ServiceLost("pager", "gone")
        return self.times


@pytest.fixture
def timed(monkeypatch):
    """A kernel, a clock that stands, and a profile of both."""
    clock = SimpleNamespace(now_s=5.0)
    monkeypatch.setattr("clients.profile.time.perf_counter", lambda: clock.now_s)
    kernel = TimedKernel()
    return kernel, clock, Profile(kernel)


def test_a_part_has_what_nobody_below_it_had(timed):
    kernel, clock, profile = timed
    kernel.times["physmem"] = WallTime(core_s=50, below_s=7, walk_s=11)  # from before: it does not count
    profile.begin()
    clock.now_s, kernel.ctx.wall.below_s = 25.0, 16.0
    kernel.times["scheduler"] = WallTime(core_s=6, below_s=4, board_s=0.25)
    kernel.times["kstack"] = WallTime(core_s=1, below_s=0.5, board_s=0.25)
    kernel.times["physmem"] = WallTime(core_s=50 + 8, below_s=7 + 2, walk_s=11 + 3, board_s=0.5)
    kernel.times["pager"] = WallTime(core_s=1)
    profile.end()
    found = {row["part"]: row["seconds"] for row in profile.split()}
    assert found == {"walk": 3, "faults": 4, "RPC": 5.5, "Redis": 1, "scheduler": 2.5, "orchestrator": 4}


def test_shares_add_up_where_rounding_would_not(timed):
    _, _, profile = timed
    profile.parts.update(dict.fromkeys(PARTS, 1.0))
    shares = [row["share"] for row in profile.split()]
    assert sorted(shares) == [16.5, *[16.7] * 5]


def test_what_a_lost_service_did_is_not_known(timed):
    kernel, clock, profile = timed
    profile.begin()
    clock.now_s, kernel.lost = 9.0, True
    profile.end()
    assert profile.split() == []
