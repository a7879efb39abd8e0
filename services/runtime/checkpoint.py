"""Checkpoints of one service: its state and its context, handed out and taken in by pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any

from services.ports.common import CheckpointChunk, Empty, Upcalls
from services.runtime.context import Context
from services.runtime.env import Script
from services.runtime.errors import Reason, Refused
from services.runtime.events import EventLog
from services.runtime.field_types import FieldsOf, Misfit, check
from services.runtime.snapshot import Registry, SnapshotError, SnapshotTooLarge, decode, encode, seal, size_max, unseal

CHUNK_BYTES = 8 << 20
"""Bytes of one piece."""


_OF_THE_PROCESS = frozenset(
    {
        "service",
        "inject_permitted",
        "env",
        "read_counters",
        "booted",
        "sequence",
        "seen",
        "boot_ids",
        "calls",
        "log",
        "wall",
    }
)
"""Fields of a context that belong to the process, or that are held in another form."""
_HELD = [field.name for field in fields(Context) if field.name not in _OF_THE_PROCESS]


@dataclass(slots=True)
class ContextState:
    """What of a context must be there again for a core to go on."""

    held: Annotated[dict[str, Any], FieldsOf(Context)]
    """Fields by name: clock, counters, up-calls, why it stopped."""
    allow_inject: bool
    """Scripted answers were accepted."""
    scripts: dict[str, Script]
    """Scripted answers by question."""
    event_count: int
    """Events so far."""
    event_head: bytes
    """Head of their chain."""

    @classmethod
    def of(cls, ctx: Context) -> ContextState:
        """The state of a context between two calls."""
        ctx.log.flush()
        held = {name: getattr(ctx, name) for name in _HELD}
        return cls(held, ctx.env.allow_inject, ctx.env.scripts, ctx.log.count, ctx.log.head)

    def restore(self, ctx: Context) -> None:
        """Bring a context to this state; the records of earlier events stay with whoever recorded them."""
        armed, preempts = ctx.env.preempt, ctx.env.preempts  # by the core, which was installed before
        ctx.reboot(self.held["hz"], self.held["ticks"], self.allow_inject)
        ctx.env.preempt, ctx.env.preempts = armed, preempts
        for name in _HELD:
            setattr(ctx, name, self.held[name])
        ctx.env.scripts, ctx.booted = self.scripts, True
        ctx.log = EventLog.resumed(ctx.service, self.event_count, self.event_head)

    @property
    def whole(self) -> bool:
        """Every field is there."""
        return list(self.held) == _HELD


@dataclass(slots=True)
class ServiceState:
    """Everything that a service knows."""

    service: str
    """Its name."""
    ctx: ContextState
    """Clock, counters, events, environment."""
    core: Any
    """What its core knows."""


class Checkpoint:
    """Saves and loads one core, between two calls of it.

    Attributes:
        registry: The classes that its checkpoints may hold.
    """

    def __init__(
        self, ctx: Context, registry: Registry, take: Callable[[], Any], install: Callable[[Any], None]
    ) -> None:
        """Describe a core.

        Args:
            ctx: Its context.
            registry: The classes of its state.
            take: Answers its state as plain data; the first class of the registry.
            install: Takes over such a state in place of the present one.
        """
        self._ctx, self._take, self._install = ctx, take, install
        self._core = next(iter(registry.forms.values())).cls
        self.registry = Registry(ServiceState, ContextState, Upcalls)
        self.registry.forms.update(registry.forms)
        self._image = b""
        self._loading, self._size = bytearray(), 0
        self._staged: ServiceState | None = None

    def save(self, offset: int) -> CheckpointChunk:
        """A piece of the service's checkpoint; at offset 0 it is made, at its end it is forgotten.

        Raises:
            Refused: No checkpoint is so long, or there is not the memory to make one.
        """
        if offset == 0:
            state = ServiceState(self._ctx.service, ContextState.of(self._ctx), self._take())
            self._image = self._sealed(state)
        elif offset >= len(self._image):
            raise _refused("offset", offset, f"0, or below {len(self._image)}")
        size, data = len(self._image), self._image[offset : offset + CHUNK_BYTES]
        if offset + len(data) == size:
            self._image = b""
        return CheckpointChunk(data, size)

    def load(self, offset: int, size: int, data: bytes) -> Empty:
        """Take in a piece; the last one makes the whole ready for `commit`. The service goes on as it is.

        A `size` of 0 withdraws what was taken in.

        Raises:
            Refused: A piece is missing, or the whole is no checkpoint of this service.
        """
        if offset == 0:
            self._loading, self._size, self._staged = bytearray(), size, None
            if size > (limit := size_max()):
                self._size = 0
                raise Refused(Reason.QUOTA, "size", size, f"at most {limit} bytes, by the memory that is left")
        if size == 0:
            return Empty()
        have = len(self._loading)
        if offset != have or have + len(data) > self._size or size != self._size:
            raise _refused("offset", offset, f"{have}: pieces in order, {self._size} bytes together")
        self._loading += data
        if have + len(data) == size:
            whole, self._loading, self._size = self._loading, bytearray(), 0
            self._staged = self._decoded(whole)
        return Empty()

    def commit(self) -> Empty:
        """Go on from the checkpoint that was loaded.

        Raises:
            Refused: None was, or the host lacks what the core needs.
        """
        staged, self._staged = self._staged, None
        if staged is None:
            raise _refused("checkpoint", "nothing", "a checkpoint that was loaded whole")
        self._install(staged.core)
        staged.ctx.restore(self._ctx)
        return Empty()

    def _sealed(self, state: ServiceState) -> bytes:
        try:
            return seal(encode(state, self.registry))
        except SnapshotTooLarge as error:
            raise Refused(Reason.QUOTA, "checkpoint", self._ctx.service, str(error)) from None

    def _decoded(self, image: bytearray) -> ServiceState:
        try:
            state = decode(unseal(image), self.registry)
        except SnapshotTooLarge as error:
            raise Refused(Reason.QUOTA, "data", f"{len(image)} bytes", str(error)) from None
        except SnapshotError as error:
            raise _refused("data", f"{len(image)} bytes", f"an intact checkpoint: {error}") from None
        name = self._ctx.service
        if not isinstance(state, ServiceState):
            raise _refused("data", "something else", f"a checkpoint of {name}")
        try:
            check(state, ServiceState, name)
            if state.service != name:
                raise _refused("data", state.service, f"a checkpoint of {name}")
            check(state.core, self._core, f"{name}.core")
        except Misfit as misfit:
            raise _refused(misfit.path, misfit.value, misfit.expected) from None
        if not state.ctx.whole:
            raise _refused("data", name, "a checkpoint of this version of the program")
        if state.ctx.scripts and not self._ctx.inject_permitted:
            raise Refused(
                Reason.INJECTION_REFUSED, "data", "scripted answers", "a system that was started with injection allowed"
            )
        return state


def _refused(field: str, value: object, expected: str) -> Refused:
    return Refused(Reason.FIELD_OUT_OF_RANGE, field, value, expected)
