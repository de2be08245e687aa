"""One update for policies to agree on: prompts with none, one and two images, several completions, uneven lengths."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state
from PIL import Image
from torch import Tensor

from srpo_fast.batch import Question, TrainingSequence
from srpo_fast.config import OptimizerConfig
from srpo_fast.loss import with_token_weights
from srpo_fast.packing import Packer, make_packer
from srpo_fast.parallel import Parallel
from srpo_fast.policy import Policy
from srpo_fast.prompts import PromptEncoder

# Adam divides a gradient by its own size: of the tiniest elements it shows the rounding, as a share of lr
OPTIMIZER = OptimizerConfig(lr=2e-5, betas=(0.9, 0.99))
SYSTEM = "reflect"
WIDE, TALL, SMALL = (112, 28), (56, 84), (28, 28)


def make_question(name: str, text: str, *sizes: tuple[int, int]) -> Question:
    """A question with a noise image of every (width, height)."""
    rng = np.random.default_rng(len(name) + len(text))
    images = tuple(Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes)
    return Question(id=name, text=text, images=images, answer="9")


QUESTIONS = (
    make_question("none", "What is 3 + 4?"),
    make_question("one", "<image>What is the sum of the digits?", WIDE),
    make_question("two", "Which is larger, <image> or <image>?", TALL, SMALL),
)


def open_encoder(model_dir: Path) -> PromptEncoder:
    return PromptEncoder.from_pretrained(model_dir, max_prompt_tokens=96)


def open_policy(model_dir: Path, parallel: Parallel, dtype: str = "float32", **settings: Any) -> Policy:
    encoder = open_encoder(model_dir)
    return Policy(
        model_dir, dtype=dtype, seed=0, parallel=parallel, banned_ids=encoder.banned_ids, temperature=1.0,
        **settings,
    )  # fmt: skip


def make_sequences(model_dir: Path, questions: tuple[Question, ...] = QUESTIONS) -> list[TrainingSequence]:
    """Two completions of every question, weighted, with masks, advantages and log-probs an engine could have sent."""
    encoder, chance = open_encoder(model_dir), torch.Generator().manual_seed(0)
    sequences = []
    for number, question in enumerate(questions * 2):
        length = 3 + 4 * number
        sequences.append(
            TrainingSequence(
                prompt=encoder.encode(question, SYSTEM),
                completion_ids=tuple(torch.randint(256, (length,), generator=chance).tolist()),
                loss_mask=tuple(i % 6 != 4 for i in range(length)),
                advantage=1.5 - number,
                rollout_logprobs=tuple((-5.9 + 0.1 * torch.randn(length, generator=chance)).tolist()),
                token_weight=0.0,
            )
        )
    return with_token_weights(sequences, "completion")


def packer(model_dir: Path, parallel: Parallel, tokens_per_micro_batch: int, *, share_prompts: bool = False) -> Packer:
    settings = OptimizerConfig(tokens_per_micro_batch=tokens_per_micro_batch, share_prompts=share_prompts)
    return make_packer(model_dir, open_encoder(model_dir), settings, parallel, train_vision=False)


def perturb(policy: Policy, size: float, seed: int) -> None:
    """Moves every weight of an unsharded policy."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.language_model.parameters():
            parameter += size * torch.randn(parameter.shape, generator=chance)


@torch.no_grad()
def gradients_of(policy: Policy) -> dict[str, Tensor]:
    """The update's gradient of every whole tensor, by Hugging Face names; it travels as if it were the weights."""
    if policy.parallel.distributed_optimizer:
        _complete_gradients(policy)
    parameters = [p for p in policy.language_model.parameters() if p.requires_grad]
    weights = [parameter.clone() for parameter in parameters]
    for parameter in parameters:
        parameter.copy_(parameter.main_grad)
    gradients = {name: tensor.clone() for name, tensor in policy.hf_weights()}
    for parameter, weight in zip(parameters, weights, strict=True):
        parameter.copy_(weight)
    return gradients


def _complete_gradients(policy: Policy) -> None:
    """With the distributed optimizer a rank has reduced only its own part of each gradient buffer."""
    group = parallel_state.get_data_parallel_group(with_context_parallel=True)
    for ddp in policy._ddp:
        for buffer in ddp.buffers:
            for bucket in buffer.buckets:
                own = bucket.grad_data.chunk(group.size())[group.rank()].clone()
                dist.all_gather_into_tensor(bucket.grad_data, own, group=group)


def largest_relative_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Of any tensor, in the Euclidean norm."""
    assert found.keys() == expected.keys()
    return max(((found[name] - e).norm() / e.norm()).item() for name, e in expected.items())
