"""What the services share: context of a call, environment, events, counters, errors, binding and lifecycle."""

import os
from importlib.metadata import PackageNotFoundError, version

_POLLING_IN_THE_CALLER = ",".join(
    f"-event_engine_{part}" for part in ("client", "listener", "for_all_other_endpoints", "callback_cq")
)
"""Settings of gRPC's core: a thread that waits polls its connection itself, instead of being woken by another one."""


def _poll_in_the_caller() -> None:
    """Take two thread switches out of every call: an eighth of its processor time, a quarter of a large one's.

    gRPC reads the variable when it is imported, and complains about names that its version does not know.
    """
    try:
        known = version("grpcio").startswith("1.85.")
    except PackageNotFoundError:
        return
    if known:
        os.environ.setdefault("GRPC_EXPERIMENTS", _POLLING_IN_THE_CALLER)


def _touch_little_memory() -> None:
    """Let the host give memory in small pages: a machine's arrays are sparse, and a huge page is 512 of them.

    A quarter less for each process of a machine with many. NumPy reads the variable when it is imported.
    """
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")


_poll_in_the_caller()
_touch_little_memory()
