"""Spans of one process: what they tell of the kernel, and how the log finds them."""

from __future__ import annotations

import io
import json

import structlog
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.runtime.context import Context
from services.runtime.events import Kind
from services.runtime.tracing import EVENTS_PER_SPAN_MAX, Tracing


def traced(act):
    """The one span around an act, after its process has ended."""
    exporter = InMemorySpanExporter()
    tracing = Tracing("kstack", "m", exporter)
    with tracing.span("call"):
        act(tracing)
    tracing.close()
    (span,) = exporter.get_finished_spans()
    return span


def test_a_span_tells_the_first_events_of_its_call_alone():
    ctx = Context("kstack")
    ctx.event(Kind.KSTACK_NEW, 1)

    def act(tracing):
        def core(count):
            for tid in range(count):
                ctx.event(Kind.KSTACK_SWAPOUT, tid)
            return count

        assert tracing.telling(ctx, core)(EVENTS_PER_SPAN_MAX + 5) == EVENTS_PER_SPAN_MAX + 5

    span = traced(act)
    assert [event.name for event in span.events] == ["vm_thread_swapout"] * EVENTS_PER_SPAN_MAX
    assert [event.attributes["vmglue.subject"] for event in span.events] == list(range(EVENTS_PER_SPAN_MAX))
    assert span.events[0].attributes["vmglue.line"] == Kind.KSTACK_SWAPOUT.line
    assert span.resource.attributes["service.name"] == "kstack"
    assert span.resource.attributes["vmglue.machine"] == "m"


def test_a_boot_inside_of_a_call_is_no_error():
    ctx = Context("kstack")
    ctx.event(Kind.KSTACK_NEW, 1)
    span = traced(lambda tracing: tracing.telling(ctx, lambda: ctx.reboot(100, 0, allow_inject=False))())
    assert not span.events


def test_log_entries_carry_trace_and_span():
    out = io.StringIO()

    def act(tracing):
        log = structlog.wrap_logger(
            structlog.PrintLogger(out), processors=[tracing.ids, structlog.processors.JSONRenderer()]
        )
        log.info("panic", request_id="r")

    span = traced(act)
    entry = json.loads(out.getvalue())
    assert entry["trace_id"] == f"{span.context.trace_id:032x}"
    assert entry["span_id"] == f"{span.context.span_id:016x}"
    assert entry["request_id"] == "r"
