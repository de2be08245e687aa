"""How the tests of the one real engine sample, and what they compare."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from srpo_fast.batch import Completion, Group, Prompt, Score
from srpo_fast.config import AdvantageConfig
from srpo_fast.parallel import Parallel
from srpo_fast.policy import Policy
from srpo_fast.rollout import RolloutEngine, Sampling, sample_groups, vllm_touch_points
from srpo_fast.rollout.group_growth import grow_groups
from srpo_fast.sequences import training_sequences
from tests.policy_case import packer

MAX_TOKENS = 24


def sampling(samples: int = 4, temperature: float = 1.0, stream: tuple[int | str, ...] = (0, "rollout", 0)) -> Sampling:
    return Sampling(samples=samples, temperature=temperature, max_tokens=MAX_TOKENS, stream=stream)


def tokens(groups: list[tuple[Completion, ...]]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in group] for group in groups]


def score(groups: Sequence[tuple[Prompt, Sequence[Completion]]]) -> list[tuple[Score, ...]]:
    return [tuple(first_token(completion, prompt) for completion in group) for prompt, group in groups]


def first_token(completion: Completion, prompt: Prompt) -> Score:
    return Score(
        total=float(completion.token_ids[0]), format=0, accuracy=0, effectiveness=0, reflection_format=0,
        length=0, first_correct=False, second_correct=False, reasons=(prompt.question.id,),
    )  # fmt: skip


def largest_mismatch(
    policy: Policy, engine: RolloutEngine, prompts: list[Prompt], model_dir: Path, parallel: Parallel
) -> float:
    """The largest |engine - policy| log-prob of tokens sampled now."""
    groups = sample_groups(
        engine, prompts, sampling(), score, policy_version=policy.version, parallel=parallel
    )  # fmt: skip
    batch = packer(model_dir, parallel, 512)(training_sequences(groups, AdvantageConfig(), MAX_TOKENS))
    pairs = zip(batch.micro_batches, policy.logprobs(batch), strict=True)
    return max((logprobs - m.rollout_logprobs).abs().max().item() for m, logprobs in pairs if logprobs is not None)


def extend(engine: RolloutEngine, groups: list[Group], how: Sampling) -> list[Group]:
    """The groups as one call leaves them; whole ones come first."""
    found = dict(grow_groups(engine, groups, how, policy_version=engine.policy_version))
    is_open = [any(c.is_open(how.max_tokens) for c in completions) for completions in found.values()]
    assert is_open == sorted(is_open)
    return [replace(group, completions=found[place]) for place, group in enumerate(groups)]


def cut_off(group: Group, length: int) -> Group:
    """As if sampling had been ended there; shorter completions are done."""

    def cut(c: Completion) -> Completion:
        if len(c.token_ids) <= length:
            return c
        return replace(
            c, token_ids=c.token_ids[:length], rollout_logprobs=c.rollout_logprobs[:length], is_finished=False
        )

    return replace(group, completions=tuple(cut(c) for c in group.completions))


def mismatches(policy: Policy, groups: list[Group], model_dir: Path, parallel: Parallel) -> torch.Tensor:
    """|stored - policy's| log-prob of every token, in order."""
    scored = [replace(group, scores=tuple(first_token(c, group.prompt) for c in group.completions)) for group in groups]
    found = []
    for sequence in training_sequences(scored, AdvantageConfig(), MAX_TOKENS):
        batch = packer(model_dir, parallel, 512)([sequence])
        (logprobs,) = policy.logprobs(batch)
        found.append((logprobs - batch.micro_batches[0].rollout_logprobs).abs())
    return torch.cat(found)


class Pages:
    """What vLLM's CPU worker lacks: memory that can be unmapped. It goes, and comes back, full of NaN."""

    def __init__(self, memory: vllm_touch_points.EngineMemory) -> None:
        self.cache = memory._kv_cache()
        self.mapped = self.size = memory.kv_cache_bytes()

    def discard(self, worker: object, tags: tuple[str, ...]) -> None:
        assert tags == ("kv_cache",)
        self._fill(0)

    def wake_up(self, worker: object, tags: list[str]) -> None:
        assert tags == ["kv_cache"]
        self._fill(self.size)

    def _fill(self, mapped: int) -> None:
        self.mapped = mapped
        for part in self.cache:
            part.fill_(255)

    def free(self) -> int:
        return 2 * self.size - self.mapped

    def held_beside_torch(self) -> int:
        return self.mapped

    def give_back(self) -> None:
        pass
