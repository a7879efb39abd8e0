"""Thousands of seeded interleavings of a small machine: ``python -m tests.interleaving --help``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable

from clients.event_file import RecordedEvent
from clients.system import System
from tests.interleaving.machine import Broken, events, run
from tests.interleaving.many import Total, run_all, summary

_EXAMPLES = """examples:
  python -m tests.interleaving --count 2000              the seeds 1 to 2000, as CI does
  python -m tests.interleaving --from 1 --count 100000   many more
  python -m tests.interleaving --seed 81                 one, with every event"""


def show(seed: int) -> int:
    """One run with every event; what is broken comes last."""
    with System.local() as system:
        try:
            run(system.kernel, seed)
            broken = ""
        except Broken as error:
            broken = str(error)
        for service, event in sorted(events(system.kernel), key=lambda told: told[1].time_us):
            print(RecordedEvent(service, event))
    if broken:
        print(broken, file=sys.stderr)
    return int(bool(broken))


def main(arguments: Iterable[str] | None = None) -> int:
    """The command; 1 if anything broke."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.interleaving",
        description=__doc__.partition(":")[0],
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="run this one and show every event")
    parser.add_argument("--from", dest="first", type=int, default=1, help="first seed (default 1)")
    parser.add_argument("--count", type=int, default=2000, help="how many seeds (default 2000)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a processor)")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    if options.seed is not None:
        return show(options.seed)
    total, began = Total(), time.monotonic()
    try:
        for done in run_all(range(options.first, options.first + options.count), options.jobs):
            total.add(done)
            for broken in done.broken:
                print(f"\n{broken}", file=sys.stderr)
            print(f"\r{total.runs} of {options.count}", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    print(f"\n{summary(total, time.monotonic() - began)}")
    return int(bool(total.broken))


if __name__ == "__main__":
    sys.exit(main())
