"""Swapping of whole processes: how fast they are looked at, swapped out and chosen, at three sizes in both wirings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from clients.bench.figure import Figure, best_s
from clients.bench.population import (
    THREADS,
    boot,
    let_choose,
    looks_of_plain_scan,
    place_sleepers,
    place_waiting,
    plain_choice,
    plain_procs,
    plain_swapout_procs,
)
from clients.bench.size import services_pss
from clients.kernel import Kernel, local_kernel
from clients.system import System, SystemConfig

SIZES = (1000, 10_000, 50_000)
"""Processes."""
CHOICES = 100
"""Choices of the swapper in one call."""
ROUNDS = 3
_PLAIN_SIZE = 500
"""Processes over which the loop that starts anew shows its pace: it is quadratic."""
_SWAP_NORMAL = 1
_GOAL_SIZE, _GOAL_S = 10_000, 2.0
"""Over gRPC so many processes go out in so many seconds at most."""
_BYTES_MAX = 4096
"""Most bytes that a process may take in the services beside its pages."""


def swapout() -> list[Figure]:
    """swapout_procs over sleeping processes: all of them go out, then all stay; and what they take in memory."""
    return [figure for name, wiring in WIRINGS.items() for figure in _swapout(name, wiring)]


def swapper() -> list[Figure]:
    """The swapper's choice among processes that all wait to come in, and faultin without stacks."""
    return [figure for name, wiring in WIRINGS.items() for figure in _swapper(name, wiring)]


@contextmanager
def _local() -> Iterator[Kernel]:
    kernel = local_kernel(allow_inject=True)
    try:
        yield kernel
    finally:
        kernel.close()


@contextmanager
def _grpc() -> Iterator[Kernel]:
    with System.start(SystemConfig(allow_inject=True)) as system:
        yield system.kernel


def _timed(run: Callable[[], list[int]]) -> tuple[float, list[int]]:
    """Wall time of a run in seconds, and its answer."""
    answer: list[int] = []
    return best_s(lambda: answer.extend(run()), 1), answer


WIRINGS: dict[str, Callable[[], AbstractContextManager[Kernel]]] = {"local": _local, "gRPC": _grpc}
"""How to get at a kernel, by the wiring's name."""


def _swapout(name: str, wiring: Callable[[], AbstractContextManager[Kernel]]) -> Iterator[Figure]:
    plain = plain_procs(_PLAIN_SIZE, out=False)
    looks_per_s = looks_of_plain_scan(_PLAIN_SIZE) / best_s(lambda: plain_swapout_procs(plain), 1)
    with wiring() as kernel:
        for size in SIZES:
            boot(kernel, size * THREADS)
            before = sum(services_pss(kernel).values())
            place_sleepers(kernel, size)
            taken = (sum(services_pss(kernel).values()) - before) / size
            out_s, gone = _timed(lambda: kernel.scheduler.swapout_procs(_SWAP_NORMAL).swapped_out)
            assert len(gone) == size, f"{len(gone)} of {size} processes went out"
            stay_s = best_s(lambda: kernel.scheduler.swapout_procs(_SWAP_NORMAL), ROUNDS)
            title, note = f"swapout_procs over {size:,} processes, {name}", f"{THREADS} threads each"
            paced = looks_per_s * size / looks_of_plain_scan(size)
            loop = "plain loop that starts anew, at its pace"
            yield Figure(f"{title}: all go", "processes/s", size / out_s, loop, paced, note=note)
            yield Figure(f"{title}: all stay", "processes/s", size / stay_s, "all go", size / out_s, note=note)
            if name == "gRPC" and size == _GOAL_SIZE:
                yield Figure(f"{title}: all go", "s", out_s, at_most=_GOAL_S, note=f"{note}; one call of each layer")
            if name == "gRPC" and size == SIZES[-1]:
                what = f"a process in the services, of {size:,}"
                yield Figure(what, "bytes PSS", taken, at_most=_BYTES_MAX, note=f"{note}; beside its pages")


def _swapper(name: str, wiring: Callable[[], AbstractContextManager[Kernel]]) -> Iterator[Figure]:
    with wiring() as kernel:
        for size in SIZES:
            plain = plain_procs(size, out=True)
            plain_s = best_s(partial(plain_choice, plain), ROUNDS)
            boot(kernel, 0, stack_swap=False)
            place_waiting(kernel, size)
            times = []
            for _ in range(ROUNDS):
                let_choose(kernel, CHOICES)
                seconds, chosen = _timed(lambda: kernel.scheduler.swapper([], 1, 1).swapped_in)
                assert len(chosen) == CHOICES, f"{len(chosen)} of {CHOICES} choices were made"
                times.append(seconds)
            note = f"faultin without stacks behind each; {CHOICES} in a call"
            title = f"swapper's choice among {size:,} processes, {name}"
            yield Figure(title, "choices/s", CHOICES / min(times), "plain loop over all", 1 / plain_s, note=note)
