"""machine.proto served: translation between messages and the machine, nothing else."""

# ruff: noqa: N802, ARG002 - names and signatures are those of the generated servicer

from __future__ import annotations

import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import Message
from structlog.contextvars import bound_contextvars

from clients.checkpoint_file import CheckpointError, CheckpointFile, CheckpointTooLarge
from clients.health import ServiceState, service_state
from clients.machine import Failure, Machine, StateValue, WrongState
from clients.orchestrator import sysctl_set, sysctls
from clients.report import take_sample
from clients.run import Progress
from clients.trace import TraceError, TraceTooLarge
from clients.upload import CHUNK_BYTES, UploadError, receive, receive_pieces
from clients.workload import WorkloadError
from protos import common_pb2
from protos import machine_pb2 as pb
from protos.machine_pb2_grpc import MachineServiceServicer
from services.ports.common import Answers
from services.ports.pager import SW_CLOSING
from services.runtime.errors import KernelPanic, Reason, Refused, ServiceLost
from services.runtime.limits import EVENTS_PER_MESSAGE_MAX, STREAMS_MAX
from services.runtime.node import describe
from services.runtime.process import package_version
from services.runtime.redis_url import without_credentials
from services.runtime.servicer import AnswerCache, Node
from services.runtime.status import Abort, internal, loss, refusal
from services.runtime.tls import Tls

_PROGRESS_MS = 250
_WATCH_INTERVAL_S = 0.1
_PAGE = 4096
_RUNNING = pb.MACHINE_STATE_RUNNING

Answer = TypeVar("Answer", bound=Message)
Other = TypeVar("Other")


@dataclass(slots=True)
class _Watchers:
    """Streams that follow a run; when the last one goes away in the middle, the run is paused."""

    request_id: str = ""
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class MachineServicer(MachineServiceServicer):
    """Serves one machine.

    Attributes:
        shutdown: Set when a client asked for the end of the system.
    """

    def __init__(self, machine: Machine, node: Node) -> None:
        self.shutdown = threading.Event()
        self._machine, self._node = machine, node
        self._kernel = machine.system.kernel
        self._answers = AnswerCache()
        self._lock = threading.Lock()
        self._watchers = _Watchers()
        self._streams = threading.BoundedSemaphore(STREAMS_MAX)

    def GetTopology(self, request: pb.GetTopologyRequest, context: grpc.ServicerContext) -> pb.GetTopologyResponse:
        """Which services make the machine."""
        system = self._machine.system
        return pb.GetTopologyResponse(
            machine=system.machine,
            version=package_version(),
            services=[
                pb.ServiceAddress(
                    name=name, address=address, grpc_service=f"vmglue.{name}.v1.{name.capitalize()}Service"
                )
                for name, address in system.addresses.items()
            ],
            redis=without_credentials(system.redis),
            redis_prefix=f"vmglue:{system.machine}:",
        )

    def Load(self, request_iterator: Iterator[pb.LoadRequest], context: grpc.ServicerContext) -> pb.LoadResponse:
        """Receive a workload with its traces and boot the machine with it."""

        def load(head: pb.LoadHead) -> pb.LoadResponse:
            with tempfile.TemporaryDirectory(prefix="vmglue-upload-") as directory:
                workload = receive(Path(directory), head, request_iterator)
                self._machine.load(workload)
            return pb.LoadResponse(
                programs=sum(program.count for program in workload.programs),
                ram_pages=workload.machine.ram // _PAGE,
                swap_pages=workload.machine.swap_bytes // _PAGE,
            )

        first = next(request_iterator, pb.LoadRequest())
        return self._change(context, "Load", first.head.request_id, lambda: load(first.head))

    def Run(self, request: pb.RunRequest, context: grpc.ServicerContext) -> Iterator[pb.RunResponse]:
        """Start or resume a run and stream it; a repeat attaches to the run."""
        self._take_stream(context)
        watchers = self._watchers
        with bound_contextvars(rpc="Run", request_id=request.request_id), watchers.lock:
            if not request.request_id or request.request_id != watchers.request_id:
                self._answer(context, lambda: self._machine.start(request.check, request.until_us))
                watchers.request_id = request.request_id
            watchers.count += 1
        self._pause_when_detached(context)
        yield from self._follow((request.progress_interval_ms or _PROGRESS_MS) / 1000, context)

    def Pause(self, request: pb.PauseRequest, context: grpc.ServicerContext) -> pb.PauseResponse:
        """Pause the run."""

        def pause() -> pb.PauseResponse:
            self._machine.pause()
            return pb.PauseResponse(progress=self._progress())

        return self._change(context, "Pause", request.request_id, pause)

    def Step(self, request: pb.StepRequest, context: grpc.ServicerContext) -> pb.StepResponse:
        """Execute some dispatches."""

        def step() -> pb.StepResponse:
            following = self._machine.step(request.dispatches, request.check)
            return pb.StepResponse(progress=self._progress(), next=following)

        return self._change(context, "Step", request.request_id, step)

    def WatchEvents(
        self, request: pb.WatchEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchEventsResponse]:
        """Stream recorded events, then new ones."""
        self._take_stream(context)
        ports = self._kernel.ports()
        unknown = set(request.services) - set(ports)
        if unknown:
            context.abort(grpc.StatusCode.NOT_FOUND, f"services: {sorted(unknown)[0]!r}; there are {', '.join(ports)}")
        position = {name: request.since.get(name, -1) for name in request.services or ports}
        while context.is_active():
            quiet = True
            for name in position:
                response = self._answer(context, lambda name=name: self._events(name, position))  # type: ignore[misc]  # the default binds the name
                if response.records:
                    quiet = False
                    yield response
            if quiet and not request.follow:
                return
            if quiet and self.shutdown.wait(_WATCH_INTERVAL_S):
                return

    def GetSysctl(self, request: pb.GetSysctlRequest, context: grpc.ServicerContext) -> pb.GetSysctlResponse:
        """Read one sysctl."""

        def get() -> pb.GetSysctlResponse:
            return pb.GetSysctlResponse(sysctl=self._sysctl(request.name))

        return self._answer(context, get)

    def SetSysctl(self, request: pb.SetSysctlRequest, context: grpc.ServicerContext) -> pb.SetSysctlResponse:
        """Write one sysctl."""

        def put() -> pb.SetSysctlResponse:
            before = self._machine.call(lambda: self._sysctl(request.name)).value
            self._machine.call(lambda: sysctl_set(self._kernel, request.name, request.value))
            return pb.SetSysctlResponse(before=before, sysctl=self._machine.call(lambda: self._sysctl(request.name)))

        return self._change(context, "SetSysctl", request.request_id, put)

    def Kill(self, request: pb.KillRequest, context: grpc.ServicerContext) -> pb.KillResponse:
        """Send a signal to processes."""

        def kill() -> pb.KillResponse:
            self._machine.kill(list(request.pids), request.signal)
            return pb.KillResponse()

        return self._change(context, "Kill", request.request_id, kill)

    def ListSysctls(self, request: pb.ListSysctlsRequest, context: grpc.ServicerContext) -> pb.ListSysctlsResponse:
        """Read all sysctls."""
        found = self._answer(context, lambda: self._machine.call(lambda: sysctls(self._kernel)))
        return pb.ListSysctlsResponse(
            sysctls=[pb.Sysctl(name=name, value=value, service=service) for name, (value, service) in found.items()]
        )

    def GetStatus(self, request: pb.GetStatusRequest, context: grpc.ServicerContext) -> pb.GetStatusResponse:
        """State of machine and services, and who waits for what."""
        machine, system = self._machine, self._machine.system
        loaded = machine.state not in (pb.MACHINE_STATE_EMPTY, pb.MACHINE_STATE_LOST)
        rows = self._kernel.service_rows()
        return pb.GetStatusResponse(
            machine=system.machine,
            workload=machine.workload,
            progress=self._answer(context, self._fresh_progress) if loaded else self._progress(),
            services=[_service(row, system.addresses.get(row["name"], ""), system.tls) for row in rows],
            waiters=self._answer(context, self._waiters) if loaded else [],
            suspended=self._answer(context, self._suspended) if loaded else [],
            swap_devices=self._answer(context, self._swap_devices) if loaded else [],
            failure=_failure(machine.failure, machine.state) if machine.failure else None,
            orchestrator=self._own_status(),
        )

    def Shutdown(self, request: pb.ShutdownRequest, context: grpc.ServicerContext) -> pb.ShutdownResponse:
        """End the whole system, once this is answered."""
        context.add_callback(self.shutdown.set)
        return pb.ShutdownResponse()

    def Inject(self, request: pb.InjectRequest, context: grpc.ServicerContext) -> pb.InjectResponse:
        """Script answers of the kernel around one service."""

        def inject() -> pb.InjectResponse:
            ports = self._kernel.ports()
            if request.service not in ports:
                raise Refused(Reason.UNKNOWN_ID, "service", request.service, f"one of {', '.join(ports)}")
            script = [_script(script) for script in request.scripts]
            self._machine.call(lambda: ports[request.service].inject(script))
            return pb.InjectResponse()

        return self._change(context, "Inject", request.request_id, inject)

    def SaveCheckpoint(
        self, request: pb.SaveCheckpointRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.SaveCheckpointResponse]:
        """Take a checkpoint and stream it."""
        self._take_stream(context)
        data = self._answer(context, self._machine.checkpoint)
        for offset in range(0, len(data), CHUNK_BYTES):
            yield pb.SaveCheckpointResponse(data=data[offset : offset + CHUNK_BYTES])

    def LoadCheckpoint(
        self, request_iterator: Iterator[pb.LoadCheckpointRequest], context: grpc.ServicerContext
    ) -> pb.LoadCheckpointResponse:
        """Receive a checkpoint and bring the machine to it."""

        def load(first: bytes) -> pb.LoadCheckpointResponse:
            self._machine.restore(CheckpointFile.unpack(receive_pieces(first, request_iterator)))
            return pb.LoadCheckpointResponse(workload=self._machine.workload, progress=self._progress())

        first = next(request_iterator, pb.LoadCheckpointRequest())
        return self._change(context, "LoadCheckpoint", first.request_id, lambda: load(first.data))

    def _take_stream(self, context: grpc.ServicerContext) -> None:
        """Count one more stream until its call ends, or end it now if there are too many."""
        if not self._streams.acquire(blocking=False):
            too_many = Refused(Reason.QUOTA, "streams", STREAMS_MAX, f"at most {STREAMS_MAX} at once; try again later")
            _abort(context, refusal(too_many, self._node.boot_id))
        if not context.add_callback(self._streams.release):
            self._streams.release()

    def _answer(self, context: grpc.ServicerContext, act: Callable[[], Other]) -> Other:
        """Do something; what it raises becomes the call's status."""
        self._node.calls += 1
        try:
            return act()
        except Refused as refused:
            _abort(context, refusal(refused, self._node.boot_id))
        except ServiceLost as lost:
            _abort(context, loss(lost, self._node.boot_id))
        except (WrongState, KernelPanic) as wrong:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(wrong))
        except (CheckpointTooLarge, TraceTooLarge) as wrong:
            _abort(context, refusal(Refused(Reason.QUOTA, "memory", str(wrong), "what the system has memory for"), 0))
        except (CheckpointError, TraceError, UploadError, WorkloadError) as wrong:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(wrong))
        except Exception as error:
            error_id = uuid.uuid4().hex[:12]
            structlog.get_logger().error("internal error", error_id=error_id, exc_info=error)
            _abort(context, internal(error_id, self._node.boot_id))
        raise AssertionError("abort returned")

    def _change(self, context: grpc.ServicerContext, rpc: str, request_id: str, act: Callable[[], Answer]) -> Answer:
        """Change something once: a repeat of the request gets the first answer."""

        def once() -> Answer:
            with bound_contextvars(rpc=rpc, request_id=request_id), self._lock:
                if request_id and (kept := self._answers.get(request_id, rpc)) is not None:
                    return cast("Answer", kept)
                answer = act()
                if request_id:
                    self._answers.put(request_id, rpc, answer)
                return answer

        return self._answer(context, once)

    def _pause_when_detached(self, context: grpc.ServicerContext) -> None:
        """When the last stream that follows the run ends early, the run is paused."""
        watchers = self._watchers

        def detached() -> None:
            with watchers.lock:
                watchers.count -= 1
                last = watchers.count == 0
            if last and self._machine.state == _RUNNING and not self.shutdown.is_set():
                self._machine.pause()

        if not context.add_callback(detached):
            detached()

    def _follow(self, interval_s: float, context: grpc.ServicerContext) -> Iterator[pb.RunResponse]:
        """Progress until the machine does not run any more, then how it ended."""
        machine = self._machine
        while True:
            with machine.news:
                machine.news.wait_for(lambda: machine.state != _RUNNING, interval_s)
                running, report, failure, state = (
                    machine.state == _RUNNING, machine.report, machine.failure, machine.state,
                )  # fmt: skip
            if not running or not context.is_active():
                break
            yield pb.RunResponse(progress=self._progress())
        if report:
            yield pb.RunResponse(report_json=report)
        if failure is not None:
            yield pb.RunResponse(failure=_failure(failure, state))

    def _events(self, name: str, position: dict[str, int]) -> pb.WatchEventsResponse:
        """The next events of one service; the position moves behind them."""
        port = self._kernel.ports()[name]
        since = position[name]
        chunk = self._machine.call(lambda: port.events(max(since, 0), EVENTS_PER_MESSAGE_MAX if since >= 0 else 0))
        if since < 0:
            position[name] = chunk.total
            return pb.WatchEventsResponse(service=name, first=chunk.total)
        if 0 < since < chunk.first:
            expected = f"a watcher that keeps up; events before {chunk.first} are gone, watch again from there"
            raise Refused(Reason.QUOTA, f"since[{name}]", since, expected)
        position[name] = chunk.first + len(chunk.records) // 64
        return pb.WatchEventsResponse(service=name, first=chunk.first, records=chunk.records)

    def _own_status(self) -> pb.ServiceStatus:
        info = describe(self._node)
        return pb.ServiceStatus(
            name=info.service,
            pid=info.pid,
            health="NOT_SERVING" if info.trouble else "SERVING",
            boot_id=info.boot_id,
            pss_bytes=info.pss_bytes,
            version=info.version,
            trouble=info.trouble,
        )

    def _sysctl(self, name: str) -> pb.Sysctl:
        found = sysctls(self._kernel)
        if name not in found:
            raise Refused(Reason.UNKNOWN_SYSCTL, "name", name, "a sysctl of this kernel")
        value, service = found[name]
        return pb.Sysctl(name=name, value=value, service=service)

    def _waiters(self) -> list[pb.Waiter]:
        rows = self._machine.call(self._kernel.scheduler.processes).processes
        return [
            pb.Waiter(pid=row.pid, name=row.name, state=row.state, wmesg=row.wmesg)
            for row in rows
            if row.state in ("sleep", "swapped", "zombie")
        ]

    def _swap_devices(self) -> list[pb.SwapDevice]:
        devices = self._machine.call(self._kernel.pager.swap_status).devices
        return [
            pb.SwapDevice(
                device=row.device, kind=row.kind, pages=row.pages, used=row.used, closing=bool(row.flags & SW_CLOSING)
            )
            for row in devices
        ]

    def _suspended(self) -> list[pb.SuspendedWork]:
        """What sleeps within the services; a service in which nothing does is left out."""
        kernel, work = self._kernel, []
        for service, port in (("pager", kernel.pager), ("physmem", kernel.physmem), ("kstack", kernel.kstack)):
            found = self._machine.call(port.suspended)
            if found.total:
                rows = [common_pb2.SuspendedOperation(**asdict(row)) for row in found.operations]
                work.append(pb.SuspendedWork(service=service, operations=rows, total=found.total))
        return work

    def _fresh_progress(self) -> pb.Progress:
        """Progress with pages and processes of this moment."""
        progress = self._machine.progress
        if progress is None:
            return self._progress()
        now_us = progress.now_us
        sample = self._machine.call(lambda: take_sample(self._kernel, now_us))
        return progress_message(
            Progress(
                sample, progress.now_us, progress.wall_us, progress.references,
                progress.run_records, progress.dispatches, progress.rpcs,
            ),
            self._machine.state,
        )  # fmt: skip

    def _progress(self) -> pb.Progress:
        return progress_message(self._machine.progress, self._machine.state)


def progress_message(progress: Progress | None, state: StateValue) -> pb.Progress:
    """Progress as a message."""
    if progress is None:
        return pb.Progress(state=state)
    sample = progress.sample
    return pb.Progress(
        state=state,
        now_us=progress.now_us,
        wall_us=progress.wall_us,
        references=progress.references,
        run_records=progress.run_records,
        dispatches=progress.dispatches,
        rpcs=progress.rpcs,
        free_pages=sample.free,
        cached_pages=sample.cached,
        active_pages=sample.active,
        inactive_pages=sample.inactive,
        wired_pages=sample.wired,
        swap_used_pages=sample.swap_used,
        processes_in_memory=sample.in_memory,
        processes_swapped=sample.swapped,
        swapouts=sample.swapouts,
        swapins=sample.swapins,
        minor_faults=sample.minor,
        major_faults=sample.major,
    )


def _abort(context: grpc.ServicerContext, abort: Abort) -> NoReturn:
    context.abort_with_status(cast("grpc.Status", abort))


def _failure(failure: Failure, state: StateValue) -> pb.Failure:
    return pb.Failure(
        text=failure.text,
        function=failure.function,
        line=failure.line,
        lost_service=failure.lost_service,
        state=state,
    )


def _script(script: pb.Script) -> Answers:
    return Answers(
        question=script.question,
        answers=list(script.answers),
        after=script.after,
        has_after=script.HasField("after"),
        cycle=script.cycle,
    )


def _service(row: dict[str, Any], address: str, tls: Tls | None) -> pb.ServiceStatus:
    """A service's row with what its process tells; one without an address lives in this process."""
    state = service_state(address, tls) if address else ServiceState("SERVING")
    status = pb.ServiceStatus(
        name=row["name"],
        address=row["address"],
        pid=row["pid"],
        health=state.health,
        pss_bytes=row["pss_bytes"],
        version=package_version(),
        latency_us=state.latency_us,
    )
    if state.info is not None:
        status.boot_id, status.version = state.info.boot_id, state.info.version
        status.degraded = state.info.board == "degraded"
        status.trouble, status.board_lag_ms = state.info.trouble, state.info.board_lag_ms
    return status
