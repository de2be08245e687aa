"""The embedded task as a benchmark: the held-out questions that a run draws, marked as a run marks them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from srpo_fast.config import EvaluationConfig, RewardConfig
from srpo_fast.embedded.task import Split, load_samples
from srpo_fast.evaluation.benchmark import Answer, Benchmark, Item, Mark
from srpo_fast.grading import Verdict
from srpo_fast.grading.grader import Grader
from srpo_fast.responses import final_value, parse
from srpo_fast.rewards.scoring import gold_of

QUESTIONS: int = EvaluationConfig.model_fields["questions"].default
_SEED = 0  # one set for the runs of all seeds


def items(records: Iterator[Mapping[str, Any]], split: str) -> Iterator[Item]:
    """The first questions of the split's endless list, whatever `records` are."""
    for sample in load_samples(cast(Split, split), QUESTIONS, _SEED):
        question = sample.question
        yield Item(
            id=question.id,
            prompt=question.text,
            images=question.images,
            gold=(question.answer,),
            answer_type="integer",
            tags={"question": (sample.kind,), "picture": (sample.subject,)},
        )


def mark(answers: Sequence[Answer], grader: Grader) -> list[Mark]:
    """Right where the reward calls it right. A text with a tag in it is a whole response, without an answer block."""
    settings = RewardConfig()
    pairs = [
        None if _has_tags(text) else (final_value(text), gold_of(item.gold[0], item.prompt, settings))
        for item, text in answers
    ]
    checks = grader.checks(pair for pair in pairs if pair)
    return [
        Mark(is_right=checks[pair].verdict is Verdict.RIGHT, extracted=pair[0], rule="the reward's")
        if pair
        else Mark(is_right=False, extracted="", rule="no answer block")
        for pair in pairs
    ]


def _has_tags(text: str) -> bool:
    return any(segment.kind != "text" for segment in parse(text).segments)


BENCHMARK = Benchmark(
    name="embedded", title="Embedded task", hub_id=None, splits=("heldout", "validation"), items=items, mark=mark
)
