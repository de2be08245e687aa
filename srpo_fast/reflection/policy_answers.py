"""First answers of the policy, sampled in this process."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

from srpo_fast.answer_format import one_answer_format
from srpo_fast.bad_record import BadRecord
from srpo_fast.batch import Completion, Group, Prompt, Question
from srpo_fast.chat.replies import one_line
from srpo_fast.config import Config
from srpo_fast.grading.grader import Grader
from srpo_fast.monitor.progress import Phases
from srpo_fast.parallel import Parallel, merge_over_world
from srpo_fast.prompts import PromptEncoder
from srpo_fast.reflection.opening import open_stage_1
from srpo_fast.reflection.records import FirstAnswer, Rejection, Step, asked
from srpo_fast.reflection.stage import write_examples
from srpo_fast.rollout import Pixels, Sampling, VllmEngine, sample_groups
from srpo_fast.sources import resolve_model

ROUND = 8  # times the sequences that all engines hold at once: sampled together, and lost together by a kill


Advance = Callable[[int], object]  # told how many more questions are done


class SampleGroups(Protocol):
    def __call__(self, prompts: list[Prompt], sampling: Sampling, *, progress: Advance) -> Sequence[Group]: ...


def examples_of_policy(
    config: Config, encoder: PromptEncoder, sample: SampleGroups, parallel: Parallel, display: Phases
) -> Path:
    """The SFT file that stage 1 makes in the run directory, on every rank. A collective.

    sample: prompts, sampling and progress -> a group of one completion for every prompt, on every rank.
    """
    return write_examples(
        open_stage_1(config, None, display), PolicyAnswerer(config, encoder, sample, parallel), parallel
    )


class PolicyAnswerer:
    """The policy, sampled by the engines of all ranks: every rank makes the same calls and gets every answer."""

    def __init__(self, config: Config, encoder: PromptEncoder, sample: SampleGroups, parallel: Parallel) -> None:
        assert config.reflection is not None
        self._encoder, self._sample, self._parallel = encoder, sample, parallel
        self._system_prompt = config.prompt.answer_system
        self._sampling = Sampling(
            samples=1, temperature=config.reflection.temperature, max_tokens=config.reflection.max_tokens,
            stream=(config.run.seed, "stage 1"),
        )  # fmt: skip
        self._round_size = ROUND * config.rollout.max_num_seqs * parallel.engines

    def answers(self, questions: Iterable[Question | Rejection], advance: Advance) -> Iterator[FirstAnswer | Rejection]:
        """One result a question."""
        questions = iter(questions)
        while members := list(islice(questions, self._round_size)):
            encoded = {member.id: self._encoded(member) for member in members}
            mine = {name: each for name, each in encoded.items() if isinstance(each, Rejection)}
            rejected = merge_over_world(mine, self._parallel)  # what one rank cannot use is used by none
            advance(len(rejected))
            yield from rejected.values()
            prompts = [each for name, each in encoded.items() if name not in rejected and isinstance(each, Prompt)]
            for group in self._sample(prompts, self._sampling, progress=advance):
                yield _first_answer(group.prompt, group.completions[0], is_right=group.scores[0].first_correct)

    def _encoded(self, member: Question | Rejection) -> Prompt | Rejection:
        if isinstance(member, Rejection):
            return member
        try:
            return self._encoder.encode(member, self._system_prompt)
        except BadRecord as error:
            return Rejection(id=member.id, step=Step.ANSWER, reason=error.reason, detail=one_line(str(error)))


def _first_answer(prompt: Prompt, completion: Completion, *, is_right: bool) -> FirstAnswer:
    return FirstAnswer(
        **asked(prompt.question),
        text=completion.text,
        is_finished=completion.is_finished,
        is_right=is_right,
        prompt_tokens=len(prompt.token_ids),
        completion_tokens=len(completion.token_ids),
    )


class EngineAnswerer:
    """The policy of model.path: its engine is started with the first question, and gone after the last answer."""

    def __init__(self, config: Config, parallel: Parallel, display: Phases) -> None:
        self._config, self._parallel, self._display = config, parallel, display

    def answers(self, questions: Iterable[Question | Rejection], advance: Advance) -> Iterator[FirstAnswer | Rejection]:
        config, parallel = self._config, self._parallel
        model_dir = resolve_model(config, parallel, self._display)
        encoder = PromptEncoder.from_pretrained(model_dir, config.data.max_prompt_tokens)
        grader = Grader(config.reward)
        answer_format = one_answer_format(config, encoder, grader)
        engine = VllmEngine(
            model_dir, config.rollout, dtype=config.model.dtype, seed=config.run.seed,
            max_prompt_tokens=config.data.max_prompt_tokens, banned_ids=encoder.banned_ids, decode=encoder.decode,
            images=Pixels(), parallel=parallel,
        )  # fmt: skip

        def sample(prompts: list[Prompt], sampling: Sampling, progress: Advance) -> list[Group]:
            return sample_groups(
                engine, prompts, sampling, answer_format.score, policy_version=engine.policy_version,
                parallel=parallel, progress=progress,
            )  # fmt: skip

        policy = PolicyAnswerer(config, encoder, sample, parallel)
        try:
            yield from policy.answers(questions, advance)
        finally:
            grader.close()
            engine.close()
