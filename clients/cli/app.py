"""The commands, and how their help is written."""

from __future__ import annotations

from typing import Annotated

import typer

from clients.cli import checkpoint_commands, run_command, system_commands, tool_commands
from clients.cli.options import with_tls
from services.runtime.process import package_version

app = typer.Typer(
    name="vmglue",
    help="FreeBSD's vm_glue.c as a running, distributed, inspectable machine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vmglue {package_version() or '(not installed)'}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """FreeBSD's vm_glue.c as a running, distributed, inspectable machine."""


app.command("run")(with_tls(run_command.run))
app.command("up")(with_tls(system_commands.up))
app.command("down")(with_tls(system_commands.down))
app.command("status")(with_tls(system_commands.status))
app.command("kill")(with_tls(system_commands.kill))
app.command("sysctl")(with_tls(system_commands.sysctl))
app.command("workloads")(tool_commands.workloads)
app.command("events")(tool_commands.events)
app.command("capture", context_settings={"allow_interspersed_args": False})(tool_commands.capture)
app.command("conform")(with_tls(tool_commands.conform))
app.command("certs")(tool_commands.certs)
app.command("bench")(tool_commands.bench)
app.add_typer(tool_commands.trace, name="trace")
app.add_typer(checkpoint_commands.checkpoint, name="checkpoint")
