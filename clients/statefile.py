"""Where the default system of a user is found: a small file in a private directory."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from clients.exits import BadInput

_NAME = "system.json"


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, told apart from a later one with the same pid."""

    pid: int
    """Its pid."""
    started: float
    """When it was started, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class SystemState(ProcessId):
    """A system that `vmglue up` keeps: the process that serves machine.proto, and where."""

    address: str
    """gRPC target of machine.proto."""
    machine: str
    """Name of the machine."""


def runtime_directory() -> Path:
    """The user's private directory for sockets and the state file, made if missing.

    Raises:
        BadInput: The directory belongs to somebody else or is open to others.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(base) / "vmglue" if base else Path(tempfile.gettempdir()) / f"vmglue-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise BadInput(f"{path}: must be a directory of yours with mode 0700; remove it or set XDG_RUNTIME_DIR")
    return path


def write_state(address: str, machine: str) -> SystemState:
    """Announce this process as the default system."""
    state = SystemState(**asdict(this_process()), address=address, machine=machine)
    partial = runtime_directory() / f"{_NAME}.{state.pid}"
    partial.write_text(json.dumps(asdict(state)), "utf-8")
    partial.replace(runtime_directory() / _NAME)
    return state


def read_state() -> SystemState | None:
    """The default system; None if there is none. The file of a system that is gone is removed."""
    path = runtime_directory() / _NAME
    try:
        state = SystemState(**json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        path.unlink(missing_ok=True)
        return None
    if alive(state):
        return state
    path.unlink(missing_ok=True)
    return None


def remove_state() -> None:
    """Withdraw this process as the default system."""
    state = read_state()
    if state is not None and state.pid == os.getpid():
        (runtime_directory() / _NAME).unlink(missing_ok=True)


def this_process() -> ProcessId:
    """The process that asks."""
    process = psutil.Process()
    return ProcessId(process.pid, process.create_time())


def alive(known: ProcessId) -> bool:
    """A process still lives."""
    try:
        process = psutil.Process(known.pid)
        return bool(process.create_time() == known.started and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
