"""Operations of the training hot path. Every one has a twin of the same name and signature in reference.py."""

from srpo_kernels.objective import Objective, srpo_objective
from srpo_kernels.pack_sequences import pack_sequences
from srpo_kernels.reference import (
    vocab_parallel_token_logprobs,
    vocab_parallel_token_logprobs_and_entropy,
)
from srpo_kernels.sync_copy import sync_copy

__all__ = [
    "Objective",
    "pack_sequences",
    "srpo_objective",
    "sync_copy",
    "vocab_parallel_token_logprobs",
    "vocab_parallel_token_logprobs_and_entropy",
]
