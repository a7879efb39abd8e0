"""The health of a service: its own core, the services below and the host, told by the standard gRPC protocol.

Names: "" and the full name of the port's service say whether it can do its work; `SERVICE.UPSTREAM` whether a service
below can, and `SERVICE.redis` whether counters reach Redis. Without Redis a service is degraded, but serves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.runtime.limits import WATCHERS_MAX

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_RETRY_S = 0.5


_WATCHERS = ThreadPoolExecutor(WATCHERS_MAX, thread_name_prefix="health-watch")
"""Threads of those who watch a health: none that answers calls is held by them."""


class _Told(health.HealthServicer):  # type: ignore[misc]  # the library is untyped
    """Answers grpc.health.v1, and ends the streams of who watches when the service ends.

    Otherwise each of them would hold up the end until nobody waits any more for calls in flight. The library's way to
    watch without a thread is not used: it sends under a lock for which gRPC's own thread may wait, which must send.
    """

    def __init__(self) -> None:
        self._watchers: set[Any] = set()
        super().__init__(experimental_non_blocking=False, experimental_thread_pool=_WATCHERS)

    def Watch(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the rpc
        """Follow a status: an iterator of answers."""
        watcher = super().Watch(request, context)
        self._watchers.add(watcher)
        context.add_callback(lambda: self._watchers.discard(watcher))
        return watcher

    def end(self) -> None:
        """Tell NOT_SERVING for ever, and end the streams."""
        self.enter_graceful_shutdown()
        for watcher in list(self._watchers):
            watcher.close()


class ServiceHealth:
    """What one service tells about itself.

    Attributes:
        servicer: Answers grpc.health.v1.
        trouble: Why it does not serve; empty: it does.
    """

    def __init__(self, service: str, full_name: str, parts: Sequence[str] = ("redis",)) -> None:
        """Tell NOT_SERVING until told otherwise.

        Args:
            service: Its name.
            full_name: Of its gRPC service.
            parts: What it tells about beside itself.
        """
        self.servicer = _Told()
        self.trouble = "it is starting"
        self._service, self._whole = service, ("", full_name)
        self._told: dict[str, bool] = {}
        for name in (*self._whole, *(f"{service}.{part}" for part in parts)):
            self._tell(name, False)

    def tell(self, trouble: str) -> bool:
        """Tell whether the service does its work; True if this is news.

        Args:
            trouble: Why not; empty: it does.
        """
        news, self.trouble = trouble != self.trouble, trouble
        for name in self._whole:
            self._tell(name, not trouble)
        return news

    def tell_part(self, part: str, well: bool) -> None:
        """Tell about `redis`, or a service below."""
        self._tell(f"{self._service}.{part}", well)

    def end(self) -> None:
        """Tell NOT_SERVING from now on, whatever comes."""
        self.trouble = "it is ending"
        self.servicer.end()

    def _tell(self, name: str, well: bool) -> None:
        if self._told.get(name) is not well:
            self._told[name] = well
            self.servicer.set(name, SERVING if well else NOT_SERVING)


class UpstreamWatch:
    """Follows the health of the services below; a stream each, so that nothing is asked while nothing changes."""

    def __init__(self, channels: Mapping[str, grpc.Channel]) -> None:
        self._well: dict[str, bool] = dict.fromkeys(channels, True)
        self._closing = threading.Event()
        self._calls: dict[str, Any] = {}
        self._threads = [
            threading.Thread(target=self._follow, args=item, name=f"health-{item[0]}", daemon=True)
            for item in channels.items()
        ]

    def start(self) -> None:
        """Begin to follow: all of them serve at this moment."""
        for thread in self._threads:
            thread.start()

    def states(self) -> dict[str, bool]:
        """Whether each of them serves."""
        return dict(self._well)

    def close(self) -> None:
        """End the streams."""
        self._closing.set()
        for call in list(self._calls.values()):
            call.cancel()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _follow(self, name: str, channel: grpc.Channel) -> None:
        request = health_pb2.HealthCheckRequest(service=port_service(name))
        while not self._closing.is_set():
            call = self._calls[name] = health_pb2_grpc.HealthStub(channel).Watch(request)
            with suppress(grpc.RpcError):
                for answer in call:
                    self._well[name] = bool(answer.status == SERVING)
            self._well[name] = False
            self._closing.wait(_RETRY_S)


def port_service(service: str) -> str:
    """Full name of the gRPC service of a port, by the name of its service."""
    return f"vmglue.{service}.v1.{service.capitalize()}Service"


def trouble_below(down: Sequence[str]) -> str:
    """The trouble of whom services below do not serve; empty: all do."""
    return f"{', '.join(down)} {'does' if len(down) == 1 else 'do'} not serve" if down else ""


def trouble_of(core: Any) -> Callable[[], str]:
    """How a core is asked what keeps it from its work: a core that depends on the host has the method `trouble`."""
    ask: Callable[[], str] = getattr(core, "trouble", lambda: "")
    return ask
