"""The pager service as a process."""

from pathlib import Path

from services.ports.pager import PagerPort
from services.runtime.server import Process, main


def build(process: Process) -> PagerPort:
    """The pager's core over its swap file."""
    from services.pager.core import PagerCore  # after the address is taken: importing takes time

    swap_file = process.config.swap_file
    return PagerCore(process.ctx, Path(swap_file) if swap_file else None)


if __name__ == "__main__":
    main(PagerPort, build)
