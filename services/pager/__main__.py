"""The pager service as a process."""

from pathlib import Path

from services.ports.pager import PagerPort
from services.runtime.server import Process, main


def build(process: Process) -> PagerPort:
    """The pager's core over its swap file."""
    from services.pager.core import PagerCore  # after the address is taken: importing takes time

    swap_file = Path(process.config.swap_file) if process.config.swap_file else None
    if swap_file is not None:
        _try_to_write(swap_file)
    return PagerCore(process.ctx, swap_file)


def _try_to_write(path: Path) -> None:
    """Find out now, and not at boot, that the swap file cannot be written.

    Raises:
        OSError: It cannot.
    """
    made = not path.exists()
    path.open("ab").close()
    if made:
        path.unlink()


if __name__ == "__main__":
    main(PagerPort, build)
