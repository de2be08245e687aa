"""Stage 1 of a run, from its config: pool, answerer, judge, teacher, and what the results depend on.

What only some runs need (vLLM, the embedded task with transformers) is imported where it is needed, so that
`srpo reflect` with servers alone starts in a moment.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srpo_fast.batch import Question
from srpo_fast.chat.endpoint import Endpoint
from srpo_fast.config import EMBEDDED, Config, ConfigError, EndpointConfig, LocalTeacherConfig, ReflectionConfig
from srpo_fast.dataset import QuestionFile, read_questions
from srpo_fast.formats.descriptions import read_descriptions
from srpo_fast.formats.records import num_bytes
from srpo_fast.images import image_file
from srpo_fast.monitor.progress import Phases
from srpo_fast.monitor.run_directory import RunDirectory
from srpo_fast.reflection.asking import improvement_request, reflection_request, verdict_request
from srpo_fast.reflection.crew import Crew, ProgramTeacher, Teacher, endpoint_answerer, judge, model_teacher
from srpo_fast.reflection.directory import ANSWERS, JUDGEMENTS, REFLECTIONS, Settings
from srpo_fast.reflection.gold import GoldCheck
from srpo_fast.reflection.pool import Pool
from srpo_fast.reflection.stage import Stage1

if TYPE_CHECKING:
    from srpo_fast.embedded.task import Sample

# neither changes what an endpoint says
_HOW_TO_ASK = {
    "base_url", "key_env", "concurrency", "requests_per_minute", "retries", "reply_retries", "timeout_s", "backoff_s",
    "backoff_limit_s", "price_per_million_prompt_tokens", "price_per_million_completion_tokens",
}  # fmt: skip


def open_stage_1(config: Config, root: Path | None, display: Phases) -> Stage1:
    """Stage 1 of this run, in the directory `root` (None: the run's own). Its workers are made when it begins."""
    settings, check = config.reflection, GoldCheck(config.reward)
    assert settings is not None
    return Stage1(
        settings,
        _open_pool(config, settings),
        root=RunDirectory(config.run.dir).reflection if root is None else root,
        seed=config.run.seed,
        system_prompt=config.prompt.rollout_system,
        determined_by=_determined_by(config, settings),
        open_crew=lambda: _open_crew(config, settings, check),
        check=check,
        display=display,
    )


def _open_pool(config: Config, settings: ReflectionConfig) -> Pool:
    source = settings.pool or config.data.train
    if source == EMBEDDED and settings.descriptions:
        raise ConfigError("reflection.descriptions is about image files, and embedded questions have none; set null")
    if source == EMBEDDED:  # an endless list in an order of chance: its first questions are as good a draw as any
        questions = [sample.question for sample in _embedded_samples(config, settings)]
        return Pool(questions, [question.id for question in questions])
    root = settings.image_root if settings.pool else config.data.image_root
    file = read_questions(Path(source), root, min_pixels=config.data.min_pixels, max_pixels=config.data.max_pixels)
    descriptions = _descriptions(settings.descriptions, file) if settings.descriptions else None
    return Pool(file, file.ids, file.problems, descriptions)


def _descriptions(path: Path, file: QuestionFile) -> dict[Path, str]:
    descriptions = read_descriptions(path, file.image_root)
    shown = {image_file(source, file.image_root) for index in range(len(file)) for source in file.entry(index).images}
    if not shown & descriptions.keys():
        raise ConfigError(
            f"reflection.descriptions={path} describes no image of {file.path}: expected its images to be written as "
            f"there, or with paths from {file.image_root}"
        )
    return descriptions


def _embedded_samples(config: Config, settings: ReflectionConfig) -> "list[Sample]":
    from srpo_fast.embedded.task import load_samples
    from srpo_fast.sources import EMBEDDED_TRAIN_QUESTIONS

    return load_samples("train", min(settings.prompts, EMBEDDED_TRAIN_QUESTIONS), config.run.seed)


def _open_crew(config: Config, settings: ReflectionConfig, check: GoldCheck) -> Crew:
    answerer = None
    if settings.answerer:
        sampling = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
        model = Endpoint(settings.answerer.model_copy(update=sampling))
        answerer = endpoint_answerer(model, config.prompt.answer_system, check)
    return Crew(
        answerer=answerer,
        judge=judge(Endpoint(settings.judge.endpoint)) if settings.judge else None,
        teacher=_open_teacher(config, settings),
    )


def _open_teacher(config: Config, settings: ReflectionConfig) -> Teacher:
    match settings.teacher:
        case EndpointConfig() as endpoint:
            return model_teacher(Endpoint(endpoint), with_reasoning=settings.think_blocks == 2)
        case LocalTeacherConfig() as local:
            if not (local.path / "config.json").is_file():  # now, not after hours of answers
                raise ConfigError(f"reflection.teacher.path {local.path} is no model directory: it has no config.json")
            from srpo_fast.reflection.local_model import LocalModel

            return model_teacher(LocalModel(local, config.run.seed), with_reasoning=settings.think_blocks == 2)
    source = settings.pool or config.data.train
    if source != EMBEDDED:
        raise ConfigError(
            f"reflection.teacher=embedded knows only the embedded questions, got {source}; name a server or a model "
            "directory as teacher"
        )
    from srpo_fast.embedded.teacher import EmbeddedTeacher

    return ProgramTeacher(EmbeddedTeacher(_embedded_samples(config, settings)).reflect)


def _determined_by(config: Config, settings: ReflectionConfig) -> Settings:
    """What the results in every journal depend on, beside the questions themselves."""
    source = settings.pool or config.data.train
    answerer, of_model = settings.answerer, partial(_of_model, descriptions=settings.descriptions)
    answers = {
        "pool": Path(source).name,
        "pool_bytes": None if source == EMBEDDED else num_bytes(Path(source)),
        "seed": config.run.seed,
        "pixels": [config.data.min_pixels, config.data.max_pixels],
        "answerer": of_model(answerer) if answerer else {"model": config.model.path, "dtype": config.model.dtype},
        "prompt": config.prompt.answer_system,
        "grading": config.reward.model_dump(include={"relative_tolerance", "absolute_tolerance", "decimals"}),
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
    }
    judgements = {"judge": settings.judge and of_model(settings.judge.endpoint), "asked": _wording(verdict_request)}
    ask = improvement_request if settings.think_blocks == 2 else reflection_request
    teacher = settings.teacher
    reflections = {
        "teacher": teacher if isinstance(teacher, str) else of_model(teacher),
        "think_blocks": settings.think_blocks,
        "asked": _wording(ask),
    }
    return {ANSWERS: answers, JUDGEMENTS: judgements, REFLECTIONS: reflections}


def _of_model(model: EndpointConfig | LocalTeacherConfig, descriptions: Path | None) -> dict[str, Any]:
    settings = model.model_dump(mode="json", exclude=_HOW_TO_ASK)
    if isinstance(model, EndpointConfig) and not model.sees_images and descriptions:
        settings |= {"descriptions": descriptions.name, "descriptions_bytes": descriptions.stat().st_size}
    return settings


def _wording(request: Any) -> str:
    """A few digits that change when what is asked changes, which may be with a release."""
    blank = request(Question(id="", text="", images=(), answer=""), think="", answer="")
    return hashlib.sha256(f"{blank.system}{blank.text}{blank.schema}".encode()).hexdigest()[:8]
