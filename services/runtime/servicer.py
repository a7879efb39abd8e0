"""One servicer for every port: parse, admit, call the core, publish, answer; one call at a time."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any, NoReturn, cast

import grpc
import structlog
from google.protobuf.message import Message

from services.ports.common import Upcalls
from services.runtime.binding import admit, stop
from services.runtime.codec import dataclass_codec
from services.runtime.context import Context
from services.runtime.counters import CounterBoard
from services.runtime.errors import KernelPanic, Reason, Refused, ServiceLost
from services.runtime.limits import BATCH_ITEMS_MAX, KEPT_ANSWERS, KEPT_BYTES
from services.runtime.rpc import Rpc, rpcs_of
from services.runtime.service_health import ServiceHealth
from services.runtime.status import Abort, internal, loss, refusal
from services.runtime.tracing import Tracing


class AnswerCache:
    """The last answers of calls with a request id."""

    def __init__(self, answers: int = KEPT_ANSWERS, size_bytes: int = KEPT_BYTES) -> None:
        self._answers: OrderedDict[str, tuple[str, Message, int]] = OrderedDict()
        self._limit, self._limit_bytes, self._bytes = answers, size_bytes, 0

    def get(self, request_id: str, rpc: str) -> Message | None:
        """The first answer of a repeated call.

        Raises:
            Refused: The id belongs to a call of another rpc.
        """
        kept = self._answers.get(request_id)
        if kept is None:
            return None
        if kept[0] != rpc:
            raise Refused(Reason.FIELD_OUT_OF_RANGE, "header.request_id", request_id, f"a new id: {kept[0]} had it")
        return kept[1]

    def put(self, request_id: str, rpc: str, answer: Message) -> None:
        """Keep an answer; the oldest go."""
        size = answer.ByteSize()
        self._answers[request_id] = (rpc, answer, size)
        self._bytes += size
        while len(self._answers) > self._limit or (self._bytes > self._limit_bytes and len(self._answers) > 1):
            self._bytes -= self._answers.popitem(last=False)[1][2]


@dataclass(slots=True)
class Node:
    """What the servicers of one process share."""

    service: str
    """Name of the service."""
    machine: str
    """Name of the machine; a call that names another is refused."""
    boot_id: int
    """Identifies the life of this process; later processes have greater ones."""
    ctx: Context
    """The core's context."""
    board: CounterBoard
    """Where counters and events are published."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one call that is in the core."""
    answers: AnswerCache = field(default_factory=AnswerCache)
    """Answers kept for repeats."""
    calls: int = 0
    """Calls answered."""
    entered_s: float = 0.0
    """When the call in the core entered it, by the monotonic clock; 0: none is."""
    health: ServiceHealth | None = None
    """What the process tells about its health."""
    tracing: Tracing | None = None
    """Makes spans of calls; None: they are not traced."""


class PortServicer:
    """Serves a port with a core; has one method for every rpc, as the generated registration wants it."""

    def __init__(self, port: Callable[..., Any], core: Any, node: Node) -> None:
        self._node = node
        self._log = structlog.get_logger()
        for rpc in rpcs_of(port):
            setattr(self, rpc.name, self._handler(rpc, getattr(core, rpc.method)))

    def _handler(self, rpc: Rpc, method: Callable[..., Any]) -> Callable[[Any, grpc.ServicerContext], Message]:
        node, answer = self._node, self._read if rpc.reads else self._change
        if node.tracing is not None:
            answer = node.tracing.telling(node.ctx, answer)

        def handle(request: Any, context: grpc.ServicerContext) -> Message:
            try:
                with node.lock:
                    node.calls += 1
                    if request.header.machine not in ("", node.machine):
                        raise Refused(
                            Reason.FIELD_OUT_OF_RANGE, "header.machine", request.header.machine, repr(node.machine)
                        )
                    limit_batches(rpc, request)
                    node.entered_s = monotonic()
                    try:
                        return answer(rpc, method, request)
                    finally:
                        node.entered_s = 0.0
            except Refused as refused:
                _abort(context, refusal(refused, node.boot_id))
            except ServiceLost as lost:
                _abort(context, loss(lost, node.boot_id))
            except Exception as error:
                self._fail(rpc, request.header.request_id, error, context)

        return handle

    def _read(self, rpc: Rpc, method: Callable[..., Any], request: Any) -> Message:
        """Answer a call that only reads."""
        ctx = self._node.ctx
        admit(ctx, rpc.method, reads=True)
        arguments = rpc.arguments.decode(request)
        entered = perf_counter()
        try:
            answer = method(*arguments)
        except KernelPanic as panic:
            return self._panicked(rpc, panic)
        ctx.wall.core_s += perf_counter() - entered
        return self._response(rpc, answer, None)

    def _change(self, rpc: Rpc, method: Callable[..., Any], request: Any) -> Message:
        """Answer a call that changes state; a repeat gets the first answer."""
        node, ctx, header = self._node, self._node.ctx, request.header
        if header.request_id and (kept := node.answers.get(header.request_id, rpc.name)) is not None:
            return kept
        admit(ctx, rpc.method, reads=False)
        arguments = rpc.arguments.decode(request)
        ctx.now_us, ctx.ticks = header.now_us, header.ticks
        for service, sequence in header.seen.items():
            if sequence > ctx.seen.get(service, 0):
                ctx.seen[service] = sequence
        try:
            response = self._called(rpc, method, arguments)
        except KernelPanic as panic:
            response = self._panicked(rpc, panic, header.request_id)
        except Refused:
            raise
        except Exception as error:
            stop(ctx, error)
            node.board.publish(ctx)
            raise
        if header.request_id:
            node.answers.put(header.request_id, rpc.name, response)
        return response

    def _called(self, rpc: Rpc, method: Callable[..., Any], arguments: list[Any]) -> Message:
        ctx = self._node.ctx
        entered = perf_counter()
        answer = method(*arguments)
        if rpc.method == "boot":
            ctx.booted, ctx.stopped = True, ""
        left = perf_counter()
        ctx.wall.core_s += left - entered
        self._node.board.publish(ctx)
        ctx.wall.board_s += perf_counter() - left
        return self._response(rpc, answer, ctx.take_upcalls() if ctx.upcalls else None)

    def _panicked(self, rpc: Rpc, panic: KernelPanic, request_id: str = "") -> Message:
        """A panic is an answer, and the end of the machine."""
        ctx = self._node.ctx
        stop(ctx, panic)
        self._node.board.publish(ctx)
        self._log.warning(
            "panic", text=panic.text, function=panic.function, line=panic.line, rpc=rpc.name, request_id=request_id
        )
        header = self._header(None)
        header["panic"] = {"text": panic.text, "function": panic.function, "line": panic.line}
        response: Message = rpc.response(header=header)
        return response

    def _response(self, rpc: Rpc, answer: Any, upcalls: Upcalls | None) -> Message:
        """Build the response.

        Raises:
            RuntimeError: The core answered what the contract cannot hold.
        """
        try:
            response: Message = rpc.response(header=self._header(upcalls), **rpc.answer.encode(answer))
        except (Refused, TypeError, ValueError) as misfit:  # what they quote would bring contents of pages into the log
            what = type(misfit).__name__
            if isinstance(misfit, Refused):
                what = f"{misfit.field}: expected {misfit.expected}"
            raise RuntimeError(f"{rpc.method} answered what the contract cannot hold: {what}") from None
        return response

    def _header(self, upcalls: Upcalls | None) -> dict[str, Any]:
        node, ctx = self._node, self._node.ctx
        header: dict[str, Any] = {"boot_id": node.boot_id, "sequence": ctx.sequence, "seen": ctx.seen}
        if upcalls is not None:
            header["upcalls"] = _UPCALLS.encode(upcalls)
        return header

    def _fail(self, rpc: Rpc, request_id: str, error: Exception, context: grpc.ServicerContext) -> NoReturn:
        """Log an unexpected error under an id and tell the caller the id alone."""
        error_id = uuid.uuid4().hex[:12]
        self._log.error("internal error", error_id=error_id, rpc=rpc.name, request_id=request_id, exc_info=error)
        _abort(context, internal(error_id, self._node.boot_id))


def limit_batches(rpc: Rpc, request: Any) -> None:
    """Refuse lists that would take too much memory.

    Raises:
        Refused: A list is too long.
    """
    for name in rpc.lists:
        if (count := len(getattr(request, name))) > BATCH_ITEMS_MAX:
            raise Refused(Reason.QUOTA, name, f"{count} items", f"at most {BATCH_ITEMS_MAX} in a call")


def _abort(context: grpc.ServicerContext, abort: Abort) -> NoReturn:
    context.abort_with_status(cast("grpc.Status", abort))


_UPCALLS = dataclass_codec(Upcalls, None)
