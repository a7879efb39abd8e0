"""Traces as a collector receives them: a run is one, and shows a swap-out from its decision to its write."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from systems import start_system

from clients.run import Run
from clients.workload import load_workload
from services.runtime.config import Exit
from services.runtime.remote import node_info
from services.runtime.tracing import is_wanted


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span with the name of its service."""

    def __init__(self):
        self.spans = {}

    def Export(self, request, context):  # noqa: N802, ARG002 - as the protocol wants it
        for resource in request.resource_spans:
            about = {entry.key: entry.value.string_value for entry in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans |= {span.span_id: (about["service.name"], span) for span in scope.spans}
        return trace_service_pb2.ExportTraceServiceResponse()

    def chain(self, span_id):
        """A span and those that it is part of, as service and name."""
        while span_id in self.spans:
            service, span = self.spans[span_id]
            yield f"{service}: {span.name}"
            span_id = span.parent_span_id


@pytest.fixture
def collector(monkeypatch):
    servicer = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1000000")
    yield servicer
    server.stop(None).wait()


def test_a_swap_out_is_one_trace_from_its_decision_to_the_write(collector):
    with start_system("grpc") as system:
        run = Run(system.kernel, load_workload("tiny"))
        run.boot()
        there = run.report(run.execute())
        calls = system.kernel.calls()
    with start_system("local") as here:
        run = Run(here.kernel, load_workload("tiny"))
        run.boot()
        assert run.report(run.execute())["event_hash"] == there["event_hash"]
    (root,) = (span for _, span in collector.spans.values() if span.name == "run tiny")
    trace = {key: (service, span) for key, (service, span) in collector.spans.items() if span.trace_id == root.trace_id}
    assert calls < len(trace) <= len(collector.spans)
    told = defaultdict(list)
    for key, (service, span) in trace.items():
        for event in span.events:
            told[service, event.name].append(key)
    swapouts = set(told["scheduler", "swapout_procs"])
    assert swapouts
    inside = [key for key in told["kstack", "vm_thread_swapout"] if _above(trace, key) & swapouts]
    assert inside, "a stack is swapped out inside of the call in which swapout_procs decided"
    (write, *_) = told["pager", "swap_pager_putpages"]
    chain = list(collector.chain(write))
    assert chain[0].startswith("pager: PagerService/")
    assert any(step.startswith("physmem: PhysmemService/") for step in chain)
    assert chain[-1] == "orchestrator: run tiny"


def _above(trace, key):
    """Keys of the spans that a span is part of."""
    found = set()
    while key in trace:
        found.add(key)
        key = trace[key][1].parent_span_id
    return found


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_TRACES_EXPORTER": "otlp"}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
    ],
)
def test_the_standard_variables_decide(environment, wanted):
    assert is_wanted(environment) is wanted


def test_without_them_nothing_is_imported():
    code = (
        "import sys, redis\n"  # which knows OpenTelemetry itself
        "before = set(sys.modules)\n"
        "import services.runtime.server, clients.kernel\n"
        "from services.runtime.tracing import start_tracing\n"
        "assert start_tracing('pager', 'm') is None\n"
        "sys.exit(sum(name.startswith(('opentelemetry', 'prometheus')) for name in set(sys.modules) - before))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_collector_that_is_not_there_holds_up_nothing(start, monkeypatch, free_ports):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_ports(1)[0]}")
    service = start().wait()
    for _ in range(3):
        assert node_info(service.channel, "pager").service == "pager"
    begun = time.monotonic()
    assert service.end()[0] == Exit.OK
    assert time.monotonic() - begun < 8


def test_an_exporter_that_is_not_known(start, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "jaeger")
    service = start()
    assert service.process.wait(10) == Exit.BAD_CONFIGURATION
    assert "OTEL_TRACES_EXPORTER=jaeger: expected one of otlp, console, none" in service.process.stderr.read()
