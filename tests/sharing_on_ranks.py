"""Run under torchrun: two engines share prompts in several ways, and score while they sample; rank 0 prints JSON.

Arguments: a model directory, a file.py:function that is slow.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from srpo_fast.answer_format import AnswerFormat
from srpo_fast.batch import Group, Prompt
from srpo_fast.config import ParallelConfig, RewardConfig, RolloutConfig
from srpo_fast.grading.grader import Grader
from srpo_fast.parallel import Parallel, barrier, gather_from_ranks, start, stop
from srpo_fast.rewards.scoring import make_scorer
from srpo_fast.rollout import RolloutEngine, Sampling, sample_groups
from srpo_fast.rollout.sharing import share_out
from tests.policy_case import SYSTEM, make_question, open_encoder
from tests.test_rollout_sharing import make_completions

PROMPTS, SAMPLES, MAX_TOKENS, ROUNDS = 16, 4, 16, 3


class Case:
    def __init__(self, model_dir: Path, function: str, parallel: Parallel) -> None:
        encoder = open_encoder(model_dir)
        self.parallel = parallel
        self.prompts = [encoder.encode(make_question(f"{n}", f"What is {n} + 4?"), SYSTEM) for n in range(PROMPTS)]
        self.engine = RolloutEngine(
            model_dir, RolloutConfig(max_tokens=MAX_TOKENS, kv_cache_gib=0.0625, max_num_seqs=8), dtype="float32",
            seed=0, max_prompt_tokens=96, banned_ids=encoder.banned_ids, decode=encoder.decode, parallel=parallel,
        )  # fmt: skip
        self.engine.policy_version = 0  # of the directory's weights
        reward = RewardConfig(variant=function)
        scorer = make_scorer(reward, encoder.count_tokens, Grader(reward))
        self.format = AnswerFormat(
            system_prompt="", num_answers=1, reward=reward, scorer=scorer, eos_token_id=encoder.eos_token_id
        )
        self.sampling = Sampling(samples=SAMPLES, temperature=1.0, max_tokens=MAX_TOKENS, stream=("sharing",))

    def sample(self, prompts: list[Prompt]) -> list[Group]:
        return sample_groups(
            self.engine, prompts, self.sampling, self.format.score, policy_version=0, parallel=self.parallel
        )

    def expect(self, lengths: list[int]) -> None:
        for prompt, length in zip(self.prompts, lengths, strict=True):
            self.engine.lengths.learn(prompt, make_completions(length))

    def seconds(self) -> dict[str, list[float]]:
        """Of sampling alone, scoring alone, and both, in turns."""
        share = share_out([1.0] * PROMPTS, self.parallel.engines)[self.parallel.engine_rank]
        mine = [self.prompts[place] for place in share]
        found: dict[str, list[float]] = {"sampling": [], "scoring": [], "both": []}
        for _ in range(ROUNDS):
            self.expect([1] * PROMPTS)
            groups = timed(partial(self.engine.generate, mine, self.sampling, policy_version=0), found["sampling"])
            timed(partial(self.format.score, list(zip(mine, groups, strict=True))), found["scoring"])
            timed(partial(self.sample, self.prompts), found["both"])
        return found


def timed(action: Callable[[], Any], seconds: list[float]) -> Any:
    barrier()
    begin = time.perf_counter()
    result = action()
    barrier()
    seconds.append(time.perf_counter() - begin)
    return result


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
    found = {
        "dealt": dealt, "balanced": balanced, "lopsided": lopsided, "refused": refused(case),
        "seconds": {name: statistics.median(values) for name, values in case.seconds().items()},
    }  # fmt: skip
    everyone = gather_from_ranks(found, parallel)
    if parallel.is_main:
        print(json.dumps(everyone), flush=True)
    case.engine.close()
    stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
