"""Services that are reached over TLS: who gets in, and that a run comes to the same end."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from certificates import files, tls
from grpc_health.v1 import health, health_pb2_grpc
from systems import start_system

from clients.health import service_state, serving
from clients.run import Run
from clients.system import UPSTREAMS, System, SystemConfig
from clients.workload import load_workload
from services.runtime.errors import ServiceLost
from services.runtime.remote import node_info, open_channel


@pytest.fixture(scope="module")
def addresses(free_ports):
    """The four services on loopback addresses, each with its own certificate."""
    found = {name: f"localhost:{port}" for name, port in zip(UPSTREAMS, free_ports(4), strict=True)}
    started = []
    for name, upstreams in UPSTREAMS.items():
        command = [sys.executable, "-m", f"services.{name}", "--listen", found[name], "--die-with-parent", *files(name)]
        for upstream in upstreams:
            command += ["--upstream", f"{upstream}={found[upstream]}"]
        started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    deadline = time.monotonic() + 60
    for address in found.values():
        while not serving(address, 0.5, tls("viewer")):
            assert time.monotonic() < deadline
    yield found
    for process in started:
        process.terminate()
        assert process.wait(10) == 0


def test_tiny_has_the_hash_of_the_local_wiring(addresses):
    with System.join(addresses, SystemConfig(tls=tls("operator"))) as there, start_system("local") as here:
        reports = []
        for system in (there, here):
            run = Run(system.kernel, load_workload("tiny"))
            run.boot()
            reports.append(run.report(run.execute()))
    assert reports[0]["end"] == "complete"
    assert reports[0]["event_hash"] == reports[1]["event_hash"]


@pytest.mark.parametrize(
    "caller",
    [None, tls("operator", "strangers"), tls("viewer", "strangers")],
    ids=["nobody", "a stranger", "another stranger"],
)
def test_nobody_else_gets_in(addresses, caller):
    assert service_state(addresses["pager"], tls("viewer")).info.service == "pager"
    state = service_state(addresses["pager"], caller)
    assert (state.health, state.info) == ("UNREACHABLE", None)
    with open_channel(addresses["pager"], caller) as channel, pytest.raises(ServiceLost):
        node_info(channel, "pager", 1.0)


def test_the_authority_of_the_server_is_checked_by_the_caller(addresses):
    """A caller who has one of our certificates but believes another authority does not talk to us."""
    ours, theirs = tls("operator"), tls("operator", "strangers")
    mixed = type(ours)(ours.cert, ours.key, theirs.ca)
    assert service_state(addresses["pager"], mixed).health == "UNREACHABLE"


@pytest.mark.parametrize(("party", "believed"), [("orchestrator", True), ("viewer", False)])
def test_a_caller_cannot_pose_as_a_server(party, believed):
    """The certificate of a viewer is good for calling alone."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", tls(party).server_credentials())
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    server.start()
    assert serving(f"127.0.0.1:{port}", 0.5, tls("operator")) == believed
    server.stop(None).wait()
