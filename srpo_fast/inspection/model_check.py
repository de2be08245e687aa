"""What `srpo validate` says of the model: is it one, does the tokenizer fit, do prompts fit. No weight is loaded."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from srpo_fast.bad_record import BadRecord
from srpo_fast.batch import Question
from srpo_fast.config import EMBEDDED, Config, DataConfig, UserError
from srpo_fast.dataset import QuestionFile
from srpo_fast.embedded.model import build_processor
from srpo_fast.images import check_image, qwen_size
from srpo_fast.model_limits import read_model_dir
from srpo_fast.prompts import PromptEncoder
from srpo_fast.sources import check_model

MEASURED = 512  # prompts of a split: about a second

Sizes = list[tuple[int, int]]


def open_encoder(config: Config) -> PromptEncoder:
    """The prompts' encoder of the config's model. Raises UserError where model, tokenizer and config do not fit."""
    check_model(config)
    if config.model.path == EMBEDDED:
        return PromptEncoder(build_processor(), config.data.max_prompt_tokens)
    model_dir = Path(config.model.path)
    encoder = PromptEncoder.from_pretrained(model_dir, config.data.max_prompt_tokens)
    rows = read_model_dir(model_dir).text.vocab
    asked = json.loads((model_dir / "config.json").read_text()).get("image_token_id", encoder.image_token_id)
    if encoder.largest_id >= rows or asked != encoder.image_token_id:
        raise UserError(
            f"the tokenizer in {model_dir} is not of its model: expected token ids below {rows} and {asked} for an "
            f"image, got ids up to {encoder.largest_id} and {encoder.image_token_id}; copy the original's files"
        )
    return encoder


def measure_prompts(questions: Sequence[Question], encoder: PromptEncoder, config: Config) -> str:
    """The lengths of the first prompts, in words. Raises UserError when more than data.max_bad_share cannot be used."""
    lengths, problems = [], []
    for name, text, sizes in _described(questions, min(MEASURED, len(questions)), config.data):
        try:
            lengths.append(encoder.prompt_length(name, text, sizes, config.prompt.rollout_system))
        except BadRecord as error:
            problems.append(str(error))
    looked_at = len(lengths) + len(problems)
    if len(problems) > config.data.max_bad_share * looked_at:
        raise UserError(
            f"{len(problems)} of the first {looked_at} prompts cannot be used, more than "
            f"data.max_bad_share={config.data.max_bad_share} allows; the first: {problems[0]}"
        )
    left_out = f", {len(problems)} cannot be used; the first: {problems[0]}" if problems else ""
    return f"the first {looked_at:,} prompts have up to {max(lengths)} tokens{left_out}" if lengths else "no prompts"


def _described(questions: Sequence[Question], count: int, data: DataConfig) -> Iterator[tuple[str, str, Sizes]]:
    """Id, text and image sizes after resizing; of a file without decoding an image."""
    for index in range(count):
        if not isinstance(questions, QuestionFile):
            question = questions[index]
            yield question.id, question.text, [image.size for image in question.images]
            continue
        entry = questions.entry(index)
        stored = [check_image(source, questions.image_root) for source in entry.images]
        sizes = [qwen_size(size, min_pixels=data.min_pixels, max_pixels=data.max_pixels) for size in stored]
        yield questions.id(index), entry.text, sizes
