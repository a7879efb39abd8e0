"""The local binding of a port: a core of the same process, with all that stands around a call.

The gRPC binding of services/runtime/remote.py does the same around a call; see ARCHITECTURE.md.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable, Sequence
from functools import cache
from time import perf_counter
from typing import Any, TypeVar, cast

from services.runtime.codec import Fields
from services.runtime.context import Context
from services.runtime.counters import CounterBoard
from services.runtime.errors import KernelPanic, Reason, Refused

Port = TypeVar("Port")


STARTS = frozenset({"boot", "checkpoint_load", "checkpoint_commit"})
"""Methods from which a machine begins: they are answered before a boot and after a panic."""


def methods_of(port: Callable[..., Any]) -> list[str]:
    """Names of a port's methods, in the order of their definition."""
    return [name for name, value in vars(port).items() if callable(value) and not name.startswith("_")]


def reads_of(port: Callable[..., Any]) -> frozenset[str]:
    """Names of a port's methods that only read state (READS of its module)."""
    reads: frozenset[str] = sys.modules[port.__module__].READS
    return reads


@cache
def parameters_of(port: Callable[..., Any], method: str) -> Fields:
    """Names and checks of a method's parameters."""
    hints = typing.get_type_hints(getattr(port, method), include_extras=True)
    del hints["return"]
    return Fields(hints, None)


def in_order(method: str, names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Arguments of a call in the order of the parameters.

    Raises:
        TypeError: One is missing, or there is one too many.
    """
    rest = names[len(args) :]
    if kwargs.keys() != set(rest) or len(args) > len(names):
        raise TypeError(f"{method} takes ({', '.join(names)}); got {len(args)} and {sorted(kwargs)}")
    return args + tuple(kwargs[name] for name in rest)


def admit(ctx: Context, method: str, reads: bool) -> None:
    """Refuse what a service cannot answer in its present state.

    Raises:
        Refused: The service was not booted, or the machine stopped and the call would change it.
    """
    if method in STARTS:
        return
    if not ctx.booted:
        raise Refused(Reason.NOT_BOOTED, "machine", ctx.service, "a service that was booted")
    if ctx.stopped and not reads:
        raise Refused(Reason.MACHINE_STOPPED, "machine", ctx.stopped, "a machine that runs; boot it anew")


def stop(ctx: Context, error: Exception) -> None:
    """Stop a machine whose call ended in the middle: a panic, a service lost below, or a defect of the core."""
    ctx.stopped = f"panic: {error}" if isinstance(error, KernelPanic) else f"{type(error).__name__}: {error}"


def local(port: Callable[..., Port], core: Any, core_ctx: Context, caller_ctx: Context, board: CounterBoard) -> Port:
    """Bind a port to a core of this process.

    Args:
        port: The Protocol.
        core: Its implementation.
        core_ctx: The core's context.
        caller_ctx: Context of whoever calls; up-calls are absorbed into it.
        board: Where counters are published.
    """
    board.attach(core_ctx)
    core_ctx.wall.clock = perf_counter
    reads = reads_of(port)
    bound = type(f"Local{getattr(port, '__name__', 'Port')}", (), {})()
    for name in methods_of(port):
        bind = _reading if name in reads else _changing
        arrange = _arranger(name, parameters_of(port, name))
        setattr(bound, name, bind(name, getattr(core, name), arrange, core_ctx, caller_ctx, board))
    read_from(caller_ctx, core_ctx.service, lambda names: {name: core_ctx.counters.get(name, 0) for name in names})
    return cast("Port", bound)


_Arrange = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, ...]]


def _arranger(name: str, parameters: Fields) -> _Arrange:
    """Puts arguments in order and checks them, which the other binding gets from protobuf."""
    names, check = parameters.names, parameters.check

    def arrange(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if kwargs or len(args) != len(names):
            args = in_order(name, names, args, kwargs)
        check(args)
        return args

    return arrange


def _reading(
    name: str, method: Callable[..., Any], arrange: _Arrange, ctx: Context, caller: Context, board: CounterBoard
) -> Callable[..., Any]:
    """Wrap a method that only reads: it is answered also after a panic, and leaves the clock alone."""

    def call(*args: Any, **kwargs: Any) -> Any:
        called = perf_counter()
        args = arrange(args, kwargs)
        caller.calls += 1
        if not ctx.booted:
            admit(ctx, name, reads=True)
        entered = perf_counter()
        try:
            answer = method(*args)
        except KernelPanic as panic:
            stop(ctx, panic)
            board.publish(ctx)
            raise
        left = perf_counter()
        ctx.wall.core_s += left - entered
        caller.wall.below_s += left - called
        return answer

    return call


def _changing(
    name: str, method: Callable[..., Any], arrange: _Arrange, ctx: Context, caller: Context, board: CounterBoard
) -> Callable[..., Any]:
    """Wrap a method that changes state."""
    boots = name == "boot"

    def call(*args: Any, **kwargs: Any) -> Any:
        called = perf_counter()
        args = arrange(args, kwargs)
        caller.calls += 1
        if ctx.stopped or not ctx.booted:
            admit(ctx, name, reads=False)
        ctx.now_us, ctx.ticks = caller.now_us, caller.ticks
        entered = perf_counter()
        try:
            answer = method(*args)
        except Refused:
            raise
        except Exception as error:
            stop(ctx, error)
            board.publish(ctx)
            raise
        if boots:
            ctx.booted, ctx.stopped = True, ""
        left = perf_counter()
        board.publish(ctx)
        published = perf_counter()
        upcalls = ctx.upcalls
        if upcalls:
            caller.upcalls.absorb(ctx.take_upcalls())
        ctx.wall.core_s += left - entered
        ctx.wall.board_s += published - left
        caller.wall.below_s += perf_counter() - called
        return answer

    return call


class CounterReader:
    """`Context.read_counters`: for each service below, the function that reads its counters."""

    def __init__(self) -> None:
        self.sources: dict[str, Callable[[Sequence[str]], dict[str, int]]] = {}

    def __call__(self, service: str, names: Sequence[str]) -> dict[str, int]:
        """Counters of a service by name; one that was never counted is 0.

        Raises:
            LookupError: No port of that service is bound to this context.
        """
        if service not in self.sources:
            raise LookupError(f"no port of {service} is bound to this context; {list(names)} cannot be read")
        return self.sources[service](names)


def read_from(ctx: Context, service: str, source: Callable[[Sequence[str]], dict[str, int]]) -> None:
    """Let a context read the counters of a service from `source`."""
    if not isinstance(ctx.read_counters, CounterReader):
        ctx.read_counters = CounterReader()
    ctx.read_counters.sources[service] = source
