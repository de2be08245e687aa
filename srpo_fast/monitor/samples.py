"""completions/step_*.jsonl: what the policy wrote, with the image, the reward in parts and the reasons."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from srpo_fast.batch import Group
from srpo_fast.monitor.run_directory import read_jsonl, write_atomically

MAX_IMAGE_SIDE = 512  # pixels: the record is for the eye, and 128 full images a step would fill a disk
REWARD_PARTS = ("format", "accuracy", "effectiveness", "reflection_format", "length")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRecord:
    """One line of the file: one completion of one prompt."""

    step: int
    prompt_id: str
    sample: int  # place in its group
    question: str
    gold: str
    images: tuple[str, ...]  # PNG in base64; only with sample 0, the others of the group share them
    text: str
    num_tokens: int
    is_finished: bool  # False: cut at the token limit
    reward: float
    reward_parts: dict[str, float]  # by REWARD_PARTS
    reasons: tuple[str, ...]
    first_correct: bool
    second_correct: bool


def write_completions(path: Path, step: int, groups: Sequence[Group]) -> None:
    """Writes every completion of `groups`, group by group; an older file of that step is replaced."""
    records = [record for group in groups for record in _records_of(group, step)]
    write_atomically(path, "".join(json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records))


def read_completions(path: Path) -> list[CompletionRecord]:
    """The records of one file; every record of a group has the group's images."""
    records: list[CompletionRecord] = []
    images: tuple[str, ...] = ()
    for line in read_jsonl(path):
        images = tuple(line["images"]) if line["sample"] == 0 else images
        records.append(CompletionRecord(**line | {"images": images, "reasons": tuple(line["reasons"])}))
    return records


def encode_png(image: Image.Image) -> str:
    """`image` as a PNG in base64, shrunk to MAX_IMAGE_SIDE if it is larger."""
    small = image.copy()
    small.thumbnail((MAX_IMAGE_SIDE, MAX_IMAGE_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _records_of(group: Group, step: int) -> list[CompletionRecord]:
    question = group.prompt.question
    images = tuple(encode_png(image) for image in question.images)
    return [
        CompletionRecord(
            step=step,
            prompt_id=question.id,
            sample=sample,
            question=question.text,
            gold=question.answer,
            images=images if sample == 0 else (),
            text=completion.text,
            num_tokens=len(completion.token_ids),
            is_finished=completion.is_finished,
            reward=score.total,
            reward_parts={part: getattr(score, part) for part in REWARD_PARTS},
            reasons=score.reasons,
            first_correct=score.first_correct,
            second_correct=score.second_correct,
        )
        for sample, (completion, score) in enumerate(zip(group.completions, group.scores, strict=True))
    ]
