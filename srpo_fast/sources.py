"""Where the model, the questions and the teacher of a run come from: files, or the embedded task that needs none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from srpo_fast.batch import Question
from srpo_fast.config import EMBEDDED, Config, ConfigError
from srpo_fast.dataset import QuestionFile, read_questions
from srpo_fast.deadline import left_to_another_rank
from srpo_fast.embedded.base import RECIPE, ensure_base_model
from srpo_fast.embedded.task import load_questions
from srpo_fast.formats.sft import read_sft
from srpo_fast.model_limits import check_limits, read_model_dir
from srpo_fast.model_shape import embedded_shape
from srpo_fast.monitor.progress import Phases
from srpo_fast.parallel import Parallel, barrier, merge_over_world
from srpo_fast.quarantine import Quarantine

Split = Literal["train", "validation", "heldout"]
SPLITS: tuple[Split, ...] = get_args(Split)

EMBEDDED_TRAIN_QUESTIONS = 16_384


def check_sources(config: Config) -> None:
    """Raises ConfigError naming every file and directory that the config names and that is not there."""
    reflection, cold_start = config.reflection, config.cold_start
    named: dict[str, str | Path | None] = {
        "model.path": config.model.path,
        **{f"data.{split}": getattr(config.data, split) for split in SPLITS},
        "cold_start.data": cold_start and cold_start.data,
        "reflection.pool": reflection and reflection.pool,
        "reflection.descriptions": reflection and reflection.descriptions,
        "reflection.teacher.path": getattr(reflection and reflection.teacher, "path", None),
    }
    missing = [
        f"{key} {path}" for key, path in named.items()
        if path not in (None, EMBEDDED) and not Path(str(path).partition("#")[0]).exists()
    ]  # fmt: skip
    if missing:
        raise ConfigError(f"nothing is found at {', '.join(missing)}; correct the paths")
    if cold_start and cold_start.data:
        read_sft(cold_start.data)


def check_model(config: Config) -> None:
    """Raises UserError where the model is none, or has no room for what the config asks. Reads its config.json only."""
    path = config.model.path
    check_limits(embedded_shape() if path == EMBEDDED else read_model_dir(Path(path)), config)


def resolve_model(config: Config, parallel: Parallel, display: Phases) -> Path:
    """The Hugging Face directory of the base policy; the embedded one is trained first, by rank 0, unless it exists."""
    check_model(config)
    if config.model.path != EMBEDDED:
        return Path(config.model.path)
    root = config.run.dir.parent / "embedded_base"
    if parallel.is_main:
        with display.phase("base", RECIPE.steps, label="base policy") as bar:
            ensure_base_model(root, config.run.seed, lambda done, total: bar.advance())
        barrier()
    else:
        with left_to_another_rank():
            barrier()
    return ensure_base_model(root, config.run.seed, lambda done, total: None)  # found, not made


def open_questions(
    config: Config, split: Split, quarantine: Quarantine, parallel: Parallel | None = None
) -> Sequence[Question]:
    """The usable questions of a split, the others in `quarantine`; none where the config names no source for it.

    Raises UserError where ranks do not read the same.
    """
    source: str | None = getattr(config.data, split)
    if source is None:
        return []
    if source != EMBEDDED:
        data = config.data
        questions = read_questions(
            Path(source), data.image_root, min_pixels=data.min_pixels, max_pixels=data.max_pixels
        )
        if parallel:
            _require_same(questions, parallel)
        quarantine.add(questions, questions.problems)
        return questions
    counts = {
        "train": EMBEDDED_TRAIN_QUESTIONS,
        "validation": config.evaluation.validation_questions,
        "heldout": config.evaluation.questions,
    }
    # one validation and one held-out set for all seeds, so that runs compare
    return load_questions(split, counts[split], config.run.seed if split == "train" else 0)


def _require_same(questions: QuestionFile, parallel: Parallel) -> None:
    read = merge_over_world({parallel.rank: (questions.fingerprint, len(questions.problems))}, parallel)
    if len({fingerprint for fingerprint, _ in read.values()}) > 1:
        bad = ", ".join(f"{count} on rank {rank}" for rank, (_, count) in read.items())
        raise ConfigError(
            f"{questions.path}: ranks read different questions ({bad} cannot be used); the file and its images must "
            "be the same on every machine"
        )
