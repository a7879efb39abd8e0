"""Checkpoints of a run: taken between two slices, and gone on from in any wiring to the same event hash."""

from __future__ import annotations

import typing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from clients.checkpoint_file import CheckpointError, CheckpointFile, CheckpointTooLarge
from clients.kernel import SERVICES, Kernel
from clients.orchestrator import OrchestratorState
from clients.report import Samples
from clients.run import Run
from clients.trace import TraceError
from clients.workload import Program, Workload
from services.runtime.checkpoint import CHUNK_BYTES
from services.runtime.errors import KernelPanic, Reason, Refused
from services.runtime.field_types import check
from services.runtime.process import package_version
from services.runtime.snapshot import Registry, SnapshotError, SnapshotTooLarge, decode, encode, seal, size_max, unseal

_RUN = "run"
"""Name of the part that is not a service's."""


@dataclass(slots=True)
class PanicState:
    """The panic that ended a run."""

    text: str
    function: str
    line: int


@dataclass(slots=True)
class RunState:
    """What the client of the services knows."""

    workload: Workload
    """Machine and programs; traces by their base names."""
    program_traces: list[int]
    """Number of each program's trace."""
    traces: list[bytes]
    """The traces' files, so that a checkpoint is all that is needed to go on."""
    orchestrator: OrchestratorState
    """Positions, expected contents, clock."""
    samples: Samples
    """Series for the plots."""
    detail: str
    """One sentence about an early end."""
    wall_s: float
    """Wall time spent executing."""
    panic: PanicState | None
    """The panic that ended it."""


def take(run: Run) -> CheckpointFile:
    """A checkpoint of a run, between two slices; nothing of the run changes.

    Raises:
        CheckpointTooLarge: There is not the memory for it.
        ServiceLost: A service cannot be reached any more.
    """
    orchestrator, machine = run.orchestrator, run.workload.machine
    parts, limit = {_RUN: _sealed(run)}, size_max()
    for name in SERVICES:
        parts[name] = _saved(run.kernel, name, limit - sum(map(len, parts.values())))
    about = {
        "vmglue": package_version(),
        "kernel": machine.kernel_version,
        "workload": run.workload.name,
        "seed": machine.seed,
        "now_us": orchestrator.dispatch.now_us,
        "dispatches": orchestrator.tally.dispatches,
        "references": orchestrator.tally.references,
        "end": run.ending().value,
        "events": {name: port.digest().event_count for name, port in run.kernel.ports().items()},
    }
    return CheckpointFile(about, parts)


def restore(kernel: Kernel, file: CheckpointFile) -> Run:
    """Bring services to a checkpoint; the run that goes on from there.

    Everything is read and taken in before the first service changes.

    Raises:
        CheckpointError: The checkpoint is refused; the services are what they were.
        ServiceLost: A service cannot be reached any more.
    """
    missing = [name for name in (_RUN, *SERVICES) if name not in file.parts]
    if missing:
        raise CheckpointError(f"the checkpoint has no part {missing[0]!r}")
    state = _decoded(file.parts[_RUN])
    run = _run_of(kernel, state)
    try:
        for name in SERVICES:
            _load(kernel, name, file.parts[name])
    except CheckpointError:
        for port in kernel.ports().values():
            port.checkpoint_load(0, 0, b"")
        raise
    for port in kernel.ports().values():
        port.checkpoint_commit()
    run.orchestrator.resume(state.orchestrator)
    return run


def _state_of(run: Run) -> RunState:
    traces, workload, panic = run.orchestrator.traces(), run.workload, run.panic
    numbers = {path: number for number, path in enumerate(traces)}
    return RunState(
        replace(workload, source=Path(workload.source).name),
        [numbers[program.trace] for program in workload.programs],
        list(traces.values()),
        run.orchestrator.state(),
        run.samples,
        run.detail,
        run.wall_s,
        PanicState(panic.text, panic.function, panic.line) if panic is not None else None,
    )


def _sealed(run: Run) -> bytes:
    """The part of the client of the services."""
    try:
        return seal(encode(_state_of(run), _registry()))
    except SnapshotTooLarge as error:
        raise CheckpointTooLarge(f"the run: {error}") from None


def _saved(kernel: Kernel, name: str, limit: int) -> bytes:
    """Fetch a service's checkpoint, of a limited size."""
    port, whole = kernel.ports()[name], bytearray()
    while True:
        chunk = port.checkpoint_save(len(whole))
        if chunk.size > limit:
            raise CheckpointTooLarge(f"{name} has {chunk.size} bytes, the memory that is left permits {limit} of it")
        whole += chunk.data
        if len(whole) >= chunk.size:
            return bytes(whole)


def _load(kernel: Kernel, name: str, part: bytes) -> None:
    """Let a service take in its checkpoint."""
    port = kernel.ports()[name]
    try:
        for offset in range(0, len(part), CHUNK_BYTES):
            port.checkpoint_load(offset, len(part), part[offset : offset + CHUNK_BYTES])
    except Refused as refused:
        kind = CheckpointTooLarge if refused.reason is Reason.QUOTA else CheckpointError
        raise kind(f"{name} refuses the checkpoint: {refused}") from None


def _decoded(part: bytes) -> RunState:
    try:
        state = decode(unseal(part), _registry())
        check(state, RunState, _RUN)
    except SnapshotTooLarge as error:
        raise CheckpointTooLarge(f"the run: {error}") from None
    except SnapshotError as error:
        raise CheckpointError(f"the run: {error}") from None
    return typing.cast("RunState", state)


def _run_of(kernel: Kernel, state: RunState) -> Run:
    """The run that a state is of; its services are not there yet.

    Raises:
        CheckpointError: State and traces do not fit.
    """
    try:
        names = {number: program.trace.name for number, program in _numbered(state)}
        paths = [Path(str(number)) / names.get(number, "") for number in range(len(state.traces))]
        programs = tuple(replace(program, trace=paths[number]) for number, program in _numbered(state))
        run = Run(kernel, replace(state.workload, programs=programs))
        run.orchestrator.restore(state.orchestrator, dict(zip(paths, state.traces, strict=True)))
    except (AttributeError, IndexError, TypeError, ValueError, TraceError) as error:
        raise CheckpointError(f"the run: its state and its traces do not fit: {error}") from None
    run.samples, run.detail, run.wall_s = state.samples, state.detail, state.wall_s
    if state.panic is not None:
        run.panic = KernelPanic(state.panic.text, state.panic.function, state.panic.line)
    return run


def _numbered(state: RunState) -> list[tuple[int, Program]]:
    """Each program with the number of its trace."""
    return list(zip(state.program_traces, state.workload.programs, strict=True))


@cache
def _registry() -> Registry:
    return Registry(RunState)
