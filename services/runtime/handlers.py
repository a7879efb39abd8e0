"""Wrapping what answers an rpc, whichever of its four kinds it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any

import grpc

Behavior = Callable[[Any, grpc.ServicerContext], Any]
"""A method of a servicer: of a request, or an iterator of them, and the call's context. Its attributes tell gRPC in
which threads it is answered."""


class HandlerWrapper(grpc.ServerInterceptor):
    """Wraps every rpc's behaviour once, and answers its calls with that from then on."""

    def __init__(self, wrap: Callable[[str, Behavior, bool], Behavior]) -> None:
        """Wrap.

        Args:
            wrap: Makes another behaviour of an rpc's full name (`/package.Service/Method`), its behaviour, and whether
                that answers with a stream.
        """
        self._wrap = wrap
        self._wrapped: dict[str, Any] = {}

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """The handler of a call; None where there is no such rpc."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None and (handler := continuation(handler_call_details)) is not None:
            kind = _KINDS[handler.request_streaming, handler.response_streaming]
            behavior = self._wrap(method, getattr(handler, kind), handler.response_streaming)
            wrapped = handler._replace(**{kind: behavior})
            self._wrapped[method] = wrapped
        return wrapped


def lasting(
    behavior: Behavior, streams: bool, around: Callable[[grpc.ServicerContext], AbstractContextManager[Any]]
) -> Behavior:
    """A behaviour inside of a context that lasts as long as the call: a stream's until its end.

    Args:
        behavior: What answers.
        streams: It answers with a stream.
        around: Makes the context for a call.
    """

    @wraps(behavior)  # what it is marked with goes along
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        with around(context):
            return behavior(request, context)

    @wraps(behavior)
    def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with around(context):
            yield from behavior(request, context)

    return stream if streams else answer


_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
"""Field of a handler that holds its behaviour, by (requests are streamed, responses are streamed)."""
