"""First answers of the policy, sampled in this process."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from srpo_fast.answer_format import one_answer_format
from srpo_fast.batch import Completion, Group, Prompt, Question
from srpo_fast.config import Config
from srpo_fast.monitor.progress import Phases
from srpo_fast.parallel import Parallel
from srpo_fast.prompts import PromptEncoder, PromptTooLong
from srpo_fast.reflection.answers import Advance, asked
from srpo_fast.reflection.records import FirstAnswer, Reason, Rejection, Step
from srpo_fast.rollout import RolloutEngine, Sampling, sample_groups
from srpo_fast.sources import resolve_model
from srpo_fast.verdicts import Grader

ROUND = 8  # times the sequences that the engines hold at once
SampleGroups = Callable[[list[Prompt], Advance], Sequence[Group]]


class PolicyAnswerer:
    """The policy, sampled by the engines of all ranks: every rank makes the same calls and gets every answer."""

    def __init__(self, encoder: PromptEncoder, system_prompt: str, sample: SampleGroups, round_size: int) -> None:
        """round_size: questions sampled at a time, and lost when the process is killed among them."""
        self._encoder, self._system_prompt = encoder, system_prompt
        self._sample, self._round_size = sample, round_size

    def answers(self, questions: Iterable[Question | Rejection], advance: Advance) -> Iterator[FirstAnswer | Rejection]:
        """One result a question."""
        questions = iter(questions)
        while members := list(islice(questions, self._round_size)):
            encoded = [self._encoded(member) for member in members]
            prompts = [each for each in encoded if isinstance(each, Prompt)]
            rejections = [each for each in encoded if isinstance(each, Rejection)]
            advance(len(rejections))
            yield from rejections
            for group in self._sample(prompts, advance):
                yield _first_answer(group.prompt, group.completions[0], is_right=group.scores[0].first_correct)

    def _encoded(self, member: Question | Rejection) -> Prompt | Rejection:
        if isinstance(member, Rejection):
            return member
        try:
            return self._encoder.encode(member, self._system_prompt)
        except PromptTooLong as error:
            return Rejection(id=member.id, step=Step.ANSWER, reason=Reason.PROMPT_TOO_LONG, detail=str(error))


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
        engine = RolloutEngine(
            model_dir, config.rollout, dtype=config.model.dtype, seed=config.run.seed,
            max_prompt_tokens=config.data.max_prompt_tokens, banned_ids=encoder.banned_ids, decode=encoder.decode,
            parallel=parallel,
        )  # fmt: skip

        def sample(prompts: list[Prompt], progress: Advance) -> list[Group]:
            return sample_groups(
                engine, prompts, first_answer_sampling(config), answer_format.score,
                policy_version=engine.policy_version, parallel=parallel, progress=progress,
            )  # fmt: skip

        policy = PolicyAnswerer(encoder, answer_format.system_prompt, sample, ROUND * config.rollout.max_num_seqs)
        try:
            yield from policy.answers(questions, advance)
        finally:
            grader.close()
            engine.close()


def first_answer_sampling(config: Config) -> Sampling:
    """How the policy is sampled."""
    assert config.reflection is not None
    return Sampling(
        samples=1,
        temperature=config.reflection.temperature,
        max_tokens=config.reflection.max_tokens,
        stream=(config.run.seed, "stage 1"),
    )
