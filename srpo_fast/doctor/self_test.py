"""Do engine and policy agree on this machine? The same check that every run makes before its first step."""

import tempfile
from functools import partial
from pathlib import Path

from srpo_fast.agreement import LIMITS, MAX_TOKENS, make_prompts, measure_agreement
from srpo_fast.config import OptimizerConfig, ParallelConfig, RolloutConfig, UserError
from srpo_fast.doctor.finding import Finding, error, ok
from srpo_fast.embedded.model import write_untrained_model
from srpo_fast.image_marks import images_in_words
from srpo_fast.model_limits import cache_gib, read_model_dir, rounded_up
from srpo_fast.packing import make_packer
from srpo_fast.parallel import start
from srpo_fast.policy import Policy
from srpo_fast.prompts import PromptEncoder
from srpo_fast.rollout import Features, VllmEngine
from srpo_fast.weight_sync import WeightSync, fill_engine

MAX_PROMPT_TOKENS = 1024


def check_agreement(model: Path | None, dtype: str, kv_cache_gib: float) -> list[Finding]:
    """A finding for prompts with no, one and two images; model None: the embedded one with random weights.

    It ends this process's group: nothing collective may follow.
    """
    with tempfile.TemporaryDirectory() as folder:
        if model is None:
            model = Path(folder)
            write_untrained_model(model, seed=0)
        _require_cache(model, dtype, kv_cache_gib)
        parallel = start(ParallelConfig())
        encoder = PromptEncoder.from_pretrained(model, MAX_PROMPT_TOKENS)
        policy = Policy(model, dtype=dtype, seed=0, parallel=parallel, banned_ids=encoder.banned_ids, temperature=1.0)
        engine = VllmEngine(
            model, RolloutConfig(max_tokens=MAX_TOKENS, kv_cache_gib=kv_cache_gib, max_num_seqs=16), dtype=dtype,
            seed=0, max_prompt_tokens=MAX_PROMPT_TOKENS, banned_ids=encoder.banned_ids, decode=encoder.decode,
            images=Features(policy.vision.features_for_engine), parallel=parallel,
            fill=partial(fill_engine, policy, "copy"),
        )  # fmt: skip
        WeightSync(policy, engine, RolloutConfig(), parallel).run()
        pack = make_packer(model, encoder, OptimizerConfig(), parallel, train_vision=False)
        findings = []
        for prompt in make_prompts(encoder):
            found = measure_agreement(policy, engine, [prompt], pack, parallel)
            says = f"mean difference in log-prob {found.mean:.1e}, largest {found.largest:.1e}, {found.tokens} tokens"
            subject = f"engine = policy, {images_in_words(found.images)}"
            remedy = f"above the limit of {LIMITS[dtype]:.0e} for {dtype}: install the locked versions"
            findings.append(ok(subject, says) if found.mean <= LIMITS[dtype] else error(subject, says, remedy))
        engine.close()
    return findings


def _require_cache(model: Path, dtype: str, kv_cache_gib: float) -> None:
    needed = cache_gib(read_model_dir(model).text, MAX_PROMPT_TOKENS + MAX_TOKENS, dtype, tp=1)
    if kv_cache_gib < needed:
        raise UserError(f"--kv-cache-gib {kv_cache_gib:g} holds no sequence; expected at least {rounded_up(needed):g}")
