"""Run under torchrun: two engines share prompts in several ways, and score while they sample; rank 0 prints JSON.

Arguments: a model directory, a file.py:function that is slow.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from srpo_fast.answer_format import AnswerFormat
from srpo_fast.batch import Completion, Group, Prompt, Score
from srpo_fast.config import ParallelConfig, RewardConfig, RolloutConfig
from srpo_fast.grading.grader import Grader
from srpo_fast.parallel import Parallel, gather_from_ranks, start, stop
from srpo_fast.rewards.scoring import make_scorer
from srpo_fast.rollout import Pixels, Sampling, VllmEngine, sample_groups
from tests.policy_case import SYSTEM, make_question, open_encoder
from tests.test_rollout_sharing import make_completions

PROMPTS, SAMPLES, MAX_TOKENS = 16, 4, 16


class Case:
    def __init__(self, model_dir: Path, function: str, parallel: Parallel) -> None:
        encoder = open_encoder(model_dir)
        self.parallel = parallel
        self.prompts = [encoder.encode(make_question(f"{n}", f"What is {n} + 4?"), SYSTEM) for n in range(PROMPTS)]
        self.engine = VllmEngine(
            model_dir, RolloutConfig(max_tokens=MAX_TOKENS, kv_cache_gib=0.0625, max_num_seqs=8), dtype="float32",
            seed=0, max_prompt_tokens=96, banned_ids=encoder.banned_ids, decode=encoder.decode, images=Pixels(),
            parallel=parallel,
        )  # fmt: skip
        self.engine.policy_version = 0  # of the directory's weights
        reward = RewardConfig(variant=function)
        scorer = make_scorer(reward, encoder.count_tokens, Grader(reward))
        self.format = AnswerFormat(
            system_prompt="", num_answers=1, reward=reward, scorer=scorer, eos_token_id=encoder.eos_token_id
        )
        self.sampling = Sampling(samples=SAMPLES, temperature=1.0, max_tokens=MAX_TOKENS, stream=("sharing",))

    def sample(self, prompts: list[Prompt], **how: Any) -> list[Group]:
        return sample_groups(
            self.engine, prompts, replace(self.sampling, **how), self.format.score, policy_version=0,
            parallel=self.parallel,
        )  # fmt: skip

    def expect(self, lengths: list[int]) -> None:
        for prompt, length in zip(self.prompts, lengths, strict=True):
            self.engine.lengths.learn(prompt, make_completions(length))

    def scored_while_sampling(self) -> float:
        """The share of this rank's groups that the scorer was given before the engine was done."""
        given: list[float] = []
        ends: list[float] = []

        def score(groups: Sequence[tuple[Prompt, Sequence[Completion]]]) -> list[tuple[Score, ...]]:
            given.extend([time.perf_counter()] * len(groups))
            return self.format.score(groups)

        def generate(*args: Any, **kwargs: Any) -> Any:
            yield from VllmEngine.generate(self.engine, *args, **kwargs)
            ends.append(time.perf_counter())

        with patch.object(self.engine, "generate", generate):
            sample_groups(self.engine, self.prompts, self.sampling, score, policy_version=0, parallel=self.parallel)
        return sum(begin < ends[0] for begin in given) / len(given)


def told(groups: list[Group]) -> dict[str, Any]:
    return {
        "tokens": [[list(c.token_ids) for c in group.completions] for group in groups],
        "logprobs": [[list(c.rollout_logprobs) for c in group.completions] for group in groups],
        "scores": [[score.total for score in group.scores] for group in groups],
        "engines": [group.engine for group in groups],
    }


def refused(case: Case) -> str:
    """What every rank says when one of them has other prompts."""
    prompts = case.prompts if case.parallel.is_main else case.prompts[::-1]
    try:
        case.sample(prompts)
    except RuntimeError as error:
        return str(error)
    return "nothing"


def main(model_dir: Path, function: str) -> None:
    parallel = start(ParallelConfig())
    case = Case(model_dir, function, parallel)
    dealt = told(case.sample(case.prompts))
    case.expect([1000, 10] * (PROMPTS // 2))  # dealt round, one engine would have all the long ones
    balanced = told(case.sample(case.prompts))
    case.expect([1000] + [1] * (PROMPTS - 1))
    lopsided = told(case.sample(case.prompts))
    on_demand = told(case.sample(case.prompts, sharing="on_demand"))
    in_part = case.sample(case.prompts, sharing="on_demand", finish_share=0.5)
    found = {
        "dealt": dealt,
        "balanced": balanced,
        "lopsided": lopsided,
        "on_demand": on_demand,
        "is_whole": [bool(group.scores) for group in in_part],
        "refused": refused(case),
        "scored_while_sampling": case.scored_while_sampling(),
    }
    everyone = gather_from_ranks(found, parallel)
    if parallel.is_main:
        print(json.dumps(everyone), flush=True)
    case.engine.close()
    stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
