"""`vmglue workloads`, `trace`, `events`, `capture`, `conform` and `bench`: what needs no running system."""

from __future__ import annotations

import itertools
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clients.cli.options import JsonOption, TargetOption, Wiring, WiringOption
from clients.exits import BadInput, Exit
from clients.signals import Interrupts
from services.runtime.tls import Tls

if TYPE_CHECKING:  # heavy: only the command itself pays for it
    from clients.system import System
    from clients.trace_convert import Format

trace = typer.Typer(help="Captured programs.", no_args_is_help=True)


def workloads(
    name: Annotated[str, typer.Argument(help="Print the text of this one (also random:SEED); none: list all.")] = "",
    as_json: JsonOption = False,
) -> int:
    """List the shipped workloads, or print one.

    Examples:
    * `vmglue workloads`
    * `vmglue workloads desk > my.toml`
    * `vmglue workloads random:7`
    """
    from clients.units import format_size
    from clients.workload import find_workload, load_workload, shipped_workloads, workload_text

    if name:
        print(workload_text(load_workload(name)), end="")
        return Exit.OK

    rows: list[dict[str, Any]] = []
    for name in shipped_workloads():
        found = load_workload(name)
        rows.append(
            {
                "name": name,
                "ram": format_size(found.machine.ram),
                "swap": format_size(found.machine.swap_bytes),
                "programs": {program.name: program.count for program in found.programs},
                "file": str(find_workload(name)),
            }
        )
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            programs = ", ".join(f"{count} x {name}" for name, count in row["programs"].items())
            print(f"{row['name']:<10} {row['ram']} of memory, {row['swap']} of swap: {programs}")
    return Exit.OK


@trace.command("info")
def trace_info(file: Annotated[Path, typer.Argument(help="A trace file.")], as_json: JsonOption = False) -> int:
    """Describe a captured program.

    Examples:
    * `vmglue trace info sort.vmtrace`
    """
    from dataclasses import asdict

    from clients.trace import read_header

    header = read_header(file)
    if as_json:
        print(json.dumps(asdict(header), indent=1))
        return Exit.OK
    totals = header.totals
    print(f"command     {' '.join(header.command)}{' (truncated)' if header.truncated else ''}")
    print(f"references  {totals.references:,} in {totals.records:,} run records, {totals.operations:,} operations")
    print(f"size        {file.stat().st_size:,} bytes, {len(header.files)} mapped files")
    print(f"remake      {header.remake}")
    for task in header.tasks:
        origin = f"made by task {task.parent}" if task.parent >= 0 else "started first"
        print(f"task {task.index:<6} {task.name}, {origin}, {len(task.execs)} execs")
    return Exit.OK


@trace.command("convert")
def trace_convert(
    source: Annotated[Path, typer.Argument(help="What to read: a .vmtrace, or a trace of another tool (--from).")],
    target: Annotated[Path, typer.Argument(help="What to write: a .vmtrace, or a trace for another tool (--to).")],
    from_: Annotated[
        str, typer.Option("--from", metavar="FORMAT", help="lackey, lines (hex-address R|W) or oracle; none: .vmtrace.")
    ] = "",
    to: Annotated[str, typer.Option(metavar="FORMAT", help="lackey, lines or oracle; none: .vmtrace.")] = "",
) -> int:
    """Convert traces: valgrind's lackey text, `hex-address R|W` lines, libCacheSim's oracleGeneral.

    Examples:
    * `vmglue trace convert --from lackey lackey.txt program.vmtrace`
    * `vmglue trace convert --to oracle sort.vmtrace sort.oracleGeneral`
    * `vmglue trace convert --from lines addresses.txt --to oracle addresses.oracleGeneral`
    """
    from clients.trace import Trace
    from clients.trace_convert import export_trace, import_trace

    came, goes = _format("--from", from_), _format("--to", to)
    _check_target(target)
    found = import_trace(source, came) if came else Trace.open(source)
    if goes is None:
        found.save(target)
        totals = found.header.totals
        print(f"{target}: {totals.references:,} references in {totals.records:,} run records")
    else:
        print(f"{target}: {export_trace(found, target, goes):,} accesses")
    return Exit.OK


def _format(option: str, name: str) -> Format | None:
    from clients.trace_convert import Format

    known = [form.value for form in Format]
    if name and name not in known:
        raise BadInput(f"{option} {name}: expected one of {', '.join(known)}")
    return Format(name) if name else None


def _check_target(path: Path) -> None:
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise BadInput(f"{path}: cannot be written; expected a file in a directory that exists")


def events(
    file: Annotated[Path, typer.Argument(help="A file that `vmglue run --events` wrote.")],
    service: Annotated[str, typer.Option(help="Only events of this service.")] = "",
    function: Annotated[str, typer.Option(help="Only events of this C function.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Print at most so many; 0: all.")] = 0,
) -> int:
    """Print recorded events: time, service, C function and line of vm_glue.c, what was decided.

    Examples:
    * `vmglue events tiny.events --function swapout_procs`
    * `vmglue events tiny.events --limit 20`
    """
    from clients.event_file import read_events

    chosen = (
        event for event in read_events(file) if service in ("", event.service) and function in ("", event.function)
    )
    for event in itertools.islice(chosen, limit or None):
        print(event)
    return Exit.OK


def capture(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD ...", help="Program and arguments.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Trace file to write.")],
    max_refs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after about so many references.")
    ] = None,
) -> int:
    """Record a real program and its children under valgrind.

    Examples:
    * `vmglue capture -o sort.vmtrace -- sort words.txt`
    * `vmglue capture -o shell.vmtrace --max-refs 5000000 -- sh -c 'seq 9999 | sort -R | head'`
    """
    from clients.capture import capture as record

    def progress(references: int, tasks: int) -> None:
        interrupts.check()
        print(f"\r{references:,} references, {tasks} processes ", end="", file=sys.stderr, flush=True)

    with Interrupts() as interrupts:
        summary = record(command, output, max_refs=max_refs, progress=progress)
    print(file=sys.stderr)
    print(
        f"{summary.path}: {summary.references:,} references in {summary.records:,} records and "
        f"{summary.operations:,} operations of {summary.tasks} processes, {summary.bytes:,} bytes, "
        f"{summary.seconds:.1f} s{', truncated' if summary.truncated else ''}; exit status {summary.exit_status}"
    )
    return Exit.OK


def conform(
    paths: Annotated[list[Path], typer.Argument(help="Files of cases (.jsonl), or directories of them.")],
    wiring: WiringOption = Wiring.GRPC,
    target: TargetOption = "",
    as_json: JsonOption = False,
    *,
    tls: Tls | None,
) -> int:
    """Compare the kernel with what the compiled C code answered.

    Examples:
    * `vmglue conform tests/conformance`
    * `vmglue conform tests/conformance/C_kernel_stacks.jsonl --wiring local --json`
    """
    from clients.conform import conform as play

    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise BadInput(f"{missing}: no such file; expected a .jsonl file of cases or a directory of them")
    with Interrupts() as interrupts:
        return play(paths, partial(_scripted_system, wiring, target, tls, interrupts), as_json)


def _scripted_system(wiring: Wiring, target: str, tls: Tls | None, interrupts: Interrupts) -> System:
    """A system that accepts scripted answers; a running one must have been started to."""
    from clients.system import System, SystemConfig

    def poll(_: str) -> None:
        interrupts.check()

    if target:
        from clients.machine_client import MachineClient

        with MachineClient(target, tls) as client:
            topology = client.topology
        addresses = {service.name: service.address for service in topology.services}
        if not addresses:
            raise BadInput(f"{target}: its services live in its own process and cannot be called one by one")
        return System.join(addresses, SystemConfig(topology.machine, topology.redis, tls=tls), poll)
    if wiring is Wiring.LOCAL:
        return System.local(allow_inject=True)
    return System.start(SystemConfig(allow_inject=True), lambda text: print(text, file=sys.stderr), poll)


def certs(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go; valid ones are kept.")],
    hosts: Annotated[
        list[str], typer.Option("--hosts", metavar="NAME", help="A further name of the services' hosts; repeat it.")
    ] = [],  # noqa: B006 - typer copies it
    days: Annotated[int, typer.Option(min=1, help="Days that new certificates are good for.")] = 365,
) -> int:
    """Make an authority and certificates for the services, an operator and a viewer.

    Examples:
    * `vmglue certs ./certs`
    * `vmglue certs ./certs --hosts build.example.org --hosts 10.0.0.7 --days 30`
    """
    from clients.certs import make_certificates

    print("\n".join(make_certificates(directory, hosts, days)))
    return Exit.OK


def bench(
    figures: Annotated[list[str] | None, typer.Argument(help="Figures to measure; none: all.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Measure speed and size, each figure beside a baseline of the same run.

    Exit code 1 if a goal is missed: which ones is told on standard error. On a busy host goals are missed by chance.

    Examples:
    * `vmglue bench`
    * `vmglue bench walk --json`
    """
    from clients.bench import main

    return main(figures or [], as_json)
