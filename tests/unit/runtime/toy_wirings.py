"""The toy core bound in either wiring, the remote one behind a real socket."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from toy_kstack import ToyKstack

from protos import kstack_pb2_grpc
from services.ports.kstack import KstackBoot, KstackPort
from services.runtime.binding import local
from services.runtime.context import Context
from services.runtime.counters import MemoryBoard
from services.runtime.remote import Caller, connect, open_channel
from services.runtime.servicer import Node, PortServicer

BOOT = KstackBoot(hz=100, start_ticks=-7, allow_inject=True)


@dataclass
class Wired:
    """A toy core, and a caller of it."""

    core: ToyKstack
    caller: Context
    port: Any
    board: MemoryBoard
    node: Node | None = None
    channel: grpc.Channel | None = None

    def boot(self):
        self.caller.reboot(100, -7, allow_inject=False)
        self.port.boot(BOOT)
        return self


@contextmanager
def wired(wiring, directory, boot_id=1):
    """A toy core behind the local or the gRPC binding."""
    ctx = Context("kstack", inject_permitted=True)
    core, caller, board = ToyKstack(ctx), Context("orchestrator"), MemoryBoard()
    if wiring == "local":
        yield Wired(core, caller, local(KstackPort, core, ctx, caller, board), board)
        return
    address = f"unix:{directory}/toy.sock"
    with served(core, board, address, boot_id) as node, open_channel(address) as channel:
        port = connect(KstackPort, channel, Caller(caller, "m", deadline_s=5.0))
        yield Wired(core, caller, port, board, node, channel)


@contextmanager
def served(core, board, address, boot_id=1):
    """A toy core behind a socket."""
    board.attach(core.ctx)
    node = Node("kstack", "m", boot_id, core.ctx, board)
    server = grpc.server(ThreadPoolExecutor(4))
    kstack_pb2_grpc.add_KstackServiceServicer_to_server(PortServicer(KstackPort, core, node), server)
    server.add_insecure_port(address)
    server.start()
    try:
        yield node
    finally:
        server.stop(None).wait()
        assert threading.active_count() < 50
