"""Line and stacked charts as inline SVG. Colours are CSS classes, so that a page's light and dark themes reach them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean

WIDTH, HEIGHT = 420, 220  # drawn small and never shown much larger: letters keep their size on a phone
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 20, 36
MAX_POINTS = 240  # a longer series is averaged down to this many,
MAX_BANDS = 80  # and a stack to fewer: its bands are to be told apart

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a chart, or one band of a stacked one."""

    name: str
    colour: str  # a CSS class: "first", "second", ...
    points: Sequence[Point]  # (step, value), by step


@dataclass(frozen=True, slots=True)
class Axis:
    """A range that starts and ends on a tick."""

    ticks: tuple[float, ...]

    @property
    def low(self) -> float:
        return self.ticks[0]

    @property
    def high(self) -> float:
        return self.ticks[-1]


def line_chart(series: Sequence[Series], *, title: str, unit: str, floor: float | None = None) -> str:
    """The series over steps: faint as measured, strong as running means. `floor`: where the y axis must start."""
    thinned = [(s, thin(s.points, MAX_POINTS)) for s in series]
    values = [y for _, points in thinned for _, y in points]
    y_axis = axis_of(min(values) if floor is None else floor, max(values))
    x_axis = _step_axis(x for s in series for x, _ in s.points)
    marks = []
    for s, points in thinned:
        raw, mean = _place(points, x_axis, y_axis), _place(running_mean(points), x_axis, y_axis)
        marks.append(f'<path class="raw {s.colour}" d="{_path(raw)}"/>')
        marks.append(f'<path class="mean {s.colour}" d="{_path(mean)}"/>')
        marks.append(f'<circle class="dot {s.colour}" cx="{mean[-1][0]:.1f}" cy="{mean[-1][1]:.1f}" r="3"/>')
    return _svg(_frame(x_axis, y_axis, unit) + marks, title)


def stacked_chart(series: Sequence[Series], *, title: str, unit: str) -> str:
    """The series on top of each other, the first one lowest. All must have the same steps."""
    thinned = [thin(s.points, MAX_BANDS) for s in series]
    tops = [0.0] * len(thinned[0])
    bands = []
    for s, points in zip(series, thinned, strict=True):
        bottoms, tops = tops, [top + y for top, (_, y) in zip(tops, points, strict=True)]
        bands.append((s.colour, bottoms, tops))
    y_axis, x_axis = axis_of(0.0, max(tops)), _step_axis(x for x, _ in series[0].points)
    steps = [x for x, _ in thinned[0]]
    marks = []
    for colour, lower, upper in bands:
        there = _place(_outline(steps, upper, x_axis), x_axis, y_axis)
        back = _place(_outline(steps, lower, x_axis), x_axis, y_axis)[::-1]
        marks.append(f'<path class="band {colour}" d="{_path(there + back)}Z"/>')
    return _svg(marks + _frame(x_axis, y_axis, unit), title)


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """At most `limit` points: means over equal runs of neighbours, x as well as y."""
    size = math.ceil(len(points) / limit)
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(fmean(x for x, _ in run), fmean(y for _, y in run)) for run in runs]


def running_mean(points: Sequence[Point]) -> list[Point]:
    """Every y averaged with its neighbours, up to a thirtieth of the points on either side."""
    reach = max(1, len(points) // 30)
    return [(x, fmean(y for _, y in points[max(0, i - reach) : i + reach + 1])) for i, (x, _) in enumerate(points)]


def axis_of(low: float, high: float, intervals: int = 4) -> Axis:
    """About `intervals` round intervals that cover [low, high]."""
    if high - low <= abs(high) * 1e-9:
        margin = abs(high) / 2 or 1.0
        low, high = low - margin if low else 0.0, high + margin
    magnitude = 10.0 ** math.floor(math.log10((high - low) / intervals))
    widths = [factor * magnitude for factor in (1, 2, 2.5, 5, 10)]
    width = next(w for w in widths if (high - low) / w <= intervals + 0.5)
    first, last = math.floor(low / width + 1e-9), math.ceil(high / width - 1e-9)
    return Axis(tuple(i * width for i in range(first, last + 1)))


def format_value(value: float) -> str:
    """`value` to three digits: 0, 12.5, 1,024, 3.1e-6."""
    if value == 0:
        return "0"
    return _scientific(value) if abs(value) < 1e-3 else f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def format_tick(value: float, width: float) -> str:
    """`value` with the digits that tell ticks `width` apart."""
    if abs(value) < width / 2:
        return "0"
    if width < 1e-4:
        return _scientific(value)
    decimals = next(d for d in range(8) if abs(round(width, d) - width) < width / 1000)
    return f"{value:,.{decimals}f}"


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _step_axis(steps: Iterable[float]) -> Axis:
    """Round ticks, and the range ends with the data, not on a tick."""
    every = list(steps)
    low, high = min(every), max(every)
    if low == high:
        return Axis((low, low + 1))
    inside = [tick for tick in axis_of(low, high).ticks if low <= tick <= high and tick == round(tick)]
    return Axis((low, *(t for t in inside if low < t < high), high))


def _outline(steps: Sequence[float], values: Sequence[float], x_axis: Axis) -> list[Point]:
    """(step, value) pairs, held level out to both ends of the axis: so one step alone has an area, too."""
    return [(x_axis.low, values[0]), *zip(steps, values, strict=True), (x_axis.high, values[-1])]


def _place(points: Sequence[Point], x_axis: Axis, y_axis: Axis) -> list[Point]:
    x_scale = (WIDTH - LEFT - RIGHT) / (x_axis.high - x_axis.low)
    y_scale = (HEIGHT - TOP - BOTTOM) / (y_axis.high - y_axis.low)
    return [(LEFT + (x - x_axis.low) * x_scale, HEIGHT - BOTTOM - (y - y_axis.low) * y_scale) for x, y in points]


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _frame(x_axis: Axis, y_axis: Axis, unit: str) -> list[str]:
    """Grid lines, tick labels and the names of both axes."""
    marks = []
    for tick in y_axis.ticks:
        y = _place([(x_axis.low, tick)], x_axis, y_axis)[0][1]
        rule = "axis" if tick == y_axis.low else "grid"
        marks.append(f'<line class="{rule}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = format_tick(tick, y_axis.ticks[1] - y_axis.ticks[0])
        marks.append(f'<text class="tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in x_axis.ticks:
        x = _place([(tick, y_axis.low)], x_axis, y_axis)[0][0]
        if tick not in (x_axis.low, x_axis.high) and min(x - LEFT, WIDTH - RIGHT - x) < 34:
            continue  # its label would touch the one at the end
        anchor = "end" if tick == x_axis.high else "middle"
        marks.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">{tick:.0f}</text>'
        )
    marks.append(f'<text class="name" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">step</text>')
    marks.append(f'<text class="name" x="{LEFT}" y="10">{escape(unit)}</text>')
    return marks


def _svg(marks: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(marks)}</svg>"
    )
