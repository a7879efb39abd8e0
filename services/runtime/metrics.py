"""Prometheus metrics of a service: its calls, its counters by sysctl name, what waits, and its size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from services.runtime.handlers import Behavior, HandlerWrapper, lasting
from services.runtime.metrics_server import serve_metrics
from services.runtime.node import board_lag_ms
from services.runtime.process import package_version, pss_bytes
from services.runtime.servicer import Node
from services.runtime.tls import Tls, is_encrypted

_LATENCIES_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30)


class Metrics:
    """What a scraper reads, on a port of its own.

    Attributes:
        registry: All metrics.
    """

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        options: dict[str, Any] = {"registry": self.registry}
        self._calls = Counter("vmglue_rpcs", "Calls answered.", ["service", "rpc", "code"], **options)
        self._latency = Histogram(
            "vmglue_rpc_seconds", "Time to an answer.", ["service", "rpc"], buckets=_LATENCIES_S, **options
        )
        self._waiting = Gauge(
            "vmglue_rpcs_in_flight", "Calls in the service, waiting ones included.", ["service"], **options
        )
        self._service = service

    def interceptor(self) -> HandlerWrapper:
        """Counts and measures every call, a stream from its beginning to its end."""

        def meter(method: str, behavior: Behavior, streams: bool) -> Behavior:
            rpc = method.rpartition("/")[2] if method.startswith("/vmglue.") else method.lstrip("/")
            latency, waiting = self._latency.labels(self._service, rpc), self._waiting.labels(self._service)

            @contextmanager
            def measured(context: Any) -> Iterator[None]:
                begun = perf_counter()
                waiting.inc()
                try:
                    yield
                finally:
                    waiting.dec()
                    latency.observe(perf_counter() - begun)
                    self._calls.labels(self._service, rpc, _code(context)).inc()

            return lasting(behavior, streams, measured)

        return HandlerWrapper(meter)

    def serve(self, address: str, node: Node, tls: Tls | None) -> None:
        """Let scrapers read, until the process ends.

        Args:
            address: `HOST:PORT`.
            node: Whose counters and health are told.
            tls: Who serves; scrapers must show a certificate of the same authority.

        Raises:
            OSError: The address is taken or not ours.
        """
        self.registry.register(_NodeCollector(node))
        host, _, port = address.rpartition(":")
        serve_metrics(host.strip("[]"), int(port), self.registry, tls if is_encrypted(address, tls) else None)


def _code(context: Any) -> str:
    """Name of the status with which a call ends."""
    if (code := context.code()) is not None:
        return str(code.name)
    return "OK" if context.is_active() else "CANCELLED"


class _NodeCollector:
    """Reads what the service knows at the moment of a scrape."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Any]:
        """The metrics."""
        node, ctx = self._node, self._node.ctx
        name = [node.service]
        about = {"machine": node.machine, "version": package_version(), "boot_id": str(node.boot_id)}
        info = InfoMetricFamily("vmglue_process", "The process behind the service.", labels=["service"])
        info.add_metric(name, about)
        yield info
        serving = node.health is not None and not node.health.trouble
        for metric, text, value in (
            ("vmglue_serving", "1: it does its work.", float(serving)),
            ("vmglue_process_pss_bytes", "Proportional set size.", pss_bytes()),
            ("vmglue_board_lag_seconds", "Time for which counters have waited for Redis.", board_lag_ms(node) / 1000),
        ):
            gauge = GaugeMetricFamily(metric, text, labels=["service"])
            gauge.add_metric(name, value)
            yield gauge
        events = CounterMetricFamily("vmglue_events", "Kernel events since boot.", labels=["service"])
        events.add_metric(name, ctx.log.count)
        yield events
        sysctls = GaugeMetricFamily("vmglue_sysctl", "Counters of the kernel.", labels=["service", "name"])
        for counter, value in sorted(ctx.counters.copy().items()):
            sysctls.add_metric([*name, counter], value)
        yield sysctls
