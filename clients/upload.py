"""A workload and its traces on their way to a running system: cut into messages here, put together there."""

from __future__ import annotations

import errno
import os
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from clients.workload import TRACE_SUFFIX, Workload, WorkloadError, load_workload, override, workload_text
from clients.workload_model import plain_swap
from protos import machine_pb2 as pb
from services.runtime.errors import Reason, Refused
from services.runtime.limits import UPLOAD_BYTES_MAX, UPLOAD_FILES_MAX
from services.runtime.snapshot import size_max

CHUNK_BYTES = 1 << 20
"""Content of one message."""


class UploadError(Exception):
    """An upload that cannot be used, in one line."""


def load_requests(workload: Workload, request_id: str) -> Iterator[pb.LoadRequest]:
    """The messages that load a workload on another system.

    Args:
        workload: What to load; its machine carries the values that count.
        request_id: Identity of the upload.

    Raises:
        WorkloadError: Two traces have the same base name.
    """
    source, machine = Path(workload.source), workload.machine
    head = pb.LoadHead(
        request_id=request_id,
        name=source.name.removesuffix(".toml") + ".toml",
        toml=workload_text(workload),
        seed=machine.seed,
        preempt_seed=machine.preempt_seed,
        ram_bytes=machine.ram,
        swap_bytes=machine.swap_bytes if machine.swap == plain_swap(machine.swap_bytes) else None,
        sysctls=machine.sysctls,
    )
    files: dict[str, Path] = {}
    for program in workload.programs:
        if program.phases:
            continue  # made where it runs
        known = files.setdefault(program.trace.name, program.trace)
        if known != program.trace:
            raise WorkloadError(
                f"{source}: {known} and {program.trace} have the same base name; rename one to upload both"
            )
    yield pb.LoadRequest(head=head)
    for name, path in files.items():
        with path.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                yield pb.LoadRequest(chunk=pb.TraceChunk(file=name, data=data))


def receive(directory: Path, head: pb.LoadHead, rest: Iterable[pb.LoadRequest]) -> Workload:
    """Put an upload together and read it.

    Args:
        directory: An empty directory for its files.
        head: The first message.
        rest: The messages behind it.

    Raises:
        UploadError: A message or the workload in it is wrong.
        Refused: It is too large.
    """
    if not head.toml:
        raise UploadError("head.toml: the first part must hold the workload's text")
    files = _receive_files(directory, rest)
    path = directory / _base_name(head.name or "workload.toml", "head.name")
    path.write_text(head.toml, "utf-8")
    _link_traces(directory, head.toml, files)
    try:
        return override(
            load_workload(str(path)),
            ram=f"{head.ram_bytes} B" if head.HasField("ram_bytes") else None,
            swap=f"{head.swap_bytes} B" if head.HasField("swap_bytes") else None,
            seed=head.seed if head.HasField("seed") else None,
            preempt_seed=head.preempt_seed if head.HasField("preempt_seed") else None,
            sysctls=[f"{name}={value}" for name, value in sorted(head.sysctls.items())],
        )
    except WorkloadError as wrong:
        raise UploadError(str(wrong).replace(f"{directory}/", "")) from None


def receive_pieces(first: bytes, rest: Iterable[pb.LoadCheckpointRequest]) -> bytearray:
    """Put a checkpoint together.

    Raises:
        Refused: It is too large.
    """
    whole, limit = bytearray(first), size_max()
    for request in rest:
        if len(whole) + len(request.data) > limit:
            found = f"more than {len(whole)} bytes"
            raise Refused(Reason.QUOTA, "data", found, f"a checkpoint of at most {limit}, by the memory that is left")
        whole += request.data
    return whole


def _receive_files(directory: Path, rest: Iterable[pb.LoadRequest]) -> dict[str, Path]:
    """Write trace chunks to files by base name."""
    files: dict[str, Path] = {}
    total = 0
    for request in rest:
        if request.WhichOneof("part") != "chunk":
            raise UploadError("part: only the first message holds a head; expected a chunk")
        name = _base_name(request.chunk.file, "chunk.file")
        path = files.setdefault(name, directory / f"{len(files)}.part")
        total += len(request.chunk.data)
        if total > UPLOAD_BYTES_MAX or len(files) > UPLOAD_FILES_MAX:
            expected = f"at most {UPLOAD_BYTES_MAX} in {UPLOAD_FILES_MAX} files"
            raise Refused(Reason.QUOTA, "chunk", f"{total} bytes in {len(files)} files", expected)
        _append(path, request.chunk.data)
    return files


def _append(path: Path, data: bytes) -> None:
    """Add to a file.

    Raises:
        Refused: The disk, or a folder in memory, is full.
    """
    try:
        with path.open("ab") as file:
            file.write(data)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        expected = f"what fits into {path.parent.parent}, which is full"
        raise Refused(Reason.QUOTA, "chunk", f"{len(data)} bytes more", expected) from None


def _base_name(name: str, field: str) -> str:
    if not name or name in (".", "..") or name != os.path.basename(name) or "\0" in name:
        raise UploadError(f"{field}: {name!r} is not a base name; expected a file name without a directory")
    return name


def _link_traces(directory: Path, toml: str, files: dict[str, Path]) -> None:
    """Put every uploaded trace where the workload's text says that it is, if that is inside of the directory."""
    try:
        programs = tomllib.loads(toml).get("programs", [])
    except tomllib.TOMLDecodeError:
        return  # reading the workload reports it, with its line
    for program in programs if isinstance(programs, list) else []:
        value = program.get("trace") if isinstance(program, dict) else None
        source = _uploaded(value, files)
        if source is not None:
            place = (directory / str(value)).resolve()
            if place.is_relative_to(directory.resolve()) and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(source, place)


def _uploaded(value: Any, files: dict[str, Path]) -> Path | None:
    if not isinstance(value, str):
        return None
    name = os.path.basename(value)
    return files.get(name) or files.get(name + TRACE_SUFFIX)
