"""The compose stack on free ports of this host, or a printed reason why there is none."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

# The engine's containers are reached through this host, and the tests remove what they start themselves.
os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

ROOT = Path(__file__).parents[2]
SERVICES = ("pager", "physmem", "kstack", "scheduler")


@dataclass(frozen=True)
class Stack:
    """Addresses of a running compose stack."""

    addresses: dict[str, str]
    redis: str
    machine: str


def engine_missing() -> str:
    """Why containers cannot be used; empty: they can."""
    if shutil.which("docker") is None:
        return "no docker command is installed"
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if answer.returncode:
            return f"{' '.join(command)}: {(answer.stderr.strip() or answer.stdout.strip()).splitlines()[-1]}"
    return ""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def stack():
    """The compose file's services, built, started and healthy."""
    if reason := engine_missing():
        pytest.skip(f"no container engine: {reason}")
    from testcontainers.compose import DockerCompose

    name = f"vmglue-test-{secrets.token_hex(4)}"
    ports = {service: free_port() for service in (*SERVICES, "redis")}
    settings = {f"VMGLUE_{service.upper()}_PORT": str(port) for service, port in ports.items()}
    settings |= {"COMPOSE_PROJECT_NAME": name, "VMGLUE_MACHINE": name}
    with pytest.MonkeyPatch.context() as environment:
        for key, value in settings.items():
            environment.setenv(key, value)
        with DockerCompose(ROOT, build=True, wait=True, keep_volumes=False):
            yield Stack(
                {service: f"127.0.0.1:{ports[service]}" for service in SERVICES},
                f"redis://127.0.0.1:{ports['redis']}/0",
                name,
            )
