"""Where wall time goes: calls are counted and timed, and the run stays what it is."""

import pytest
from made_trace import make_workload
from systems import start_system

from clients.profile import Profile
from clients.run import Run
from clients.workload import load_workload
from services.runtime.errors import Refused


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
