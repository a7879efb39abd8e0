"""NodeService: who serves, answered in every state."""

from __future__ import annotations

import os

import grpc
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from protos import common_pb2, common_pb2_grpc
from services.runtime.context import WallTime
from services.runtime.process import package_version, pss_bytes
from services.runtime.redis_board import RedisBoard
from services.runtime.servicer import Node

ABOUT_PROCESSES: tuple[str, ...] = (
    common_pb2.DESCRIPTOR.services_by_name["NodeService"].full_name,
    health.SERVICE_NAME,
    channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,
    reflection.SERVICE_NAME,
)
"""gRPC services that every process of ours serves beside its own."""


class NodeServicer(common_pb2_grpc.NodeServiceServicer):
    """Tells about this process without waiting for the call that is in the core."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def GetInfo(  # noqa: N802 - the name of the rpc
        self,
        request: common_pb2.GetInfoRequest,  # noqa: ARG002 - it has no fields
        context: grpc.ServicerContext,  # noqa: ARG002 - nothing can go wrong
    ) -> common_pb2.GetInfoResponse:
        """Identity and state of the process."""
        return describe(self._node)


def describe(node: Node) -> common_pb2.GetInfoResponse:
    """What a process tells about itself."""
    ctx = node.ctx
    return common_pb2.GetInfoResponse(
        service=node.service,
        machine=node.machine,
        version=package_version(),
        pid=os.getpid(),
        boot_id=node.boot_id,
        sequence=ctx.sequence,
        booted=ctx.booted,
        stopped=ctx.stopped,
        board=board_state(node),
        pss_bytes=pss_bytes(),
        event_count=ctx.log.count,
        calls=node.calls,
        trouble=node.health.trouble if node.health is not None else "",
        board_lag_ms=board_lag_ms(node),
        wall=wall_time(ctx.wall),
    )


def wall_time(wall: WallTime) -> common_pb2.WallTime:
    """Where the process's wall time went, as a message."""
    return common_pb2.WallTime(core_s=wall.core_s, below_s=wall.below_s, board_s=wall.board_s, walk_s=wall.walk_s)


def board_lag_ms(node: Node) -> int:
    """Time for which counters have waited to be published, in milliseconds."""
    return node.board.lag_ms() if isinstance(node.board, RedisBoard) else 0


def board_state(node: Node) -> str:
    """The board of counters: none, serving or degraded."""
    if not isinstance(node.board, RedisBoard):
        return "none"
    return "degraded" if node.board.degraded or node.board.superseded else "serving"
