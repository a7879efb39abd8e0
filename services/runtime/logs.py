"""Structured logs on standard error: for people or as JSON, with who logs and the ids of what was going on."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from services.runtime.config import LogFormat, LogLevel
from services.runtime.tracing import Tracing


def set_up_logs(service: str, machine: str, level: LogLevel, style: LogFormat, tracing: Tracing | None) -> None:
    """Configure structlog for this process.

    Entries carry the service and the machine; what `structlog.contextvars` binds (request ids) while something is done;
    and, where calls are traced, trace and span ids.

    Args:
        service: Who logs.
        machine: Name of the machine.
        level: Entries below it are left out.
        style: How entries are written.
        tracing: Knows the ids of spans; None: there are none.
    """

    def about(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        entry.setdefault("service", service)
        entry.setdefault("machine", machine)
        return entry

    renderer: Any = structlog.dev.ConsoleRenderer(colors=False)
    if style is LogFormat.JSON:
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            about,
            *([tracing.ids] if tracing is not None else []),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
