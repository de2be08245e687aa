"""`srpo reward`: the reward of every completion in a file of JSON lines, for eyes and for programs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    id: str | int
    completion: str
    answer: str
    question: str  # whose options an answer may name; may be empty


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
    scores = score([Sample(text=line.completion, gold=gold_of(line.answer, line.question, settings)) for line in lines])
    return [ScoredLine(id=line.id, score=score) for line, score in zip(lines, scores, strict=True)]


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


def _lines(path: Path) -> Iterator[_Line]:
    if not path.is_file():
        raise UserError(f"expected a file of completions at {path}, found none")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"expected JSON lines in UTF-8 in {path}, got: {error}; repair the file") from error
    # not splitlines(): JSON text may hold Unicode's other line ends as they are
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _line(line, f"{path.stem}-{number}", f"{path}, line {number}")


def _line(text: str, default_id: str, place: str) -> _Line:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: expected a JSON object, got: {error}; repair the line") from error
    if not isinstance(record, dict):
        raise UserError(f"{place}: expected a JSON object, got {record!r:.80}")
    completion, answer = _field(record, "completion", place), _field(record, "answer", place)
    if not isinstance(completion, str):
        raise UserError(f"{place}: field completion: expected text, got {completion!r:.80}")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise UserError(f"{place}: field answer: expected text or a number, got {answer!r:.80}")
    own_id = record.get("id")
    if isinstance(own_id, bool) or not isinstance(own_id, str | int | None):
        raise UserError(f"{place}: field id: expected text or a whole number, got {own_id!r:.80}")
    question = record.get("question", "")
    if not isinstance(question, str):
        raise UserError(f"{place}: field question: expected text, got {question!r:.80}")
    return _Line(
        id=default_id if own_id is None else own_id, completion=completion, answer=str(answer), question=question
    )


def _field(record: dict[str, Any], name: str, place: str) -> Any:
    if name not in record:
        fields = ", ".join(record) or "none"
        raise UserError(f"{place}: expected the fields completion and answer, got {fields:.200}")
    return record[name]


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
