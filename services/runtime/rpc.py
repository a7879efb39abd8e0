"""What a port's methods are as rpcs: names, message classes and codecs, shared by servicer and stub."""

from __future__ import annotations

import importlib
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from services.runtime.binding import methods_of, reads_of
from services.runtime.codec import DataclassCodec, Fields, dataclass_codec


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of a port as an rpc."""

    method: str
    """Name of the method, for example ``vm_thread_new``."""
    name: str
    """Name of the rpc, for example ``VmThreadNew``."""
    reads: bool
    """It only reads state."""
    request: Callable[..., Any]
    """Class of the request message."""
    response: Callable[..., Any]
    """Class of the response message."""
    lists: tuple[str, ...]
    """Fields of the request that are lists."""
    arguments: Fields
    """Codec of the parameters."""
    answer: DataclassCodec
    """Codec of the answer."""


def service_of(port: Callable[..., Any]) -> str:
    """Name of a port's service: pager, physmem, kstack or scheduler."""
    return port.__module__.rsplit(".", 1)[-1]


def rpc_name(method: str) -> str:
    """Name of a method's rpc."""
    return "".join(part.capitalize() for part in method.split("_"))


def messages_of(port: Callable[..., Any]) -> ModuleType:
    """The generated module with a port's messages."""
    return importlib.import_module(f"protos.{service_of(port)}_pb2")


def grpc_of(port: Callable[..., Any]) -> ModuleType:
    """The generated module with a port's stub and registration."""
    return importlib.import_module(f"protos.{service_of(port)}_pb2_grpc")


@cache
def rpcs_of(port: Callable[..., Any]) -> tuple[Rpc, ...]:
    """All methods of a port as rpcs, in the order of their definition."""
    messages, reads = messages_of(port), reads_of(port)
    return tuple(_rpc(port, method, method in reads, messages) for method in methods_of(port))


def _rpc(port: Callable[..., Any], method: str, reads: bool, messages: ModuleType) -> Rpc:
    name = rpc_name(method)
    hints = typing.get_type_hints(getattr(port, method), include_extras=True)
    answer = hints.pop("return")
    request, response = getattr(messages, f"{name}Request"), getattr(messages, f"{name}Response")
    return Rpc(
        method=method,
        name=name,
        reads=reads,
        request=request,
        response=response,
        lists=tuple(field.name for field in request.DESCRIPTOR.fields if field.is_repeated),
        arguments=Fields(hints, request.DESCRIPTOR),
        answer=dataclass_codec(answer, response.DESCRIPTOR),
    )
