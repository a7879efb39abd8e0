"""Reflection (grpc.reflection.v1alpha) whose streams end when nothing is asked on them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from services.runtime.limits import REFLECTION_IDLE_S


def serve_reflection(names: Sequence[str], server: grpc.Server, idle_s: float = REFLECTION_IDLE_S) -> None:
    """Let callers ask what a server serves.

    Args:
        names: Full names of its services, this one included.
        server: The server.
        idle_s: Time after which a stream without a question is cancelled.
    """
    servicer = _Reflection(names, idle_s)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)


class _Reflection(reflection.ReflectionServicer):  # type: ignore[misc]  # the library is untyped
    """The library's, for callers who ask or leave."""

    def __init__(self, names: Sequence[str], idle_s: float) -> None:
        super().__init__(names)
        self._idle_s = idle_s

    def ServerReflectionInfo(  # noqa: N802 - the name of the rpc
        self, request_iterator: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        """Answer every question of a stream."""
        yield from super().ServerReflectionInfo(_impatient(request_iterator, context, self._idle_s), context)


def _impatient(requests: Iterator[Any], context: grpc.ServicerContext, idle_s: float) -> Iterator[Any]:
    """The requests of a call, which is cancelled when the next one takes too long."""
    with suppress(grpc.RpcError, StopIteration):
        while True:
            timer = threading.Timer(idle_s, context.cancel)
            timer.daemon = True
            timer.start()
            try:
                request = next(requests)
            finally:
                timer.cancel()
            yield request
