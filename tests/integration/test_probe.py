"""The health probe tells a server that serves from one that does not, and from none; as the engine starts it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest
from grpc_health.v1 import health, health_pb2

from clients import probe
from services.runtime.health_socket import health_socket

STATUS = health_pb2.HealthCheckResponse


@pytest.fixture
def server(tmp_path):
    """A health service, and the path of its socket."""
    states, path = health.HealthServicer(), str(tmp_path / "health")
    states.set("", STATUS.NOT_SERVING)
    with health_socket(path, states):
        yield states, path


def as_the_engine_does(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", probe.__file__, path], capture_output=True, text=True, timeout=30, check=False
    )


def test_serving(server):
    states, path = server
    states.set("", STATUS.SERVING)
    answer = as_the_engine_does(path)
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("status", ["NOT_SERVING", "UNKNOWN"])
def test_not_serving(server, status):
    states, path = server
    states.set("", STATUS.ServingStatus.Value(status))
    answer = as_the_engine_does(path)
    assert (answer.returncode, answer.stderr) == (1, f"{path}: {status}\n")


def test_health_is_that_of_the_moment(server):
    states, path = server
    assert probe.probe(path) == f"{path}: NOT_SERVING"
    states.set("", STATUS.SERVING)
    assert probe.probe(path) == ""
    states.enter_graceful_shutdown()
    assert probe.probe(path) == f"{path}: NOT_SERVING"


def test_socket_is_private_and_goes_with_its_server(tmp_path):
    path = tmp_path / "health"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    states = health.HealthServicer()
    with health_socket(str(path), states):
        assert path.stat().st_mode & 0o777 == 0o600
        assert probe.probe(str(path)) == ""
    assert not path.exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "health-socket"]
    assert "No such file" in probe.probe(str(path))


def test_a_file_in_the_way_is_not_replaced(tmp_path):
    path = tmp_path / "health"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"), health_socket(str(path), health.HealthServicer()):
        pass
    assert path.read_text() == "precious"


def test_a_server_that_hangs_is_not_healthy(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.1)
    path = str(tmp_path / "health")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        assert probe.probe(path) == f"{path}: timed out"


def test_a_probe_that_hangs_up_does_not_end_the_server(server):
    states, path = server
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    states.set("", STATUS.SERVING)
    assert probe.probe(path) == ""


def test_usage(capsys):
    assert probe.main([]) == 2
    assert "usage:" in capsys.readouterr().err
