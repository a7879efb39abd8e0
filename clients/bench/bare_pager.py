"""A pager that has its port and nothing else: no traces, metrics, roles, health or channelz, not even switched off.

``python -m clients.bench.bare_pager ADDRESS``; it ends with its parent.
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from protos.pager_pb2_grpc import add_PagerServiceServicer_to_server
from services.compose import pager_alone
from services.ports.pager import PagerPort
from services.runtime.context import Context
from services.runtime.counters import MemoryBoard
from services.runtime.limits import CONCURRENT_RPCS_MAX, WORKERS
from services.runtime.process import keep_freed_memory
from services.runtime.remote import LARGE_MESSAGES
from services.runtime.servicer import Node, PortServicer


def serve(address: str) -> None:
    """Answer calls until standard input ends, which is when the parent does."""
    keep_freed_memory()
    ctx = Context("pager")
    server = grpc.server(
        ThreadPoolExecutor(WORKERS),
        options=[("grpc.so_reuseport", 0), *LARGE_MESSAGES],
        maximum_concurrent_rpcs=CONCURRENT_RPCS_MAX,
    )
    server.add_insecure_port(address)
    with tempfile.TemporaryDirectory(prefix="vmglue-bench-") as folder, pager_alone(ctx, Path(folder, "swap")) as core:
        servicer: Any = PortServicer(PagerPort, core, Node("pager", "default", 1, ctx, MemoryBoard()))
        add_PagerServiceServicer_to_server(servicer, server)
        server.start()
        sys.stdin.read()
        server.stop(None).wait()


if __name__ == "__main__":
    serve(sys.argv[1])
