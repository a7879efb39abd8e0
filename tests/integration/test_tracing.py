"""Traces as a collector receives them: a run is one, and shows a swap-out from its decision to its write."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from collector import collecting, swap_out
from systems import start_system

from clients.run import Run
from clients.workload import load_workload
from services.runtime.config import Exit
from services.runtime.remote import node_info
from services.runtime.tracing import is_wanted


@pytest.fixture
def collector(monkeypatch):
    with collecting("127.0.0.1") as (servicer, port):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1000000")
        yield servicer


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
    chain = swap_out(collector, "run tiny")
    assert chain[-1] == "orchestrator: run tiny"
    assert calls < len(collector.spans)


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
