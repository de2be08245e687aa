"""Operations of the training hot path. Every one has a twin of the same name and signature in reference.py."""

from srpo_kernels.mrope import mrope
from srpo_kernels.objective import Objective, srpo_objective
from srpo_kernels.pack_sequences import pack_sequences
from srpo_kernels.reference import (
    vocab_parallel_token_logprobs,
    vocab_parallel_token_logprobs_and_entropy,
)

__all__ = [
    "Objective",
    "mrope",
    "pack_sequences",
    "srpo_objective",
    "vocab_parallel_token_logprobs",
    "vocab_parallel_token_logprobs_and_entropy",
]
