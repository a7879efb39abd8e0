"""What an operator sees of the containers: metrics of each, traces through all of them, logs to be read by machines."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from certificates import tls
from collector import collecting, swap_out
from conftest import PROCESSES, SERVICES, Stack

from clients.workload import load_workload
from services.runtime.tls import Tls

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]
SPANS_S = 20
"""Longest time until the last spans of a run arrive: they are sent every five seconds."""


@pytest.fixture(scope="module")
def collector():
    with collecting("0.0.0.0") as (servicer, port):
        yield servicer, port


@pytest.fixture(scope="module")
def seen(built, collector, tmp_path_factory):  # noqa: ARG001 - the images must be there
    """A stack that tells all it can and has run `tiny`; its report."""
    stack = Stack(
        tmp_path_factory.mktemp("seen") / "clients",
        Path(__file__).parent / "host-gateway.yml",
        VMGLUE_METRICS="0.0.0.0:9464",
        VMGLUE_LOG_FORMAT="json",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://host.docker.internal:{collector[1]}",
        OTEL_BSP_MAX_QUEUE_SIZE="1000000",
    )
    try:
        stack.up()
        with stack.client() as client:
            client.load(load_workload("tiny"))
            report = client.run().report
        yield stack, report
    finally:
        stack.compose("down", "--volumes", "--timeout", "5")


def scrape(stack: Stack, part: str, files: Tls | None) -> dict[str, float]:
    context = ssl.create_default_context(cafile=str(stack.files_of("viewer").ca))
    if files is not None:
        context.load_cert_chain(files.cert, files.key)
    url = f"https://127.0.0.1:{stack.metrics_ports[part]}/metrics"
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


@pytest.mark.parametrize("part", PROCESSES)
def test_metrics_of_each_process(seen, part):
    stack, _ = seen
    found = scrape(stack, part, stack.files_of("viewer"))
    assert found[f'vmglue_serving{{service="{part}"}}'] == 1
    assert found[f'vmglue_process_pss_bytes{{service="{part}"}}'] > 10 << 20
    rpc = "Run" if part == "orchestrator" else "Boot"
    assert found[f'vmglue_rpcs_total{{code="OK",rpc="{rpc}",service="{part}"}}'] == 1
    assert found[f'vmglue_rpc_seconds_count{{rpc="{rpc}",service="{part}"}}'] == 1
    for stranger in (None, tls("viewer", "strangers")):
        with pytest.raises((urllib.error.URLError, ConnectionError, ssl.SSLError)):
            scrape(stack, part, stranger)


def test_counters_of_the_kernel_are_those_of_the_run(seen):
    stack, report = seen
    with stack.client("viewer") as client:
        sysctls = client.sysctls()
    shown = {}
    for service in SERVICES:
        for name, value in scrape(stack, service, stack.files_of("viewer")).items():
            if name.startswith("vmglue_sysctl{"):
                shown[name.split('"')[1]] = value
    assert len(shown) > 50
    assert {name: shown[name] for name in sysctls if name in shown} == {
        name: value for name, (value, _) in sysctls.items() if name in shown
    }
    assert (
        scrape(stack, "orchestrator", stack.files_of("viewer"))["vmglue_machine_dispatches_total"]
        == report["dispatches"]
    )


@pytest.mark.usefixtures("seen")
def test_a_swap_out_is_one_trace_through_the_containers(collector):
    spans, before = collector[0].spans, -1
    deadline = time.monotonic() + SPANS_S
    while before != len(spans) and time.monotonic() < deadline:
        before = len(spans)
        time.sleep(6)
    chain = swap_out(collector[0], "run tiny")
    assert chain[-2:] == ["orchestrator: run tiny", "orchestrator: MachineService/Run"]


def test_logs_are_objects_that_say_who_and_of_which_machine(seen):
    stack, _ = seen
    for part in (*SERVICES, "orchestrator"):
        entries = [json.loads(line) for line in stack.logs(part).splitlines()]
        assert {(entry["service"], entry["machine"]) for entry in entries} == {(part, stack.name)}
        assert "serving" in {entry["event"] for entry in entries}
    assert "machine.proto is served" in {entry["event"] for entry in entries}
