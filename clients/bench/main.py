"""Runs the measurements that were asked for and prints them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from difflib import get_close_matches
from importlib.util import find_spec

from rich.console import Console
from rich.table import Table

from clients.bench import access, calls, lifecycle, paging, protection, replacement, size, stacks, swapping, walk
from clients.bench.figure import Figure
from clients.exits import BadInput, Exit

FIGURES: dict[str, Callable[[], list[Figure]]] = {
    "walk": walk.walk,
    "loop": walk.loop,
    "walk-grpc": walk.walk_grpc,
    "replacement": replacement.replacement,
    "calls": calls.calls,
    "stacks": stacks.stacks,
    "access": access.access,
    "swapout": swapping.swapout,
    "swapper": swapping.swapper,
    "lifecycle": lifecycle.lifecycle,
    "paging": paging.paging,
    "protection": protection.protection,
    "large": size.large,
    "ready": size.ready,
}
"""Measurements by name; each gives one figure or more."""
_NEED_LIBCACHESIM = ("walk", "loop", "walk-grpc", "replacement")


def main(names: list[str], as_json: bool) -> int:
    """Measure and print.

    Args:
        names: Measurements; none: all.
        as_json: Print a JSON list on standard output instead of a table.

    Returns:
        FAILED if a goal was missed; which ones is told on standard error.

    Raises:
        BadInput: No such measurement, or a package that it needs is missing.
    """
    chosen = names or list(FIGURES)
    for name in chosen:
        _check(name)
    figures: list[Figure] = []
    for name in chosen:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        figures += FIGURES[name]()
    if as_json:
        print(json.dumps([asdict(f) | {"ratio": round(f.ratio, 4), "met": f.met} for f in figures], indent=1))
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(_table(figures))
    missed = [figure for figure in figures if not figure.met]
    for figure in missed:
        print(f"goal missed: {figure.name}: {_short(figure.judged)}, {figure.goal()}", file=sys.stderr)
    return Exit.FAILED if missed else Exit.OK


def _check(name: str) -> None:
    """Refuse a measurement that cannot be made."""
    if name not in FIGURES:
        near = get_close_matches(name, FIGURES, 1)
        remedy = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(FIGURES)}"
        raise BadInput(f"bench {name}: no such measurement; {remedy}")
    if name in _NEED_LIBCACHESIM and find_spec("libcachesim") is None:
        raise BadInput(f"bench {name}: needs libCacheSim: pip install 'vmglue[bench]'")


def _table(figures: list[Figure]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("figure", "value", "baseline", "ratio", "goal", "circumstances"):
        table.add_column(heading, justify="right" if heading in ("value", "ratio") else "left")
    for f in figures:
        baseline = f"{_short(f.baseline)} ({f.baseline_name})" if f.baseline_name else ""
        goal = f"{f.goal()}: {'met' if f.met else 'missed'}" if f.goal() else ""
        ratio = f"{f.ratio:.2f}" if f.baseline_name else ""
        table.add_row(f.name, f"{_short(f.value)} {f.unit}", baseline, ratio, goal, f.note)
    return table


def _short(value: float) -> str:
    """Four digits, with M for millions."""
    if value >= 1e6:
        return f"{value / 1e6:,.1f} M"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
