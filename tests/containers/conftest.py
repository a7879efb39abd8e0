"""The compose stack on free ports of this host, or a printed reason why there is none."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from clients.machine_client import MachineClient
from clients.system import System, SystemConfig
from services.runtime.tls import Tls

# The engine's containers are reached through this host, and the tests remove what they start themselves.
os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

ROOT = Path(__file__).parents[2]
ENGINE_HELPER = ROOT.parent / "shared" / "tools" / "container-engine"
"""What .ci/run gets an engine with: where CI has it, there is no excuse for none."""
SERVICES = ("pager", "physmem", "kstack", "scheduler")
PROCESSES = (*SERVICES, "orchestrator")
COMMAND_S = 180
RECOVERY_S = 60
"""Longest time until who was without a part below is healthy again; compose does not wait for who is unhealthy."""
PAUSES = 5


def engine_missing() -> str:
    """Why containers cannot be used; empty: they can."""
    if shutil.which("docker") is None:
        return "no docker command is installed"
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if answer.returncode:
            return f"{' '.join(command)}: {(answer.stderr.strip() or answer.stdout.strip()).splitlines()[-1]}"
    return ""


def need_engine() -> None:
    """Skip, with the reason, where there is no engine; fail where CI was to have one."""
    if reason := engine_missing():
        give_up = pytest.fail if os.environ.get("CI") and ENGINE_HELPER.exists() else pytest.skip
        give_up(f"no container engine: {reason}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Stack:
    """A project of the compose file, with names and ports of its own."""

    def __init__(self, secrets_folder: Path, *files: Path, **settings: str) -> None:
        self.name = f"vmglue-test-{secrets.token_hex(4)}"
        self.ports = {part: free_port() for part in (*PROCESSES, "redis")}
        self.metrics_ports = {part: free_port() for part in PROCESSES}
        self.files = [ROOT / "docker-compose.yml", *files]
        self._secrets = secrets_folder
        self.first_logs = ""
        """What containers wrote until all were healthy for the first time."""
        variables = {f"VMGLUE_{part.upper()}_PORT": str(port) for part, port in self.ports.items()}
        variables["VMGLUE_PORT"] = variables.pop("VMGLUE_ORCHESTRATOR_PORT")
        variables |= {f"VMGLUE_{part.upper()}_METRICS_PORT": str(port) for part, port in self.metrics_ports.items()}
        self.environment = {
            "COMPOSE_PROJECT_NAME": self.name,
            "VMGLUE_MACHINE": self.name,
            "VMGLUE_HEALTH_INTERVAL": "1s",
            "VMGLUE_ALLOW_INJECT": "1",
            **variables,
            **settings,
        }

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`docker compose` on this project."""
        files = [part for file in self.files for part in ("--file", str(file))]
        return run(["docker", "compose", *files, *arguments], check, {**os.environ, **self.environment})

    def up(self) -> None:
        """Bring everything up that is not, and wait until it is healthy."""
        deadline = time.monotonic() + RECOVERY_S
        while (answer := self.compose("up", "--detach", "--wait", check=False)).returncode:
            assert "unhealthy" in answer.stderr, answer.stderr[-3000:]
            assert time.monotonic() < deadline, answer.stderr[-3000:]
            time.sleep(1)

    def healthy(self) -> bool:
        """All parts run and say that they serve."""
        return self.compose("ps", "--format", "{{.Health}}").stdout.split() == ["healthy"] * (len(PROCESSES) + 1)

    def mend(self) -> None:
        """Bring everything up that is not; if that does not help, a part hangs, and all are replaced."""
        self.compose("unpause", check=False)
        with suppress(AssertionError, subprocess.TimeoutExpired):
            self.up()
        if not self.healthy():
            self.compose("up", "--detach", "--force-recreate", "--wait")

    def pause(self, part: str) -> None:
        """Freeze a part's processes; on a busy host the engine may need several attempts."""
        for _ in range(PAUSES):
            answer = self.compose("pause", part, check=False)
            if "unable to freeze" not in answer.stderr:
                break
        assert answer.returncode == 0, answer.stderr

    def container(self, part: str) -> str:
        """Id of a part's container."""
        return self.compose("ps", "--all", "--quiet", part).stdout.strip()

    def inspect(self, part: str) -> dict[str, Any]:
        """What the engine tells about a part's container."""
        return json.loads(run(["docker", "inspect", self.container(part)]).stdout)[0]

    def inside(self, part: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command inside of a running container."""
        return self.compose("exec", "--no-TTY", part, *command, check=check)

    def logs(self, *parts: str) -> str:
        """What containers wrote."""
        return self.compose("logs", "--no-color", "--no-log-prefix", *parts).stdout

    def address(self, part: str) -> str:
        """Where a part is reached from this host."""
        return f"127.0.0.1:{self.ports[part]}"

    def secrets_of(self, party: str) -> Path:
        """A party's folder, copied out of its volume as a user would."""
        folder = self._secrets / party
        if not folder.exists():
            self._secrets.mkdir(exist_ok=True)
            self.compose("cp", f"certs:/etc/vmglue/{party}", str(folder))
        return folder

    def files_of(self, party: str) -> Tls:
        """A party's certificate."""
        folder = self.secrets_of(party)
        return Tls(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")

    def redis(self) -> str:
        """URL of Redis for who may only read."""
        return f"redis://viewer@{self.address('redis')}/0?password_file={self.secrets_of('viewer') / 'redis.password'}"

    def client(self, party: str = "operator") -> MachineClient:
        """A client of the orchestrator."""
        return MachineClient(self.address("orchestrator"), self.files_of(party))

    def system(self) -> System:
        """The four services as this process calls them, past the orchestrator."""
        addresses = {name: self.address(name) for name in SERVICES}
        return System.join(addresses, SystemConfig(self.name, self.redis(), tls=self.files_of("operator")))


def run(
    command: list[str], check: bool = True, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command's output; a failure shows what it wrote."""
    answer = subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_S, check=False, cwd=ROOT, env=environment
    )
    assert not check or answer.returncode == 0, f"{' '.join(command)}: {answer.stderr[-3000:]}"
    return answer


@pytest.fixture(scope="session")
def built():
    """The images, built from these sources."""
    need_engine()
    command = ["docker", "compose", "--progress", "quiet", "build", "certs", "orchestrator"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]


@pytest.fixture(scope="session")
def session_stack(built, tmp_path_factory):  # noqa: ARG001 - the images must be there
    """One stack for all tests, healthy at the beginning."""
    from testcontainers.compose import DockerCompose

    stack = Stack(tmp_path_factory.mktemp("stack") / "clients")
    with pytest.MonkeyPatch.context() as environment:
        for key, value in stack.environment.items():
            environment.setenv(key, value)
        with DockerCompose(ROOT, wait=True, keep_volumes=False):
            stack.first_logs = stack.logs()
            yield stack


@pytest.fixture
def stack(session_stack):
    """The stack; what an earlier test took down is up again."""
    if not session_stack.healthy():
        session_stack.mend()
    return session_stack
