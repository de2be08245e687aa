"""Where the model, the questions and the teacher of a run come from: files, or the embedded task that needs none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from srpo_fast.batch import Question
from srpo_fast.config import EMBEDDED, Config
from srpo_fast.dataset import read_questions
from srpo_fast.embedded.base import RECIPE, ensure_base_model
from srpo_fast.embedded.task import load_questions
from srpo_fast.monitor.progress import Phases
from srpo_fast.parallel import Parallel, barrier

Split = Literal["train", "validation", "heldout"]
SPLITS: tuple[Split, ...] = get_args(Split)

EMBEDDED_TRAIN_QUESTIONS = 16_384


def resolve_model(config: Config, parallel: Parallel, display: Phases) -> Path:
    """The Hugging Face directory of the base policy; the embedded one is trained first, by rank 0, unless it exists."""
    if config.model.path != EMBEDDED:
        return Path(config.model.path)
    root = config.run.dir.parent / "embedded_base"
    if parallel.is_main:
        with display.phase("base", RECIPE.steps, label="base policy") as bar:
            ensure_base_model(root, config.run.seed, lambda done, total: bar.advance())
    barrier()
    return ensure_base_model(root, config.run.seed, lambda done, total: None)  # found, not made


def open_questions(config: Config, split: Split) -> Sequence[Question]:
    """The questions of a split; none where the config names no source for it."""
    source: str | None = getattr(config.data, split)
    if source is None:
        return []
    if source != EMBEDDED:
        return read_questions(
            Path(source), config.data.image_root, min_pixels=config.data.min_pixels, max_pixels=config.data.max_pixels
        )
    counts = {
        "train": EMBEDDED_TRAIN_QUESTIONS,
        "validation": config.evaluation.validation_questions,
        "heldout": config.evaluation.questions,
    }
    # one validation and one held-out set for all seeds, so that runs compare
    return load_questions(split, counts[split], config.run.seed if split == "train" else 0)
