"""`vmglue checkpoint`: the whole state of a running machine in a file, and back."""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clients.cli.options import JsonOption, TargetOption, with_tls
from clients.exits import BadInput, Exit
from clients.signals import Interrupts
from services.runtime.tls import Tls

if TYPE_CHECKING:  # heavy: only the command itself pays for them
    from clients.checkpoint_file import CheckpointFile
    from clients.machine_client import MachineClient

checkpoint = typer.Typer(
    help="The whole state of a running machine in a file, and back.", no_args_is_help=True, rich_markup_mode="markdown"
)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="File of a checkpoint.")]
PathOption = Annotated[
    str, typer.Option("--path", metavar="PATH", help="Only what lies there, for example scheduler.core.allproc.")
]
LimitOption = Annotated[int, typer.Option(min=0, help="Print at most so many values; 0: all.")]


@checkpoint.command()
@with_tls
def save(file: FileArgument, target: TargetOption = "", *, tls: Tls | None) -> int:
    """Save the machine between two slices; a run goes on meanwhile.

    Examples:
    * `vmglue checkpoint save tiny.vmckpt`
    * `vmglue checkpoint save tiny.vmckpt --target 127.0.0.1:7100`
    """
    from clients.checkpoint_file import CheckpointFile
    from clients.machine_client import MachineClient

    if file.is_dir() or not file.absolute().parent.is_dir():
        raise BadInput(f"{file}: cannot be written; expected a file in a directory that exists")
    with MachineClient(target, tls) as client:
        data = client.save_checkpoint()
    about = CheckpointFile.unpack(data).about
    partial = file.with_name(file.name + ".part")
    try:
        partial.write_bytes(data)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    print(f"{file}: {about['workload']} at {about['now_us'] / 1e6:.6f} s, {len(data):,} bytes")
    return Exit.OK


@checkpoint.command()
@with_tls
def load(
    file: FileArgument,
    target: TargetOption = "",
    run: Annotated[bool, typer.Option("--run", help="Go on from there, and report.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="With --run: verify all invariants after every batch.")
    ] = False,
    as_json: JsonOption = False,
    *,
    tls: Tls | None,
) -> int:
    """Bring a running system's machine to a checkpoint; what it did before is dropped.

    Examples:
    * `vmglue checkpoint load tiny.vmckpt`
    * `vmglue checkpoint load tiny.vmckpt --run --json > report.json`
    """
    from clients.machine_client import MachineClient

    _opened(file)  # what is damaged is refused here, with the file's name
    with MachineClient(target, tls) as client, Interrupts() as interrupts:
        answer = client.load_checkpoint(file.read_bytes())
        if not run:
            print(f"{answer.workload} stands at {answer.progress.now_us / 1e6:.6f} s")
            return Exit.OK
        return _run(client, answer.workload, check, as_json, interrupts)


@checkpoint.command()
def show(file: FileArgument, path: PathOption = "", limit: LimitOption = 200, as_json: JsonOption = False) -> int:
    """Say what a checkpoint is of; with --path, print its values.

    Examples:
    * `vmglue checkpoint show tiny.vmckpt`
    * `vmglue checkpoint show tiny.vmckpt --path physmem.core.rest.cnt`
    """
    opened = _opened(file)
    if path:
        return _show_values(opened, path, limit)
    sizes = {name: len(part) for name, part in opened.parts.items()}
    if as_json:
        print(json.dumps({**opened.about, "parts": sizes}, indent=1))
        return Exit.OK
    about = opened.about
    print(f"workload    {about['workload']}, seed {about['seed']}, kernel {about['kernel']}, {about['end']}")
    print(f"time        {about['now_us'] / 1e6:.6f} s, {about['dispatches']:,} slices")
    print(f"references  {about['references']:,}")
    for name, size in sizes.items():
        events = f", {about['events'][name]:,} events" if name in about["events"] else ""
        print(f"{name:<11} {size:,} bytes{events}")
    return Exit.OK


@checkpoint.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint.")],
    new: Annotated[Path, typer.Argument(metavar="OTHER", help="Another one.")],
    path: PathOption = "",
    limit: LimitOption = 200,
) -> int:
    """Print what differs between two checkpoints; exit code 1 if anything does.

    Examples:
    * `vmglue checkpoint diff before.vmckpt after.vmckpt`
    * `vmglue checkpoint diff before.vmckpt after.vmckpt --path scheduler.core`
    """
    from clients.checkpoint_view import at_path, differences

    try:
        first, second = (at_path(_opened(file).tree(), path) for file in (old, new))
    except KeyError as missing:
        raise BadInput(missing.args[0]) from None
    found = differences(first, second, path)
    printed = 0
    for line in itertools.islice(found, limit or None):
        print(line)
        printed += 1
    if more := sum(1 for _ in found):
        print(f"and {more:,} more (--limit 0 prints all)", file=sys.stderr)
    return Exit.FAILED if printed else Exit.OK


def _show_values(opened: CheckpointFile, path: str, limit: int) -> int:
    from clients.checkpoint_view import at_path, lines

    try:
        found = lines(at_path(opened.tree(), path), path)
    except KeyError as missing:
        raise BadInput(missing.args[0]) from None
    for line in itertools.islice(found, limit or None):
        print(line)
    if more := sum(1 for _ in found):
        print(f"and {more:,} more (--limit 0 prints all)", file=sys.stderr)
    return Exit.OK


def _run(client: MachineClient, workload: str, check: bool, as_json: bool, interrupts: Interrupts) -> int:
    """Go on on a system that is up."""
    from rich.console import Console

    from clients.cli.run_command import exit_code, go_on
    from clients.cli.run_command import show as show_report
    from clients.display import ProgressDisplay

    with ProgressDisplay(Console(stderr=True), workload, as_json) as display:
        report = go_on(client, check, display, interrupts)
    show_report(report, as_json, quiet=False)
    return interrupts.exit or exit_code(report)


def _opened(file: Path) -> CheckpointFile:
    """A checkpoint from a file.

    Raises:
        BadInput: It cannot be read, or is refused.
    """
    from clients.checkpoint_file import CheckpointError, CheckpointFile

    try:
        return CheckpointFile.unpack(file.read_bytes())
    except OSError as error:
        raise BadInput(
            f"{file}: cannot be read: {error.strerror}; expected a file of `vmglue checkpoint save`"
        ) from None
    except CheckpointError as refused:
        raise BadInput(f"{file}: {refused}") from None
