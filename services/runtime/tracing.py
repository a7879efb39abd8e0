"""OpenTelemetry traces: a span for every call on both of its ends, with what the kernel decided in it.

Off unless the standard OTEL_ variables name an exporter or where to send spans; then nothing is imported and nothing
stands around a call. A run is one trace: it shows a swap-out from swapout_procs to the write of its pages.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from services.runtime.context import Context
from services.runtime.events import Kind, unpack
from services.runtime.handlers import Behavior, HandlerWrapper, lasting

if TYPE_CHECKING:  # only where traces are wanted are these imported
    from opentelemetry.sdk.trace.export import SpanExporter

EVENTS_PER_SPAN_MAX = 32
"""Decisions of the kernel that a span tells, the first ones."""
_FLUSH_S = 3.0
"""Longest time for which the end of a process waits for whoever takes its spans."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTERS = ("otlp", "console")
_KINDS = {kind.value: kind for kind in Kind}


class TracingUnavailable(Exception):
    """Traces are wanted but cannot be had; the text says why, and what to do."""


def is_wanted(environment: Mapping[str, str]) -> bool:
    """The standard variables ask for traces."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    return exporter != "none" if exporter else any(environment.get(name) for name in _ENDPOINTS)


def start_tracing(service: str, machine: str) -> Tracing | None:
    """Begin to trace, if the environment asks for it.

    Args:
        service: Who traces: a service, or the orchestrator.
        machine: Name of the machine.

    Raises:
        TracingUnavailable: It asks for what is not there.
    """
    if not is_wanted(os.environ):
        return None
    try:
        return Tracing(service, machine, _exporter(os.environ.get("OTEL_TRACES_EXPORTER", "") or "otlp"))
    except ModuleNotFoundError as missing:
        raise TracingUnavailable(
            f"OTEL_ variables ask for traces, and {missing.name} is not installed: pip install 'vmglue[otel]'"
        ) from None


def _exporter(name: str) -> SpanExporter:
    if name not in _EXPORTERS:
        raise TracingUnavailable(f"OTEL_TRACES_EXPORTER={name}: expected one of {', '.join(_EXPORTERS)}, none")
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


class Tracing:
    """The spans of one process."""

    def __init__(self, service: str, machine: str, exporter: SpanExporter) -> None:
        from opentelemetry.propagate import extract, inject
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, get_current_span

        about = {"service.namespace": "vmglue", "service.name": service, "vmglue.machine": machine}
        self._provider = TracerProvider(resource=Resource.create(about))
        self._exporter = exporter
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("vmglue")
        self._inject, self._extract, self._kinds, self._current = inject, extract, SpanKind, get_current_span

    def span(self, name: str) -> AbstractContextManager[Any]:
        """A span around what is done inside of the context."""
        return self._tracer.start_as_current_span(name)

    def caller(self, service: str, rpc: str, stub: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a stub's method: its calls are spans, which the other side goes on from."""
        name, kind = f"{service}/{rpc}", self._kinds.CLIENT

        def traced(request: Any, timeout: float) -> Any:
            about = {"rpc.system": "grpc", "vmglue.request_id": request.header.request_id}
            with self._tracer.start_as_current_span(name, kind=kind, attributes=about):
                carrier: dict[str, str] = {}
                self._inject(carrier)
                return stub(request, timeout=timeout, metadata=tuple(carrier.items()))

        return traced

    def interceptor(self) -> HandlerWrapper:
        """Goes on with the caller's span in every call of ours."""

        def trace(method: str, behavior: Behavior, streams: bool) -> Behavior:
            if not method.startswith("/vmglue."):
                return behavior
            name, kind = method.rpartition(".")[2], self._kinds.SERVER

            def span(context: Any) -> AbstractContextManager[Any]:
                above = self._extract(dict(context.invocation_metadata()))
                return self._tracer.start_as_current_span(name, context=above, kind=kind)

            return lasting(behavior, streams, span)

        return HandlerWrapper(trace)

    def telling(self, ctx: Context, answer: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap what answers a call in the core: the span tells the events that the call recorded."""

        def told(*args: Any) -> Any:
            before = ctx.log.count
            try:
                return answer(*args)
            finally:
                self._tell(ctx, before)

        return told

    def _tell(self, ctx: Context, before: int) -> None:
        if not before < ctx.log.count:  # none, or the call booted the machine
            return
        span = self._current()
        for event in unpack(ctx.log.since(before, EVENTS_PER_SPAN_MAX)[1]):
            kind = _KINDS[event.kind]
            about: dict[str, str | int] = {
                "vmglue.kind": kind.name,
                "vmglue.line": kind.line,
                "vmglue.subject": event.subject,
            }
            span.add_event(kind.function, about)

    def ids(self, _: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A processor of structlog: an entry that is logged during a call carries its trace and span."""
        at = self._current().get_span_context()
        if at.is_valid:
            entry["trace_id"], entry["span_id"] = f"{at.trace_id:032x}", f"{at.span_id:016x}"
        return entry

    def close(self) -> None:
        """Send what is left, for a short time, and end."""
        impatient = threading.Timer(_FLUSH_S, self._exporter.shutdown)
        impatient.daemon = True
        impatient.start()
        self._provider.shutdown()
        impatient.cancel()
