"""What a completion is asked to look like, and how it is then scored: one answer, or answer, reflection and answer."""

from dataclasses import dataclass

from srpo_fast.batch import Completion, Prompt, Score
from srpo_fast.config import Config, RewardConfig
from srpo_fast.prompts import PromptEncoder
from srpo_fast.rewards import Scorer, make_scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFormat:
    system_prompt: str
    num_answers: int  # 1 or 2
    scorer: Scorer
    eos_token_id: int

    def score(self, completion: Completion, prompt: Prompt) -> Score:
        """The reward of a completion; its length counts every token but the end of turn."""
        num_tokens = len(completion.token_ids) - (completion.token_ids[-1:] == (self.eos_token_id,))
        return self.scorer(completion.text, prompt.question.answer, num_tokens)


def one_answer_format(config: Config, encoder: PromptEncoder) -> AnswerFormat:
    """Stage 1's: the policy thinks and answers once."""
    return _format(config.prompt.answer_system, RewardConfig(variant="grpo"), encoder)


def rollout_format(config: Config, encoder: PromptEncoder) -> AnswerFormat:
    """Stage 2's, as the reward has it."""
    return _format(config.prompt.rollout_system, config.reward, encoder)


def _format(system_prompt: str, reward: RewardConfig, encoder: PromptEncoder) -> AnswerFormat:
    return AnswerFormat(
        system_prompt=system_prompt,
        num_answers=1 if reward.variant == "grpo" else 2,
        scorer=make_scorer(reward, encoder.num_tokens),
        eos_token_id=encoder.eos_token_id,
    )
