"""Random workloads with all checks on; `python -m clients.random_workload 0 500` runs many."""

import pytest
from systems import start_system

from clients.random_workload import PREFIX, failure, random_text
from clients.run import Run
from clients.workload import load_workload

SEEDS = range(24)


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_holds(seed):
    assert failure(seed) == "", f"vmglue run {PREFIX}{seed} --wiring local --check"


def test_a_seed_is_one_workload():
    assert load_workload("random:7") == load_workload("random:7")
    assert load_workload("random:7") != load_workload("random:8")
    texts = "".join(map(random_text, SEEDS))
    words = ("zipf", "uniform", "scan", "loop", "accept", "kqueue", "select", "poisson", "rtprio", "mlock", "rss_limit")
    assert all(word in texts for word in words)
    assert {"ncpu = 1", "ncpu = 4", "threads = 1", "threads = 3"} <= set(texts.splitlines())


def test_random_workloads_swap_whole_processes():
    swapouts = 0
    with start_system("local") as system:
        for seed in SEEDS:
            if "daemon" not in random_text(seed):
                continue
            run = Run(system.kernel, load_workload(f"{PREFIX}{seed}"))
            run.boot()
            swapouts += run.report(run.execute())["swapouts"]
            if swapouts > 10:
                break
    assert swapouts > 10


def test_both_wirings_have_one_hash():
    hashes = []
    for wiring in ("local", "grpc"):
        with start_system(wiring) as system:
            run = Run(system.kernel, load_workload(f"{PREFIX}5"))
            run.boot()
            hashes.append(run.report(run.execute())["event_hash"])
    assert hashes[0] == hashes[1]
