"""The command line `vmglue`: what every command's errors mean, and its exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from typer.exceptions import Abort, TyperException
from typer.exceptions import Exit as TyperExit

from clients.cli.app import app
from clients.exits import BadInput, Exit, SystemFailed
from clients.numba_cache import numba_cache
from clients.signals import Interrupted

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Command line without the program's name; None: this process' own.

    Returns:
        The exit code (clients/exits.py).
    """
    numba_cache()
    try:
        return int(app(args=None if arguments is None else list(arguments), standalone_mode=False) or Exit.OK)
    except TyperExit as ended:
        return ended.exit_code
    except Interrupted as interrupted:
        return interrupted.exit
    except (KeyboardInterrupt, Abort):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return Exit.OK
    except TyperException as wrong:
        return _complain(Exit.BAD_INPUT, f"{wrong.format_message().rstrip('.')}; see `vmglue --help`")
    except Exception as error:
        return _report(error)


def _report(error: Exception) -> int:
    """Say what an error means; one that nobody foresaw is shown with its trace."""
    # only commands that can raise these pay for their imports
    from clients.capture.resolve import CaptureError
    from clients.checkpoint_file import CheckpointError
    from clients.conform import Malformed
    from clients.run import describe_panic
    from clients.trace import TraceError
    from clients.workload import WorkloadError
    from services.runtime.errors import KernelPanic, Refused, ServiceFault, ServiceLost
    from services.runtime.tracing import TracingUnavailable

    if isinstance(error, TracingUnavailable):
        return _complain(Exit.BAD_INPUT, str(error))
    if isinstance(error, (BadInput, CaptureError, CheckpointError, Malformed, Refused, TraceError, WorkloadError)):
        return _complain(Exit.BAD_INPUT, str(error))
    if isinstance(error, (SystemFailed, ServiceLost)):
        return _complain(Exit.SERVICE_LOST, str(error))
    if isinstance(error, KernelPanic):
        return _complain(Exit.PANIC, describe_panic(error))
    if isinstance(error, ServiceFault):
        return _complain(Exit.FAILED, str(error))
    traceback.print_exception(error)
    return Exit.FAILED


def _complain(code: Exit, text: str) -> int:
    print(f"vmglue: {text}", file=sys.stderr)
    return code
