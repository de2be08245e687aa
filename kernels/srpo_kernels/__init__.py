"""Operations of the training hot path. Every one has a twin of the same name and signature in reference/."""

from srpo_kernels.head import cross_entropy_head, head_logprobs, srpo_head
from srpo_kernels.mrope import mrope
from srpo_kernels.objective import Objective, srpo_objective
from srpo_kernels.objective_rows import ObjectiveRows
from srpo_kernels.pack_sequences import pack_sequences
from srpo_kernels.sync_copy import sync_copy
from srpo_kernels.vocab_shard import VocabShard

__all__ = [
    "Objective",
    "ObjectiveRows",
    "VocabShard",
    "cross_entropy_head",
    "head_logprobs",
    "mrope",
    "pack_sequences",
    "srpo_head",
    "srpo_objective",
    "sync_copy",
]
