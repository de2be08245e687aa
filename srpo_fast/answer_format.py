"""What a completion is asked to look like, and how it is then scored: one answer, or answer, reflection and answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from srpo_fast.batch import Completion, Prompt, Score
from srpo_fast.config import Config, RewardConfig
from srpo_fast.grading.grader import Grader
from srpo_fast.prompts import PromptEncoder
from srpo_fast.rewards.scoring import Sample, Scorer, gold_of, make_scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFormat:
    system_prompt: str
    num_answers: int  # 1 or 2
    reward: RewardConfig
    scorer: Scorer
    eos_token_id: int

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Completion]]]) -> list[tuple[Score, ...]]:
        """The rewards of every prompt's completions, all at once; a length counts every token but the end of turn."""
        samples = [
            Sample(text=completion.text, gold=gold, total_tokens=self._num_tokens(completion))
            for prompt, group in groups
            for gold in [gold_of(prompt.question.answer, prompt.question.text, self.reward)]
            for completion in group
        ]
        scores = iter(self.scorer(samples))
        return [tuple(next(scores) for _ in group) for _, group in groups]

    def _num_tokens(self, completion: Completion) -> int:
        return len(completion.token_ids) - (completion.token_ids[-1:] == (self.eos_token_id,))


def one_answer_format(config: Config, encoder: PromptEncoder, grader: Grader) -> AnswerFormat:
    """Stage 1's: the policy thinks and answers once."""
    reward = config.reward.model_copy(update={"variant": "grpo"})
    return _format(config.prompt.answer_system, reward, encoder, grader)


def rollout_format(config: Config, encoder: PromptEncoder, grader: Grader) -> AnswerFormat:
    """Stage 2's, as the reward has it."""
    return _format(config.prompt.rollout_system, config.reward, encoder, grader)


def _format(system_prompt: str, reward: RewardConfig, encoder: PromptEncoder, grader: Grader) -> AnswerFormat:
    return AnswerFormat(
        system_prompt=system_prompt,
        num_answers=1 if reward.variant == "grpo" else 2,
        reward=reward,
        scorer=make_scorer(reward, encoder.count_tokens, grader),
        eos_token_id=encoder.eos_token_id,
    )
