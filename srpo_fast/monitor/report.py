"""report.html: one page that shows a run. It needs nothing but itself: no script, no font, no address."""

import math
from html import escape
from pathlib import Path

from srpo_fast.batch import HeldOut
from srpo_fast.config import UserError
from srpo_fast.monitor.idle_steps import idle_warning
from srpo_fast.monitor.progress import format_duration
from srpo_fast.monitor.report_curves import step_seconds_figure, training_figures
from srpo_fast.monitor.run_directory import RunDirectory, read_jsonl, write_atomically
from srpo_fast.monitor.samples import read_completions
from srpo_fast.monitor.summary import (
    NONE,
    STAGES,
    TRANSITION_NAMES,
    Stage,
    Summary,
    read_summary,
    standard_error,
)
from srpo_fast.monitor.transcript import choose_records, completion_card

STYLE = Path(__file__).with_name("report.css")
# nothing may be loaded or run, whatever a model wrote
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(run_dir: Path) -> Path:
    """Writes `run_dir`/report.html from what the run has recorded so far and returns its path.

    UserError if `run_dir` is no run directory or one of its files cannot be read.
    """
    run = RunDirectory(run_dir)
    if not run.config.is_file() or not run.summary.is_file():
        raise UserError(f"{run_dir} is no run directory: it needs {run.config.name} and {run.summary.name}")
    summary, lines = read_summary(run.summary), read_jsonl(run.metrics)
    sections = [
        _header(run_dir.resolve().name, summary, len(lines)),
        section("Warning", _paragraph(idle_warning(lines))),
        section("Held-out accuracy", _accuracy_table(summary) + _transitions(summary)),
        section("Training", training_figures(lines)),
        section("Time", _time(summary, step_seconds_figure(lines))),
        section("Completions", _completions(run)),
        section("Configuration", _configuration(run)),
    ]
    write_atomically(run.report, page(run_dir.resolve().name, "".join(sections)))
    return run.report


def page(title: str, body: str) -> str:
    """A whole HTML document that loads nothing."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)} - srpo-fast</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _paragraph(text: str | None) -> str:
    return f"<p>{escape(text)}</p>" if text else ""


def _header(name: str, summary: Summary, num_steps: int) -> str:
    facts = [summary.method, f"seed {summary.seed}", f"{num_steps:,} steps"]
    figures = [*_headline_accuracy(summary)]
    if summary.reward_first is not None and summary.reward_last is not None:
        change = f"from {summary.reward_first:.2f} over the first 10 steps"
        figures.append(_figure("Mean reward, last 10 steps", f"{summary.reward_last:.2f}", "", change))
    total = sum(summary.seconds.values())
    figures.append(_figure("Wall time", *_split_unit(format_duration(total)), "all phases together"))
    return (
        f'<header><p class="eyebrow">srpo-fast run</p><h1>{escape(name)}</h1>'
        f'<p class="facts">{" &middot; ".join(escape(fact) for fact in facts)}</p>'
        f'<dl class="headline">{"".join(figures)}</dl></header>'
    )


def _headline_accuracy(summary: Summary) -> list[str]:
    final = summary.heldout.get("srpo")
    if final is None:
        return []
    start_stage: Stage = "sft" if "sft" in summary.heldout else "base"
    start = summary.heldout.get(start_stage)
    figures = []
    for name, answer in (("Second answer, held out", "acc2"), ("First answer, held out", "acc1")):
        now, before = getattr(final, answer), getattr(start, answer, None)
        if now is not None:
            note = "sampled at temperature 1"
            if start and before is not None:
                # as if the two were of different questions: too large rather than too small
                error = math.hypot(
                    standard_error(now, final.num_questions), standard_error(before, start.num_questions)
                )
                change = f"{100 * (now - before):+.1f} \N{PLUS-MINUS SIGN} {100 * error:.1f} points"
                note = f"{change} over {summary.label(start_stage)}"
            figures.append(_figure(name, f"{100 * now:.1f}", "%", note))
    return figures


def _figure(name: str, value: str, unit: str, note: str) -> str:
    return (
        f'<div><dt>{escape(name)}</dt><dd class="value">{escape(value)}<small>{escape(unit)}</small></dd>'
        f'<dd class="note">{escape(note)}</dd></div>'
    )


def _split_unit(duration: str) -> tuple[str, str]:
    value, _, unit = duration.partition(" ")
    return value, unit


def _accuracy_table(summary: Summary) -> str:
    rows = [(summary.label(stage), summary.heldout[stage]) for stage in STAGES if stage in summary.heldout]
    if not rows:
        return ""
    body = "".join(f'<tr><th scope="row">{escape(label)}</th>{_accuracy_cells(held)}</tr>' for label, held in rows)
    questions = max(held.num_questions for _, held in rows)
    return (
        '<table class="accuracy"><thead><tr class="answers"><td></td><th colspan="2" scope="colgroup">First answer</th>'
        '<th colspan="2" scope="colgroup">Second answer</th></tr><tr><td></td>'
        + '<th scope="col">sampled</th><th scope="col">greedy</th>'
        * 2
        + f"</tr></thead><tbody>{body}</tbody></table>"
        f'<p class="caption">Percent of {questions:,} held-out questions, with the standard error. '
        "Sampled: one completion a question at temperature 1.</p>"
    )


def _accuracy_cells(held: HeldOut) -> str:
    cells = []
    for p in (held.acc1, held.greedy_acc1, held.acc2, held.greedy_acc2):
        if p is None:
            cells.append(f'<td class="none">{NONE}</td>')
        else:
            error = 100 * standard_error(p, held.num_questions)
            cells.append(f"<td>{100 * p:.1f} <small>\N{PLUS-MINUS SIGN}{error:.1f}</small></td>")
    return "".join(cells)


def _transitions(summary: Summary) -> str:
    """Share of questions by (first answer, second answer), a bar for every stage that gives two."""
    stages: list[Stage] = [stage for stage in STAGES if stage in summary.heldout and summary.heldout[stage].transitions]
    if not stages:
        return ""
    shares = {
        (stage, key): getattr(summary.heldout[stage].transitions, key) / summary.heldout[stage].num_questions
        for stage in stages
        for key, _ in TRANSITION_NAMES
    }
    widest = max(max(shares.values()), 1e-9)
    rows = []
    for key, name in TRANSITION_NAMES:
        bars = "".join(_bar(summary.label(stage), f"{key} {stage}", shares[stage, key], widest) for stage in stages)
        rows.append(f'<div class="transition"><h3>{name}</h3>{bars}</div>')
    return f'<div class="transitions">{"".join(rows)}</div><p class="caption">{_repair_rates(summary)}</p>'


def _bar(label: str, colour: str, share: float, widest: float) -> str:
    return (
        f'<div class="bar"><span class="stage">{escape(label)}</span>'
        f'<span class="track"><i class="{colour}" style="width:{100 * share / widest:.1f}%"></i></span>'
        f'<span class="share">{100 * share:.1f} %</span></div>'
    )


def _repair_rates(summary: Summary) -> str:
    sentences = []
    for stage in STAGES:
        held = summary.heldout.get(stage)
        if held and (t := held.transitions):
            repaired, broken = t.wr / max(t.wr + t.ww, 1), t.rw / max(t.rr + t.rw, 1)
            sentences.append(
                f"{escape(summary.label(stage))}: {100 * repaired:.0f} % of wrong first answers repaired, "
                f"{100 * broken:.0f} % of right ones broken."
            )
    return " ".join(["First to second answer of the sampled completions.", *sentences])


def _time(summary: Summary, steps: str) -> str:
    """Seconds by phase as one strip with its legend, beside the seconds of a step."""
    total = sum(summary.seconds.values())
    if not total:
        return ""
    parts = [(f"part{i}", name.replace("_", " "), s) for i, (name, s) in enumerate(summary.seconds.items())]
    bar = "".join(f'<i class="{colour}" style="width:{100 * s / total:.2f}%"></i>' for colour, _, s in parts)
    rows = "".join(
        f'<tr><th scope="row"><i class="swatch {colour}"></i>{escape(name)}</th>'
        f"<td>{format_duration(s)}</td><td>{100 * s / total:.0f} %</td></tr>"
        for colour, name, s in parts
    )
    phases = f'<div class="phases"><h3>By phase</h3><table>{rows}</table></div>'
    return f'<div class="strip">{bar}</div><div class="charts">{phases}{steps}</div>'


def _completions(run: RunDirectory) -> str:
    """Completions of the first and of the last recorded step: what was learned can be read."""
    files = run.completion_files()
    html = []
    for path in dict.fromkeys([*files[:1], *files[-1:]]):
        if records := choose_records(read_completions(path)):
            html.append(f"<h3>Step {records[0].step:,}</h3>")
            html += [completion_card(record) for record in records]
    return "".join(html)


def _configuration(run: RunDirectory) -> str:
    text = escape(run.config.read_text(encoding="utf-8"))
    return f"<details><summary>{run.config.name}</summary><pre>{text}</pre></details>"
