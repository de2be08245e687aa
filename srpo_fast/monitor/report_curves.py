"""The curves of the report: which metrics are drawn together, and how they are named."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean
from typing import Any

from srpo_fast.monitor.charts import Point, Series, format_value, line_chart, stacked_chart
from srpo_fast.monitor.metrics import UNACCOUNTED, read_series
from srpo_fast.monitor.samples import REWARD_PARTS
from srpo_fast.monitor.summary import TRANSITION_NAMES

ENDS = 10  # steps that the figures "from -> to" beside a curve are means of
Lines = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Curve:
    """A chart of one or more metrics; it is drawn when at least one of them was recorded."""

    title: str
    unit: str
    keys: tuple[tuple[str, str, str], ...]  # (metric, name in the legend, colour)
    scale: float = 1.0
    floor: float | None = None


CURVES = (
    Curve("Reward", "mean of the step", (("rollout/reward_mean", "reward", "second"),)),
    Curve(
        "Accuracy",
        "% of completions",
        (("rollout/acc_first", "first", "first"), ("rollout/acc_second", "second", "second")),
        scale=100,
    ),
    Curve(
        "Accuracy, validation",
        "% of questions",
        (("validation/acc_first", "first", "first"), ("validation/acc_second", "second", "second")),
        scale=100,
    ),
    Curve(
        "Reward by part",
        "mean of the step",
        tuple((f"rollout/reward_{part}", part.replace("_", " "), f"part{i}") for i, part in enumerate(REWARD_PARTS)),
    ),
    Curve("Response length", "tokens, mean", (("rollout/completion_tokens_mean", "tokens", "plain"),)),
    Curve("Engine against policy", "mean |log-prob gap|", (("rollout/mismatch_abs", "mean", "plain"),), floor=0.0),
    Curve("Engine against policy, KL", "nats a token", (("rollout/mismatch_kl", "KL", "plain"),), floor=0.0),
    Curve("Clipped tokens", "% of loss tokens", (("train/clip_fraction", "clipped", "plain"),), scale=100, floor=0.0),
    Curve("Groups kept", "% of prompts", (("rollout/groups_kept", "kept", "plain"),), scale=100, floor=0.0),
    Curve("Entropy", "nats a token", (("train/entropy", "entropy", "plain"),), floor=0.0),
    Curve("Host memory", "GiB of rank 0", (("memory/host_gib", "resident", "plain"),)),
    Curve("Gradient norm", "before clipping", (("train/grad_norm", "norm", "plain"),), floor=0.0),
)


def training_figures(lines: Lines) -> str:
    """All curves that the metrics have data for, in a grid; empty before the first step."""
    figures = [figure for curve in CURVES if (figure := _curve_figure(curve, lines))]
    figures.insert(2, _transition_figure(lines))
    return f'<div class="charts">{"".join(figures)}</div>' if any(figures) else ""


def step_seconds_figure(lines: Lines) -> str:
    """Where the seconds of a step went, over the steps."""
    names = {key.removeprefix("time/").removesuffix("_s") for line in lines for key in line if key.startswith("time/")}
    means = {name: sum(line.get(f"time/{name}_s") or 0.0 for line in lines) / len(lines) for name in names - {"step"}}
    ranked = sorted(means, key=lambda name: (name == UNACCOUNTED, -means[name]))
    series = []
    for i, name in enumerate(ranked):
        points = [(line["step"], line.get(f"time/{name}_s") or 0.0) for line in lines]
        series.append(Series(name=name, colour=f"part{i}", points=points))
    if not series:
        return ""
    keys = "".join(_key(s.colour, s.name, f"{means[s.name]:.2f} s") for s in series)
    chart = stacked_chart(series, title="Seconds per step", unit="seconds")
    return _figure("Seconds per step", keys, chart)


def _curve_figure(curve: Curve, lines: Lines) -> str:
    recorded = [(read_series(lines, key), name, colour) for key, name, colour in curve.keys]
    series = [
        Series(name=name, colour=colour, points=[(x, y * curve.scale) for x, y in points])
        for points, name, colour in recorded
        if points
    ]
    if not series:
        return ""
    keys = "".join(_key(s.colour, s.name, _ends(s.points)) for s in series)
    return _figure(curve.title, keys, line_chart(series, title=curve.title, unit=curve.unit, floor=curve.floor))


def _transition_figure(lines: Lines) -> str:
    """The four transitions of the training completions as shares that fill the chart."""
    metrics = [(f"rollout/transitions_{key}", key, name) for key, name in TRANSITION_NAMES]
    full = [line for line in lines if all(line.get(metric) is not None for metric, _, _ in metrics)]
    if not full:
        return ""
    series = []
    for metric, key, name in metrics:
        shares = [(line["step"], 100 * line[metric] / (sum(line[m] for m, _, _ in metrics) or 1)) for line in full]
        series.append(Series(name=name, colour=key, points=shares))
    keys = "".join(_key(s.colour, s.name, _ends(s.points)) for s in series)
    return _figure("Transitions", keys, stacked_chart(series, title="Transitions", unit="% of completions"))


def _figure(title: str, keys: str, chart: str) -> str:
    return f'<figure><figcaption><h3>{escape(title)}</h3><p class="keys">{keys}</p></figcaption>{chart}</figure>'


def _key(colour: str, name: str, figures: str) -> str:
    return f'<span><i class="swatch {colour}"></i>{escape(name)} <b>{figures}</b></span>'


def _ends(points: Sequence[Point]) -> str:
    means = [fmean(y for _, y in part) for part in (points[:ENDS], points[-ENDS:])]
    return " \N{RIGHTWARDS ARROW} ".join(format_value(mean) for mean in means)
