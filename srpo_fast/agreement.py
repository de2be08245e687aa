"""Do engine and policy agree? Log-probs of the same sampled tokens, the engine's against the packed trainer's.

Where weights, pictures, positions and temperature are the same in both, they differ by rounding alone; one wrong row of
any of them shows as a difference a hundred times larger.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from srpo_fast.batch import Completion, Prompt, Question, TrainingSequence
from srpo_fast.config import Config
from srpo_fast.image_marks import images_in_words
from srpo_fast.images import resize_once
from srpo_fast.packing import Packer
from srpo_fast.parallel import Parallel, gather_from_ranks
from srpo_fast.policy import Policy
from srpo_fast.prompts import PromptEncoder, PromptTooLong
from srpo_fast.rollout import RolloutEngine, Sampling, sample_all
from srpo_fast.weight_sync import EngineMismatch

SAMPLES, MAX_TOKENS = 4, 32  # completions a prompt, tokens a completion
SIZES = ((112, 56), (84, 84))  # of the pictures; a mean over some hundred tokens shows whatever is wrong
LIMITS = {"float32": 1e-5, "bfloat16": 0.02}  # of the mean |difference|: fp32 rounds to 1e-6, bf16 to 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """|engine - policy| log-prob of tokens that were sampled after prompts with so many images."""

    images: int
    tokens: int
    mean: float
    largest: float


def check_agreement(
    policy: Policy, engine: RolloutEngine, encoder: PromptEncoder, pack: Packer, config: Config, parallel: Parallel
) -> str:
    """What was found after prompts with no, one and two images, in a line; a collective.

    Raises EngineMismatch, on every rank, when a mean is above loss.mismatch_stop and above what the dtype explains.
    """
    limit = max(LIMITS[config.model.dtype], config.loss.mismatch_stop)
    max_tokens = min(MAX_TOKENS, config.rollout.max_tokens)
    found = [measure_agreement(policy, engine, [p], pack, parallel, max_tokens) for p in make_prompts(encoder)]
    for agreement in found:
        if not agreement.mean <= limit:  # also catches NaN
            raise EngineMismatch(
                f"engine and policy disagree by {agreement.mean:.1e} in log-prob on average after a prompt with "
                f"{images_in_words(agreement.images)} (limit {limit:.0e}, largest {agreement.largest:.1e}); nothing "
                "was trained. Is the model a Qwen2.5-VL, and vLLM of the version that is locked?"
            )
    means = ", ".join(f"{agreement.mean:.1e} ({images_in_words(agreement.images)})" for agreement in found)
    return f"engine and policy agree: mean difference in log-prob {means}; limit {limit:.0e}"


def measure_agreement(
    policy: Policy, engine: RolloutEngine, prompts: Sequence[Prompt], pack: Packer, parallel: Parallel,
    max_tokens: int = MAX_TOKENS,
) -> Agreement:  # fmt: skip
    """Samples from every engine, whose weights have to be the policy's by now."""
    sampling = Sampling(samples=SAMPLES, temperature=1.0, max_tokens=max_tokens, stream=("agreement", policy.version))
    groups = sample_all(engine, prompts, sampling, policy_version=policy.version)
    batch = pack([_sequence(p, c) for p, group in zip(prompts, groups, strict=True) for c in group])
    pairs = zip(batch.micro_batches, policy.logprobs(batch), strict=True)
    own = [logprobs.cpu() - m.rollout_logprobs for m, logprobs in pairs if logprobs is not None]
    policy.vision.forget()
    everyone = torch.cat(gather_from_ranks(torch.cat([torch.zeros(0), *own]), parallel)).abs()
    return Agreement(
        images=max(len(prompt.question.images) for prompt in prompts), tokens=len(everyone),
        mean=everyone.mean().item(), largest=everyone.max().item(),
    )  # fmt: skip


def make_prompts(encoder: PromptEncoder) -> list[Prompt]:
    """With no, one and two images, of noise: every patch is another. Those that fit the encoder's longest prompt."""
    chance = np.random.default_rng(0)
    pictures = [Image.fromarray(chance.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]
    least, most = encoder.pixel_budget
    pictures = [resize_once(picture, min_pixels=least, max_pixels=most) for picture in pictures]
    texts = ("What is 3 + 4?", "<image>What is this?", "Which is larger, <image> or <image>?")
    prompts = []
    for n, text in enumerate(texts):
        question = Question(id=f"agreement-{n}", text=text, images=tuple(pictures[:n]), answer="")
        with suppress(PromptTooLong):
            prompts.append(encoder.encode(question, "Answer."))
    return prompts


def _sequence(prompt: Prompt, completion: Completion) -> TrainingSequence:
    return TrainingSequence(
        prompt=prompt, completion_ids=completion.token_ids, loss_mask=(True,) * len(completion.token_ids),
        advantage=1.0, rollout_logprobs=completion.rollout_logprobs, token_weight=1.0,
    )  # fmt: skip
