"""A client of machine.proto: loads a workload on a running system, runs it there, and reads and changes its state."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

import grpc

from clients.boot_id import BootIdWatch
from clients.event_file import EventRecorder
from clients.exits import BadInput
from clients.machine import Failure
from clients.reach import why_unreachable
from clients.report import Sample
from clients.run import Progress
from clients.statefile import read_state
from clients.upload import CHUNK_BYTES, load_requests
from clients.workload import Workload
from protos import machine_pb2 as pb
from protos.machine_pb2_grpc import MachineServiceStub
from services.runtime.errors import ServiceFault
from services.runtime.remote import open_channel
from services.runtime.status import raised
from services.runtime.tls import Tls

DEFAULT = "default"
"""Target that names the system which `vmglue up` keeps for this user."""
_REACH_S = 3.0
_CALL_S = 120.0
_PAUSE_POLL_S = 0.05
_MISTAKES = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
)


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """How a run on a target ended."""

    report: dict[str, Any]
    """The report; empty if the machine was lost."""
    failure: Failure | None
    """Why it failed, if it did."""


def resolve_target(target: str) -> str:
    """The gRPC target behind what a user wrote: an address, a socket's path, `default`, or nothing.

    Raises:
        BadInput: The default system is asked for and there is none.
    """
    if target in ("", DEFAULT):
        state = read_state()
        if state is None:
            raise BadInput("no system is up; start one with `vmglue up`, or name one with --target ADDRESS")
        return state.address
    return f"unix:{os.path.abspath(target)}" if target.startswith(("/", ".")) else target


class MachineClient:
    """A connection to machine.proto.

    Attributes:
        address: gRPC target.
    """

    def __init__(self, target: str, tls: Tls | None = None) -> None:
        """Connect, and make sure that a vmglue system answers.

        Args:
            target: Address, socket path, `default`, or empty for the default system.
            tls: Who calls.

        Raises:
            BadInput: Nothing answers there.
        """
        self.address = resolve_target(target)
        self._channel = open_channel(self.address, tls)
        self._stub = MachineServiceStub(self._channel)
        self._life = BootIdWatch()
        try:
            self.topology: pb.GetTopologyResponse
            self.topology, call = self._stub.GetTopology.with_call(
                pb.GetTopologyRequest(), timeout=_REACH_S, wait_for_ready=True
            )
            self._life.check(call.initial_metadata())
        except grpc.RpcError as error:
            self._channel.close()
            raise BadInput(_unreachable(self.address, error, tls)) from None

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self, workload: Workload) -> pb.LoadResponse:
        """Upload a workload with its traces and boot the machine with it.

        Raises:
            WorkloadError: Its traces cannot be uploaded.
            BadInput: The system refused it.
        """
        requests = list(load_requests(workload, uuid.uuid4().hex))
        answer: pb.LoadResponse = self._call(self._stub.Load, iter(requests))
        return answer

    def run(
        self,
        check: bool = False,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> RemoteRun:
        """Run the loaded machine to its end, or until `stop` says so: then it is paused.

        Args:
            check: Verify all invariants after every batch.
            stop: Asked all the time.
            progress: Called with every progress message.
        """
        report: dict[str, Any] = {}
        failure: Failure | None = None
        with self._pausing(stop):
            for news in self._stream(self._stub.Run, pb.RunRequest(request_id=uuid.uuid4().hex, check=check)):
                kind = news.WhichOneof("news")
                if kind == "progress":
                    progress(read_progress(news.progress))
                elif kind == "report_json":
                    report = json.loads(news.report_json)
                elif kind == "failure":
                    failure = read_failure(news.failure)
        return RemoteRun(report, failure)

    def record(self, recorder: EventRecorder) -> None:
        """Fetch all events that the services still have into a file."""
        request = pb.WatchEventsRequest(since=dict.fromkeys((s.name for s in self.status().services), 0))
        for chunk in self._stream(self._stub.WatchEvents, request):
            recorder.write(chunk.service, chunk.first, chunk.records)

    def pause(self) -> pb.Progress:
        """Pause the run."""
        answer: pb.PauseResponse = self._call(self._stub.Pause, pb.PauseRequest(request_id=uuid.uuid4().hex))
        return answer.progress

    def step(self, dispatches: int = 1, check: bool = False) -> pb.StepResponse:
        """Execute some dispatches."""
        request = pb.StepRequest(request_id=uuid.uuid4().hex, dispatches=dispatches, check=check)
        answer: pb.StepResponse = self._call(self._stub.Step, request)
        return answer

    def status(self) -> pb.GetStatusResponse:
        """State of machine and services."""
        answer: pb.GetStatusResponse = self._call(self._stub.GetStatus, pb.GetStatusRequest())
        return answer

    def latency_us(self) -> int:
        """Round trip of a question that the orchestrator answers by itself, in microseconds."""
        begun = time.perf_counter()
        self._call(self._stub.GetTopology, pb.GetTopologyRequest())
        return round((time.perf_counter() - begun) * 1e6)

    def sysctls(self) -> dict[str, tuple[int, str]]:
        """All sysctls by name: value, and the service that owns it."""
        answer = self._call(self._stub.ListSysctls, pb.ListSysctlsRequest())
        return {sysctl.name: (sysctl.value, sysctl.service) for sysctl in answer.sysctls}

    def set_sysctl(self, name: str, value: int) -> tuple[int, int]:
        """Set a sysctl; values before and after.

        Raises:
            Refused: It is unknown, read-only, or the value is refused.
        """
        request = pb.SetSysctlRequest(request_id=uuid.uuid4().hex, name=name, value=value)
        answer = self._call(self._stub.SetSysctl, request)
        return answer.before, answer.sysctl.value

    def kill(self, pids: list[int], signal: int) -> None:
        """Send a signal to processes.

        Raises:
            Refused: One of them does not live or is the kernel's own, or there is no such signal.
        """
        self._call(self._stub.Kill, pb.KillRequest(request_id=uuid.uuid4().hex, pids=pids, signal=signal))

    def save_checkpoint(self) -> bytes:
        """The bytes of a checkpoint's file, taken between two slices."""
        return b"".join(piece.data for piece in self._stream(self._stub.SaveCheckpoint, pb.SaveCheckpointRequest()))

    def load_checkpoint(self, data: bytes) -> pb.LoadCheckpointResponse:
        """Bring the machine to a checkpoint.

        Raises:
            BadInput: The system refused it.
        """
        request_id = uuid.uuid4().hex
        pieces = (
            pb.LoadCheckpointRequest(request_id=request_id, data=data[offset : offset + CHUNK_BYTES])
            for offset in range(0, max(1, len(data)), CHUNK_BYTES)
        )
        answer: pb.LoadCheckpointResponse = self._call(self._stub.LoadCheckpoint, pieces)
        return answer

    def shutdown(self) -> None:
        """End the system."""
        self._call(self._stub.Shutdown, pb.ShutdownRequest())

    def _call(self, method: Any, request: Any) -> Any:
        try:
            answer, call = method.with_call(request, timeout=_CALL_S)
        except grpc.RpcError as error:
            self._life.check(cast("grpc.Call", error).initial_metadata())
            raise _mistake(error) from None
        self._life.check(call.initial_metadata())
        return answer

    def _stream(self, method: Callable[..., Any], request: Any) -> Iterator[Any]:
        call = method(request)
        try:
            self._life.check(call.initial_metadata())
            yield from call
        except grpc.RpcError as error:
            raise _mistake(error) from None

    def _pausing(self, stop: Callable[[], bool]) -> _Pauser:
        return _Pauser(self, stop)


class _Pauser:
    """While entered, pauses the machine once as soon as `stop` says so; the run's stream then ends by itself."""

    def __init__(self, client: MachineClient, stop: Callable[[], bool]) -> None:
        self._client, self._stop = client, stop
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pauser")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_PAUSE_POLL_S):
            if self._stop():
                self._client.pause()
                return


def _unreachable(address: str, error: grpc.RpcError, tls: Tls | None) -> str:
    """Why a target cannot be used, in a line."""
    if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return f"{address}: {error.details()}"
    why = why_unreachable(address, tls)
    said = error.code().name.lower()
    return f"{address}: no vmglue system answers there ({said})" + (f"; {why}" if why else "; see `vmglue up`")


def _mistake(error: grpc.RpcError) -> Exception:
    """What a status of the system means: the user's mistake, a refusal, or a system that is gone."""
    code = error.code()
    wrong = raised(error, "orchestrator", None)
    if isinstance(wrong, ServiceFault) and code in _MISTAKES:
        return BadInput(error.details())
    return wrong


def read_progress(message: pb.Progress) -> Progress:
    """A progress message as the local run gives it."""
    return Progress(
        sample=Sample(
            t_us=message.now_us,
            free=message.free_pages,
            cached=message.cached_pages,
            active=message.active_pages,
            inactive=message.inactive_pages,
            wired=message.wired_pages,
            swap_used=message.swap_used_pages,
            in_memory=message.processes_in_memory,
            swapped=message.processes_swapped,
            swapouts=message.swapouts,
            swapins=message.swapins,
            minor=message.minor_faults,
            major=message.major_faults,
        ),
        now_us=message.now_us,
        wall_us=message.wall_us,
        references=message.references,
        run_records=message.run_records,
        dispatches=message.dispatches,
        rpcs=message.rpcs,
    )


def read_failure(message: pb.Failure) -> Failure:
    """A failure message."""
    return Failure(message.text, message.function, message.line, message.lost_service)
