import subprocess
import sys

import pytest

from clients import system
from clients.exits import SystemFailed
from clients.system import ServiceProcess, System
from services.runtime.errors import ServiceLost

POLITE = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
BROKEN = "import sys; print('up', flush=True); print('no swap file', file=sys.stderr); sys.exit(5)"


@pytest.fixture
def start(tmp_path):
    started = []

    def start(name: str, program: str) -> ServiceProcess:
        log = tmp_path / f"{name}.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=stderr)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        started.append(process)
        return ServiceProcess(name, "unix:/nowhere", process, log)

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_processes_are_asked_first_and_killed_if_they_do_not_end(start, monkeypatch):
    monkeypatch.setattr(system, "STOP_S", 1.0)
    polite, stubborn = start("kstack", POLITE), start("pager", STUBBORN)
    system._stop({"pager": stubborn, "kstack": polite})
    assert polite.process.returncode == 7
    assert stubborn.process.returncode == -9


def test_a_service_that_ended_is_found_with_its_status_and_log(start):
    broken = start("pager", BROKEN)
    broken.process.wait()
    kept = System(kernel=None, processes={"kstack": start("kstack", POLITE), "pager": broken})
    with pytest.raises(SystemFailed) as caught:
        kept.check()
    assert str(caught.value).startswith(f"pager (pid {broken.process.pid}) ended with exit status 5")
    assert str(caught.value).endswith("no swap file")
    explained = kept.explain(ServiceLost("kstack", "its call of the pager failed"))
    assert str(explained) == str(caught.value), "the service that ended is the reason, not the one that noticed"


def test_a_service_that_hangs_is_named_with_what_was_seen(start):
    kept = System(kernel=None, processes={"pager": start("pager", STUBBORN)})
    kept.check()
    explained = str(kept.explain(ServiceLost("pager", "it did not answer in time")))
    assert "it did not answer in time" in explained
    assert "does not answer" in explained


def test_directories_of_killed_commands_are_swept_and_others_left(tmp_path):
    for name, owner in (
        ("vmglue-dead", '{"pid": 4194303, "started": 1.0}'),
        ("vmglue-odd", "not JSON"),
        ("vmglue-none", None),
        ("other-dead", '{"pid": 4194303, "started": 1.0}'),
    ):
        (tmp_path / name).mkdir()
        if owner is not None:
            (tmp_path / name / "owner.json").write_text(owner)
    system._sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other-dead", "vmglue-none", "vmglue-odd"]
