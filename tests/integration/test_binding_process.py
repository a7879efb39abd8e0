"""A service as a process: how it starts, what it tells, how it ends, and what its callers see of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.ports.kstack import KstackBoot, KstackPort
from services.ports.pager import PagerBoot, PagerPort, SwapDisk
from services.runtime.config import Exit
from services.runtime.context import Context
from services.runtime.errors import ServiceLost
from services.runtime.remote import Caller, connect, node_info, open_channel

SLOW_KSTACK = """
import time
from services.ports.common import Digest, Empty
from services.ports.kstack import KstackPort
from services.runtime.server import main

class Slow:
    def boot(self, config):
        return Empty()
    def digest(self):
        print("called", flush=True)
        time.sleep(0.7)
        return Digest(state=b"late")
    def __getattr__(self, name):
        if name == "close":
            raise AttributeError(name)
        return lambda *_: None

main(KstackPort, lambda process: Slow())
"""


def test_it_serves_tells_about_itself_and_ends(start, tmp_path):
    service = start("--swap-file", str(tmp_path / "swap"), "--log-format", "json").wait()
    assert service.health("vmglue.pager.v1.PagerService") == "SERVING"
    pager = connect(PagerPort, service.channel, Caller(Context("orchestrator"), "m"))
    pager.boot(PagerBoot(swap_devices=[SwapDisk(100)], page_count=1000))
    assert pager.swap_status().avail == 100
    info = node_info(service.channel, "pager")
    assert (info.service, info.machine, info.pid, info.booted) == ("pager", "m", service.process.pid, True)
    assert info.pss_bytes > 1 << 20
    assert (tmp_path / "swap").stat().st_mode & 0o077 == 0
    assert (tmp_path / "service.sock").stat().st_mode & 0o077 == 0
    status, log = service.end()
    assert status == Exit.OK
    assert '"event": "serving"' in log
    assert not (tmp_path / "swap").exists()


def test_reflection_finds_the_services(start):
    service = start().wait()
    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=5)
    names = {entry.name for entry in answer.list_services_response.service}
    assert {"vmglue.pager.v1.PagerService", "vmglue.common.v1.NodeService", "grpc.health.v1.Health"} <= names


def test_it_does_not_serve_before_the_service_below(start):
    service = start("--upstream", "physmem=unix:/nowhere.sock", command=("-m", "services.kstack"))
    assert service.health() == "NOT_SERVING"
    assert service.health("vmglue.kstack.v1.KstackService") == "NOT_SERVING"
    status, log = service.end()
    assert status == Exit.OK
    assert "serving" not in log.replace("NOT_SERVING", "")


def test_calls_in_flight_finish_after_sigterm(start):
    service = start(command=("-c", SLOW_KSTACK)).wait()
    kstack = connect(KstackPort, service.channel, Caller(Context("orchestrator")))
    kstack.boot(KstackBoot())
    from protos import kstack_pb2, kstack_pb2_grpc

    call = kstack_pb2_grpc.KstackServiceStub(service.channel).Digest.future(kstack_pb2.DigestRequest(), timeout=10)
    assert service.process.stdout.readline() == "called\n"
    service.process.send_signal(signal.SIGTERM)
    assert call.result().state == b"late"
    assert service.process.wait(10) == Exit.OK
    with pytest.raises(ServiceLost):
        kstack.counters()


def test_a_killed_service_is_lost_at_once(start):
    service = start().wait()
    pager = connect(PagerPort, service.channel, Caller(Context("orchestrator")))
    pager.boot(PagerBoot(swap_devices=[SwapDisk(100)], page_count=1000))
    service.process.kill()
    service.process.wait(10)
    begun = time.monotonic()
    with pytest.raises(ServiceLost) as lost:
        pager.vnode_open("x", 1)
    assert lost.value.service == "pager"
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["--listen", "unix:/nowhere/x.sock"], Exit.CANNOT_LISTEN, "cannot listen on unix:/nowhere/x.sock"),
        (["--listen", "unix:/tmp/x.sock", "--swap-file", "/nowhere/s"], Exit.CANNOT_START, "/nowhere/s"),
        (["--listen", "0.0.0.0:0"], Exit.BAD_CONFIGURATION, "--tls-cert, --tls-key and --tls-ca"),
        (["--upstream", "x=y", "--listen", "unix:/x"], Exit.BAD_CONFIGURATION, "pager needs no --upstream"),
    ],
)
def test_a_service_that_cannot_start_says_why(arguments, status, line, tmp_path):
    arguments = [text.replace("/tmp/", f"{tmp_path}/") for text in arguments]
    ended = subprocess.run(
        [sys.executable, "-m", "services.pager", *arguments], capture_output=True, text=True, timeout=20, check=False
    )
    assert ended.returncode == status
    assert line in ended.stderr
    assert "Traceback" not in ended.stderr.replace("exc_info", "")


def test_an_address_is_not_shared():
    holder = grpc.server(None, options=[("grpc.so_reuseport", 0)])
    port = holder.add_insecure_port("127.0.0.1:0")
    ended = subprocess.run(
        [sys.executable, "-m", "services.pager", "--listen", f"127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == Exit.CANNOT_LISTEN


def test_it_ends_when_its_parent_is_killed(tmp_path):
    script = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-m', 'services.pager', '--listen', 'unix:{tmp_path}/s.sock',"
        " '--die-with-parent'], stderr=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    with open_channel(f"unix:{tmp_path}/s.sock") as channel:
        request = health_pb2.HealthCheckRequest()
        health_pb2_grpc.HealthStub(channel).Check(request, timeout=20, wait_for_ready=True)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while _lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_redis_dies_with_its_parent(tmp_path):
    script = (
        "import pathlib, time\nfrom clients.embedded_redis import EmbeddedRedis\n"
        f"print(EmbeddedRedis.start(pathlib.Path({str(tmp_path)!r})).pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert _lives(child)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while _lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(pid):
    """A process exists and is no zombie."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
