"""What every layout of the policy must reproduce: transformers' logits and gradients of one update, images mixed.

The model has five layers, so that two and four stages share them unevenly, and no weight at the value it is
initialised to: a bias or a norm that is lost, doubled or reordered shows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from srpo_fast.batch import MicroBatch, TrainingSequence
from srpo_fast.loss import Head, LossFunction
from srpo_fast.policy.name_map import canonical
from tests.policy_case import QUESTIONS, SMALL, TALL, make_question, make_sequences

LAYERS = 5
TOKENS_PER_MICRO_BATCH = 150  # several micro-batches, some of an odd length
FIVE = make_question(
    "five", "<image><image>Which is odd: <image>, <image> or <image>?", SMALL, TALL, SMALL, SMALL, TALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Of one model: what transformers computes."""

    logits: dict[float, Tensor]  # [V] of every loss row, by its rollout log-prob, which no two rows share
    gradients: dict[str, Tensor]  # by published name, the vision tower's included
    loss: float


def write_parity_model(path: Path, *, tied: bool, seed: int = 1, rounded_to: torch.dtype = torch.float32) -> None:
    from transformers import Qwen2_5_VLForConditionalGeneration

    from srpo_fast.embedded.model import build_config, write_model
    from srpo_fast.embedded.tokenizer import build_tokenizer

    config = build_config(build_tokenizer())
    config.text_config.num_hidden_layers = LAYERS
    config.text_config.layer_types = ["full_attention"] * LAYERS
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = tied
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter += 0.1 * torch.randn(parameter.shape)
    write_model(model.to(rounded_to).float(), path)


def parity_sequences(model_dir: Path) -> list[TrainingSequence]:
    return make_sequences(model_dir, (*QUESTIONS, FIVE))


def transformers_parity(model_dir: Path, banned: Tensor, dtype: torch.dtype = torch.float32) -> Parity:
    """One loss token's gradient is -weight * advantage * correction: the ratio is 1 in a step's only update."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(model_dir, dtype=dtype, attn_implementation="eager")
    bias = torch.zeros(model.config.text_config.vocab_size).index_fill(0, banned, -100.0)
    rows: dict[float, Tensor] = {}
    loss = torch.zeros(())
    for s in parity_sequences(model_dir):
        ids = torch.cat([s.prompt.token_ids, torch.tensor(s.completion_ids)])[None]
        images = {"pixel_values": s.prompt.pixel_values, "image_grid_thw": s.prompt.image_grid_thw}
        is_image = (ids == model.config.image_token_id).int()
        out = model(input_ids=ids, mm_token_type_ids=is_image, **(images if len(s.prompt.image_grid_thw) else {}))
        kept = torch.tensor(s.loss_mask)
        logits = out.logits[0, len(s.prompt.token_ids) - 1 : -1][kept]
        rollout = torch.tensor(s.rollout_logprobs)[kept]
        rows |= dict(zip(rollout.tolist(), logits.detach(), strict=True))
        labels = torch.tensor(s.completion_ids)[kept]
        logprobs = F.log_softmax(logits + bias, dim=-1).gather(1, labels[:, None])[:, 0]
        correction = (logprobs.detach() - rollout).exp().clamp(max=2.0)
        loss = loss - s.token_weight * s.advantage * (correction * (logprobs - logprobs.detach()).exp()).sum()
    loss.backward()
    gradients = {canonical(name): p.grad for name, p in model.named_parameters()}
    return Parity(logits=rows, gradients=gradients, loss=loss.item())


def recording(loss: LossFunction, rows: dict[float, Tensor]) -> LossFunction:
    """The loss, leaving in `rows` the whole logits of every loss row that this rank scores."""

    def record(batch: MicroBatch, hidden: Tensor, head: Head) -> Any:
        whole, group = hidden.detach()[batch.loss_rows] @ head.weight.detach().T, head.vocab.group
        if group is not None:
            shards = [torch.empty_like(whole) for _ in range(group.size())]
            dist.all_gather(shards, whole.contiguous(), group=group)
            whole = torch.cat(shards, dim=1)
        rows.update(zip(batch.rollout_logprobs.tolist(), whole.clone(), strict=True))
        return loss(batch, hidden, head)

    return record


def largest_difference(found: dict[Any, Tensor], expected: dict[Any, Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max((found[key] - expected[key]).abs().max().item() for key in expected)


def each_relative_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Of every tensor, in the Euclidean norm."""
    assert found.keys() == expected.keys()
    return {name: ((found[name] - e).norm() / e.norm()).item() for name, e in expected.items()}
