"""The report as one self-contained HTML page: plots over virtual time, latencies, processes, services."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from clients.charts import Chart, Rule, Series, Spread, duration, spread_chart

_PAGE = 4096
_PROCESS_ROWS_MAX = 400
"""Rows of the process table; the JSON report has all of them."""
_THRESHOLDS = (
    ("target", "vm.stats.vm.v_free_target"),
    ("min", "vm.stats.vm.v_free_min"),
    ("reserved", "vm.stats.vm.v_free_reserved"),
    ("severe", "vm.v_free_severe"),
)
_LATENCIES = (
    ("wakeup_resident", "Wakeup, in memory"),
    ("wakeup_swapped", "Wakeup, swapped"),
    ("major_fault", "Major fault"),
)

Report = Mapping[str, Any]


def render(report: Report) -> str:
    """The page of a report (docs/report.md), ready to be written to a file.

    Args:
        report: The report as `vmglue run --report` writes it.
    """
    assets = files("clients")
    style = assets.joinpath("report.css").read_text("utf-8")
    script = assets.joinpath("report.js").read_text("utf-8")
    title = html.escape(f"{report['workload']} · vmglue")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{style}</style></head><body><main>"
        f"{_header(report)}{_tiles(report)}<div class='grid2'>{''.join(_plots(report))}</div>"
        f"{_processes(report)}{_services(report)}{_footer(report)}"
        f"</main><script>{script}</script></body></html>\n"
    )


def _header(report: Report) -> str:
    facts = (
        ("kernel", report["kernel"]),
        ("seed", report["seed"]),
        ("wiring", report["wiring"]),
        ("virtual time", duration(report["virtual_seconds"] * 1e6)),
        ("wall time", duration(report["wall_seconds"] * 1e6)),
    )
    items = "".join(f"<div><dt>{name}</dt><dd>{html.escape(str(value))}</dd></div>" for name, value in facts)
    ended = "" if report["complete"] else f'<p class="warn">{html.escape(_ending(report))}</p>'
    return f"<header><h1>{html.escape(report['workload'])}</h1><dl class='facts'>{items}</dl>{ended}</header>"


def _ending(report: Report) -> str:
    """Why a report is partial."""
    return f"This run ended early ({report.get('end', 'interrupted')}); the figures hold up to there."


def _tiles(report: Report) -> str:
    faults, kstacks = report["faults"], report["kstacks"]
    hits, misses = kstacks["cache_hits"], kstacks["cache_misses"]
    tiles = (
        ("Memory references", f"{report['references']:,}", f"{report['references_per_second']:,} a second"),
        ("Faults", f"{faults['minor'] + faults['major']:,}", f"{faults['major']:,} read a page"),
        ("Zero-filled, copied", f"{faults['zero_fill']:,}", f"{faults['cow']:,} copied on write"),
        ("Pages to swap", f"{report['pageouts']:,}", f"{report['pageins']:,} read back"),
        ("Processes swapped out", f"{report['swapouts']:,}", f"{report['swapins']:,} brought back"),
        ("Kernel stacks, peak", f"{kstacks['peak']:,}", f"{hits:,} of {hits + misses:,} from the cache"),
    )
    cells = (
        f"<div class='tile'><h3>{name}</h3><p>{value}</p><small>{detail}</small></div>" for name, value, detail in tiles
    )
    return f"<section class='tiles'>{''.join(cells)}</section>"


def _plots(report: Report) -> list[str]:
    samples, counters = report["samples"], report["counters"]
    xs = samples["t_us"]
    total = counters.get("vm.stats.vm.v_page_count", 0)
    queues = tuple(Series(label, label, samples[label]) for label in ("free", "cached", "inactive", "active", "wired"))
    rules = tuple(Rule(label, counters[name]) for label, name in _THRESHOLDS if counters.get(name))
    spare = [free + cached for free, cached in zip(samples["free"], samples["cached"], strict=True)]
    highest = max(max((rule.value for rule in rules), default=0) * 3, min(spare, default=0) * 1.3)
    memory = Chart("memory", xs, queues, stacked=True, y_max=total)
    free = Chart("free", xs, (Series("free and cached", "free", spare),), rules, y_max=highest)
    processes = Chart(
        "processes",
        xs,
        (Series("in memory", "active", samples["in_memory"]), Series("swapped out", "swapped", samples["swapped"])),
        stacked=True,
        stepped=True,
        unit="processes",
    )
    swap = Chart("swap", xs, (Series("swap used", "swapped", samples["swap_used"]),), stacked=True)
    latencies = [
        Spread(label, row["p50"], row["p99"], row["max"], row["count"])
        for key, label in _LATENCIES
        for row in (report["latency_us"][key],)
    ]
    mib = f"{total * _PAGE / 2**20:,.0f} MiB" if total else ""
    return [
        _card("Physical memory", f"pages by queue, {total:,} in all ({mib})", memory.legend() + memory.svg()),
        _card("Free and cached pages", "against the thresholds by which the page daemon works", free.svg()),
        _card("Processes", "living, in memory and swapped out", processes.legend() + processes.svg()),
        _card("Swap space", "pages in use", swap.svg()),
        _card("Latencies", "median ●, 99th percentile and maximum of virtual time", spread_chart(latencies)),
        _integrity(report),
    ]


def _card(title: str, detail: str, body: str) -> str:
    return f"<section class='card'><h2>{title}</h2><p class='detail'>{detail}</p>{body}</section>"


def _processes(report: Report) -> str:
    rows: list[Report] = report["processes"]
    end = max(1, round(report["virtual_seconds"] * 1e6))
    body = "".join(_process(row, end) for row in rows[:_PROCESS_ROWS_MAX])
    detail = f"{len(rows):,} processes; those that were swapped out stand out" + (
        f", the first {_PROCESS_ROWS_MAX} are shown" if len(rows) > _PROCESS_ROWS_MAX else ""
    )
    heads = ("pid", "name", "life", "minor", "major", "swaps", "cpu", "asleep", "end")
    classes = ("n", "", "life", "n", "n", "n", "n", "n", "")
    head = "".join(f"<th class='{kind}'>{name}</th>" for name, kind in zip(heads, classes, strict=True))
    table = f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    return _card("Process table", detail, table)


def _process(row: Report, end: int) -> str:
    alive = row["end_us"] < 0
    start, stop = row["start_us"], end if alive else row["end_us"]
    left, width = 100 * start / end, max(0.6, 100 * (stop - start) / end)
    life = (
        f"<div class='bar'><i class='{'b-swapped' if row['swaps'] else 'b-active'}' "
        f"style='left:{min(left, 99.4):.2f}%;width:{min(width, 100 - min(left, 99.4)):.2f}%' "
        f"title='{duration(start)} to {duration(stop)}'></i></div>"
    )
    numbers = "".join(f"<td class='n'>{row[name]:,}</td>" for name in ("minor_faults", "major_faults", "swaps"))
    times = "".join(f"<td class='n'>{duration(row[name])}</td>" for name in ("cpu_us", "sleep_us"))
    return (
        f"<tr><td class='n'>{row['pid']}</td><td>{html.escape(row['name'])}</td><td class='life'>{life}</td>"
        f"{numbers}{times}<td>{'lives' if alive else how_ended(row['status'])}</td></tr>"
    )


def how_ended(status: int) -> str:
    """An end in words: exit 0, exit 1, signal 11."""
    return f"signal {-status}" if status < 0 else f"exit {status}"


def _services(report: Report) -> str:
    rows = (
        f"<tr><td>{html.escape(row['name'])}</td><td class='n'>{row['pid']}</td>"
        f"<td class='n'>{row['pss_bytes'] / 2**20:,.1f} MiB</td>"
        f"<td class='path'>{html.escape(row['address'])}</td></tr>"
        for row in report["services"]
    )
    head = "<th>service</th><th class='n'>pid</th><th class='n'>memory (PSS)</th><th>address</th>"
    return _card(
        "Services",
        f"{report['rpcs']:,} calls for {report['dispatches']:,} dispatches",
        f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>",
    )


def _integrity(report: Report) -> str:
    integrity = report["integrity"]
    checks, agree = report["checks"], report["counters_agree"]
    compared = f"{integrity['pages_checked']:,} pages compared, {integrity['mismatches']:,} mismatches"
    lines = (
        ("bad" if integrity["mismatches"] else "ok", compared),
        (
            "ok" if agree else "bad",
            "counters agree with every service's" if agree else f"counters differ: {_differ(report)}",
        ),
        (
            "ok" if checks else "",
            f"all invariants verified {checks:,} times" if checks else "invariants: verified with --check",
        ),
    )
    items = "".join(f"<li class='{kind}'>{html.escape(text)}</li>" for kind, text in lines)
    first = "".join(f"<li class='bad'>{html.escape(text)}</li>" for text in integrity["first"][:10])
    return _card("Integrity", "contents of pages and counters", f"<ul class='checks'>{items}{first}</ul>")


def _differ(report: Report) -> str:
    differ: Iterable[str] = report["counters_differ"]
    return ", ".join(sorted(differ)[:5])


def _footer(report: Report) -> str:
    return f"<footer>event hash <code>{html.escape(report['event_hash'])}</code></footer>"
