"""What a service process tells about itself: health by the standard gRPC protocol, identity by NodeService."""

from __future__ import annotations

import time
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos import common_pb2, common_pb2_grpc
from services.runtime.remote import open_channel
from services.runtime.tls import Tls

_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What was found out about one service."""

    health: str
    """SERVING, NOT_SERVING, or UNREACHABLE."""
    latency_us: int = 0
    """Round trip of the question, in microseconds."""
    info: common_pb2.GetInfoResponse | None = None
    """Identity of the process; None: it did not answer."""


def service_state(address: str, tls: Tls | None = None) -> ServiceState:
    """Ask a service for its health and its identity.

    Args:
        address: gRPC target.
        tls: Who asks.
    """
    with open_channel(address, tls) as channel:
        health = _health(channel, _TIMEOUT_S)
        begun = time.perf_counter()
        try:
            info = common_pb2_grpc.NodeServiceStub(channel).GetInfo(common_pb2.GetInfoRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError:
            return ServiceState(health)
        return ServiceState(health, round((time.perf_counter() - begun) * 1e6), info)


def serving(address: str, timeout_s: float, tls: Tls | None = None) -> bool:
    """A server's overall health is SERVING.

    Args:
        address: gRPC target.
        timeout_s: Longest time to wait for its answer, in seconds.
        tls: Who asks.
    """
    with open_channel(address, tls) as channel:
        return _health(channel, timeout_s) == "SERVING"


def _health(channel: grpc.Channel, timeout_s: float) -> str:
    try:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True
        )
    except grpc.RpcError:
        return "UNREACHABLE"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
