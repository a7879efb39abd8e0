"""Records a program and its children under valgrind into a trace file."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clients.capture.assemble import assemble
from clients.capture.decode import Stream
from clients.capture.fifos import Fifos
from clients.capture.layout import FileTable
from clients.capture.resolve import CaptureError, find_valgrind, resolve_program

POLL_S = 0.002
PROGRESS_S = 0.2
DRAIN_S = 0.05
"""Silence after which an ended recording has nothing left to read."""


@dataclass(frozen=True, slots=True)
class CaptureSummary:
    """What was recorded."""

    path: Path
    """The trace file."""
    references: int
    """Original accesses."""
    records: int
    """Run records."""
    operations: int
    """Operations."""
    tasks: int
    """Processes."""
    bytes: int
    """Size of the file."""
    seconds: float
    """Time that the recording took."""
    truncated: bool
    """The limit of references was reached."""
    exit_status: int
    """Status of the recorded command, negative for a signal."""


Progress = Callable[[int, int], None]
"""Called now and then with (references so far, processes so far)."""


def capture(
    command: list[str], output: Path, *, max_refs: int | None = None, progress: Progress | None = None
) -> CaptureSummary:
    """Run a command under valgrind's lackey and write what it and its children did as a trace.

    The text is never stored: it is collapsed to runs while it comes. The program runs about a hundred times slower
    than alone, with its own standard input and output.

    Args:
        command: program and arguments, as for execvp.
        output: trace file to write.
        max_refs: stop after about so many references and mark the trace as truncated.
        progress: called now and then.

    Raises:
        CaptureError: no valgrind, no such program, or nothing was recorded.
    """
    if not command:
        raise CaptureError("nothing to capture: give a command after --")
    begun = time.monotonic()
    argv = [resolve_program(command[0]), *command[1:]]
    files = FileTable()
    with tempfile.TemporaryDirectory(prefix="vmglue-capture-") as directory:
        fifos = Fifos(Path(directory))
        try:
            streams, status, truncated = _record(argv, directory, fifos, files, max_refs, progress)
        finally:
            fifos.close_all()
    if not streams or not streams[0].layouts:
        raise CaptureError(f"{command[0]}: valgrind recorded nothing (exit status {status})")
    shown = _shown(command)
    trace = assemble(streams, files, tuple(shown), _remake(shown, output, max_refs), truncated)
    trace.save(output)
    totals = trace.header.totals
    return CaptureSummary(
        path=output,
        references=totals.references,
        records=totals.records,
        operations=totals.operations,
        tasks=len(streams),
        bytes=output.stat().st_size,
        seconds=time.monotonic() - begun,
        truncated=truncated,
        exit_status=status,
    )


def _record(
    argv: list[str],
    directory: str,
    fifos: Fifos,
    files: FileTable,
    max_refs: int | None,
    progress: Progress | None,
) -> tuple[list[Stream], int, bool]:
    """Run the command and read all its streams; return them with the root's first."""
    process = subprocess.Popen(
        [
            find_valgrind(),
            "--tool=lackey",
            "--trace-mem=yes",
            "--trace-syscalls=yes",
            "--trace-children=yes",
            "--trace-sched=yes",
            "--vgdb=no",
            f"--log-file={directory}/%p",
            *argv,
        ],
        start_new_session=True,
    )
    streams: dict[int, Stream] = {process.pid: Stream(process.pid, files, root=True)}
    truncated = False
    try:
        truncated = _read_all(process, fifos, files, streams, max_refs, progress)
    finally:
        _end_session(process)
    for stream in streams.values():
        stream.finish(signal.SIGKILL)
    return list(streams.values()), process.wait(), truncated


def _read_all(
    process: subprocess.Popen[bytes],
    fifos: Fifos,
    files: FileTable,
    streams: dict[int, Stream],
    max_refs: int | None,
    progress: Progress | None,
) -> bool:
    """Read until every process has ended; return whether the limit stopped it."""
    extended = shown = heard = time.monotonic()
    while True:
        pieces = fifos.ready(POLL_S)
        now = time.monotonic()
        for pid, data in pieces:
            if pid not in streams:
                streams[pid] = Stream(pid, files, root=False)
            streams[pid].feed(data)
            heard = now
        if now - extended >= POLL_S:
            fifos.extend()
            extended = now
        references = sum(s.references for s in streams.values())
        if progress is not None and now - shown >= PROGRESS_S:
            progress(references, len(streams))
            shown = now
        if max_refs is not None and references >= max_refs:
            return True
        if not pieces and now - heard > DRAIN_S and process.poll() is not None and not _any_alive(streams):
            return False


def _any_alive(streams: dict[int, Stream]) -> bool:
    """Whether a recorded process still runs; one that was left behind by its parent counts."""
    for pid, stream in streams.items():
        if stream.ended:
            continue
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            return True
    return False


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the recorded session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _shown(command: list[str]) -> list[str]:
    """The command as the trace tells it: file names without their directories, the home directory as ~."""
    home = str(Path.home())
    bare = [Path(word).name if _is_path(word) else word for word in command]
    return [word.replace(home, "~") if len(home) > 1 else word for word in bare]


def _is_path(word: str) -> bool:
    """Whether a word of a command names a file, or one to be made in an existing directory."""
    directory, slash, name = word.rpartition("/")
    made = word.startswith("/") and directory != "" and os.path.isdir(directory)
    return bool(slash and name) and (made or os.path.exists(word))


def _remake(shown: list[str], output: Path, max_refs: int | None) -> str:
    limit = f" --max-refs {max_refs}" if max_refs is not None else ""
    return f"vmglue capture -o {shlex.quote(output.name)}{limit} -- {shlex.join(shown)}"
