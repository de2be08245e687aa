"""`srpo reward`: the reward of every completion in a file of JSON lines, for eyes and for programs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from srpo_fast.batch import Score
from srpo_fast.config import RewardConfig, UserError, config_error
from srpo_fast.grading.grader import Grader
from srpo_fast.rewards.own_function import PARTS
from srpo_fast.rewards.scoring import Sample, TokenCounter, gold_of, make_scorer

WORDS = "words"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredLine:
    id: str | int  # the line's own, else file name and line number
    score: Score


class _Line(BaseModel, strict=True):
    completion: str
    answer: str | int | float
    id: str | int | None = None
    question: str = ""  # whose options an answer may name


def score_file(path: Path, variant: str, tokenizer: str) -> list[ScoredLine]:
    """Every line of `path`, scored in its order with the default weights of `variant`.

    tokenizer: a directory with a tokenizer, or "words" for words between white space. It counts a completion as it is
    in the file, tags included. Raises UserError naming the first line that cannot be used.
    """
    try:
        settings = RewardConfig(variant=variant)
    except ValidationError as error:
        raise config_error(error) from error
    score = make_scorer(settings, _token_counter(tokenizer), Grader(settings))
    lines = list(_lines(path))
    if not lines:
        raise UserError(f"{path} holds no completions; expected one JSON object a line")
    golds = (gold_of(str(line.answer), line.question, settings) for _, line in lines)
    scores = score([Sample(text=line.completion, gold=gold) for (_, line), gold in zip(lines, golds, strict=True)])
    return [
        ScoredLine(id=f"{path.stem}-{number}" if line.id is None else line.id, score=score)
        for (number, line), score in zip(lines, scores, strict=True)
    ]


def as_json(scored: Sequence[ScoredLine]) -> str:
    """One line: an array with an object for every line of the file."""
    return json.dumps(
        [
            {
                "id": line.id,
                "total": line.score.total,
                "parts": {part: getattr(line.score, part) for part in PARTS},
                "first_correct": line.score.first_correct,
                "second_correct": line.score.second_correct,
                "reasons": list(line.score.reasons),
            }
            for line in scored
        ],
        allow_nan=False,
    )


def as_table(scored: Sequence[ScoredLine]) -> Table:
    """One row a completion, and their mean; narrow enough for 80 columns."""
    mean = sum(line.score.total for line in scored) / len(scored)
    table = Table(
        caption=f"{len(scored):,} completions, mean reward {mean:.4f}", box=SIMPLE_HEAD, padding=0, show_edge=False
    )
    table.add_column("id", overflow="fold", min_width=4)
    for name in ("total", "form", "acc", "eff", "refl", "len"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("answers", no_wrap=True)
    table.add_column("reasons", overflow="fold", min_width=24)
    for line in scored:
        numbers = (line.score.total, *(getattr(line.score, part) for part in PARTS))
        verdicts = (line.score.first_correct, line.score.second_correct)
        answers = ">".join("right" if is_right else "wrong" for is_right in verdicts)
        reasons = "\n".join(line.score.reasons)
        table.add_row(escape(str(line.id)), *(f"{number:.2f}" for number in numbers), answers, escape(reasons))
    return table


def _lines(path: Path) -> Iterator[tuple[int, _Line]]:
    if not path.is_file():
        raise UserError(f"expected a file of completions at {path}, found none")
    # in bytes: JSON text may hold Unicode's other line ends as they are
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, _Line.model_validate_json(line)
        except ValidationError as error:
            found = (f"{'.'.join(map(str, e['loc']))} {e['msg']}, got {e['input']!r:.80}" for e in error.errors())
            what = "; ".join(each.strip() for each in found)
            raise UserError(
                f"{path}, line {number}: expected a JSON object with completion and answer, but: {what}"
            ) from error


def _token_counter(tokenizer: str) -> TokenCounter:
    if tokenizer == WORDS:
        return lambda texts: [len(text.split()) for text in texts]
    if not Path(tokenizer).is_dir():
        raise UserError(f"expected {WORDS} or a directory with a tokenizer, got {tokenizer}")
    from transformers import AutoTokenizer

    try:
        loaded: Any = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"expected a readable tokenizer in {tokenizer}, got: {reason:.300}") from error
    return lambda texts: [len(ids) for ids in loaded(texts, add_special_tokens=False).input_ids] if texts else []
