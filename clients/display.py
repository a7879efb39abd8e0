"""What a run shows on the terminal: progress while it goes, and a table at its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from clients.charts import duration, short
from clients.identities import P_SYSTEM
from clients.report_html import how_ended
from clients.run import Progress

LINE_INTERVAL_S = 1.0
"""Shortest wall time between two lines where the output is not a terminal."""
_LIVE_PER_SECOND = 8
_TABLE_WIDTH = 120


class ProgressDisplay:
    """Shows a run on standard error: a live view on a terminal, a line a second elsewhere, nothing if quiet."""

    def __init__(self, console: Console, title: str, quiet: bool = False) -> None:
        """Prepare the view.

        Args:
            console: Where it is drawn.
            title: Name of the workload.
            quiet: Show nothing.
        """
        self._console, self._title, self._quiet = console, title, quiet
        self._live: Live | None = None
        self._due = 0.0

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        """Show where the run is, unless that was done a moment ago."""
        now = time.monotonic()
        if self._quiet or now < self._due:
            return
        if self._live is not None:
            self._due = now + 1 / _LIVE_PER_SECOND
            self._live.update(progress_view(self._title, progress), refresh=True)
        else:
            self._due = now + LINE_INTERVAL_S
            self._console.print(progress_line(progress), soft_wrap=True, highlight=False, markup=False)

    def note(self, text: str) -> None:
        """Say something beside the progress."""
        if not self._quiet:
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)


def wide_console() -> Console:
    """Standard output, with room for tables where it is not a terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _TABLE_WIDTH)
    return console


def progress_line(progress: Progress) -> str:
    """A run's progress as one plain line."""
    sample = progress.sample
    return (
        f"{duration(progress.now_us):>9} virtual  {progress.references:>12,} references  "
        f"{short(round(rate(progress)))}/s  free {sample.free + sample.cached:,} pages  "
        f"{sample.in_memory} processes in memory, {sample.swapped} swapped  "
        f"faults {sample.minor:,} minor, {sample.major:,} major"
    )


def progress_view(title: str, progress: Progress) -> Table:
    """A run's progress for a terminal."""
    sample = progress.sample
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    table.add_row(Text(title, style="bold"), f"{duration(progress.now_us)} virtual, {duration(progress.wall_us)} wall")
    table.add_row("references", f"{progress.references:,} ({short(round(rate(progress)))}/s)")
    table.add_row(
        "pages",
        f"{sample.free + sample.cached:,} free or cached, {sample.inactive:,} inactive, {sample.active:,} active, "
        f"{sample.wired:,} wired; {sample.swap_used:,} in swap",
    )
    table.add_row("processes", f"{sample.in_memory} in memory, {sample.swapped} swapped out")
    table.add_row("faults", f"{sample.minor:,} minor, {sample.major:,} major")
    return table


def rate(progress: Progress) -> float:
    """References a second of wall time."""
    return progress.references / (progress.wall_us / 1e6) if progress.wall_us else 0


def summary(report: Mapping[str, Any]) -> Table:
    """A report as a table of figures with their units."""
    table = Table(title=f"{report['workload']}: {report['end']}", title_justify="left", show_header=False, box=None)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _figures(report):
        table.add_row(name, Text(value))
    return table


def _busy(report: Mapping[str, Any]) -> str:
    """How busy each processor was."""
    shares = [f"{100 * busy / max(1, report['virtual_seconds'] * 1e6):.0f} %" for busy in report["cpu_busy_us"]]
    return f"{len(shares)}, busy for {', '.join(shares)} of the time"


def _tlb(tlb: Mapping[str, int]) -> str:
    """What shoot-downs cost."""
    return f"{tlb['shootdowns']:,} shoot-downs, {tlb['ipis']:,} interrupts, {duration(tlb['spent_us'])}"


def _figures(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    faults, kstacks, integrity = report["faults"], report["kstacks"], report["integrity"]
    memory = sum(row["pss_bytes"] for row in report["services"])
    figures = [
        ("kernel", f"{report['kernel']}, seed {report['seed']}, wiring {report['wiring']}"),
        (
            "time",
            f"{duration(report['virtual_seconds'] * 1e6)} virtual in {duration(report['wall_seconds'] * 1e6)} wall",
        ),
        ("CPU", _busy(report)),
        *([("TLB", _tlb(report["tlb"]))] if len(report["cpu_busy_us"]) > 1 else []),
        ("references", f"{report['references']:,} ({report['references_per_second']:,}/s)"),
        ("dispatches", f"{report['dispatches']:,} with {report['rpcs']:,} calls"),
        (
            "faults",
            f"{faults['minor']:,} minor, {faults['major']:,} major; {faults['zero_fill']:,} zero-filled, "
            f"{faults['cow']:,} copied",
        ),
        ("pages", f"{report['pageouts']:,} to swap, {report['pageins']:,} back"),
        ("processes", f"{report['swapouts']:,} swapped out, {report['swapins']:,} back; {_ends(report)}"),
        (
            "kernel stacks",
            f"peak {kstacks['peak']:,}; cache {kstacks['cache_hits']:,} hits, {kstacks['cache_misses']:,} misses, "
            f"{kstacks['lowmem_drains']:,} drains",
        ),
        *((label, _latency(report["latency_us"][name])) for name, label in _LATENCIES.items()),
        ("integrity", f"{integrity['pages_checked']:,} pages checked, {integrity['mismatches']:,} mismatches"),
        ("counters", "agree with every service" if report["counters_agree"] else _differ(report)),
        ("identities", "hold" if not report["identities"] else "VIOLATED: " + "; ".join(report["identities"])),
        ("memory", f"{memory / 2**20:,.0f} MiB (PSS of the services)"),
        ("event hash", report["event_hash"]),
    ]
    if report["profile"]:
        figures.insert(-1, ("wall time", _profile(report["profile"])))
        figures.insert(-1, ("wall split", _split(report["wall_split"])))
        if report["processor_seconds"]:
            spent = ", ".join(f"{name} {seconds} s" for name, seconds in report["processor_seconds"].items())
            figures.insert(-1, ("processors", spent))
    if report["recovery"] is not None:
        figures.insert(6, ("recovery", _recovery(report["recovery"])))
    if report["swapouts"]:
        figures.insert(6, ("swappable", _swappable(report["swappability"])))
    if report["checks"]:
        figures.insert(-2, ("invariants", f"hold, verified {report['checks']:,} times"))
    if report["end_detail"]:
        figures.insert(0, ("ended", report["end_detail"]))
    return figures


_LATENCIES = {
    "wakeup_resident": "wakeup, in memory",
    "wakeup_swapped": "wakeup, swapped",
    "major_fault": "major fault",
}


def _latency(row: Mapping[str, int]) -> str:
    if not row["count"]:
        return "none"
    return (
        f"p50 {duration(row['p50'])}, p99 {duration(row['p99'])}, max {duration(row['max'])} ({row['count']:,} samples)"
    )


def _profile(rows: Sequence[Mapping[str, Any]]) -> str:
    """The five longest of the calls, and the orchestrator's own time."""
    *calls, own = rows
    words = [f"{row['what']} {row['seconds']:.2f} s in {row['calls']:,}" for row in calls[:5]]
    return ", ".join([*words, f"{own['what']} {own['seconds']:.2f} s"])


def _split(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{row['part']} {row['share']:.1f} %" for row in rows)


def _recovery(row: Mapping[str, int]) -> str:
    return (
        f"{duration(row['last_back_us'])} until the last of {row['back']:,} swapped-out sleepers ran again, "
        f"{duration(row['normal_us'])} until wakeups took no more than {duration(row['normal_latency_us'])}"
    )


def _swappable(groups: Sequence[Mapping[str, Any]]) -> str:
    """Who could go and who went; those that always stayed in memory come last."""
    words = [f"{g['name']} {g['swapped']} of {g['swappable']}" for g in groups if g["swappable"]]
    never = [str(g["name"]) for g in groups if not g["swappable"]]
    return ", ".join(words) + (f"; never: {', '.join(never)}" if never else "")


def _differ(report: Mapping[str, Any]) -> str:
    pairs = [f"{name} {shared} for {own}" for name, (shared, own) in sorted(report["counters_differ"].items())]
    more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
    return f"DIFFER: {', '.join(pairs[:3])}{more}"


def _ends(report: Mapping[str, Any]) -> str:
    rows = [row for row in report["processes"] if not row["flags"] & P_SYSTEM]
    bad = [row for row in rows if row["end_us"] >= 0 and row["status"]]
    living = sum(row["end_us"] < 0 for row in rows)
    words = [f"{len(rows) - living} of {len(rows)} ended"]
    if bad:
        words.append(
            f"{len(bad)} of them badly ({how_ended(bad[0]['status'])} of {bad[0]['name']} {bad[0]['pid']} ...)"
        )
    return ", ".join(words)
