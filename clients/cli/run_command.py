"""`vmglue run`: a workload from boot to report, on a system of its own or on a running one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clients.cli.options import (
    JsonOption,
    RedisOption,
    ServiceOption,
    TargetOption,
    Wiring,
    WiringOption,
    parse_services,
)
from clients.exits import BadInput, Exit, SystemFailed
from clients.signals import Interrupts
from services.runtime.tls import Tls

if TYPE_CHECKING:  # heavy: only the command itself pays for them
    from clients.display import ProgressDisplay
    from clients.event_file import EventRecorder
    from clients.machine_client import MachineClient
    from clients.system import System
    from clients.workload import Workload

_EXITS = {
    "complete": Exit.OK,
    "paused": Exit.INTERRUPTED,
    "interrupted": Exit.INTERRUPTED,
    "deadlock": Exit.FAILED,
    "invariant": Exit.FAILED,
    "panic": Exit.PANIC,
}


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Where and how a workload is run."""

    wiring: Wiring
    """Of a system of its own."""
    target: str
    """Running system; empty: a system of its own."""
    redis: str
    """Redis of a system of its own; empty: started with it."""
    services: Mapping[str, str]
    """Services that run elsewhere; empty: started."""
    check: bool
    """Verify invariants after every batch."""
    profile: bool
    """Time the calls."""
    tls: Tls | None = None
    """Who calls a running system, or services that run elsewhere."""


def run(
    workload: Annotated[
        str, typer.Argument(help="Name of a shipped workload (`vmglue workloads`), a .toml file, or random:SEED.")
    ],
    ram: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory, for example '24 MiB'.")] = None,
    swap: Annotated[str | None, typer.Option(metavar="SIZE", help="Swap space: one SSD of that size.")] = None,
    set_: Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="A sysctl at boot; repeat it.")] = [],  # noqa: B006 - typer copies it
    seed: Annotated[int | None, typer.Option(help="Seed of start times, sleeps and the device.")] = None,
    preempt_seed: Annotated[
        int | None, typer.Option(help="Seed of what others do where the C code drops a lock or sleeps; 0: nothing.")
    ] = None,
    wiring: WiringOption = Wiring.GRPC,
    target: TargetOption = "",
    redis: RedisOption = "",
    service: ServiceOption = [],  # noqa: B006 - typer copies it
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as a page with plots.")] = None,
    events: Annotated[Path | None, typer.Option(metavar="FILE", help="Record every event (`vmglue events`).")] = None,
    check: Annotated[bool, typer.Option("--check", help="Verify all invariants after every batch.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Report where the wall time went (own systems).")] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show neither progress nor the final table.")] = False,
    *,
    tls: Tls | None,
) -> int:
    """Run a workload and report what the machine did.

    Examples:
    * `vmglue run tiny`
    * `vmglue run tiny --ram '12 MiB' --set vm.swap_idle_enabled=1 --html tiny.html`
    * `vmglue run my.toml --wiring local --check --json > report.json`
    * `vmglue run random:7 --wiring local --check`
    * `vmglue run tiny --target default`
    """
    from clients.display import ProgressDisplay
    from clients.workload import load_workload, override

    chosen = override(load_workload(workload), ram=ram, swap=swap, seed=seed, preempt_seed=preempt_seed, sysctls=set_)
    options = RunOptions(wiring, target, redis, parse_services(service), check, profile, tls)
    for path in (report, html, events):
        _check_writable(path)
    with Interrupts() as interrupts, ExitStack() as stack:
        recorder = _recorder(events, chosen, stack)
        display = stack.enter_context(ProgressDisplay(_stderr(), chosen.name, quiet))
        execute = _run_there if target else _run_here
        result = execute(chosen, options, recorder, display, interrupts)
    _write(result, report, html)
    show(result, as_json, quiet)
    return interrupts.exit or exit_code(result)


def _run_here(
    workload: Workload,
    options: RunOptions,
    recorder: EventRecorder | None,
    display: ProgressDisplay,
    interrupts: Interrupts,
) -> dict[str, Any]:
    """Run on a system that is started for it and ended after it."""
    from clients.profile import Profile
    from clients.run import Run
    from services.runtime.errors import ServiceFault, ServiceLost

    with _system(options, display, interrupts) as system:
        timer = Profile(system.kernel) if options.profile else None
        run = Run(system.kernel, workload, options.check, recorder, timer)
        try:
            run.boot()
            interrupts.check()
            return run.report(run.execute(stop=lambda: bool(interrupts), progress=display))
        except ServiceLost as lost:
            raise system.explain(lost) from None
        except ServiceFault as fault:
            if fault.service not in system.processes:
                raise
            raise SystemFailed(f"{fault}\n{system.processes[fault.service].obituary()}") from None


def _system(options: RunOptions, display: ProgressDisplay, interrupts: Interrupts) -> System:
    from clients.system import System, SystemConfig

    if options.wiring is Wiring.LOCAL and not options.services:
        return System.local()
    config = SystemConfig(redis=options.redis, tls=options.tls)
    if options.services:
        return System.join(options.services, config, lambda _: interrupts.check())
    return System.start(config, display.note, lambda _: interrupts.check())


def _run_there(
    workload: Workload,
    options: RunOptions,
    recorder: EventRecorder | None,
    display: ProgressDisplay,
    interrupts: Interrupts,
) -> dict[str, Any]:
    """Run on a system that is up and stays up."""
    from clients.machine_client import MachineClient

    with MachineClient(options.target, options.tls) as client:
        client.load(workload)
        interrupts.check()
        report = go_on(client, options.check, display, interrupts)
        if recorder is not None:
            client.record(recorder)
    return report


def go_on(client: MachineClient, check: bool, display: ProgressDisplay, interrupts: Interrupts) -> dict[str, Any]:
    """Run what is loaded on a system that is up; its report.

    Raises:
        SystemFailed: A service was lost, or the system.
    """
    result = client.run(check, stop=lambda: bool(interrupts), progress=display)
    if result.failure is not None and result.failure.lost_service:
        raise SystemFailed(result.failure.text)
    if not result.report:
        raise SystemFailed(result.failure.text if result.failure else f"{client.address}: the run's stream broke off")
    return result.report


def _recorder(path: Path | None, workload: Workload, stack: ExitStack) -> EventRecorder | None:
    from clients.event_file import EventRecorder

    if path is None:
        return None
    machine = workload.machine
    about = {"workload": workload.name, "kernel": machine.kernel_version, "seed": machine.seed}
    return stack.enter_context(EventRecorder(path, about))


def _check_writable(path: Path | None) -> None:
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise BadInput(f"{path}: cannot be written; expected a file in a directory that exists")


def _write(result: Mapping[str, Any], report: Path | None, html: Path | None) -> None:
    from clients.report_html import render

    if report is not None:
        report.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if html is not None:
        html.write_text(render(result), "utf-8")


def show(result: Mapping[str, Any], as_json: bool, quiet: bool) -> None:
    """Print a report, as JSON or as a table."""
    from clients.display import summary, wide_console

    if as_json:
        print(json.dumps(result))
    elif not quiet:
        wide_console().print(summary(result))


def exit_code(result: Mapping[str, Any]) -> int:
    """Exit code of a run that no signal ended."""
    differ = result["counters"] and not result["counters_agree"]
    wrong = result["integrity"]["mismatches"] or differ or result["identities"]
    code = _EXITS[result["end"]]
    if code is Exit.PANIC:
        print(f"vmglue: {result['end_detail']}", file=sys.stderr)
    return Exit.FAILED if code is Exit.OK and wrong else code


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)
