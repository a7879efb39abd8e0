"""Which life of the orchestrator answers: its boot id goes with every answer of it, as initial metadata."""

from __future__ import annotations

from functools import wraps
from typing import Any

import grpc

from services.runtime.handlers import Behavior, HandlerWrapper
from services.runtime.status import restarted

KEY = "vmglue-boot-id"
"""Key of the metadata; the value is a decimal number, later lives have greater ones (protos/machine.proto)."""


def boot_id_teller(boot_id: int) -> HandlerWrapper:
    """An interceptor that sends a boot id in front of every answer, refusals included."""

    def telling(_: str, behavior: Behavior, __: bool) -> Behavior:
        @wraps(behavior)  # what it is marked with goes along
        def told(request: Any, context: grpc.ServicerContext) -> Any:
            context.send_initial_metadata(((KEY, str(boot_id)),))
            return behavior(request, context)

        return told

    return HandlerWrapper(telling)


class BootIdWatch:
    """What a client knows about the life of the orchestrator that answers it."""

    def __init__(self) -> None:
        self._known: int | None = None

    def check(self, metadata: Any) -> None:
        """Look at the initial metadata of an answer.

        Args:
            metadata: Pairs of key and value; None: there were none, because nothing answered.

        Raises:
            ServiceLost: Another process answered than before.
        """
        told = dict(metadata or ()).get(KEY)
        if told is None:
            return
        before, self._known = self._known, int(told)
        if before not in (None, self._known):
            raise restarted("orchestrator", self._known)
