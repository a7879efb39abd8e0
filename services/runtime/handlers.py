"""Wrapping what answers an rpc, whichever of its four kinds it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

Behavior = Callable[[Any, grpc.ServicerContext], Any]
"""A method of a servicer: of a request, or an iterator of them, and the call's context."""


class HandlerWrapper(grpc.ServerInterceptor):
    """Wraps every rpc's behaviour once, and answers its calls with that from then on."""

    def __init__(self, wrap: Callable[[str, Behavior], Behavior]) -> None:
        """Wrap.

        Args:
            wrap: Makes of an rpc's full name (`/package.Service/Method`) and its behaviour another behaviour.
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
            wrapped = handler._replace(**{kind: self._wrap(method, getattr(handler, kind))})
            self._wrapped[method] = wrapped
        return wrapped


_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
"""Field of a handler that holds its behaviour, by (requests are streamed, responses are streamed)."""
