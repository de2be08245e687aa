"""The measured half of estimate_check: bytes that one update adds to a process, as the kernel counts them."""

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl  # noqa: F401 - libraries count as the process

from benchmarks.estimate_check import Case
from srpo_fast.batch import Prompt, Question, TrainingSequence
from srpo_fast.config import LossConfig, OptimizerConfig, ParallelConfig
from srpo_fast.flops import UpdateFlops
from srpo_fast.loss import objective_of, srpo_loss, with_token_weights
from srpo_fast.model_shape import PUBLISHED
from srpo_fast.packing import PackedBatch, pack
from srpo_fast.parallel import start
from srpo_fast.policy import Policy

IMAGE_TOKEN = 3  # any id: it only marks rows here


def main(folder: Path, case: Case) -> dict[str, float]:
    torch.manual_seed(0)
    parallel = start(ParallelConfig())
    process = resident()
    policy = Policy(
        folder,
        dtype=case.dtype,
        seed=0,
        parallel=parallel,
        banned_ids=(1, 2),
        temperature=1.0,
        recompute=case.recompute,
    )
    weights_and_gradients = resident() - process
    loss, batch = srpo_loss(objective_of(LossConfig())), packed(case, case.sequences)
    policy.forward_backward(packed(case, 1), loss)  # libraries allocate on first use: that counts as theirs
    held = resident()
    process = held - weights_and_gradients
    assert policy.vision is not None
    images = peak_of(lambda: policy.vision.features_of(batch.image_prompts, last_pass=True)) - held
    passes = peak_of(lambda: policy.forward_backward(batch, loss)) - held
    policy.new_optimizer(OptimizerConfig())
    step = peak_of(lambda: policy.step(1e-6))
    with_optimizer = resident()
    return {
        "process": process,
        "weights and gradients": weights_and_gradients,
        "images": images,
        "forward and backward": passes,
        "optimizer": with_optimizer - held,
        "optimizer's step": step - with_optimizer,
        "peak": max(held + images, held + passes, step) - process,
    }


def packed(case: Case, count: int) -> PackedBatch:
    sequences = with_token_weights([sequence(case, number) for number in range(count)], "completion")
    budget = count * (case.prompt_tokens + case.completion_tokens)
    return pack(
        sequences, tokens_per_micro_batch=budget, dp=1, dp_rank=0, merge_size=2, image_token_id=IMAGE_TOKEN,
        flops=UpdateFlops(shape=PUBLISHED["3b"], train_vision=False),  # only weighs ranks against each other
    )  # fmt: skip


def sequence(case: Case, number: int) -> TrainingSequence:
    patches = case.image_side**2
    tokens = torch.full((case.prompt_tokens,), 5)
    tokens[: patches // 4] = IMAGE_TOKEN
    prompt = Prompt(
        question=Question(id=str(number), text="", images=(), answer=""),
        engine_token_ids=(),
        token_ids=tokens,
        position_ids=torch.arange(case.prompt_tokens).expand(3, -1),
        pixel_values=torch.randn(patches, 3 * 2 * 14 * 14),
        image_grid_thw=torch.tensor([[1, case.image_side, case.image_side]]),
    )
    length = case.completion_tokens
    return TrainingSequence(
        prompt=prompt, completion_ids=tuple(range(10, 10 + length)), loss_mask=(True,) * length, advantage=1.0 - number,
        rollout_logprobs=(-9.0,) * length, token_weight=0.0,
    )  # fmt: skip


def peak_of(run: Callable[[], object]) -> float:
    """The most that was resident while it ran."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    run()
    return status("VmHWM")


def resident() -> float:
    gc.collect()
    return status("VmRSS")


def status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Case(**json.loads(sys.argv[2])))))
