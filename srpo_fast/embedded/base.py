"""Trains the base policy from nothing in about a minute and a half: it reads pictures and answers, but never reflects.

Three stages, together much faster than learning everything at once:
text   digit tokens stand where the picture's tokens will be: the model learns to read, add and compare;
align  the vision tower alone learns to turn a cell into what the head calls by its digit's name;
joint  real pictures, all weights.
Half of the text and joint lessons ask for the direct answer, half for the careful one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessor

from srpo_fast.embedded.lessons import NO_LOSS, Lessons, Texts, build_lessons
from srpo_fast.embedded.model import build_config, build_processor, build_untrained_model, write_model
from srpo_fast.embedded.task import careful_answer, direct_answer, load_samples
from srpo_fast.embedded.tokenizer import build_tokenizer

Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    steps: int
    batch_size: int
    lr: float
    last_lr: float  # reached linearly over the last quarter of the steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    text: Stage = Stage(steps=220, batch_size=96, lr=2e-3, last_lr=4e-4)
    align: Stage = Stage(steps=120, batch_size=64, lr=2e-3, last_lr=1e-4)
    joint: Stage = Stage(steps=120, batch_size=64, lr=1e-3, last_lr=5e-5)
    samples: int = 10_000

    @property
    def steps(self) -> int:
        return self.text.steps + self.align.steps + self.joint.steps


RECIPE = Recipe()
_WARMUP_STEPS = 20
_THREADS = 1  # two are 1.7 times as fast on idle cores, and many times slower beside any other load


def ensure_base_model(root: Path, seed: int, progress: Progress, recipe: Recipe = RECIPE) -> Path:
    """The directory of the base model for (seed, recipe) under `root`, trained now unless it is there already."""
    path = root / f"seed{seed}-{_fingerprint(recipe)}"
    if path.is_dir():
        return path
    model = train_base_model(seed, progress, recipe)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    write_model(model, unfinished)
    try:
        unfinished.rename(path)
    except OSError:
        if not path.is_dir():
            raise
        shutil.rmtree(unfinished)  # another run was first, and may be reading its own already
    return path


def train_base_model(seed: int, progress: Progress, recipe: Recipe) -> Qwen2_5_VLForConditionalGeneration:
    """A trained model that depends on (seed, recipe) alone, up to rounding."""
    model = build_untrained_model(seed).train()
    processor = build_processor()
    lessons = build_lessons(load_samples("train", recipe.samples, seed), processor.tokenizer)
    course = _Course(model, processor.image_processor, lessons, torch.Generator().manual_seed(seed))
    done = 0
    with _threads(_THREADS):
        for stage, loss in (
            (recipe.text, course.text_loss),
            (recipe.align, course.align_loss),
            (recipe.joint, course.joint_loss),
        ):
            for _ in course.run(stage, loss):
                done += 1
                progress(done, recipe.steps)
    return model.eval()


def _fingerprint(recipe: Recipe) -> str:
    """8 hex digits of all that makes a base model: the recipe, the model's shape, the tokenizer, what it is told."""
    tokenizer = build_tokenizer()
    told = [
        (sample.question.text, direct_answer(sample), careful_answer(sample), sample.question.images[0].tobytes().hex())
        for sample in load_samples("train", 20, seed=0)
    ]
    parts = [asdict(recipe), build_config(tokenizer).to_dict(), tokenizer.backend_tokenizer.to_str(), told]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]


class _Course:
    """A model, what it reads, and the three losses."""

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        image_processor: Qwen2VLImageProcessor,
        lessons: Lessons,
        chance: torch.Generator,
    ) -> None:
        self.model = model
        self.image_processor = image_processor
        self.lessons = lessons
        self.chance = chance
        self.embedding = model.get_input_embeddings()

    def run(self, stage: Stage, loss: Callable[[Tensor], Tensor]) -> Iterator[int]:
        parameters = list(self.model.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=stage.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        for step in range(stage.steps):
            optimizer.param_groups[0]["lr"] = _lr(stage, step)
            rows = torch.randint(len(self.lessons.pictures), (stage.batch_size,), generator=self.chance)
            loss(rows).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield step

    def text_loss(self, rows: Tensor) -> Tensor:
        return self._completion_loss(rows, self.embedding(self.lessons.digit_ids[rows]))

    def align_loss(self, rows: Tensor) -> Tensor:
        logits = self._features(rows) @ self.embedding.weight.detach().T
        return F.cross_entropy(logits.flatten(0, 1), self.lessons.digit_ids[rows].flatten())

    def joint_loss(self, rows: Tensor) -> Tensor:
        return self._completion_loss(rows, self._features(rows))

    def _features(self, rows: Tensor) -> Tensor:
        """[B, CELLS, D] what the vision tower makes of the pictures."""
        seen = self.image_processor(images=self.lessons.pictures[rows], return_tensors="pt")
        features = self.model.model.visual(seen["pixel_values"], grid_thw=seen["image_grid_thw"]).pooler_output
        return features.unflatten(0, (len(rows), -1))

    def _completion_loss(self, rows: Tensor, features: Tensor) -> Tensor:
        """Mean cross-entropy of completion tokens; each half of the batch [B] is told in its own way."""
        losses, count = [], 0
        for texts, part, seen in zip(self.lessons.texts, rows.chunk(2), features.chunk(2), strict=True):
            logits, labels = self._predict(texts, part, seen)
            losses.append(
                F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=NO_LOSS, reduction="sum")
            )
            count += int((labels != NO_LOSS).sum())
        return torch.stack(losses).sum() / count

    def _predict(self, texts: Texts, rows: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """[B, M, V] logits of the completion tokens and [B, M] their labels."""
        prompts, labels = texts.prompt_ids[rows], texts.completion_ids[rows]
        ids = torch.cat([prompts, labels.clamp(min=0)], dim=1)
        embeds = self.embedding(ids)
        is_image = ids == self.model.config.image_token_id
        embeds = embeds.masked_scatter(is_image[:, :, None], features)
        hidden = self.model.model.language_model(
            inputs_embeds=embeds, position_ids=self._positions(ids), use_cache=False
        ).last_hidden_state
        return self.model.lm_head(hidden[:, prompts.shape[1] - 1 : -1]), labels

    def _positions(self, ids: Tensor) -> Tensor:
        """[3, B, L] M-RoPE positions; every row's picture stands in the same columns."""
        is_image = (ids[:1] == self.model.config.image_token_id).int()
        grid = torch.tensor([[1, 2, 8]])
        positions, _ = self.model.model.get_rope_index(ids[:1], is_image, image_grid_thw=grid)
        return positions.expand(3, len(ids), -1)


def _lr(stage: Stage, step: int) -> float:
    warmup = min(1.0, (step + 1) / min(_WARMUP_STEPS, stage.steps))
    decay = min(1.0, (stage.steps - step) / max(1, stage.steps // 4))
    return warmup * (stage.last_lr + (stage.lr - stage.last_lr) * decay)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(count, len(os.sched_getaffinity(0))))
    try:
        yield
    finally:
        torch.set_num_threads(before)
