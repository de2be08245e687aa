"""The embedded task: read four values off a picture, answer with their sum, range or maximum.

Half the pictures show handwritten digits, half are bar charts of real tables. The three splits share neither a scanned
digit nor a table, so validation and held-out accuracy are about pictures nobody trained on.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from vega_datasets import local_data

from srpo_fast.batch import Question
from srpo_fast.embedded.drawing import CELLS, VARIANTS, draw_bars, draw_digits, scan_labels

Split = Literal["train", "validation", "heldout"]
Kind = Literal["sum", "range", "max"]
Subject = Literal["digits", "bars"]

SYSTEM_DIRECT = "answer"  # read, then answer at once
SYSTEM_CAREFUL = "steps"  # read, write the way to the answer, then answer
SYSTEM_REFLECT = "reflect"  # SRPO's two answers; the base model has never seen it

SCANS = {"train": slice(0, 1197), "validation": slice(1197, 1497), "heldout": slice(1497, 1797)}  # of a fixed shuffle
TABLES: dict[Split, tuple[str, ...]] = {
    "train": ("anscombe", "cars", "iowa_electricity", "iris", "la_riots", "ohlc", "seattle_temps", "stocks",
              "us_employment"),
    "validation": ("driving", "sf_temps", "wheat"),
    "heldout": ("barley", "crimea", "seattle_weather"),
}  # fmt: skip
NOT_MEASURED = {"year", "month", "latitude", "longitude", "Cylinders"}  # numbers nobody would chart

_ASKED: dict[Kind, str] = {"sum": "sum", "range": "range", "max": "largest"}
_MAX_SPACING = 12  # rows between neighbouring bars


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A question with what the picture shows, which only the teacher and the base model's lessons may use."""

    question: Question
    kind: Kind
    subject: Subject
    digits: tuple[int, ...]  # the four values, left to right, 0 to 9


def load_questions(split: Split, count: int, seed: int) -> list[Question]:
    """The first `count` questions of the endless list that (split, seed) names."""
    return [sample.question for sample in load_samples(split, count, seed)]


def load_samples(split: Split, count: int, seed: int) -> list[Sample]:
    """load_questions with the truth beside every question."""
    stream = np.random.default_rng([seed, get_args(Split).index(split)])
    # one row a question: a longer list begins with the shorter one
    return [_draw_sample(split, index, row) for index, row in enumerate(stream.random((count, 2 + 2 * CELLS)))]


def answer(kind: Kind, digits: tuple[int, ...]) -> int:
    """What the question asks for."""
    match kind:
        case "sum":
            return sum(digits)
        case "range":
            return max(digits) - min(digits)
        case "max":
            return max(digits)


def direct_answer(sample: Sample) -> str:
    """The right completion at a glance: the reading and the answer."""
    return _completion(_reading(sample), sample.question.answer)


def careful_answer(sample: Sample) -> str:
    """The right completion step by step: what matters in the picture, the way to the answer, the answer."""
    return _completion(careful_thought(sample), sample.question.answer)


def careful_thought(sample: Sample) -> str:
    """What stands between the think tags of careful_answer."""
    a, b, c, d = sample.digits
    match sample.kind:
        case "sum":
            return f"{a}+{b}={a + b},{c}+{d}={c + d}"
        case "range":
            return f"{_reading(sample)};{max(sample.digits)}-{min(sample.digits)}"
        case "max":
            return f"{_reading(sample)};{max(sample.digits)}"


@cache
def split_scans(split: Split) -> NDArray[np.int64]:
    """[n] the scans of load_digits that belong to a split."""
    return np.random.default_rng(0).permutation(len(scan_labels()))[SCANS[split]]


@cache
def split_series(split: Split) -> tuple[NDArray[np.int64], ...]:
    """Every numeric column of the split's tables, on an axis of 0 to 9 that spans its 2nd to 98th percentile."""
    series = []
    for table in TABLES[split]:
        file = getattr(local_data, table).filepath
        frame = (pd.read_csv(file) if file.endswith(".csv") else pd.read_json(file)).select_dtypes("number")
        for column in frame.columns.difference(list(NOT_MEASURED), sort=False):
            values = frame[column].dropna().to_numpy(dtype=np.float64)
            low, high = np.percentile(values, [2, 98])
            series.append(np.rint((values - low) / (high - low) * 9).clip(0, 9).astype(np.int64))
    return tuple(series)


def _draw_sample(split: Split, index: int, chances: NDArray[np.float64]) -> Sample:
    """A sample from [2 + 2 * CELLS] uniform numbers in [0, 1)."""
    kind: Kind = "sum" if chances[0] < 0.5 else "range" if chances[0] < 0.75 else "max"
    subject: Subject = "digits" if chances[1] < 0.5 else "bars"
    picked = chances[2:]
    if subject == "digits":
        scans = split_scans(split)[_choose(picked[:CELLS], len(split_scans(split)))]
        # only training scans are distorted: the others are what people wrote
        variants = _choose(picked[CELLS:], VARIANTS if split == "train" else 1)
        values, image = scan_labels()[scans], draw_digits(scans, variants)
    else:
        values = _neighbours(split_series(split), picked)
        image = draw_bars(values)
    digits = tuple(values.tolist())
    text = f"<image>What is the {_ASKED[kind]} of the {subject}?"
    question = Question(id=f"{split}-{index}", text=text, images=(image,), answer=str(answer(kind, digits)))
    return Sample(question=question, kind=kind, subject=subject, digits=digits)


def _neighbours(series: tuple[NDArray[np.int64], ...], chances: NDArray[np.float64]) -> NDArray[np.int64]:
    """[4] evenly spaced rows of one column."""
    column = series[int(chances[0] * len(series))]
    spacing = 1 + int(chances[1] * min(_MAX_SPACING, (len(column) - 1) // (CELLS - 1)))
    start = int(chances[2] * (len(column) - spacing * (CELLS - 1)))
    return column[start + spacing * np.arange(CELLS)]


def _choose(chances: NDArray[np.float64], options: int) -> NDArray[np.int64]:
    return (chances * options).astype(np.int64)


def _reading(sample: Sample) -> str:
    return "".join(str(digit) for digit in sample.digits)


def _completion(thought: str, result: str) -> str:
    return f"<think>{thought}</think><answer>$\\boxed{{{result}}}$</answer>"
