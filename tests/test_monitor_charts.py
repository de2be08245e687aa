"""Charts stay inside their frame, keep their scale, and survive thin data."""

import re
from xml.etree import ElementTree

import pytest

from srpo_fast.monitor.charts import (
    HEIGHT,
    MAX_POINTS,
    WIDTH,
    Series,
    axis_of,
    format_tick,
    format_value,
    line_chart,
    running_mean,
    stacked_chart,
    thin,
)


def path_points(svg, css_class):
    """The corners of every path of a class."""
    root = ElementTree.fromstring(svg)
    paths = [element.get("d") for element in root.iter("path") if css_class in element.get("class").split()]
    return [[tuple(map(float, pair)) for pair in re.findall(r"(-?[\d.]+) (-?[\d.]+)", d)] for d in paths]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 100, (0, 25, 50, 75, 100)),
        (1.21, 1.32, (1.2, 1.225, 1.25, 1.275, 1.3, 1.325)),
        (0.0, 0.0, (0, 0.25, 0.5, 0.75, 1)),
    ],
)
def test_an_axis_has_round_ticks_that_cover_the_data(low, high, ticks):
    assert axis_of(low, high).ticks == pytest.approx(ticks)


@pytest.mark.parametrize("low_high", [(0.3, 0.3), (-2.0, 5.0), (1e-9, 4e-7), (99_990, 100_010), (-5.0, -5.0)])
def test_an_axis_covers_any_range_with_few_ticks(low_high):
    axis = axis_of(*low_high)
    assert axis.low <= low_high[0] < axis.high
    assert axis.high >= low_high[1]
    assert 3 <= len(axis.ticks) <= 8


def test_numbers_are_written_short():
    assert [format_value(v) for v in (0, 3.14159, 0.0123, 74.56, 1234.5, -2.1e-9)] == [
        *("0", "3.14", "0.0123", "74.6", "1,234", "-2.1e-9")
    ]
    assert [format_tick(v, 0.025) for v in (1.2, 1.225)] == ["1.200", "1.225"]
    assert [format_tick(v, 1e-7) for v in (0.0, 3e-7)] == ["0", "3e-7"]


def test_thinning_keeps_the_mean_and_the_limit():
    points = [(x, x % 2) for x in range(1000)]
    thinned = thin(points, 100)
    assert len(thinned) == 100
    assert {y for _, y in thinned} == {0.5}
    assert thin(points[:5], 100) == points[:5]


def test_a_running_mean_removes_noise_and_keeps_a_constant():
    noisy = [(x, 5.0 + (-1) ** x) for x in range(90)]
    assert all(abs(y - 5.0) <= 0.25 for _, y in running_mean(noisy)[3:-3])
    assert running_mean([(0, 2.0), (1, 2.0)]) == [(0, 2.0), (1, 2.0)]


def test_a_line_chart_draws_raw_and_mean_inside_its_frame():
    points = [(x, float(x**2)) for x in range(50)]
    svg = line_chart([Series(name="reward", colour="second", points=points)], title="Reward", unit="mean")
    raw, mean = path_points(svg, "raw")[0], path_points(svg, "mean")[0]
    assert len(raw) == len(mean) == 50
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in raw)
    assert raw[0][1] > raw[-1][1]  # a larger value stands higher


def test_a_long_series_is_thinned():
    points = [(x, float(x)) for x in range(10_000)]
    svg = line_chart([Series(name="a", colour="plain", points=points)], title="A", unit="")
    assert len(path_points(svg, "raw")[0]) <= MAX_POINTS


def test_one_point_is_enough_for_either_chart():
    series = [Series(name="a", colour="plain", points=[(7, 0.0)])]
    assert len(path_points(line_chart(series, title="A", unit=""), "mean")) == 1
    outline = path_points(stacked_chart(series, title="A", unit=""), "band")[0]
    assert max(x for x, _ in outline) > min(x for x, _ in outline)


def test_stacked_bands_touch_and_add_up():
    low = Series(name="low", colour="wr", points=[(0, 1.0), (1, 2.0)])
    high = Series(name="high", colour="rr", points=[(0, 3.0), (1, 2.0)])
    bands = path_points(stacked_chart([low, high], title="Stack", unit="s"), "band")
    top_of_low = {point for point in bands[0] if point in bands[1]}
    assert len({x for x, _ in top_of_low}) == 2
    assert len({round(y, 1) for _, y in bands[1][:4]}) == 1  # 1 + 3 = 2 + 2


def test_titles_and_units_are_escaped():
    svg = line_chart([Series(name="a", colour="plain", points=[(0, 1.0)])], title='<"A">', unit="a < b & c")
    assert ElementTree.fromstring(svg).get("aria-label") == '<"A">'
