"""The scheduler service as a process."""

from services.ports.kstack import KstackPort
from services.ports.physmem import PhysmemPort
from services.ports.scheduler import SchedulerPort
from services.runtime.server import Process, main


def build(process: Process) -> SchedulerPort:
    """The scheduler's core over physmem and kstack."""
    from services.scheduler.core import SchedulerCore  # after the address is taken: importing takes time

    return SchedulerCore(process.ctx, process.port(PhysmemPort), process.port(KstackPort))


if __name__ == "__main__":
    main(SchedulerPort, build, upstreams=("physmem", "kstack"))
