"""Roles: the table is total, and says what it should of each kind of rpc."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import services
from protos import common_pb2, machine_pb2
from services.runtime.binding import methods_of, reads_of
from services.runtime.errors import Reason, Refused
from services.runtime.roles import CALLED_BY_SERVICES, HEAVY_READS, PORTS, STREAMS, Role, admit_caller, needs
from services.runtime.rpc import service_of

OURS = [
    importlib.import_module(f"protos.{path.stem}_pb2") for path in Path(machine_pb2.__file__).parent.glob("*.proto")
]
BEYOND = [health_pb2, reflection_pb2, channelz_pb2]
UPSTREAMS = {"physmem": ["pager"], "kstack": ["physmem"], "scheduler": ["physmem", "kstack"], "pager": []}


def described(modules):
    return {
        f"/{service.full_name}/{method.name}": method
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def rpcs(modules):
    return set(described(modules))


def test_the_streams_of_viewers_are_named():
    streams = {name for name, rpc in described(OURS + BEYOND).items() if rpc.client_streaming or rpc.server_streaming}
    assert {name for name in streams if Role.VIEWER in needs()[name]} == STREAMS


def test_the_table_has_every_rpc_of_every_proto_and_no_other():
    assert len(OURS) >= 6
    assert common_pb2 in OURS
    assert set(needs()) == rpcs(OURS + BEYOND)
    assert all(Role.OPERATOR in roles for roles in needs().values())


def test_an_rpc_of_no_table_is_for_nobody():
    with pytest.raises(Refused, match="expected nobody"):
        admit_caller({"transport_security_type": [b"ssl"], "peer_uri": [b"vmglue:role/operator"]}, frozenset())


@pytest.mark.parametrize("port", PORTS, ids=service_of)
def test_a_viewer_reads_and_changes_nothing(port):
    service = service_of(port)
    for method in methods_of(port):
        name = "".join(part.capitalize() for part in method.split("_"))
        roles = needs()[f"/vmglue.{service}.v1.{service.capitalize()}Service/{name}"]
        assert (Role.VIEWER in roles) == (method in reads_of(port) - HEAVY_READS)


@pytest.mark.parametrize("port", PORTS, ids=service_of)
def test_services_may_make_the_calls_that_their_code_makes_and_no_others(port):
    """Attributes of whatever is called like the port, in the code of the services above it."""
    below = service_of(port)
    found = set()
    for above in (name for name, upstreams in UPSTREAMS.items() if below in upstreams):
        for path in (Path(services.__path__[0]) / above).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and _last(node.value).lstrip("_") == below:
                    found.add(node.attr)
    changing = found & (set(methods_of(port)) - reads_of(port))
    assert changing == CALLED_BY_SERVICES[below], "CALLED_BY_SERVICES of services/runtime/roles.py"


def _last(node):
    """The last word of `a.b.c`, or nothing."""
    return getattr(node, "attr", getattr(node, "id", ""))


@pytest.mark.parametrize(
    ("names", "permitted", "reason"),
    [
        ([b"vmglue:role/viewer"], frozenset({Role.OPERATOR}), Reason.ROLE),
        ([b"vmglue:role/service"], frozenset({Role.OPERATOR}), Reason.ROLE),
        ([b"vmglue:role/root"], frozenset(Role), Reason.NO_ROLE),
        ([b"https://example.org", b"\xff"], frozenset(Role), Reason.NO_ROLE),
        ([], frozenset(Role), Reason.NO_ROLE),
    ],
)
def test_who_is_refused(names, permitted, reason):
    with pytest.raises(Refused) as refused:
        admit_caller({"transport_security_type": [b"ssl"], "peer_uri": names}, permitted)
    assert (refused.value.reason, refused.value.field) == (reason, "certificate")
    assert all(role in refused.value.expected for role in permitted)


def test_who_is_not():
    admit_caller({"transport_security_type": [b"insecure"]}, frozenset())
    names = [b"https://example.org", b"vmglue:role/viewer"]
    admit_caller({"transport_security_type": [b"ssl"], "peer_uri": names}, frozenset({Role.VIEWER}))
