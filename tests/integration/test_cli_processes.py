"""The command line as its users meet it: real processes, signals, a killed service, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "unit" / "clients"))

from made_trace import make_workload  # noqa: E402 - it lies in another folder of tests

from clients.exits import Exit  # noqa: E402 - after the path is set

COMMAND = Path(sys.executable).with_name("vmglue")
MARK = "VMGLUE_TEST_MARK"


class Commands:
    """Runs `vmglue` in a directory of its own, and knows everything that it leaves behind."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))  # short: socket paths are limited
        for name in ("tmp", "run", "work"):
            (self.home / name).mkdir(mode=0o700)
        self.mark = uuid.uuid4().hex
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VMGLUE_")},
            "TMPDIR": str(self.home / "tmp"),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "PYTHONPATH": str(ROOT),
            MARK: self.mark,
        }

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            env=self.environment,
            cwd=self.home / "work",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def processes(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        """A process of these commands: by its environment, or (Redis overwrites that) by its directory."""
        try:
            ours = process.environ().get(MARK) == self.mark or process.cwd().startswith(str(self.home))
            return ours and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def service(self, name: str) -> psutil.Process:
        return next(p for p in self.processes() if f"services.{name}" in " ".join(p.cmdline()))

    def redis(self) -> psutil.Process:
        return next(p for p in self.processes() if p.name() in ("redis-server", "valkey-server"))

    def leftovers(self, wait_s: float = 0) -> list[str]:
        """Processes, sockets and files that should not be there any more."""
        deadline = time.monotonic() + wait_s
        while (left := self._leftovers()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _leftovers(self) -> list[str]:
        files = [str(path) for name in ("tmp", "run") for path in (self.home / name).rglob("*") if not path.is_dir()]
        folders = [str(path) for path in (self.home / "tmp").iterdir()]
        return files + folders + [" ".join(p.cmdline()) for p in self.processes()]


@pytest.fixture
def vmglue():
    commands = Commands()
    yield commands
    for process in commands.processes():
        process.kill()
    shutil.rmtree(commands.home)


@pytest.fixture
def short(vmglue):
    """A workload of a second or two."""
    return make_workload(vmglue.home / "work", rounds=1)


@pytest.fixture
def endless(vmglue):
    """A workload that no test waits for."""
    return make_workload(vmglue.home / "work", rounds=1, repeat=100_000)


def wait_for_progress(process: subprocess.Popen[str]) -> str:
    """Read standard error up to the first line of progress."""
    assert process.stderr is not None
    lines = ""
    for line in process.stderr:
        lines += line
        if " virtual " in line:
            return lines
    raise AssertionError(f"the run ended: {lines}")


def event_hash(commands: Commands, *arguments: object) -> str:
    done = commands.run(*arguments, "--json", "--quiet")
    assert done.returncode == Exit.OK, done.stderr
    return json.loads(done.stdout)["event_hash"]


def test_a_run_over_processes_ends_like_a_local_one_and_leaves_nothing(vmglue, short):
    done = vmglue.run("run", short, "--json", "--check")
    assert done.returncode == Exit.OK, done.stderr
    report = json.loads(done.stdout)
    assert [row["name"] for row in report["services"]] == ["pager", "physmem", "kstack", "scheduler"]
    assert len({row["pid"] for row in report["services"]}) == 4
    assert all(row["pss_bytes"] > 1 << 20 for row in report["services"])
    assert report["counters_agree"]
    assert report["counters"]["vm.stats.vm.v_page_count"] == 1024
    assert report["event_hash"] == event_hash(vmglue, "run", short, "--wiring", "local")
    assert vmglue.leftovers() == []


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)],
)
def test_a_signal_ends_a_run_with_its_partial_report(vmglue, endless, number, code):
    process = vmglue.start("run", endless, "--json", "--html", "partial.html")
    wait_for_progress(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    report = json.loads(out)
    assert not report["complete"]
    assert report["end"] == "interrupted"
    assert report["integrity"]["mismatches"] == 0
    assert "ended early" in (vmglue.home / "work" / "partial.html").read_text()
    assert vmglue.leftovers() == []


def test_ctrl_c_while_services_start_leaves_nothing(vmglue, short):
    process = vmglue.start("run", short)
    deadline = time.monotonic() + 20
    while not any("services.scheduler" in " ".join(p.cmdline()) for p in vmglue.processes()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED
    assert vmglue.leftovers() == []


def test_services_end_with_a_command_that_was_killed(vmglue, endless):
    process = vmglue.start("run", endless)
    wait_for_progress(process)
    process.kill()
    process.communicate(timeout=10)
    deadline = time.monotonic() + 15
    while vmglue.processes():
        assert time.monotonic() < deadline, [p.cmdline() for p in vmglue.processes()]
        time.sleep(0.1)
    assert vmglue.leftovers(), "nobody was left to remove the directory"
    assert vmglue.run("run", endless, "--set", "no.such=1").returncode == Exit.BAD_INPUT
    assert vmglue.leftovers() == [], "the next command does"


@pytest.mark.parametrize("service", ["physmem", "scheduler"])
def test_a_killed_service_is_named_with_its_signal_and_log(vmglue, endless, service):
    process = vmglue.start("run", endless)
    wait_for_progress(process)
    vmglue.service(service).kill()
    _, err = process.communicate(timeout=30)
    assert process.returncode == Exit.SERVICE_LOST
    assert f"{service} (pid " in err
    assert "was killed by SIGKILL" in err
    assert "its last log lines" in err
    assert vmglue.leftovers() == []


def test_a_run_does_not_need_redis_to_end(vmglue, short):
    expected = event_hash(vmglue, "run", short, "--wiring", "local")
    process = vmglue.start("run", short, "--json")
    wait_for_progress(process)
    vmglue.redis().kill()
    out, err = process.communicate(timeout=60)
    assert process.returncode == Exit.OK, err
    report = json.loads(out)
    assert report["event_hash"] == expected
    assert report["counters"] == {}
    assert vmglue.leftovers() == []


def test_a_service_that_cannot_start_is_explained(vmglue, short):
    vmglue.environment["VMGLUE_ALLOW_INJECT"] = "perhaps"
    done = vmglue.run("run", short)
    assert done.returncode == Exit.SERVICE_LOST
    assert "ended with exit status 2" in done.stderr
    assert "VMGLUE_ALLOW_INJECT=perhaps: expected 0 or 1" in done.stderr
    assert vmglue.leftovers() == []


@pytest.mark.parametrize("url", ["nonsense://", "redis://user:secret@127.0.0.1:1/0"])
def test_a_redis_that_is_not_there_is_bad_input(vmglue, short, url):
    done = vmglue.run("run", short, "--redis", url)
    assert done.returncode == Exit.BAD_INPUT
    assert done.stderr.count("\n") == 1
    assert "--redis" in done.stderr
    assert "secret" not in done.stderr
    assert vmglue.leftovers() == []


def test_bad_input_starts_nothing(vmglue):
    path = vmglue.home / "work" / "bad.toml"
    path.write_text('[machine]\nram = "lots"\n')
    done = vmglue.run("run", path)
    assert done.returncode == Exit.BAD_INPUT
    assert done.stderr.count("\n") == 1
    assert "bad.toml:2" in done.stderr
    assert vmglue.leftovers() == []


def test_unknown_sysctl_is_found_by_the_running_kernel(vmglue, short):
    done = vmglue.run("run", short, "--set", "vm.swap_enabledd=1", "--quiet")
    assert done.returncode == Exit.BAD_INPUT
    assert done.stderr.count("\n") == 1
    assert "vm.swap_enabled" in done.stderr
    assert vmglue.leftovers() == []


def test_a_system_stays_until_it_is_ended(vmglue, short):
    up = vmglue.run("up", "--detach")
    assert up.returncode == Exit.OK, up.stderr
    try:
        assert vmglue.run("up", "--detach").returncode == Exit.BAD_INPUT, "one default system a user"
        expected = event_hash(vmglue, "run", short, "--wiring", "local")
        assert event_hash(vmglue, "run", short, "--target", "default") == expected
        assert event_hash(vmglue, "run", short, "--target", "default") == expected, "a second load starts anew"
        assert event_hash(vmglue, "run", short, "--target", "default", "--seed", "4") != expected
        status = vmglue.run("status", "--json")
        assert status.returncode == Exit.OK
        found = json.loads(status.stdout)
        assert found["state"] == "finished"
        assert found["workload"] == "made"
        assert {row["health"] for row in found["services"]} == {"SERVING"}
        assert all(row["boot_id"] and row["pid"] and row["pss_bytes"] for row in found["services"])
        assert "SERVING" in vmglue.run("status").stdout
        assert vmglue.run("sysctl", "vm.swap_enabled=0").stdout.strip() == "vm.swap_enabled=0"
        assert vmglue.run("sysctl", "vm.swap_enabled").stdout.strip() == "vm.swap_enabled=0"
        wrong = vmglue.run("sysctl", "vm.kstacks=9")
        assert wrong.returncode == Exit.BAD_INPUT
        assert "vm.kstacks" in wrong.stderr
    finally:
        down = vmglue.run("down")
    assert down.returncode == Exit.OK, down.stderr
    assert vmglue.leftovers() == []


def test_services_that_run_elsewhere_are_used_and_left_alone(vmglue, short):
    assert vmglue.run("up", "--detach", "--allow-inject").returncode == Exit.OK
    services = json.loads(vmglue.run("status", "--json").stdout)
    of_the_kernel = [row for row in services["services"] if row["name"] != "orchestrator"]
    named = [part for row in of_the_kernel for part in ("--service", f"{row['name']}={row['address']}")]
    expected = event_hash(vmglue, "run", short, "--wiring", "local")
    done = vmglue.run("run", short, "--json", "--redis", services["redis"], *named)
    assert done.returncode == Exit.OK, done.stderr
    assert json.loads(done.stdout)["event_hash"] == expected
    conformed = vmglue.run("conform", ROOT / "tests/conformance/C_kernel_stacks.jsonl", "--target", "default")
    assert conformed.returncode == Exit.OK, conformed.stdout
    assert conformed.stdout.rstrip().endswith(" 0 failed")
    assert vmglue.run("down").returncode == Exit.OK
    assert vmglue.leftovers() == []


def test_ctrl_c_pauses_a_run_on_a_target(vmglue, endless):
    assert vmglue.run("up", "--detach").returncode == Exit.OK
    process = vmglue.start("run", endless, "--target", "default", "--json")
    wait_for_progress(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED, err
    report = json.loads(out)
    assert report["end"] == "paused"
    assert json.loads(vmglue.run("status", "--json").stdout)["state"] == "paused"
    assert vmglue.run("down").returncode == Exit.OK


def test_a_client_that_is_killed_pauses_its_run(vmglue, endless):
    assert vmglue.run("up", "--detach").returncode == Exit.OK
    process = vmglue.start("run", endless, "--target", "default")
    wait_for_progress(process)
    process.kill()
    process.communicate(timeout=10)
    deadline = time.monotonic() + 10
    while json.loads(vmglue.run("status", "--json").stdout)["state"] != "paused":
        assert time.monotonic() < deadline
    assert vmglue.run("down").returncode == Exit.OK


def test_a_kept_system_whose_service_dies_ends_and_says_so(vmglue, endless):
    up = vmglue.start("up")
    assert up.stdout is not None
    assert "is served at" in up.stdout.readline()
    process = vmglue.start("run", endless, "--target", "default")
    wait_for_progress(process)
    vmglue.service("pager").kill()
    _, err = process.communicate(timeout=30)
    assert process.returncode == Exit.SERVICE_LOST
    assert "pager (pid " in err
    assert "SIGKILL" in err
    _, err = up.communicate(timeout=30)
    assert up.returncode == Exit.SERVICE_LOST
    assert "pager (pid " in err
    assert vmglue.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_kept_system(vmglue, number):
    up = vmglue.start("up", "--listen", "127.0.0.1:0")
    assert up.stdout is not None
    address = up.stdout.readline().split("served at ")[1].split(";")[0]
    assert not address.endswith(":0")
    assert vmglue.run("status", "--target", address).returncode == Exit.OK
    up.send_signal(number)
    up.communicate(timeout=30)
    assert up.returncode == 128 + number
    assert vmglue.leftovers() == []


def test_the_state_file_of_a_killed_system_is_not_believed(vmglue):
    up = vmglue.start("up", "--wiring", "local")
    assert up.stdout is not None
    up.stdout.readline()
    up.kill()
    up.communicate(timeout=10)
    status = vmglue.run("status")
    assert status.returncode == Exit.BAD_INPUT
    assert "no system is up" in status.stderr
    again = vmglue.run("up", "--detach", "--wiring", "local")
    assert again.returncode == Exit.OK, again.stderr
    assert vmglue.run("down").returncode == Exit.OK


def test_what_lies_in_the_callers_folder_is_not_run(vmglue):
    for module in ("structlog", "grpc", "ctypes", "services", "clients"):
        stranger = vmglue.home / "work" / f"{module}.py"
        stranger.write_text("import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n")
    up = vmglue.run("up", "--detach")
    assert up.returncode == Exit.OK, up.stderr
    assert vmglue.run("down").returncode == Exit.OK
    assert sorted(path.name for path in (vmglue.home / "work").glob("*.ran")) == []
    assert vmglue.leftovers(wait_s=10) == []
