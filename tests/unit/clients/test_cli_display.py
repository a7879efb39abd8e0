import io

from report_sample import sample_report
from rich.console import Console

from clients.display import ProgressDisplay, progress_line, summary
from clients.report import Sample
from clients.run import Progress

PROGRESS = Progress(
    sample=Sample(
        free=100,
        cached=33,
        inactive=900,
        active=2000,
        wired=700,
        swap_used=41,
        in_memory=9,
        swapped=3,
        minor=8412,
        major=391,
    ),
    now_us=4_920_000,
    wall_us=2_000_000,
    references=5_000_000,
)


def shown(console_file: io.StringIO, **options) -> Console:
    return Console(file=console_file, width=120, **options)


def test_plain_line_has_time_rate_pages_and_processes():
    line = progress_line(PROGRESS)
    for part in (
        "4.92 s virtual",
        "5,000,000 references",
        "2.5M/s",
        "free 133",
        "9 processes",
        "3 swapped",
        "391 major",
    ):
        assert part in line


def test_lines_come_at_most_once_a_second():
    out = io.StringIO()
    with ProgressDisplay(shown(out), "tiny") as display:
        for _ in range(50):
            display(PROGRESS)
    assert out.getvalue().count("\n") == 1


def test_terminal_gets_a_view_that_leaves_nothing_behind():
    out = io.StringIO()
    with ProgressDisplay(shown(out, force_terminal=True), "tiny") as display:
        display(PROGRESS)
        drawn = out.getvalue()
    assert "133 free or cached" in drawn
    assert out.getvalue().endswith("\x1b[2K") or "\x1b[1A\x1b[2K" in out.getvalue()


def test_quiet_shows_nothing():
    out = io.StringIO()
    with ProgressDisplay(shown(out), "tiny", quiet=True) as display:
        display(PROGRESS)
        display.note("hello")
    assert out.getvalue() == ""


def text_of(report) -> str:
    out = io.StringIO()
    shown(out).print(summary(report))
    return out.getvalue()


def test_summary_names_every_figure_with_its_unit():
    text = text_of({**sample_report(), "end": "complete", "end_detail": ""})
    for part in (
        "4.92 s virtual in 2.11 s wall",
        "8,412 minor, 391 major",
        "2,114 to swap, 1,018 back",
        "9 swapped out, 8 back; 11 of 12 ended, 1 of them badly (signal 11 of seq 27 ...)",
        "peak 21; cache 6 hits, 17 misses, 2 drains",
        "p50 6.1 ms, p99 24.8 ms, max 61.3 ms (391 samples)",
        "11,204 pages checked, 0 mismatches",
        "agree with every service",
        "MiB (PSS of the services)",
        "5e" * 32,
    ):
        assert part in text


def test_summary_says_why_a_run_ended_and_what_differs():
    report = {
        **sample_report(),
        "end": "deadlock",
        "end_detail": "process 7 waits for ever",
        "counters_agree": False,
        "counters_differ": {"vm.kstacks": [3, 4]},
        "checks": 12,
    }
    text = text_of(report)
    assert "process 7 waits for ever" in text
    assert "DIFFER: vm.kstacks 3 for 4" in text
    assert "verified 12 times" in text
