"""The state of a running system as plain data and as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from clients.charts import duration
from clients.display import progress_line, wide_console
from clients.machine import state_word
from clients.machine_client import read_progress
from protos import machine_pb2 as pb

_WAITERS_MAX = 20
_SUSPENDED_MAX = 20
"""Rows of one service."""


def status_dict(topology: pb.GetTopologyResponse, status: pb.GetStatusResponse, latency_us: int = 0) -> dict[str, Any]:
    """Topology and state as plain data: the output of `vmglue status --json`.

    Args:
        topology: Which services there are.
        status: Their state, and the machine's.
        latency_us: Round trip to the orchestrator, in microseconds.
    """
    progress = status.progress
    status.orchestrator.latency_us = latency_us
    return {
        "machine": status.machine,
        "version": topology.version,
        "redis": topology.redis,
        "redis_prefix": topology.redis_prefix,
        "state": state_word(progress.state),
        "workload": status.workload,
        "failure": status.failure.text if status.HasField("failure") else "",
        "progress": {
            field.name: getattr(progress, field.name) for field in progress.DESCRIPTOR.fields if field.name != "state"
        },
        "services": [
            {field.name: getattr(service, field.name) for field in service.DESCRIPTOR.fields}
            for service in (status.orchestrator, *status.services)
        ],
        "waiters": [
            {"pid": waiter.pid, "name": waiter.name, "state": waiter.state, "wmesg": waiter.wmesg}
            for waiter in status.waiters
        ],
        "swap_devices": [
            {field.name: getattr(device, field.name) for field in device.DESCRIPTOR.fields}
            for device in status.swap_devices
        ],
        "suspended": [
            {
                "service": work.service,
                "total": work.total,
                "operations": [
                    {field.name: getattr(row, field.name) for field in row.DESCRIPTOR.fields}
                    | {"waits_for": channel_words(row.channel)}
                    for row in work.operations
                ],
            }
            for work in status.suspended
        ],
    }


def print_status(found: dict[str, Any], console: Console | None = None) -> None:
    """Print the state as tables.

    Args:
        found: What `status_dict` made.
        console: Where; standard output by default.
    """
    console = console or wide_console()
    workload = f", workload {found['workload']}" if found["workload"] else ""
    console.print(f"machine {found['machine']}: {found['state']}{workload}", markup=False)
    if found["failure"]:
        console.print(found["failure"], markup=False, soft_wrap=True)
    if found["redis"]:
        console.print(f"redis {found['redis']}, keys {found['redis_prefix']}*", markup=False, soft_wrap=True)
    if found["workload"]:
        progress = pb.Progress(**found["progress"])
        console.print(progress_line(read_progress(progress)).strip(), markup=False, soft_wrap=True)
    console.print(_services(found["services"]))
    if found["swap_devices"]:
        console.print(_swap_devices(found["swap_devices"]))
    if found["waiters"]:
        console.print(_waiters(found["waiters"]))
    if found["suspended"]:
        console.print(_suspended(found["suspended"], found["progress"]["now_us"]))


def channel_words(channel: str) -> str:
    """A sleep channel in words: `page:12` is "page frame 12"."""
    kind, _, number = channel.partition(":")
    return {
        "v_free_count": "free pages",
        "page": f"page frame {number}",
        "io": "the device",
        "swpoff": f"swap device {number}, another scan",
        "map": f"an entry in transition of address space {number}",
    }.get(kind, channel)


def _services(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    for heading in ("service", "version", "pid", "health", "redis", "PSS", "answer", "boot id", "address"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "address")
    for row in rows:
        table.add_row(
            row["name"],
            row["version"],
            str(row["pid"]),
            row["health"] + (f": {row['trouble']}" if row["trouble"] else ""),
            f"{row['board_lag_ms'] / 1000:.1f} s behind" if row["degraded"] else "ok",
            f"{row['pss_bytes'] / 2**20:.1f} MiB",
            duration(row["latency_us"]),
            f"{row['boot_id']:x}",
            row["address"],
        )
    return table


def _swap_devices(rows: list[dict[str, Any]]) -> Table:
    table = Table("swap device", "kind", "pages", "used", "", box=None)
    for row in rows:
        state = "closing: what lies on it comes in" if row["closing"] else ""
        table.add_row(str(row["device"]), row["kind"], f"{row['pages']:,}", f"{row['used']:,}", state)
    return table


def _waiters(rows: list[dict[str, Any]]) -> Table:
    table = Table("pid", "process", "state", "waits for", box=None)
    for row in rows[:_WAITERS_MAX]:
        table.add_row(str(row["pid"]), row["name"], row["state"], row["wmesg"])
    if len(rows) > _WAITERS_MAX:
        table.add_row("", f"and {len(rows) - _WAITERS_MAX} more", "", "")
    return table


def _suspended(work: list[dict[str, Any]], now_us: int) -> Table:
    headings = ("service", "op", "suspended in", "for", "waits for", "wmesg", "since", "until")
    table = Table(*headings, title=f"suspended operations (virtual time {now_us / 1e6:.6f} s)", box=None)
    for service in work:
        rows = service["operations"][:_SUSPENDED_MAX]
        for row in rows:
            table.add_row(
                service["service"],
                str(row["op"]),
                row["function"],
                row["subject"],
                row["waits_for"],
                row["wmesg"],
                f"{row['since_us'] / 1e6:.6f} s",
                f"{row['until_us'] / 1e6:.6f} s" if row["until_us"] else "a wakeup",
            )
        if service["total"] > len(rows):
            table.add_row(service["service"], "", f"and {service['total'] - len(rows)} more")
    return table
