"""A viewer who opens all that it can does not keep anybody else from their work."""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from certificates import files, tls
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from systems import start_system

from clients.health import serving
from clients.keep import served
from clients.machine_client import MachineClient
from clients.statefile import read_state
from clients.workload import load_workload
from protos import machine_pb2, machine_pb2_grpc
from services.runtime.limits import (
    CONCURRENT_RPCS_MAX,
    MACHINE_VIEWER_STREAMS_MAX,
    STREAMS_MAX,
    VIEWER_STREAMS_MAX,
    WORKERS,
)
from services.runtime.reflection import serve_reflection
from services.runtime.remote import node_info, open_channel

ATTEMPTS = CONCURRENT_RPCS_MAX + 16
ANSWER_S = 20.0


@pytest.fixture(scope="module")
def pager(free_ports):
    """A service on a loopback address with TLS."""
    address = f"localhost:{free_ports(1)[0]}"
    command = [sys.executable, "-m", "services.pager", "--listen", address, "--die-with-parent", *files("pager")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not serving(address, 0.5, tls("viewer")):
        assert time.monotonic() < deadline
    yield address
    process.terminate()
    assert process.wait(10) == 0


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine at an address with TLS."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with start_system("local") as system, served(system, "127.0.0.1:0", tls("orchestrator")):
        yield read_state().address


def asking(channel: grpc.Channel) -> grpc.Call:
    """A reflection stream with one question on it, which stays open."""
    questions: queue.SimpleQueue[reflection_pb2.ServerReflectionRequest] = queue.SimpleQueue()
    questions.put(reflection_pb2.ServerReflectionRequest(list_services=""))
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    return stub.ServerReflectionInfo(iter(questions.get, None), timeout=60)


def watching_health(channel: grpc.Channel) -> grpc.Call:
    return health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)


def watching_events(channel: grpc.Channel) -> grpc.Call:
    request = machine_pb2.WatchEventsRequest(follow=True, since={"scheduler": 0})
    return machine_pb2_grpc.MachineServiceStub(channel).WatchEvents(request, timeout=60)


def held(channel: grpc.Channel, open_stream: Callable[[grpc.Channel], grpc.Call], wanted: int, limit: int) -> int:
    """Open many streams at once; how many of them were not refused with RESOURCE_EXHAUSTED."""
    streams = [open_stream(channel) for _ in range(wanted)]
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline and sum(stream.done() for stream in streams) < wanted - limit:
        time.sleep(0.05)
    time.sleep(0.3)  # whoever is left would be refused by now
    ended = [stream for stream in streams if stream.done()]
    assert {stream.code() for stream in ended} <= {grpc.StatusCode.RESOURCE_EXHAUSTED}
    return wanted - len(ended)


@pytest.fixture
def viewer(request) -> Iterator[grpc.Channel]:
    address = request.getfixturevalue(request.param)
    with open_channel(address, tls("viewer")) as channel:
        yield channel


@pytest.mark.parametrize("viewer", ["pager"], indirect=True)
@pytest.mark.parametrize("open_stream", [asking, watching_health])
def test_a_service_answers_while_a_viewer_holds_all_streams(pager, viewer, open_stream):
    assert held(viewer, open_stream, ATTEMPTS, VIEWER_STREAMS_MAX) == VIEWER_STREAMS_MAX
    with open_channel(pager, tls("physmem")) as channel:
        begun = time.monotonic()
        for _ in range(50):
            assert node_info(channel, "pager", ANSWER_S).service == "pager"
        assert time.monotonic() - begun < ANSWER_S
        health = watching_health(channel)  # those above are not kept from watching
        assert next(health).status == health_pb2.HealthCheckResponse.SERVING
        health.cancel()


def test_streams_of_health_hold_no_thread(pager):
    """Also behind the check of roles: any number of services may watch."""
    with open_channel(pager, tls("physmem")) as channel:
        streams = [watching_health(channel) for _ in range(2 * WORKERS)]
        assert {next(stream).status for stream in streams} == {health_pb2.HealthCheckResponse.SERVING}
        assert node_info(channel, "pager", ANSWER_S).service == "pager"
        for stream in streams:
            stream.cancel()


@pytest.mark.parametrize("viewer", ["machine"], indirect=True)
def test_an_operator_runs_while_a_viewer_watches_with_all_streams(machine, viewer):
    with MachineClient(machine, tls("operator")) as operator:
        operator.load(load_workload("tiny"))
        assert MACHINE_VIEWER_STREAMS_MAX < STREAMS_MAX
        watching = held(viewer, watching_events, 2 * STREAMS_MAX, MACHINE_VIEWER_STREAMS_MAX)
        assert watching == MACHINE_VIEWER_STREAMS_MAX
        assert operator.run().report["end"] == "complete"


def test_a_reflection_stream_ends_when_nothing_is_asked():
    server = grpc.server(ThreadPoolExecutor(1))
    serve_reflection(("some.Service",), server, idle_s=0.3)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(2):  # the second gets the thread that the first one held
            stream = asking(channel)
            assert next(stream).list_services_response.service[0].name == "some.Service"
            with pytest.raises(grpc.RpcError) as ended:
                next(stream)
            assert ended.value.code() is grpc.StatusCode.CANCELLED
    server.stop(None).wait()
