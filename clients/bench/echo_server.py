"""The echo's process: ``python -m clients.bench.echo_server ADDRESS``; it ends with its parent."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from clients.bench.echo import METHOD
from protos.physmem_pb2 import KernaccRequest


def serve(address: str) -> None:
    """Answer every message with itself until standard input ends, which is when the parent does."""

    def echo(request: KernaccRequest, _: grpc.ServicerContext) -> KernaccRequest:
        return request

    handler: grpc.RpcMethodHandler[KernaccRequest, KernaccRequest] = grpc.unary_unary_rpc_method_handler(
        echo, KernaccRequest.FromString, KernaccRequest.SerializeToString
    )
    service, method = METHOD.strip("/").split("/")
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port(address)
    server.start()
    sys.stdin.read()
    server.stop(None).wait()


if __name__ == "__main__":
    serve(sys.argv[1])
