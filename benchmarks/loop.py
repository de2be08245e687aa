"""What the loop costs beside the engine: rollouts against a bare LLM.generate, and the seconds of a step by part.

The first two take turns in one process, on the same prompts, seeds and sampling parameters. The seconds are those of a
short run of the embedded config. The last line of stdout is one JSON document.
"""

import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import srpo_fast  # noqa: F401 - sets the environment before torch and vLLM are imported

# isort: split
from benchmarks.machine import machine
from benchmarks.options import LEAST_ROUNDS, at_least, in_one_line
from benchmarks.short_run import seconds_by_phase
from benchmarks.timing import Spread
from srpo_fast.config import ParallelConfig, RolloutConfig
from srpo_fast.embedded.model import write_untrained_model
from srpo_fast.embedded.task import load_questions
from srpo_fast.parallel import start
from srpo_fast.policy import Policy
from srpo_fast.prompts import PromptEncoder
from srpo_fast.rollout import Features, Sampling, VllmEngine, sample_all
from srpo_fast.user_error import CommandParser
from srpo_fast.weight_sync import WeightSync, fill_engine

PROMPTS, GROUP_SIZE, MAX_TOKENS = 16, 8, 64


def rollout_ratio(model_dir: Path, rounds: int) -> dict[str, float]:
    """Tokens per second of `sample_all` over those of vLLM's own generate, both of the same requests."""
    parallel = start(ParallelConfig())
    encoder = PromptEncoder.from_pretrained(model_dir, max_prompt_tokens=96)
    banned = encoder.banned_ids
    policy = Policy(model_dir, dtype="float32", seed=0, parallel=parallel, banned_ids=banned, temperature=1.0)
    engine = VllmEngine(
        model_dir, RolloutConfig(max_tokens=MAX_TOKENS, kv_cache_gib=0.25, max_num_seqs=128), dtype="float32", seed=0,
        max_prompt_tokens=96, banned_ids=banned, decode=encoder.decode,
        images=Features(policy.vision.features_for_engine), parallel=parallel,
        fill=partial(fill_engine, policy, "copy"),
    )  # fmt: skip
    WeightSync(policy, engine, RolloutConfig(), parallel).run()
    prompts = [encoder.encode(question, "Answer.") for question in load_questions("train", PROMPTS, seed=0)]
    sampling = Sampling(samples=GROUP_SIZE, temperature=1.0, max_tokens=MAX_TOKENS, stream=("bench",))
    requests, parameters = engine.inputs([sampling.request(prompt) for prompt in prompts])
    counts: dict[str, int] = {}

    def ours() -> None:
        groups = sample_all(engine, prompts, sampling, policy_version=policy.version)
        counts["ours"] = sum(len(completion.token_ids) for group in groups for completion in group)

    def bare() -> None:
        outputs = engine.llm.generate(requests, parameters, use_tqdm=False)
        counts["bare"] = sum(len(completion.token_ids) for output in outputs for completion in output.outputs)

    seconds: dict[Callable[[], None], list[float]] = {ours: [], bare: []}
    for turn in range(rounds + 1):
        for way in (ours, bare) if turn % 2 else (bare, ours):
            engine.weights_changed(policy.version)  # as after a sync: no prefix is known
            begin = time.perf_counter()
            way()
            if turn:  # the first warms up
                seconds[way].append(time.perf_counter() - begin)
    assert counts["ours"] == counts["bare"], f"the same seeds gave other tokens: {counts}"
    ratios = [b / o for b, o in zip(seconds[bare], seconds[ours], strict=True)]
    engine.close()
    return {
        "tokens": counts["ours"],
        "ours_tokens_per_s": counts["ours"] / Spread.of(seconds[ours]).p50,
        "bare_tokens_per_s": counts["bare"] / Spread.of(seconds[bare]).p50,
        "ratio_to_bare": Spread.of(ratios).p50,
    }


def main() -> None:
    parser = CommandParser(prog="srpo bench loop", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON document")
    parser.add_argument("--rounds", type=at_least(LEAST_ROUNDS), default=11)
    parser.add_argument("--ranks", type=at_least(1), default=2, help="of the short run")
    options = parser.parse_args()
    found: dict[str, Any] = {"seconds": seconds_by_phase(options.ranks)}
    with tempfile.TemporaryDirectory() as folder:
        write_untrained_model(Path(folder), seed=0)
        found |= rollout_ratio(Path(folder), options.rounds)
    for name, value in () if options.json else found["seconds"].items():
        print(f"{name:<22} {value:8.3f} s")
    if not options.json:
        print(f"rollouts at {found['ratio_to_bare']:.1%} of a bare LLM.generate")
    print(json.dumps(found | machine()))


if __name__ == "__main__":
    in_one_line(main)
