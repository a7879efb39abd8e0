"""Whoever does not get through is told what keeps it out, and what would help."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from certificates import tls

from clients.exits import BadInput
from clients.machine_client import MachineClient
from clients.reach import why_unreachable
from services.runtime.tls import Tls

OURS, THEIRS = tls("operator"), tls("operator", "strangers")


@pytest.fixture
def ports():
    """Of a server with TLS, and of one without."""
    server = grpc.server(ThreadPoolExecutor(1))
    encrypted = server.add_secure_port("127.0.0.1:0", tls("pager").server_credentials())
    plain = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield encrypted, plain
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("caller", "told"),
    [
        (None, "it answers with TLS alone; give --tls-cert, --tls-key and --tls-ca"),
        (THEIRS, "its certificate is not believed: unable to get local issuer certificate; --tls-ca must be of its"),
        (Tls(THEIRS.cert, THEIRS.key, OURS.ca), f"it does not believe --tls-cert {THEIRS.cert}: that must be of its"),
        (OURS, ""),
    ],
    ids=["no certificate", "another authority", "another authority's certificate", "ours"],
)
def test_what_a_server_with_tls_wants(ports, caller, told):
    found = why_unreachable(f"127.0.0.1:{ports[0]}", caller)
    assert found.startswith(told)
    assert bool(found) == bool(told)


def test_where_there_is_no_tls(ports):
    assert why_unreachable(f"127.0.0.1:{ports[1]}", OURS).startswith("it answers without TLS; leave --tls-cert")
    assert why_unreachable(f"127.0.0.1:{ports[1]}", None) == ""


def test_where_nothing_is():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert why_unreachable(f"127.0.0.1:{port}", None) == "nothing can be reached there: Connection refused"
    assert why_unreachable("unix:/nowhere:1", OURS) == why_unreachable("/nowhere", None) == ""


def test_the_client_tells_it(ports):
    with pytest.raises(BadInput, match=r"no vmglue system answers there .*; it answers with TLS alone; give --tls"):
        MachineClient(f"127.0.0.1:{ports[0]}")
