"""summary.json: what a run achieved, and the table a user sees at its end."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from srpo_fast.batch import HeldOut, Transitions
from srpo_fast.config import UserError
from srpo_fast.monitor.run_directory import write_atomically

Stage = Literal["base", "sft", "srpo"]
STAGES: tuple[Stage, ...] = ("base", "sft", "srpo")
NONE = "\N{EN DASH}"
# (field of Transitions, what it says), in the order they are read: gained, kept, lost, missed
TRANSITION_NAMES = (
    ("wr", "wrong \N{RIGHTWARDS ARROW} right"),
    ("rr", "right \N{RIGHTWARDS ARROW} right"),
    ("rw", "right \N{RIGHTWARDS ARROW} wrong"),
    ("ww", "wrong \N{RIGHTWARDS ARROW} wrong"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A run so far; every stage fills in its part."""

    seed: int
    method: str  # "SRPO", "GRPO" or "Two-step GRPO": what stage 2 was, and how its row is labelled
    heldout: dict[Stage, HeldOut] = field(default_factory=dict)
    reward_first: float | None = None  # mean reward over the first 10 steps
    reward_last: float | None = None
    steps_idle: int = 0  # that made no update
    warning: str | None = None  # of these
    seconds: dict[str, float] = field(default_factory=dict)  # by phase, repeated work of a resumed run included

    def label(self, stage: Stage) -> str:
        return {"base": "base", "sft": "SFT", "srpo": self.method}[stage]


def standard_error(p: float, n: int) -> float:
    """Standard error of a fraction `p` measured on `n` independent questions."""
    return math.sqrt(p * (1.0 - p) / n)


def write_summary(path: Path, summary: Summary) -> None:
    """Writes summary.json; `transitions` at its top are those of stage 2."""
    final = summary.heldout.get("srpo")
    document = asdict(summary)
    document["transitions"] = asdict(final.transitions) if final and final.transitions else None
    write_atomically(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def read_summary(path: Path) -> Summary:
    """The summary in `path`; UserError if it does not hold one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        del document["transitions"]
        heldout = {stage: _read_heldout(held) for stage, held in document.pop("heldout").items()}
        return Summary(heldout=heldout, **document)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not the summary of a run ({error})") from error


def print_summary(console: Console, summary: Summary, report: Path) -> None:
    """The table at the end: accuracy by stage, the transitions, seconds by phase, where the report is."""
    console.print(Group(_accuracy_table(summary), _transition_table(summary), _seconds_table(summary)))
    if summary.reward_first is not None and summary.reward_last is not None:
        console.print(f"mean reward {summary.reward_first:.3f} -> {summary.reward_last:.3f} (first and last 10 steps)")
    if summary.warning:
        console.print(Text(f"warning: {summary.warning}", style="bold yellow"), soft_wrap=True)
    console.print(Text(f"report  {report}"), soft_wrap=True)


def _accuracy_table(summary: Summary) -> Table:
    questions = max((held.num_questions for held in summary.heldout.values()), default=0)
    title = f"Accuracy in % on {questions:,} held-out questions (\N{PLUS-MINUS SIGN} standard error)"
    table = _open_table(title)
    for answer in ("1st answer", "2nd answer"):
        table.add_column(f"{answer}\nsampled", justify="right")
        table.add_column(f"{answer}\ngreedy", justify="right")
    for stage in STAGES:
        if held := summary.heldout.get(stage):
            pairs = (held.acc1, held.greedy_acc1, held.acc2, held.greedy_acc2)
            table.add_row(summary.label(stage), *(_percent(p, held.num_questions) for p in pairs))
    return table


def _transition_table(summary: Summary) -> Table:
    table = _open_table("First to second answer, in % of the held-out questions")
    for _, name in TRANSITION_NAMES:
        table.add_column(name, justify="right")
    for stage in STAGES:
        held = summary.heldout.get(stage)
        if held and held.transitions:
            counts = [getattr(held.transitions, key) for key, _ in TRANSITION_NAMES]
            table.add_row(summary.label(stage), *(f"{100 * count / held.num_questions:.1f}" for count in counts))
    return table


def _seconds_table(summary: Summary) -> Table:
    table = _open_table("Seconds by phase")
    for name in (*summary.seconds, "all"):
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    table.add_row("", *(f"{s:.0f}" for s in (*summary.seconds.values(), sum(summary.seconds.values()))))
    return table


def _open_table(title: str) -> Table:
    """A table whose first column names the row."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("")
    return table


def _percent(p: float | None, n: int) -> str:
    return NONE if p is None else f"{100 * p:.1f} \N{PLUS-MINUS SIGN}{100 * standard_error(p, n):.1f}"


def _read_heldout(held: dict[str, Any]) -> HeldOut:
    transitions = held.pop("transitions")
    return HeldOut(transitions=Transitions(**transitions) if transitions else None, **held)
