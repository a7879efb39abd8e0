"""The physmem service as a process."""

from services.ports.pager import PagerPort
from services.ports.physmem import PhysmemPort
from services.runtime.server import Process, main


def build(process: Process) -> PhysmemPort:
    """Physical memory's core over the pager."""
    from services.physmem.core import PhysmemCore  # after the address is taken: it loads compiled code

    return PhysmemCore(process.ctx, process.port(PagerPort))


if __name__ == "__main__":
    main(PhysmemPort, build, upstreams=("pager",))
