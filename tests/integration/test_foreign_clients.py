"""The shipped clients of other makes run a workload through machine.proto, with nothing of ours but an address."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from node_client import install

from clients.keep import served
from clients.run import Run
from clients.system import System
from clients.workload import load_workload

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "clients" / "examples"
TINY = ROOT / "clients" / "data" / "workloads" / "tiny.toml"


@pytest.fixture(scope="module")
def expected():
    """What the machine of `tiny` ends with."""
    with System.local() as system:
        run = Run(system.kernel, load_workload("tiny"))
        run.boot()
        return run.report(run.execute())["event_hash"]


@pytest.fixture
def address(tmp_path, monkeypatch):
    """A system that serves machine.proto."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with System.local() as system, served(system, f"unix:{tmp_path / 'machine.sock'}"):
        yield f"unix:{tmp_path / 'machine.sock'}"


def run_client(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)


def test_node_client_runs_tiny(address, expected, tmp_path):
    answer = run_client("node", install(tmp_path / "node"), address)
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0] == f"vmglue.machine.v1.MachineService at {address}"
    assert lines[1] == "tiny.toml: 8 programs, 1792 pages of memory"
    headings, last = lines[2].split(), lines[-2].split()
    shown = dict(zip(headings, last, strict=True))
    assert (shown["r"], shown["w"], shown["so"], shown["si"]) == ("0", "0", "10", "10")
    assert int(shown["events"]) > 1000
    assert lines[-1] == f"complete: event hash {expected}"


def test_node_client_says_what_is_wrong(tmp_path):
    client = install(tmp_path / "node")
    nowhere, unnamed = run_client("node", client, f"unix:{tmp_path / 'nowhere'}"), run_client("node", client)
    assert (nowhere.returncode, nowhere.stdout) == (1, "")
    assert nowhere.stderr.startswith("client.js: No connection established")
    assert unnamed.stderr == "client.js: usage: node client.js ADDRESS [WORKLOAD.toml]\n"


def test_python_client_runs_tiny(address, expected):
    traces = sorted((ROOT / "clients" / "data" / "traces").glob("*.vmtrace"))
    # -I: neither this folder nor the environment of the tests helps it
    answer = run_client(sys.executable, "-I", EXAMPLES / "client.py", address, TINY, *traces)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == f"event hash {expected}"


def test_python_client_says_what_is_wrong(address, tmp_path):
    def complaint(*arguments):
        answer = run_client(sys.executable, "-I", EXAMPLES / "client.py", *arguments)
        assert (answer.returncode, answer.stdout) == (1, "")
        (line,) = answer.stderr.splitlines()
        return line

    assert complaint() == "usage: python client.py ADDRESS WORKLOAD.toml TRACE.vmtrace..."
    assert complaint(f"unix:{tmp_path / 'nowhere'}", TINY).startswith("client.py: failed to connect")
    assert complaint(address, tmp_path / "none.toml").endswith(f"No such file or directory: '{tmp_path}/none.toml'")
    (tmp_path / "strange.toml").write_text("strange = 1")
    assert "strange" in complaint(address, tmp_path / "strange.toml")
