"""The orchestrator as a service among others: health, reflection, channelz, metrics, logs, boot id, and its end."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.request

import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from systems import Fleet, until

from clients.boot_id import KEY
from clients.exits import Exit
from clients.machine_client import MachineClient
from clients.workload import load_workload
from protos import machine_pb2, machine_pb2_grpc
from services.runtime.errors import ServiceLost
from services.runtime.limits import WORKERS
from services.runtime.remote import node_info

UP = ("-m", "clients", "up")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    started = Fleet(tmp_path_factory.mktemp("fleet"))
    yield started
    started.close()


@pytest.fixture
def orchestrator(start, fleet, tmp_path, monkeypatch):
    """Starts an orchestrator of the fleet."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    services = [f"--service={name}={address}" for name, address in fleet.addresses.items()]

    def begin(*options):
        return start("--machine", "default", "--log-format", "json", *services, *options, command=UP).wait()

    return begin


def entries(log):
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def test_health_follows_the_services(orchestrator, fleet):
    service = orchestrator()
    names = ("", "vmglue.machine.v1.MachineService", "orchestrator.kstack")
    assert {service.health(name) for name in names} == {"SERVING"}
    process = fleet.processes["kstack"]
    process.kill()
    process.wait()
    until(lambda: {service.health(name) for name in names} == {"NOT_SERVING"})
    until(lambda: node_info(service.channel, "orchestrator").trouble == "kstack, scheduler do not serve")
    with MachineClient(service.address) as client:
        told = client.status().orchestrator
    assert (told.health, told.trouble) == ("NOT_SERVING", "kstack, scheduler do not serve")
    fleet.restart("kstack")
    until(lambda: {service.health(name) for name in names} == {"SERVING"})
    status, log = service.end()
    assert status == Exit.TERMINATED
    warnings = [entry for entry in entries(log) if entry["event"] == "not serving"]
    assert warnings
    assert {(entry["service"], entry["machine"], entry["level"]) for entry in warnings} == {
        ("orchestrator", "default", "warning")
    }


def test_it_describes_itself(orchestrator, free_ports):
    metrics = f"127.0.0.1:{free_ports(1)[0]}"
    service = orchestrator("--metrics", metrics)
    ask = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    (answer,) = reflection_pb2_grpc.ServerReflectionStub(service.channel).ServerReflectionInfo(ask, timeout=10)
    assert {found.name for found in answer.list_services_response.service} == {
        "vmglue.machine.v1.MachineService", "vmglue.common.v1.NodeService", "grpc.health.v1.Health",
        "grpc.channelz.v1.Channelz", "grpc.reflection.v1alpha.ServerReflection",
    }  # fmt: skip
    channelz = channelz_pb2_grpc.ChannelzStub(service.channel)
    (server,) = channelz.GetServers(channelz_pb2.GetServersRequest(), timeout=10).server
    assert server.data.calls_started > 0
    assert len(channelz.GetTopChannels(channelz_pb2.GetTopChannelsRequest(), timeout=10).channel) >= 4
    info = node_info(service.channel, "orchestrator")
    assert (info.service, info.machine, info.pid) == ("orchestrator", "default", service.process.pid)
    with MachineClient(service.address) as client:
        client.load(load_workload("tiny"))
        report = client.run().report
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=5) as scraped:
        found = dict(line.rsplit(" ", 1) for line in scraped.read().decode().splitlines() if line[0] != "#")
    assert found['vmglue_rpcs_total{code="OK",rpc="Run",service="orchestrator"}'] == "1.0"
    assert float(found['vmglue_rpc_seconds_sum{rpc="Run",service="orchestrator"}']) >= report["wall_seconds"] * 0.9
    assert found['vmglue_rpcs_in_flight{service="orchestrator"}'] == "0.0"
    assert found['vmglue_serving{service="orchestrator"}'] == "1.0"
    assert found['vmglue_machine_state{state="finished"}'] == "1.0"
    assert found['vmglue_machine_state{state="running"}'] == "0.0"
    assert float(found["vmglue_machine_dispatches_total"]) == report["dispatches"]


def test_every_answer_carries_the_boot_id(orchestrator):
    service = orchestrator()
    stub = machine_pb2_grpc.MachineServiceStub(service.channel)
    boot_id = str(node_info(service.channel, "orchestrator").boot_id)
    asked = {
        "answered": stub.GetTopology.with_call(machine_pb2.GetTopologyRequest(), timeout=10)[1],
        "streamed": stub.WatchEvents(machine_pb2.WatchEventsRequest(services=["no"]), timeout=10),
        "refused": stub.GetSysctl.future(machine_pb2.GetSysctlRequest(name="no"), timeout=10),
    }
    assert {kind: dict(call.initial_metadata())[KEY] for kind, call in asked.items()} == dict.fromkeys(asked, boot_id)
    assert asked["refused"].code().name == "NOT_FOUND"


def test_a_client_is_told_that_another_orchestrator_answers(orchestrator):
    first = orchestrator()
    with MachineClient(first.address) as client:
        client.load(load_workload("tiny"))
        first.end()
        orchestrator()
        with pytest.raises(ServiceLost, match=r"orchestrator restarted at .* run the workload anew"):
            client.step()


def test_it_ends_in_time_when_a_service_hangs(orchestrator, fleet):
    """The run's follower is told, though the run cannot be paused."""
    service = orchestrator()
    hung = fleet.processes["physmem"]
    struck = threading.Event()

    def strike(progress):
        if progress.dispatches > 200 and not struck.is_set():
            struck.set()
            hung.send_signal(signal.SIGSTOP)
            service.process.send_signal(signal.SIGTERM)

    try:
        with MachineClient(service.address) as client:
            client.load(load_workload("tiny"))
            begun = time.monotonic()
            result = client.run(progress=strike)
        assert service.process.wait(15) == Exit.TERMINATED
        assert time.monotonic() - begun < 15
    finally:
        hung.send_signal(signal.SIGCONT)
    assert struck.is_set()
    assert result.report == {}
    assert result.failure.lost_service in ("scheduler", "physmem", "kstack")  # whose call it was
    log = entries(service.process.stderr.read())
    assert "a service does not answer; its call is cut off" in {entry["event"] for entry in log}
    (failed,) = [entry for entry in log if entry["event"] == "run stopped"]
    assert failed["rpc"] == "Run"
    assert failed["request_id"]


def test_a_server_does_not_wait_for_who_watches_its_health(start):
    pager = start("--drain-s", "60", name="pager").wait()
    physmem = start("--upstream", f"pager={pager.address}", command=("-m", "services.physmem"), name="physmem").wait()
    until(lambda: physmem.health("physmem.pager") == "SERVING")
    assert pager.end()[0] == 0  # within ten seconds, not the minute that calls in flight would get


def test_who_watches_holds_no_thread_that_answers_calls(start, free_ports):
    """Behind all interceptors that there are without certificates."""
    service = start("--metrics", f"127.0.0.1:{free_ports(1)[0]}").wait()
    stub = health_pb2_grpc.HealthStub(service.channel)
    watching = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(WORKERS + 4)]
    assert {next(stream).status for stream in watching} == {health_pb2.HealthCheckResponse.SERVING}
    assert node_info(service.channel, "pager").service == "pager"
    assert service.end()[0] == 0
    assert {next(stream).status for stream in watching} == {health_pb2.HealthCheckResponse.NOT_SERVING}
    assert [list(stream) for stream in watching] == [[]] * len(watching)
