"""What the head is measured on: hidden states of a packed micro-batch, and which of its rows count."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from srpo_kernels import Objective, reference
from srpo_kernels.objective_rows import ObjectiveRows
from srpo_kernels.vocab_shard import VocabShard

OBJECTIVE = Objective()  # clipped at 0.2, no KL, no entropy bonus: what every variant can do
MODELS = {"3b": (2_048, 151_936), "7b": (3_584, 152_064), "32b": (5_120, 152_064)}  # Qwen2.5-VL: (D, V)
TOKENS = (4_096, 16_384, 65_536)
SHARDS = (1, 2, 4, 8)
SHARES = ((1.0, 0.0), (0.5, 0.0), (0.5, 0.3), (0.5, 0.6))  # (response, zero_advantage)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadWorkload:
    name: str
    tokens: int  # T
    hidden_size: int
    vocabulary: int  # columns of one rank; its shard is treated as if it were the whole vocabulary
    sequence_length: int
    response_share: float  # of every sequence's tokens, at its end: the others are prompt or padding
    zero_share: float  # of the sequences: those that have advantage 0
    dtype: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadCase:
    """The tensors of a workload. N sequences of L tokens, T = N L, R rows that are responses."""

    hidden: Tensor  # [T, D]
    weight: Tensor  # [V, D]
    token_ids: Tensor  # [N, L] int64, the label of every row
    mask: Tensor  # [N, L] bool, the responses
    advantages: Tensor  # [N] fp32
    old_logprobs: Tensor  # [N, L] fp32

    @property
    def loss_rows(self) -> Tensor:
        """[R] int64."""
        return self.mask.flatten().nonzero().flatten()

    @property
    def labels(self) -> Tensor:
        """[R] int64."""
        return self.token_ids[self.mask]

    @property
    def rows(self) -> ObjectiveRows:
        """Every response token weighs the same, 1 / R: what TRL and Liger call bnpo."""
        lengths = self.mask.sum(1)
        old = self.old_logprobs[self.mask]
        return ObjectiveRows(
            rollout_logprobs=old, old_logprobs=old,
            advantages=self.advantages.repeat_interleave(lengths), token_weights=torch.full_like(old, 1.0 / len(old)),
            row_offsets=torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int(),
        )  # fmt: skip

    @property
    def kept(self) -> int:
        """Rows that have a gradient."""
        return int((self.mask & (self.advantages != 0)[:, None]).sum())


def cpu_bar() -> HeadWorkload:
    """What the project promises to be fast on without a GPU; half the rows masked, a third of the rest advantage 0."""
    return HeadWorkload(
        name="cpu_bar", tokens=2_048, hidden_size=512, vocabulary=32_768, sequence_length=64, response_share=0.5,
        zero_share=1 / 3, dtype=torch.float32,
    )  # fmt: skip


def tiny() -> HeadWorkload:
    """Nothing to be learnt of speed: to try the benchmark itself."""
    return HeadWorkload(
        name="tiny", tokens=64, hidden_size=16, vocabulary=256, sequence_length=8, response_share=0.5,
        zero_share=1 / 3, dtype=torch.float32,
    )  # fmt: skip


def model_workloads() -> Iterator[HeadWorkload]:
    """The heads of the models, for GPUs: 7b/tp1/N16384/r0.5/z0.3 and the like."""
    for (model, (D, V)), tp, tokens, (response, zero) in itertools.product(MODELS.items(), SHARDS, TOKENS, SHARES):
        yield HeadWorkload(
            name=f"{model}/tp{tp}/N{tokens}/r{response:g}/z{zero:g}", tokens=tokens, hidden_size=D,
            vocabulary=V // tp, sequence_length=1_024, response_share=response, zero_share=zero, dtype=torch.bfloat16,
        )  # fmt: skip


def make_case(workload: HeadWorkload, device: str) -> HeadCase:
    """The same on every machine: drawn on the CPU. Old log-probs are off by a tenth, so some ratios are clipped."""
    draw = torch.Generator().manual_seed(0)
    N, L = workload.tokens // workload.sequence_length, workload.sequence_length

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    # scores of standard deviation 2, as far apart as those of a model that is unsure
    hidden = normal(N * L, workload.hidden_size)
    weight = normal(workload.vocabulary, workload.hidden_size) * (2 / workload.hidden_size**0.5)
    token_ids = torch.randint(workload.vocabulary, (N, L), generator=draw)
    mask = torch.zeros(N, L, dtype=torch.bool)
    mask[:, L - round(L * workload.response_share) :] = True
    advantages = normal(N)
    advantages[torch.randperm(N, generator=draw)[: round(N * workload.zero_share)]] = 0
    noise = 0.1 * normal(N, L)
    hidden, weight = hidden.to(device, workload.dtype), weight.to(device, workload.dtype)
    token_ids = token_ids.to(device)
    return HeadCase(
        hidden=hidden, weight=weight, token_ids=token_ids, mask=mask.to(device), advantages=advantages.to(device),
        old_logprobs=_logprobs(hidden, weight, token_ids) + noise.to(device),
    )  # fmt: skip


def _logprobs(hidden: Tensor, weight: Tensor, token_ids: Tensor) -> Tensor:
    """[N, L] fp32, a sequence at a time."""
    rows = hidden.unflatten(0, token_ids.shape)
    return torch.stack(
        [
            reference.head_logprobs(h, weight, torch.arange(len(h), device=h.device), ids, vocab=VocabShard())[0]
            for h, ids in zip(rows, token_ids, strict=True)
        ]
    )
