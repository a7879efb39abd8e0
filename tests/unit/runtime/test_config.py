"""Configuration of a service: what is accepted, and the one line about what is not."""

from __future__ import annotations

import os

import pytest
from certificates import files

from services.runtime.config import Exit, is_private, read_config

UNIX = ["--listen", "unix:/tmp/x.sock"]


def refused(capsys, service, upstreams, argv):
    with pytest.raises(SystemExit) as ended:
        read_config(service, upstreams, argv)
    assert ended.value.code == Exit.BAD_CONFIGURATION
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("address", ["unix:/x", "127.0.0.1:5", "[::1]:5", "localhost:0", "127.8.8.8:1"])
def test_private_addresses(address):
    assert is_private(address)
    assert read_config("pager", (), ["--listen", address]).listen == (address,)


@pytest.mark.parametrize("address", ["0.0.0.0:5", "[::]:5", "10.0.0.1:5", "pager:5", ":5"])
def test_other_addresses_need_a_word(address, capsys):
    assert not is_private(address)
    assert "--tls-cert" in refused(capsys, "pager", (), ["--listen", address])
    assert "--metrics" in refused(capsys, "pager", (), [*UNIX, "--metrics", address])
    assert read_config("pager", (), ["--listen", address, *files("pager")]).listen == (address,)


def test_upstreams_are_named_exactly(capsys):
    config = read_config(
        "scheduler", ("physmem", "kstack"), [*UNIX, "--upstream", "kstack=unix:/k", "--upstream", "physmem=h:1"]
    )
    assert config.upstream == {"kstack": "unix:/k", "physmem": "h:1"}
    assert "kstack needs --upstream physmem=ADDRESS" in refused(capsys, "kstack", ("physmem",), UNIX)
    assert "pager needs no --upstream" in refused(capsys, "pager", (), [*UNIX, "--upstream", "a=b"])
    assert "expected NAME=ADDRESS" in refused(capsys, "kstack", ("physmem",), [*UNIX, "--upstream", "physmem"])


def test_an_address_is_needed(capsys):
    assert "--listen: missing" in refused(capsys, "pager", (), [])


def test_the_environment_fills_in(monkeypatch, capsys):
    for name, value in {
        "VMGLUE_LISTEN": "127.0.0.1:7",
        "VMGLUE_REDIS": "redis://user:secret@redis:6379/0",
        "VMGLUE_UPSTREAM": "physmem=a:1 kstack=b:2",
        "VMGLUE_ALLOW_INJECT": "1",
        "VMGLUE_DRAIN_S": "2.5",
    }.items():
        monkeypatch.setenv(name, value)
    config = read_config("scheduler", ("physmem", "kstack"), [])
    assert (config.listen, config.allow_inject, config.drain_s) == (("127.0.0.1:7",), True, 2.5)
    assert config.upstream == {"physmem": "a:1", "kstack": "b:2"}
    assert config.redacted()["redis"] == "redis://redis:6379/0"
    assert "secret" not in str(config.redacted())
    monkeypatch.setenv("VMGLUE_ALLOW_INJECT", "yes")
    assert refused(capsys, "pager", (), UNIX) == "VMGLUE_ALLOW_INJECT=yes: expected 0 or 1"


def test_the_parent_is_the_caller_unless_named():
    assert read_config("pager", (), UNIX).parent == 0
    assert read_config("pager", (), [*UNIX, "--die-with-parent"]).parent == os.getppid()
    assert read_config("pager", (), [*UNIX, "--die-with-parent", "77"]).parent == 77
