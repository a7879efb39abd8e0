"""Who may call what: the role in a caller's certificate, and the one table of what each rpc needs.

A certificate names its role by a URI among its subject's alternative names: `vmglue:role/operator`. Calls that come
over a Unix socket or unencrypted loopback carry no certificate; the host says who can make them, and they may do
everything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum
from functools import cache, lru_cache, wraps
from typing import Any, cast

import grpc

from services.ports.kstack import KstackPort
from services.ports.pager import PagerPort
from services.ports.physmem import PhysmemPort
from services.ports.scheduler import SchedulerPort
from services.runtime.errors import Reason, Refused
from services.runtime.handlers import Behavior, HandlerWrapper
from services.runtime.rpc import rpcs_of, service_of
from services.runtime.status import refusal

URI = "vmglue:role/"
"""What stands in front of the role among a certificate's names."""


class Role(StrEnum):
    """What a caller may be."""

    OPERATOR = "operator"
    """Does everything; the orchestrator is one."""
    SERVICE = "service"
    """Calls what services need of those below them, and what a viewer may."""
    VIEWER = "viewer"
    """Reads state, counters and events."""


OPERATORS = frozenset({Role.OPERATOR})
SERVICES = frozenset({Role.OPERATOR, Role.SERVICE})
EVERYBODY = frozenset(Role)

PORTS: tuple[Callable[..., Any], ...] = (PagerPort, PhysmemPort, KstackPort, SchedulerPort)
"""The ports, from the bottom up; what they only read (READS) everybody may."""
CALLED_BY_SERVICES = {
    "pager": frozenset(
        {
            "dealloc", "get_pages_finish", "get_pages_start", "page_unswapped", "put_pages_finish", "put_pages_start",
            "swap_copy", "swapoff_begin", "swapoff_end", "swapon", "vnode_open",
        }
    ),
    "physmem": frozenset(
        {
            "complete_io", "kmem_write", "lose_page", "map_deactivate", "map_ops", "pageout_begin", "pageout_idle",
            "pageout_scan", "pageout_wait_test", "stack_create", "stack_destroy", "stack_swapin", "stack_swapout",
            "swapoff", "swapon",
            "vm_imgact_map_page", "vm_imgact_unmap_page", "vm_map_trylock", "vm_map_unlock", "vm_sync_icache",
            "vm_wait", "vmspace_alloc", "vmspace_fork", "vmspace_free", "vmspace_ref", "vslock", "vsunlock",
            "mlock", "mlockall", "munlock", "munlockall", "shmat", "shmctl_rmid", "shmdt", "shmfork", "shmget",
        }
    ),
    "kstack": frozenset(
        {
            "intr_prof_stack_use", "vm_thread_dispose", "vm_thread_new", "vm_thread_stack_lowmem", "vm_thread_swapin",
            "vm_thread_swapout",
        }
    ),
    "scheduler": frozenset(),
}  # fmt: skip
"""Methods that change state and that a service above calls."""
HEAVY_READS = frozenset({"checkpoint_save"})
"""Reads that take as much memory as the machine: for operators alone."""
OTHERS: dict[str, dict[frozenset[Role], tuple[str, ...]]] = {
    "vmglue.machine.v1.MachineService": {
        EVERYBODY: ("GetTopology", "WatchEvents", "GetSysctl", "ListSysctls", "GetStatus"),
        OPERATORS: (
            "Load", "Run", "Pause", "Step", "SetSysctl", "Kill", "Shutdown", "Inject", "SaveCheckpoint",
            "LoadCheckpoint",
        ),
    },
    "vmglue.common.v1.NodeService": {EVERYBODY: ("GetInfo",)},
    "grpc.health.v1.Health": {EVERYBODY: ("Check", "List", "Watch")},
    "grpc.reflection.v1alpha.ServerReflection": {EVERYBODY: ("ServerReflectionInfo",)},
    "grpc.channelz.v1.Channelz": {
        EVERYBODY: (
            "GetTopChannels", "GetServers", "GetServer", "GetServerSockets", "GetChannel", "GetSubchannel",
            "GetSocket",
        ),
    },
}  # fmt: skip
"""What the rpcs of other services than the ports' need."""
STREAMS = frozenset(
    {
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/vmglue.machine.v1.MachineService/WatchEvents",
    }
)
"""What a viewer may call and keep open for as long as it wants."""


@cache
def needs() -> dict[str, frozenset[Role]]:
    """The table: roles that may call, by the rpc's full name (`/package.Service/Method`)."""
    table = {}
    for port in PORTS:
        service = service_of(port)
        for rpc in rpcs_of(port):
            table[f"/vmglue.{service}.v1.{service.capitalize()}Service/{rpc.name}"] = _of_port(service, rpc)
    for name, roles in OTHERS.items():
        table.update({f"/{name}/{method}": who for who, methods in roles.items() for method in methods})
    return table


def _of_port(service: str, rpc: Any) -> frozenset[Role]:
    if rpc.reads:
        return OPERATORS if rpc.method in HEAVY_READS else EVERYBODY
    return SERVICES if rpc.method in CALLED_BY_SERVICES[service] else OPERATORS


def role_guard(boot_id: int, viewer_streams: int) -> HandlerWrapper:
    """An interceptor that ends the calls of those whose certificate does not permit them.

    The status is UNAUTHENTICATED where the certificate names no role, PERMISSION_DENIED where it names another one, and
    RESOURCE_EXHAUSTED where viewers have as many streams open as they may, so that they cannot keep others out.

    Args:
        boot_id: Of the answering process, for its refusals.
        viewer_streams: Streams that all viewers together may have open.
    """
    free = threading.BoundedSemaphore(viewer_streams)

    def guard(method: str, behavior: Behavior, _: bool) -> Behavior:
        permitted = needs().get(method, frozenset())

        @wraps(behavior)  # what it is marked with goes along
        def guarded(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                roles = admit_caller(context.auth_context(), permitted)
                if method in STREAMS and not roles & SERVICES:
                    _take_stream(context, free, viewer_streams)
            except Refused as refused:
                context.abort_with_status(cast("grpc.Status", refusal(refused, boot_id)))
            return behavior(request, context)

        return guarded

    return HandlerWrapper(guard)


def _take_stream(context: grpc.ServicerContext, free: threading.BoundedSemaphore, limit: int) -> None:
    """Count one more stream of a viewer, until its call ends.

    Raises:
        Refused: There are as many as there may be.
    """
    if not free.acquire(blocking=False):
        raise Refused(Reason.QUOTA, "streams", limit, f"at most {limit} of all viewers at once; try again later")
    if not context.add_callback(free.release):
        free.release()


def admit_caller(auth: Any, permitted: frozenset[Role]) -> frozenset[Role]:
    """Refuse a caller whose certificate does not permit the call.

    Args:
        auth: What the connection proved, as gRPC tells it.
        permitted: Roles that may make the call.

    Returns:
        The caller's roles.

    Raises:
        Refused: The caller has no role, or another one.
    """
    if auth.get("transport_security_type") != [b"ssl"]:
        return OPERATORS
    names = tuple(auth.get("peer_uri", ()))
    roles = roles_in(names)
    if roles & permitted:
        return roles
    wanted = f"{URI}{' or '.join(sorted(permitted, reverse=True))}" if permitted else "nobody"
    if roles:
        raise Refused(Reason.ROLE, "certificate", ", ".join(sorted(roles)), wanted)
    raise Refused(Reason.NO_ROLE, "certificate", b", ".join(names).decode("utf-8", "replace"), wanted)


@lru_cache(maxsize=256)
def roles_in(names: tuple[bytes, ...]) -> frozenset[Role]:
    """Roles among the URIs of a certificate."""
    known = {f"{URI}{role}".encode(): role for role in Role}
    return frozenset(known[name] for name in names if name in known)
