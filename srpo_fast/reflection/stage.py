"""Stage 1, in the order it happens: first answers, judgements, the mix, reflections, SFT examples.

Every result is on disk before the next one is taken, so a process that was killed at any moment is simply started
again: nothing is lost, nothing asked twice. All but the first answers of a policy is the work of rank 0 alone.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeGuard

from srpo_fast.batch import Question
from srpo_fast.config import ReflectionConfig, UserError
from srpo_fast.formats.sft import SftExample, write_sft
from srpo_fast.monitor.progress import Bar, Phases
from srpo_fast.parallel import Parallel, from_main
from srpo_fast.reflection.crew import Crew, check_quality
from srpo_fast.reflection.directory import ReflectionDirectory, Settings
from srpo_fast.reflection.examples import Example, check_first_answer, example_of
from srpo_fast.reflection.gold import GoldCheck
from srpo_fast.reflection.pool import Pool
from srpo_fast.reflection.records import Case, FirstAnswer, Rejection, Step
from srpo_fast.reflection.selection import keep, open_queues
from srpo_fast.reflection.tally import Statistics, as_text, statistics_of


class Answerer(Protocol):
    """The policy, on all ranks."""

    def answers(
        self, questions: Iterable[Question | Rejection], advance: Callable[[int], object]
    ) -> Iterator[FirstAnswer | Rejection]:
        """One result a question; `questions` is read as results are taken. advance: told of so many more done."""
        ...


def write_examples(stage: "Stage1", policy: Answerer | None, parallel: Parallel) -> Path:
    """The SFT file, on every rank. policy: gives the first answers, with all ranks, where no server does."""
    try:
        unanswered = from_main(stage.begin, parallel)
        if policy is not None and unanswered:
            with stage.step("first answers", len(stage.drawn), len(unanswered)) as bar:
                for result in policy.answers(stage.pool.readable(unanswered), bar.advance):
                    if parallel.is_main:
                        stage.directory.keep(result)
        return from_main(stage.finish, parallel)
    finally:
        stage.close()


class Stage1:
    """The steps and what they hand on. Every rank makes one; only rank 0's begins and finishes."""

    def __init__(
        self, settings: ReflectionConfig, pool: Pool, *, root: Path, seed: int, system_prompt: str,
        determined_by: Settings, open_crew: Callable[[], Crew], check: GoldCheck, display: Phases,
    ) -> None:  # fmt: skip
        """system_prompt: stage 2's, for the examples. determined_by: what each journal's results depend on."""
        self.pool = pool
        self.drawn = pool.draw(settings.prompts, seed)
        self._settings, self.root, self._seed, self._system_prompt = settings, root, seed, system_prompt
        self._determined_by, self._open_crew, self._display = determined_by, open_crew, display
        self._check = check
        self._opened: ReflectionDirectory | None = None
        self._seconds: Counter[str] = Counter()
        self.statistics: Statistics = {}

    @property
    def directory(self) -> ReflectionDirectory:
        assert self._opened is not None
        return self._opened

    def begin(self) -> list[str]:
        """The ids without an answer. UserError when the directory is taken or of other settings, or a key missing."""
        self._crew = self._open_crew()
        self._opened = ReflectionDirectory(self.root, self._determined_by)
        for problem in self.pool.problems:
            name = f"{problem.place}: {problem.id}"  # a usable question may have the same id
            self.directory.keep(
                Rejection(id=name, step=Step.POOL, reason=problem.reason, detail=problem.message, is_final=False)
            )
        return self._undone(self.drawn, self.directory.answers)

    def finish(self) -> Path:
        """The SFT file, when all steps that are left are done. UserError when it would be empty."""
        self._ask_answerer()
        candidates = self._good_enough(self._first_solutions())
        examples = self._reflected(candidates)
        self.statistics = statistics_of(
            self.directory, self.pool, self.drawn, candidates, examples, wanted=self._settings.records,
            seconds=self._seconds, usage={name: asdict(model.usage) for name, model in self._crew.models.items()},
        )  # fmt: skip
        self.directory.write_statistics(self.statistics)
        if not examples:
            raise UserError(f"stage 1 ends without an example: {as_text(self.statistics)}; see {self.directory.root}")
        write_sft(self.directory.sft_file, self._shuffled(examples))
        self._display.note(f"stage 1: {as_text(self.statistics)}")
        return self.directory.sft_file

    def close(self) -> None:
        """Lets go of the directory, all results on disk; nothing on a rank that opened none."""
        self._check.close()
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @contextmanager
    def step(self, name: str, total: int, left: int) -> Iterator[Bar]:
        start = time.monotonic()
        with self._display.phase("stage_1", total, done=total - left, label=f"stage 1: {name}") as bar:
            yield bar
        self._seconds[name] += time.monotonic() - start

    # --- the steps ---

    def _ask_answerer(self) -> None:
        unanswered = self._undone(self.drawn, self.directory.answers)
        if not unanswered:
            return
        assert self._crew.answerer is not None, "the policy has left questions without an answer"
        with self.step("first answers", len(self.drawn), len(unanswered)) as bar:
            for result in self._crew.answerer.results(self.pool.readable(unanswered)):
                self.directory.keep(result)
                bar.advance()

    def _first_solutions(self) -> list[FirstAnswer]:
        """The answers to drawn questions that are of the right form, in the draw's order."""
        answers = [self.directory.answers[each] for each in self.drawn if each in self.directory.answers]
        return [answer for answer in answers if self._stands(check_first_answer(answer))]

    def _good_enough(self, answers: list[FirstAnswer]) -> list[FirstAnswer]:
        judge, judgements = self._crew.judge, self.directory.judgements
        if judge is None or self._settings.judge is None:
            return answers
        by_id = {answer.id: answer for answer in answers}
        unjudged = self._undone(by_id, judgements)
        with self.step("judgements", len(answers), len(unjudged)) as bar:
            for result in judge.results(self._cases(unjudged, by_id)):
                self.directory.keep(result)
                bar.advance()
        threshold = self._settings.judge.threshold
        judged = [answer for answer in answers if answer.id in judgements]
        return [answer for answer in judged if self._stands(check_quality(judgements[answer.id], threshold))]

    def _reflected(self, candidates: list[FirstAnswer]) -> list[Example]:
        """The examples of the mix that is wanted, or of as many candidates as there are; in the draw's order."""
        settings, by_id = self._settings, {answer.id: answer for answer in candidates}
        is_right = {answer.id: answer.is_right for answer in candidates}
        queues = open_queues(is_right, settings.right_share, settings.records, self._seed)
        examples = {
            each: self._example(by_id[each]) for each in by_id if self._is_done(each, self.directory.reflections)
        }
        wanted = sum(queue.wanted for queue in queues)
        ready = sum(len(queue.successes(examples)) for queue in queues)
        with self.step("reflections", wanted, wanted - ready) as bar:
            while pending := [*chain.from_iterable(queue.pending(examples) for queue in queues)]:
                for result in self._crew.teacher.results(self._cases(pending, by_id)):
                    self.directory.keep(result)
                    examples[result.id] = self._example(by_id[result.id])
                    bar.advance(examples[result.id] is not None)
        kept = set(keep(queues, examples, settings.right_share))
        return [example for each in by_id if each in kept and (example := examples[each])]

    def _example(self, answer: FirstAnswer) -> Example | None:
        """What the reflection on an answer comes to; None if nothing."""
        if answer.id not in self.directory.reflections:
            return None
        reflection, s = self.directory.reflections[answer.id], self._settings
        example = example_of(answer, reflection, self._check, think_blocks=s.think_blocks, on_leak=s.leaks)
        return example if self._stands(example) else None

    def _shuffled(self, examples: list[Example]) -> Iterator[SftExample]:
        """As the file has them, images that have no file in memory; the order is the seed's."""
        for example in random.Random(self._seed).sample(examples, len(examples)):
            files = example.answer.image_files
            drawn = self.pool.question(example.answer.id).images if None in files else files
            yield SftExample(
                id=example.answer.id,
                system=self._system_prompt,
                text=example.answer.question,
                images=tuple(image if file is None else file for file, image in zip(files, drawn, strict=True)),
                assistant=example.completion,
            )

    # --- what the steps use ---

    def _cases(self, ids: Iterable[str], answers: Mapping[str, FirstAnswer]) -> Iterator[Case | Rejection]:
        for question in self.pool.readable(ids):
            if isinstance(question, Rejection):
                yield question
            else:
                yield Case(question=question, answer=answers[question.id])

    def _undone(self, ids: Iterable[str], done: Container[str]) -> list[str]:
        return [each for each in ids if not self._is_done(each, done)]

    def _is_done(self, question_id: str, done: Container[str]) -> bool:
        return question_id in done or question_id in self.directory.rejected

    def _stands(self, result: Example | Rejection | None) -> TypeGuard[Example | None]:
        """False for a rejection, which is written down."""
        if isinstance(result, Rejection):
            self.directory.keep(result)
        return not isinstance(result, Rejection)
