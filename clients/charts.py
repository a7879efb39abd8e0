"""Charts of the report page as inline SVG: no library, no external resource, colours by CSS class."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 580, 230
"""Drawing size in SVG units; the page scales it to its column."""
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 26
_LABEL_HEIGHT = 12
_RULE_MARGIN = 74
_NAMES_WIDTH = 150

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """One line or layer of a chart."""

    label: str
    """Name in the legend and under the pointer."""
    color: str
    """CSS class suffix: the class ``c-<color>`` sets the colour."""
    values: Sequence[float]
    """One value for each x."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal line at a threshold."""

    label: str
    """Name at its right end."""
    value: float
    """Where it stands on the y axis."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Linear mapping of values to drawing units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Position of a value."""
        return self.start + (value - self.low) / ((self.high - self.low) or 1) * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart over virtual time.

    Attributes:
        name: Unique name within the page; it links the drawing with its data.
        xs: Virtual times in microseconds, ascending.
        series: What is drawn; stacked from the bottom up if `stacked`.
        rules: Thresholds.
        stacked: Layers instead of lines.
        stepped: Values hold until the next sample.
        y_max: Upper end of the y axis; 0: from the data.
        unit: Word behind a value under the pointer.
    """

    name: str
    xs: Sequence[int]
    series: Sequence[Series]
    rules: Sequence[Rule] = field(default=())
    stacked: bool = False
    stepped: bool = False
    y_max: float = 0
    unit: str = "pages"

    def svg(self) -> str:
        """The drawing, with its data for the pointer."""
        if len(self.xs) < 2:
            return '<p class="empty">The run was too short to be sampled.</p>'
        x = Scale(self.xs[0], self.xs[-1], LEFT, WIDTH - (_RULE_MARGIN if self.rules else RIGHT))
        y = Scale(0, self._top(), HEIGHT - BOTTOM, TOP)
        layers = "".join(self._layers(x, y))
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="chart" data-chart="{self.name}">'
            f'<clipPath id="clip-{self.name}"><rect x="{LEFT}" y="{TOP - 2}" width="{x.end - LEFT}"'
            f' height="{HEIGHT - BOTTOM - TOP + 3}"/></clipPath>{_y_axis(y, x.end)}{_x_axis(x)}'
            f'<g clip-path="url(#clip-{self.name})">{layers}</g>{"".join(_rules(self.rules, x, y))}'
            f'<line class="pointer" y1="{TOP}" y2="{HEIGHT - BOTTOM}" visibility="hidden"/></svg>'
            f'<script type="application/json" data-for="{self.name}">{self._data(x)}</script>'
        )

    def legend(self) -> str:
        """The names of the series with their colours; nothing for a single one."""
        if len(self.series) < 2:
            return ""
        items = (f'<li><i class="b-{s.color}"></i>{html.escape(s.label)}</li>' for s in self.series)
        return f'<ul class="legend">{"".join(items)}</ul>'

    def _top(self) -> float:
        highest = max((max(values) for values in self._tops()), default=0)
        highest = max([self.y_max or highest * 1.05, *(rule.value * 1.1 for rule in self.rules)])
        return highest or 1

    def _tops(self) -> list[list[float]]:
        """Upper edge of each series, stacked or not."""
        if not self.stacked:
            return [list(series.values) for series in self.series]
        edges, below = [], [0.0] * len(self.xs)
        for series in self.series:
            below = [a + b for a, b in zip(below, series.values, strict=True)]
            edges.append(below)
        return edges

    def _layers(self, x: Scale, y: Scale) -> list[str]:
        """Areas if stacked, and lines; lower lines are drawn over upper ones, which an empty layer leaves there."""
        below, areas, lines = [0.0] * len(self.xs), [], []
        for series, top in zip(self.series, self._tops(), strict=True):
            edge = _path(self._points(top, x, y))
            if self.stacked:
                back = _path(list(reversed(self._points(below, x, y)))).replace("M", "L", 1)
                areas.append(f'<path class="layer f-{series.color}" d="{edge}{back}Z"/>')
                below = top
            lines.append(f'<path class="line c-{series.color}" d="{edge}"/>')
        return areas + lines[::-1]

    def _points(self, values: Sequence[float], x: Scale, y: Scale) -> list[tuple[float, float]]:
        points: list[tuple[float, float]] = []
        for time, value in zip(self.xs, values, strict=True):
            if self.stepped and points:
                points.append((x(time), points[-1][1]))
            points.append((x(time), y(value)))
        return points

    def _data(self, x: Scale) -> str:
        return json.dumps(
            {
                "x": [round(x(time), 1) for time in self.xs],
                "t": [duration(time) for time in self.xs],
                "unit": self.unit,
                "series": [{"label": s.label, "color": s.color, "values": list(s.values)} for s in self.series],
            },
            separators=(",", ":"),
        ).replace("<", "\\u003c")


@dataclass(frozen=True, slots=True)
class Spread:
    """One row of a latency chart, in microseconds."""

    label: str
    """What was measured."""
    p50: float
    p99: float
    max: float
    count: int
    """Samples."""


def spread_chart(rows: Sequence[Spread]) -> str:
    """Median, 99th percentile and maximum of each row on one logarithmic axis."""
    drawn = [row for row in rows if row.count]
    if not drawn:
        return '<p class="empty">Nothing was measured.</p>'
    low = math.floor(math.log10(max(1, min(row.p50 for row in drawn))))
    high = max(low + 1, math.ceil(math.log10(max(10, *(row.max for row in drawn)))))
    x = Scale(low, high, _NAMES_WIDTH, WIDTH - 24)
    height = TOP + 52 * len(rows) + BOTTOM
    grid = "".join(
        f'<line class="grid" x1="{x(power):.1f}" x2="{x(power):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
        f'<text class="tick" text-anchor="middle" x="{x(power):.1f}" y="{height - 8}">{duration(10**power)}</text>'
        for power in range(low, high + 1)
    )
    body = "".join(_spread(row, x, TOP + 52 * i + 30) for i, row in enumerate(rows))
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" class="chart">{grid}{body}</svg>'


def _spread(row: Spread, x: Scale, y: float) -> str:
    """One row: a bar from the median to the maximum, a mark for each figure."""
    label = (
        f'<text class="name" x="0" y="{y - 2}">{html.escape(row.label)}</text>'
        f'<text class="tick" x="0" y="{y + 12}">{row.count:,} samples</text>'
    )
    if not row.count:
        return label
    p50, p99, top = (x(math.log10(max(1, value))) for value in (row.p50, row.p99, row.max))
    marks = "".join(
        f'<circle class="{kind}" cx="{at:.1f}" cy="{y}" r="{radius}"><title>{name} {duration(value)}</title></circle>'
        for kind, name, at, value, radius in (
            ("m-max", "maximum", top, row.max, 3.5),
            ("m-p99", "99th percentile", p99, row.p99, 4.5),
            ("m-p50", "median", p50, row.p50, 5.5),
        )
    )
    bar = f'<line class="spread" x1="{p50:.1f}" x2="{top:.1f}" y1="{y}" y2="{y}"/>'
    return label + bar + marks + _spread_figures(row, (p50, p99, top), y)


def _spread_figures(row: Spread, at: tuple[float, float, float], y: float) -> str:
    """Figures above their marks; one that would run into its neighbour is left to the tooltip."""
    parts, last = [], -math.inf
    for position, value in zip(at, (row.p50, row.p99, row.max), strict=True):
        if position - last >= 44:
            parts.append(
                f'<text class="value" text-anchor="middle" x="{position:.1f}" y="{y - 11}">{duration(value)}</text>'
            )
            last = position
    return "".join(parts)


def duration(us: float) -> str:
    """A time in a unit that suits it: 850 µs, 12.4 ms, 3.2 s, 2 min 5 s, 5 h 12 min."""
    if us < 1_000:
        return f"{us:.0f} µs" if us else "0"
    for limit, size, unit in ((1_000_000, 1_000, "ms"), (120_000_000, 1_000_000, "s")):
        if us < limit:
            return f"{_figures(us / size)} {unit}"
    minutes, seconds = divmod(round(us / 1_000_000), 60)
    if minutes < 120:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _figures(value: float) -> str:
    """Three significant figures without trailing zeros."""
    text = f"{value:.{max(0, 2 - int(math.log10(value)))}f}" if value >= 1 else f"{value:.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ticks(high: float, count: int = 4) -> list[float]:
    """Round values from 0 to at most `high`, about `count` of them."""
    if high <= 0:
        return [0.0]
    rough = high / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    step = max(step, 1.0)
    return [i * step for i in range(int(high / step) + 1)]


def short(value: float) -> str:
    """A count for an axis: 950, 2.5k, 1.2M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}".removesuffix(".0") + unit
    return f"{value:g}"


def _time_ticks(low: int, high: int) -> list[float]:
    """Round times in [low, high], in microseconds."""
    steps = [m * 10**e for e in range(7) for m in (1, 2, 5)] + [
        s * 1_000_000 for s in (10, 30, 60, 300, 600, 1800, 3600)
    ]
    step = next((s for s in steps if (high - low) / s <= 6), (high - low) / 4)
    return [i * step for i in range(math.ceil(low / step), int(high / step) + 1)]


def _y_axis(y: Scale, right: float) -> str:
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        f'<text class="tick" text-anchor="end" x="{LEFT - 7}" y="{y(value) + 3.5:.1f}">{short(value)}</text>'
        for value in ticks(y.high)
    )


def _x_axis(x: Scale) -> str:
    return "".join(
        f'<text class="tick" text-anchor="middle" x="{x(time):.1f}" y="{HEIGHT - 8}">{duration(time)}</text>'
        for time in _time_ticks(int(x.low), int(x.high))
    )


def _rules(rules: Sequence[Rule], x: Scale, y: Scale) -> list[str]:
    """Dashed lines with their names at the right, pushed apart where they would overlap."""
    parts, floor = [], math.inf
    for rule in sorted(rules, key=lambda rule: rule.value):
        at = y(rule.value)
        label = min(at + 3.5, floor - _LABEL_HEIGHT)
        floor = label
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{x.end}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="rule" x="{x.end + 5}" y="{label:.1f}">{html.escape(rule.label)}'
            f"<title>{html.escape(rule.label)}: {rule.value:,.0f}</title></text>"
        )
    return parts


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
