"""Calls: what kernacc costs over a bare echo, and what a call that goes through two services costs."""

from __future__ import annotations

from clients.bench.echo import echo_call
from clients.bench.figure import Figure, medians_us
from clients.bench.processor import boot
from clients.bench.stacks import boot_kstack
from clients.system import System, SystemConfig
from protos.physmem_pb2 import AccessCheck as PbAccessCheck
from protos.physmem_pb2 import KernaccRequest
from services.ports.kstack import ThreadStack
from services.ports.physmem import KERNEL_SPACE, AccessCheck, MapOp, MapOpKind

PAGES = 5
"""Size of a stack that the cache never holds."""
KVA = 0xFFFFFE0000000000 + (1 << 30)


def calls() -> list[Figure]:
    """Median latencies of unary calls over Unix sockets."""
    with System.start(SystemConfig()) as system, echo_call() as echo:
        kernel = system.kernel
        boot(kernel, ram_pages=4096)
        boot_kstack(kernel)
        kernel.physmem.map_ops(KERNEL_SPACE, [MapOp(MapOpKind.INSERT, KVA, 1 << 20)], 0)
        check = [AccessCheck(KVA, 8192, 1)]
        request = KernaccRequest(checks=[PbAccessCheck(addr=KVA, len=8192, rw=1)])
        assert kernel.physmem.kernacc(check).ok == [True]

        def stack() -> None:
            kernel.kstack.vm_thread_new([ThreadStack(1, PAGES)], 0)
            kernel.kstack.vm_thread_dispose([1])

        echo_us, kernacc_us, stack_us = medians_us(
            [lambda: echo(request), lambda: kernel.physmem.kernacc(check), stack]
        )
    return [
        Figure("kernacc, one call", "us p50", kernacc_us, "bare gRPC echo of its request", echo_us, at_most=1.5),
        Figure(
            "vm_thread_new or _dispose through kstack and physmem",
            "us p50",
            stack_us / 2,
            "kernacc, one call",
            kernacc_us,
            note="two chained calls each",
        ),
    ]
