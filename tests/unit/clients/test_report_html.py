import itertools
import json
import re
from html.parser import HTMLParser

import pytest
from report_sample import sample_report

from clients.charts import Chart, Rule, Series, Spread, duration, short, spread_chart, ticks
from clients.report_html import render

VOID = {"meta"}


class Balance(HTMLParser):
    """Fails on a tag that is not closed, and collects attributes that name other resources."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        while self.open[-1] in VOID:
            self.open.pop()
        assert self.open.pop() == tag


def test_page_is_well_formed_and_needs_nothing_else():
    page = render(sample_report())
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert parser.links == []
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []


def test_page_shows_the_figures():
    report = sample_report()
    page = render(report)
    for figure in ("5,812,334", "2,114", "signal 11", "lives", report["event_hash"], "0 mismatches"):
        assert figure in page
    assert page.count("<tr><td class='n'>") == len(report["processes"])


def test_names_are_escaped():
    report = sample_report()
    report["workload"] = report["processes"][0]["name"] = "<script>alert(1)</script>"
    page = render(report)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_partial_report_says_why():
    report = {**sample_report(), "complete": False, "end": "interrupted"}
    assert "ended early (interrupted)" in render(report)
    assert "ended early" not in render(sample_report())


def test_differing_counters_and_mismatches_are_marked():
    report = sample_report()
    report["counters_agree"] = False
    report["counters_differ"] = {"vm.kstacks": [3, 4]}
    report["integrity"]["mismatches"] = 1
    report["integrity"]["first"] = ["address space 3, page 0x7: version 1, expected 2"]
    page = render(report)
    assert page.count("class='bad'") == 3
    assert "counters differ: vm.kstacks" in page


def test_run_without_samples_still_makes_a_page():
    report = sample_report()
    report["samples"] = {name: [] for name in report["samples"]}
    report["latency_us"] = {name: {"count": 0, "p50": 0, "p99": 0, "max": 0} for name in report["latency_us"]}
    page = render(report)
    assert "too short to be sampled" in page
    assert "Nothing was measured" in page


def test_stacked_layers_sum_up_to_the_top():
    chart = Chart("m", [0, 10], [Series("a", "free", [1, 2]), Series("b", "active", [3, 2])], stacked=True, y_max=4)
    edges = re.findall(r'class="line c-\w+" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', chart.svg())
    upper, lower = ([float(n) for n in edge] for edge in edges)
    assert upper[1] == upper[3] == 10.0, "1 + 3 and 2 + 2 both reach the top of the axis"
    assert lower[1] > lower[3] > upper[3]


def test_stepped_series_hold_until_the_next_sample():
    path = re.search(
        r'class="line[^"]*" d="([^"]*)"', Chart("p", [0, 5, 10], [Series("a", "free", [0, 4, 4])], stepped=True).svg()
    )
    assert path is not None
    points = path[1].removeprefix("M").split("L")
    assert len(points) == 5
    assert points[0].split()[1] == points[1].split()[1]


def test_data_under_the_pointer_cannot_close_its_script():
    chart = Chart("x", [0, 1], [Series("</script>", "free", [0, 1])])
    data = re.search(r'data-for="x">(.*?)</script>', chart.svg())
    assert data is not None
    assert json.loads(data[1])["series"][0]["label"] == "</script>"


def test_rule_labels_do_not_overlap():
    rules = [Rule("low", 10), Rule("mid", 11), Rule("high", 12)]
    svg = Chart("r", [0, 1], [Series("a", "free", [0, 100])], rules).svg()
    heights = [float(y) for y in re.findall(r'<text class="rule" x="[\d.]+" y="([\d.]+)"', svg)]
    assert all(a - b >= 12 for a, b in itertools.pairwise(heights))


def test_latency_rows_without_samples_are_named_but_not_drawn():
    svg = spread_chart([Spread("a", 10, 20, 30, 5), Spread("b", 0, 0, 0, 0)])
    assert svg.count("<circle") == 3
    assert "0 samples" in svg


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0"), (999, "999 µs"), (1_500, "1.5 ms"), (12_345, "12.3 ms"), (2_000_000, "2 s"),
        (119_000_000, "119 s"), (125_000_000, "2 min 5 s"), (3_600_000_000 * 5, "5 h"), (100_000, "100 ms"),
    ],
)  # fmt: skip
def test_durations_have_a_fitting_unit(us, text):
    assert duration(us) == text


def test_axis_ticks_are_round_and_inside():
    assert ticks(4096) == [0, 2000, 4000]
    assert ticks(12) == [0, 5, 10]
    assert ticks(0) == [0]
    assert [short(n) for n in (0, 500, 2500, 4_000_000)] == ["0", "500", "2.5k", "4M"]
