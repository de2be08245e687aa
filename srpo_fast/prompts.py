"""Questions become prompts here, once, for engine and policy alike: template, tokens, pixels, positions."""

import re
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from transformers import AutoProcessor, ProcessorMixin

from srpo_fast.bad_record import BadRecord
from srpo_fast.batch import Prompt, Question
from srpo_fast.config import UserError
from srpo_fast.image_marks import IMAGE_MARK, require_few_images
from srpo_fast.positions import mrope_positions

IMAGE_TOKEN = "<|image_pad|>"
# the vision tower's brackets and slots: a policy that wrote one would claim an image that is not there
VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", IMAGE_TOKEN, "<|video_pad|>")


class PromptTooLong(BadRecord):
    """A prompt of more than max_prompt_tokens: leave the question out, a cut prompt could end inside an image."""

    def __init__(self, message: str) -> None:
        super().__init__("prompt_too_long", message)


class PromptEncoder:
    """The chat template, tokenizer and image processor of one model directory.

    image_token_id: the slot of an image. banned_ids: the vision tokens, never to be sampled. eos_token_id: the end of
    a turn.
    """

    def __init__(self, processor: ProcessorMixin, max_prompt_tokens: int) -> None:
        self._tokenizer: Any = processor.tokenizer
        self._image_processor: Any = processor.image_processor
        self._chat_template = processor.chat_template or self._tokenizer.chat_template
        self._max_prompt_tokens = max_prompt_tokens
        self._one_at_a_time = Lock()  # scoring counts in a thread of its own, and counting changes the tokenizer
        vocabulary = self._tokenizer.get_vocab()
        self.image_token_id: int = vocabulary[IMAGE_TOKEN]
        self.banned_ids: tuple[int, ...] = tuple(vocabulary[token] for token in VISION_TOKENS if token in vocabulary)
        self.largest_id: int = max(vocabulary.values())
        self.eos_token_id: int = self._tokenizer.eos_token_id
        special = [token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special]
        self._special = re.compile("|".join(re.escape(token) for token in sorted(special, key=len, reverse=True)))

    @classmethod
    def from_pretrained(cls, model_dir: Path, max_prompt_tokens: int) -> "PromptEncoder":
        """The encoder of a Hugging Face directory. Raises ValueError if that does not hold a Qwen2.5-VL processor."""
        if not (model_dir / "config.json").is_file():
            raise UserError(f"expected a Hugging Face model directory, found no config.json in {model_dir}")
        remedy = "copy the tokenizer and processor files of the original Qwen2.5-VL model there"
        try:
            processor = AutoProcessor.from_pretrained(model_dir)
        except (OSError, ValueError) as error:
            raise UserError(f"expected a readable processor in {model_dir}, got: {error}; {remedy}") from error
        if not hasattr(processor, "image_processor") or IMAGE_TOKEN not in processor.tokenizer.get_vocab():
            raise UserError(f"expected an image processor in {model_dir}, got {type(processor).__name__}; {remedy}")
        return cls(processor, max_prompt_tokens)

    def encode(self, question: Question, system_prompt: str) -> Prompt:
        """The prompt of `question` after `system_prompt`, up to where the assistant begins.

        Special tokens that the question's text mentions are words, not tokens: none opens a turn or claims an image.
        Raises BadRecord when the prompt is too long, marks and images do not match, or an image is of a size the
        model's image processor would change.
        """
        grid = self._image_grid(question.id, [image.size for image in question.images])
        engine_ids = self._engine_token_ids(question.id, question.text, len(grid), system_prompt)
        merged = self._merged(grid)
        self._require_length(question.id, len(engine_ids) - len(grid) + int(merged.sum()))
        ids = torch.tensor(engine_ids)
        copies = torch.ones_like(ids)
        copies[ids == self.image_token_id] = merged
        token_ids = ids.repeat_interleave(copies)
        return Prompt(
            question=question,
            engine_token_ids=tuple(engine_ids),
            token_ids=token_ids,
            position_ids=mrope_positions(
                token_ids, grid, image_token_id=self.image_token_id, merge_size=self._image_processor.merge_size
            ),
            pixel_values=self._pixel_values(question, grid),
            image_grid_thw=grid,
        )

    def prompt_length(self, name: str, text: str, sizes: Sequence[tuple[int, int]], system_prompt: str) -> int:
        """How many tokens the prompt of a text and of images of (width, height) has; BadRecord as `encode` has it."""
        grid = self._image_grid(name, sizes)
        num_tokens = len(self._engine_token_ids(name, text, len(grid), system_prompt)) - len(grid)
        num_tokens += int(self._merged(grid).sum())
        self._require_length(name, num_tokens)
        return num_tokens

    @property
    def merge_size(self) -> int:
        """How many patches, along either side, become one image token."""
        return self._image_processor.merge_size

    @property
    def pixel_budget(self) -> tuple[int, int]:
        """The least and the most pixels that the model's image processor leaves an image."""
        size = self._image_processor.size
        return size["shortest_edge"], size["longest_edge"]

    def token_ids(self, text: str) -> list[int]:
        """The tokens of `text` by itself; what looks like a special token is words."""
        return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def token_starts(self, text: str) -> list[int]:
        """Where in `text` each of its tokens begins."""
        encoding = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        return [start for start, _ in encoding["offset_mapping"]]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens every text is by itself, as token_ids has them."""
        if not texts:
            return []
        with self._one_at_a_time:
            encoded = self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
        return [len(ids) for ids in encoded.input_ids]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of `token_ids` without special tokens."""
        with self._one_at_a_time:
            return self._tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _require_length(self, name: str, num_tokens: int) -> None:
        if num_tokens > self._max_prompt_tokens:
            raise PromptTooLong(
                f"question {name}: the prompt has {num_tokens} tokens, more than {self._max_prompt_tokens}; "
                "leave it out, raise data.max_prompt_tokens or lower data.max_pixels"
            )

    def _merged(self, grid: Tensor) -> Tensor:
        """[I] tokens of every image."""
        return grid.prod(1) // self._image_processor.merge_size**2

    def _engine_token_ids(self, name: str, text: str, num_images: int, system_prompt: str) -> list[int]:
        mentions = self._mentions(text)
        for token, stand_in in mentions.items():
            text = text.replace(token, stand_in)
        messages = [
            {"role": "system", "content": system_prompt},
            {"role": "user", "content": _parts(name, text, num_images)},
        ]
        chat: str = self._tokenizer.apply_chat_template(
            messages, chat_template=self._chat_template, tokenize=False, add_generation_prompt=True
        )
        token_ids = self._chat_token_ids(chat, mentions)
        if token_ids.count(self.image_token_id) != num_images:
            raise UserError(
                f"question {name}: expected {num_images} image tokens in the prompt, got "
                f"{token_ids.count(self.image_token_id)}; the system prompt must hold none and the model's chat "
                f"template must write {IMAGE_TOKEN} for an image"
            )
        return token_ids

    def _mentions(self, text: str) -> dict[str, str]:
        """What stands, while the chat template is filled, for the special tokens that a text only mentions."""
        found = sorted(set(self._special.findall(text)))
        # for private use, and not used here; some templates strip white space
        unused = next(c for c in map(chr, range(0xE000, 0xF900)) if c not in text) if found else ""
        return {token: f"{unused}{i}{unused}" for i, token in enumerate(found)}

    def _chat_token_ids(self, chat: str, mentions: dict[str, str]) -> list[int]:
        """The tokens of a filled template: its special tokens, and words, to which the mentions belong."""
        if not mentions:
            return self._tokenizer.encode(chat, add_special_tokens=False)
        token_ids: list[int] = []
        end = 0
        # a special token ends the words before it: what lies between two may be encoded by itself
        for special in [*self._special.finditer(chat), None]:
            words = chat[end : special.start() if special else len(chat)]
            for token, stand_in in mentions.items():
                words = words.replace(stand_in, token)
            token_ids += self.token_ids(words)
            if special:
                token_ids.append(self._tokenizer.convert_tokens_to_ids(special[0]))
                end = special.end()
        return token_ids

    def _image_grid(self, name: str, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """[I, 3] int64: the patches of every image as it is. The engine's processor may not resize it again."""
        require_few_images(len(sizes), f"question {name}: ")
        patch, size = self._image_processor.patch_size, self._image_processor.size
        factor = patch * self._image_processor.merge_size
        for width, height in sizes:
            in_budget = size["shortest_edge"] <= width * height <= size["longest_edge"]
            if width % factor or height % factor or not in_budget:
                raise BadRecord(
                    "image_size",
                    f"question {name}: expected images of multiples of {factor} pixels a side and "
                    f"{size['shortest_edge']} to {size['longest_edge']} pixels in all, as the model's image processor "
                    f"has it, got {width}x{height}; use images.resize_once with data.min_pixels and data.max_pixels "
                    "within these",
                )
        grid = [(1, height // patch, width // patch) for width, height in sizes]
        return torch.tensor(grid, dtype=torch.int64).reshape(-1, 3)

    def _pixel_values(self, question: Question, grid: Tensor) -> Tensor:
        """[patches, channels * temporal * patch * patch] fp32."""
        processor = self._image_processor
        if not question.images:
            return torch.empty(0, 3 * processor.temporal_patch_size * processor.patch_size**2)
        features = processor(images=list(question.images), do_resize=False, return_tensors="pt")
        assert torch.equal(features["image_grid_thw"], grid), f"{features['image_grid_thw']=} {grid=}"
        return features["pixel_values"]


def _parts(name: str, text: str, num_images: int) -> list[dict[str, str]]:
    """The user's message: text, and an image part in the place of every mark."""
    texts = text.split(IMAGE_MARK)
    if len(texts) - 1 != num_images:
        raise BadRecord(
            "image_marks",
            f"question {name}: expected one {IMAGE_MARK} mark an image, {num_images} in all, got {len(texts) - 1}; "
            "put them where the images belong",
        )
    parts: list[dict[str, str]] = []
    for i, text in enumerate(texts):
        parts += [{"type": "image"}] if i else []
        parts += [{"type": "text", "text": text}] if text else []
    return parts
