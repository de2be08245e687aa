"""What the base model is taught, as tensors: prompts, completions, pictures and the digits the pictures show."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from srpo_fast.embedded.drawing import CELLS
from srpo_fast.embedded.task import SYSTEM_CAREFUL, SYSTEM_DIRECT, Sample, careful_answer, direct_answer
from srpo_fast.embedded.tokenizer import IMAGE_PAD

NO_LOSS = -100  # the label cross_entropy leaves out


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Prompts and completions under one system prompt. All prompts have the same length L, so batches need no mask."""

    prompt_ids: Tensor  # [N, L] int64, one <|image_pad|> for every cell
    completion_ids: Tensor  # [N, M] int64, padded with NO_LOSS at the right


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """N samples, told directly and carefully."""

    texts: tuple[Texts, ...]
    pictures: Tensor  # [N, 3, 28, 112] uint8
    digit_ids: Tensor  # [N, CELLS] int64 token ids of the digits in the cells


def build_lessons(samples: list[Sample], tokenizer: PreTrainedTokenizerFast) -> Lessons:
    direct = _texts(SYSTEM_DIRECT, samples, [direct_answer(sample) for sample in samples], tokenizer)
    careful = _texts(SYSTEM_CAREFUL, samples, [careful_answer(sample) for sample in samples], tokenizer)
    pictures = np.stack([np.asarray(sample.question.images[0]) for sample in samples])
    ids_of_digits = torch.tensor(tokenizer.convert_tokens_to_ids([str(digit) for digit in range(10)]))
    return Lessons(
        texts=(direct, careful),
        pictures=torch.from_numpy(pictures).permute(0, 3, 1, 2),
        digit_ids=ids_of_digits[torch.tensor([sample.digits for sample in samples])],
    )


def prompt_ids(system: str, text: str, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The prompt of a question of this task, its one image expanded to CELLS tokens."""
    parts = [{"type": "image"}, {"type": "text", "text": text.removeprefix("<image>")}]
    messages = [{"role": "system", "content": system}, {"role": "user", "content": parts}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(prompt.replace(IMAGE_PAD, IMAGE_PAD * CELLS))["input_ids"]


def _texts(system: str, samples: list[Sample], completions: list[str], tokenizer: PreTrainedTokenizerFast) -> Texts:
    by_text = {text: prompt_ids(system, text, tokenizer) for text in {sample.question.text for sample in samples}}
    encoded = tokenizer([completion + tokenizer.eos_token for completion in completions])["input_ids"]
    padded = torch.full((len(samples), max(map(len, encoded))), NO_LOSS)
    for row, ids in zip(padded, encoded, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return Texts(prompt_ids=torch.tensor([by_text[sample.question.text] for sample in samples]), completion_ids=padded)
