"""The kstack service as a process."""

from services.ports.kstack import KstackPort
from services.ports.physmem import PhysmemPort
from services.runtime.server import Process, main


def build(process: Process) -> KstackPort:
    """The kernel stacks' core over physmem."""
    from services.kstack.core import KstackCore  # after the address is taken: importing takes time

    return KstackCore(process.ctx, process.port(PhysmemPort))


if __name__ == "__main__":
    main(KstackPort, build, upstreams=("physmem",))
