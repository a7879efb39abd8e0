"""Services that are reached over TLS: who gets in, and that a run comes to the same end."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from certificates import files, tls
from google.rpc import error_details_pb2
from grpc_health.v1 import health, health_pb2_grpc
from grpc_status import rpc_status
from systems import start_system

from clients.certs import make_certificates
from clients.exits import BadInput
from clients.health import service_state, serving
from clients.keep import served
from clients.machine_client import MachineClient
from clients.run import Run
from clients.statefile import read_state
from clients.system import UPSTREAMS, System, SystemConfig
from clients.workload import load_workload
from protos import common_pb2, common_pb2_grpc, pager_pb2, pager_pb2_grpc
from services.ports.pager import PagerBoot, PagerPort, SwapDisk
from services.runtime.context import Context
from services.runtime.errors import Reason, Refused, ServiceLost
from services.runtime.remote import Caller, connect, node_info, open_channel
from services.runtime.tls import Tls


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


@pytest.mark.parametrize("stranger", [None, tls("operator", "strangers")], ids=["no certificate", "a stranger's"])
def test_a_caller_over_tls_needs_a_certificate_of_ours(addresses, stranger):
    """One who believes the server, as any program can, is not answered for that."""
    pair = () if stranger is None else (stranger.key.read_bytes(), stranger.cert.read_bytes())
    credentials = grpc.ssl_channel_credentials(tls("viewer").ca.read_bytes(), *pair)
    with grpc.secure_channel(addresses["pager"], credentials) as channel, pytest.raises(grpc.RpcError) as refused:
        common_pb2_grpc.NodeServiceStub(channel).GetInfo(common_pb2.GetInfoRequest(), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "Socket closed" in refused.value.details()


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


def pager_of(addresses, party):
    channel = open_channel(addresses["pager"], tls(party))
    return channel, connect(PagerPort, channel, Caller(Context("somebody"), deadline_s=5.0))


def test_a_viewer_reads_and_is_told_what_it_lacks(addresses):
    for party in ("operator", "viewer", "physmem"):
        channel, pager = pager_of(addresses, party)
        with channel:
            if party == "operator":
                pager.boot(PagerBoot(swap_devices=[SwapDisk(100)], page_count=1000))
            assert pager.swap_status().avail == 100
            if party == "viewer":
                with pytest.raises(Refused) as refused:
                    pager.vnode_open("x", 1)
                assert refused.value.reason is Reason.ROLE
                assert refused.value.expected == "vmglue:role/service or operator"
            else:
                pager.vnode_open("x", 1)
            if party != "operator":
                with pytest.raises(Refused, match="expected vmglue:role/operator"):
                    pager.boot(PagerBoot(swap_devices=[SwapDisk(7)], page_count=1000))


def test_a_refused_role_is_permission_denied_with_details(addresses):
    with open_channel(addresses["pager"], tls("viewer")) as channel, pytest.raises(grpc.RpcError) as error:
        pager_pb2_grpc.PagerServiceStub(channel).Boot(pager_pb2.BootRequest())
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
    (detail,) = rpc_status.from_call(error.value).details
    info = error_details_pb2.ErrorInfo()
    assert detail.Unpack(info)
    assert (info.reason, info.metadata["expected"]) == ("ROLE", "vmglue:role/operator")


def test_a_certificate_without_a_role_is_unauthenticated(addresses, monkeypatch, tmp_path):
    """One of the authority itself, that says nothing about roles."""
    directory = tls("viewer").cert.parent
    for name in ("ca.pem", "ca.key"):
        shutil.copy(directory / name, tmp_path)
    monkeypatch.setattr("clients.certs.URI", "else:")
    make_certificates(tmp_path)
    nobody = Tls(tmp_path / "viewer.pem", tmp_path / "viewer.key", tmp_path / "ca.pem")
    with open_channel(addresses["pager"], nobody) as channel, pytest.raises(grpc.RpcError) as error:
        common_pb2_grpc.NodeServiceStub(channel).GetInfo(common_pb2.GetInfoRequest(), timeout=5)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "no_role" in error.value.details()


def test_the_machine_service_asks_for_roles_too(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with start_system("local") as system, served(system, "127.0.0.1:0", tls("orchestrator")):
        address = read_state().address
        with MachineClient(address, tls("viewer")) as viewer:
            assert viewer.status().machine == "local"
            with pytest.raises(Refused, match="expected vmglue:role/operator"):
                viewer.set_sysctl("vm.swap_enabled", 0)
        with MachineClient(address, tls("operator")) as operator:
            assert operator.load(load_workload("tiny")).ram_pages > 0
            assert operator.set_sysctl("vm.swap_enabled", 0) == (1, 0)
        with pytest.raises(BadInput, match="--tls-ca"):
            MachineClient(address, tls("operator", "strangers"))
        with pytest.raises(BadInput, match="--tls-ca"):
            MachineClient(address)
