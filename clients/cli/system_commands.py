"""`vmglue up`, `down`, `status` and `sysctl`: a system that stays, and what can be asked of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clients.cli.options import (
    JsonOption,
    LogFormatOption,
    LogLevelOption,
    MetricsOption,
    RedisOption,
    ServiceOption,
    TargetOption,
    Wiring,
    WiringOption,
    parse_services,
)
from clients.exits import BadInput, Exit, SystemFailed
from clients.signals import Interrupts
from services.runtime.config import LogFormat, LogLevel
from services.runtime.tls import Tls

if TYPE_CHECKING:  # heavy: only the command itself pays for them
    from clients.machine_client import MachineClient
    from clients.system import System, SystemConfig

_DOWN_S = 15.0
"""Longest time that a system may take to end."""
_READY_S = 400.0
"""Longest time until a system in the background serves; the first run ever compiles."""

_SIGNALS = {"HUP": 1, "INT": 2, "QUIT": 3, "KILL": 9, "TERM": 15, "STOP": 17, "CONT": 19}
"""FreeBSD's numbers of signals by name."""
_SIGNAL_MAX = 31
"""Highest signal of kill(2) without the real-time ones."""


def up(
    listen: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", envvar="VMGLUE_LISTEN", help="Serve machine.proto here: unix:PATH or HOST:PORT."
        ),
    ] = "",
    wiring: WiringOption = Wiring.GRPC,
    machine: Annotated[
        str, typer.Option(envvar="VMGLUE_MACHINE", help="Name of the machine, part of its Redis keys.")
    ] = "",
    redis: RedisOption = "",
    service: ServiceOption = [],  # noqa: B006 - typer copies it
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return as soon as the system serves.")] = False,
    allow_inject: Annotated[bool, typer.Option("--allow-inject", help="Scripted answers may be injected.")] = False,
    health_socket: Annotated[
        str,
        typer.Option(metavar="PATH", envvar="VMGLUE_HEALTH_SOCKET", help="Unix socket for a cheap health probe."),
    ] = "",
    metrics: MetricsOption = "",
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.CONSOLE,
    *,
    tls: Tls | None,
) -> int:
    """Start a system that stays, and print where it serves machine.proto.

    Examples:
    * `vmglue up --detach`, then `vmglue run tiny --target default`, then `vmglue down`
    * `vmglue up --listen 127.0.0.1:7100`
    * `vmglue up --service pager=pager:50051 ...` serves services that run elsewhere (docs/deploy.md)
    """
    from clients.keep import keep, listen_address, served
    from clients.system import SystemConfig
    from services.runtime.logs import set_up_logs

    if detach:
        return _detach()
    address = listen_address(listen, tls)
    with Interrupts() as interrupts:
        config = SystemConfig(machine, redis, allow_inject, tls)
        with _system(wiring, config, parse_services(service), interrupts) as system:
            set_up_logs("orchestrator", system.machine, log_level, log_format, system.kernel.tracing)
            with served(system, address, tls, health_socket, metrics) as kept:
                _announce(_served_at(address), log_format)
                keep(system, kept, lambda: bool(interrupts))
        return interrupts.exit or Exit.OK


def down(target: TargetOption = "", *, tls: Tls | None) -> int:
    """End the system that `vmglue up` keeps, or another one.

    Examples:
    * `vmglue down`
    * `vmglue down --target 127.0.0.1:7100`
    """
    from clients.machine_client import MachineClient
    from clients.statefile import alive, read_state

    state = read_state()
    if not target and state is None:
        print("no system is up")
        return Exit.OK
    try:
        with MachineClient(target, tls) as client:
            client.shutdown()
            address = client.address
    except BadInput:
        if target or state is None:
            raise
        os.kill(state.pid, signal.SIGTERM)  # it lives, but does not answer
        address = state.address
    if state is not None and address == state.address:
        deadline = time.monotonic() + _DOWN_S
        while alive(state):
            if time.monotonic() > deadline:
                raise SystemFailed(f"pid {state.pid} does not end; its services end with it: kill -KILL {state.pid}")
            time.sleep(0.05)
        _log().unlink(missing_ok=True)
    print(f"ended: {address}")
    return Exit.OK


def status(target: TargetOption = "", as_json: JsonOption = False, *, tls: Tls | None) -> int:
    """Show a running system: the run, the services, and who waits for what.

    Examples:
    * `vmglue status`
    * `vmglue status --json --target unix:/run/user/1000/vmglue/machine.sock`
    """
    from clients.machine_client import MachineClient
    from clients.status_view import print_status, status_dict

    with MachineClient(target, tls) as client:
        found = status_dict(client.topology, client.status(), client.latency_us())
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print_status(found)
    healthy = all(row["health"] == "SERVING" for row in found["services"])
    return Exit.OK if healthy else Exit.SERVICE_LOST


def sysctl(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME[=VALUE]]...", help="What to read or set; none: all.")
    ] = None,
    target: TargetOption = "",
    as_json: JsonOption = False,
    *,
    tls: Tls | None,
) -> int:
    """Read or set sysctls of a running system; without one, show those of a machine at boot.

    Examples:
    * `vmglue sysctl`
    * `vmglue sysctl vm.swap_idle_threshold1 vm.swap_enabled=0 --target default`
    """
    from clients.statefile import read_state

    if target or read_state() is not None:
        from clients.machine_client import MachineClient

        with MachineClient(target, tls) as client:
            found = _read_or_set(client, names or [])
    else:
        found = _at_boot(names or [])
    if as_json:
        print(json.dumps({name: value for name, (value, _) in found.items()}))
    else:
        for name, (value, service) in found.items():
            print(f"{name}={value}" + ("" if names else f"  ({service})"))
    return Exit.OK


def kill(
    pids: Annotated[list[int], typer.Argument(metavar="PID...", help="Processes, as `vmglue status` shows them.")],
    signal_name: Annotated[
        str,
        typer.Option(
            "--signal", "-s", metavar="SIGNAL", help="STOP, CONT, KILL, TERM, or FreeBSD's number of another, 1 to 31."
        ),
    ] = "TERM",
    target: TargetOption = "",
    *,
    tls: Tls | None,
) -> int:
    """Send a signal to processes of a running system: stop them, continue them, end them.

    Examples:
    * `vmglue kill 104 --signal STOP`, and later `vmglue kill 104 --signal CONT`
    * `vmglue kill 104 105 --target 127.0.0.1:7100`
    """
    from clients.machine_client import MachineClient

    number = _signal(signal_name)
    with MachineClient(target, tls) as client:
        client.kill(pids, number)
    return Exit.OK


def _signal(name: str) -> int:
    """A signal's number in FreeBSD, where STOP and CONT are others than on Linux."""
    known = name.upper().removeprefix("SIG")
    if known in _SIGNALS:
        return _SIGNALS[known]
    if name.isdecimal() and 1 <= int(name) <= _SIGNAL_MAX:
        return int(name)
    raise BadInput(f"{name}: expected one of {', '.join(_SIGNALS)}, or 1 to {_SIGNAL_MAX}")


def _read_or_set(client: MachineClient, names: list[str]) -> dict[str, tuple[int, str]]:
    for name in names:
        key, equals, text = name.partition("=")
        if equals:
            client.set_sysctl(key.strip(), _integer(name, text))
    return _chosen(client.sysctls(), [name.partition("=")[0].strip() for name in names])


def _at_boot(names: list[str]) -> dict[str, tuple[int, str]]:
    from clients.orchestrator import Orchestrator, sysctls
    from clients.system import System
    from clients.workload import Machine, Workload

    setting = next((name for name in names if "=" in name), None)
    if setting is not None:
        raise BadInput(f"{setting}: no system is up to set it on; see `vmglue up`, or `vmglue run --set`")
    with System.local() as system:
        Orchestrator(system.kernel, Workload("sysctl", Machine(), ())).boot()
        return _chosen(sysctls(system.kernel), names)


def _chosen(found: dict[str, tuple[int, str]], names: list[str]) -> dict[str, tuple[int, str]]:
    from difflib import get_close_matches

    for name in names:
        if name not in found:
            near = get_close_matches(name, found, n=1)
            raise BadInput(
                f"{name}: no such sysctl" + (f"; did you mean {near[0]!r}?" if near else "; `vmglue sysctl` lists them")
            )
    return {name: found[name] for name in names} if names else found


def _integer(setting: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise BadInput(f"{setting}: expected NAME=VALUE with a whole number") from None


def _system(wiring: Wiring, config: SystemConfig, services: dict[str, str], interrupts: Interrupts) -> System:
    from clients.system import System

    def poll(_: str) -> None:
        interrupts.check()

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if services:
        return System.join(services, config, poll)
    if wiring is Wiring.LOCAL:
        return System.local(config.allow_inject)
    return System.start(replace(config, machine=config.machine or "default"), note, poll)


def _served_at(address: str) -> str:
    """The address that was taken: with port 0 the state file knows it."""
    from clients.statefile import read_state

    state = read_state()
    return state.address if state is not None else address


def _announce(address: str, log_format: LogFormat) -> None:
    """Say where machine.proto is served: to people in words, to who reads JSON as an entry of the log."""
    import structlog

    if log_format is LogFormat.JSON:
        structlog.get_logger().info("machine.proto is served", address=address)
    else:
        print(f"machine.proto is served at {address}; end it with `vmglue down` or Ctrl-C", flush=True)


def _detach() -> int:
    """Start the same command again in a session of its own, and wait until it serves."""
    from clients.keep import listen_address
    from clients.statefile import read_state

    listen_address("")  # refuses if a system is up
    log = _log()
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--detach", "-d")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "clients", *arguments],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        state = read_state()
        if state is not None and state.pid == process.pid:
            print(f"machine.proto is served at {state.address} by pid {process.pid}; log: {log}")
            return Exit.OK
        if process.poll() is not None:
            return _detached_failed(process, log)
        time.sleep(0.05)
    process.terminate()
    return _detached_failed(process, log)


def _log() -> Path:
    """Output of a system in the background; kept until it is ended, for whoever wonders why it ended by itself."""
    from clients.statefile import runtime_directory

    return runtime_directory() / "up.log"


def _detached_failed(process: subprocess.Popen[Any], log: Path) -> int:
    print(log.read_text("utf-8", "replace").rstrip(), file=sys.stderr)
    return process.wait() or Exit.FAILED
