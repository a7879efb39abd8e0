"""The echo's process: ``python echo_server.py ADDRESS``; it imports nothing of ours and ends with its parent."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc


def serve(address: str) -> None:
    """Answer every message with itself until standard input ends, which is when the parent does."""

    def echo(request: bytes, _: grpc.ServicerContext) -> bytes:
        return request

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(echo)
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("vmglue.bench.Echo", {"Echo": handler}),))
    server.add_insecure_port(address)
    server.start()
    sys.stdin.read()
    server.stop(None).wait()


if __name__ == "__main__":
    serve(sys.argv[1])
