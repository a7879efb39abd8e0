"""The health probe tells a server that serves from one that does not, and from none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from clients.probe import main, probe

STATUS = health_pb2.HealthCheckResponse


@pytest.fixture
def server():
    """A health server on a free port, and its address."""
    servicer = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_serving(server):
    servicer, address = server
    servicer.set("", STATUS.SERVING)
    assert probe(address) == ""
    assert main([address]) == 0


@pytest.mark.parametrize("status", [STATUS.NOT_SERVING, STATUS.UNKNOWN])
def test_not_serving(server, status, capsys):
    servicer, address = server
    servicer.set("", status)
    assert main([address]) == 1
    assert capsys.readouterr().err == f"{address}: not serving\n"


def test_server_without_health():
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    assert probe(f"127.0.0.1:{port}").endswith("not serving")
    server.stop(None).wait()
    assert "refused" in probe(f"127.0.0.1:{port}")


def test_unix_socket(server, tmp_path):
    servicer, _ = server
    servicer.set("", STATUS.SERVING)
    other = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, other)
    address = f"unix:{tmp_path / 'socket'}"
    other.add_insecure_port(address)
    other.start()
    assert probe(address) == ""
    other.stop(None).wait()
    assert probe(address) != ""


def test_usage(capsys):
    assert main([]) == 2
    assert main(["nowhere"]) == 2
    assert capsys.readouterr().err.count("usage:") == 2
