"""A collector of OpenTelemetry spans, and what a swap-out looks like in them."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


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


@contextlib.contextmanager
def collecting(host):
    """A collector that listens, and its port."""
    servicer = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"{host}:0")
    server.start()
    try:
        yield servicer, port
    finally:
        server.stop(None).wait()


def swap_out(collector, root_name):
    """Make sure that the one run's swap-outs are parts of its trace; a write of such a stack with
    the spans it is part of."""
    (root,) = (span for _, span in collector.spans.values() if span.name == root_name)
    trace = {key: (service, span) for key, (service, span) in collector.spans.items() if span.trace_id == root.trace_id}
    told = defaultdict(list)
    for key, (service, span) in trace.items():
        for event in span.events:
            subject = next((about.value.int_value for about in event.attributes if about.key == "vmglue.subject"), 0)
            told[service, event.name].append((key, subject))
    swapouts = {key for key, _ in told["scheduler", "swapout_procs"]}
    assert swapouts
    inside = [key for key, _ in told["kstack", "vm_thread_swapout"] if _above(trace, key) & swapouts]
    assert inside, "a stack is swapped out inside of the call in which swapout_procs decided"
    stacks = {obj for key, obj in told["physmem", "vm_thread_swapout"] if _above(trace, key) & set(inside)}
    writes = [key for key, obj in told["pager", "swap_pager_putpages"] if obj in stacks]
    assert writes, "pages of such a stack are written"
    write = writes[0]
    chain = list(collector.chain(write))
    assert chain[0].startswith("pager: PagerService/")
    assert any(step.startswith("physmem: PhysmemService/") for step in chain)
    return chain


def _above(trace, key):
    """Keys of the spans that a span is part of."""
    found = set()
    while key in trace:
        found.add(key)
        key = trace[key][1].parent_span_id
    return found
