"""The port of metrics: a few scrapers at once, each for a short time; who connects and is silent holds up nobody."""

from __future__ import annotations

import socket
import threading
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from services.runtime.limits import SCRAPE_S, SCRAPERS_MAX
from services.runtime.tls import Tls


def serve_metrics(host: str, port: int, registry: CollectorRegistry, tls: Tls | None) -> None:
    """Answer scrapers, until the process ends.

    Args:
        host: Name or address to listen on.
        port: Its port.
        registry: What they read.
        tls: Who serves; scrapers must show a certificate of the same authority. None: without encryption.

    Raises:
        OSError: The address is taken or not ours.
    """
    family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]

    class Server(_Server):
        address_family = family

    server = make_server(host, port, make_wsgi_app(registry), Server, _Handler)
    server.tls = tls
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Server(ThreadingMixIn, WSGIServer):
    """Shakes hands in the thread of each connection: the one that accepts waits for nobody."""

    daemon_threads = True
    tls: Tls | None = None

    def server_activate(self) -> None:
        super().server_activate()
        self._free = threading.BoundedSemaphore(SCRAPERS_MAX)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(SCRAPE_S)
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        with self.tls.server_context().wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that is refused, slow or gone is none of our errors."""


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not logged."""
