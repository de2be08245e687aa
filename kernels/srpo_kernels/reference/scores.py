"""What the engine's softmax sees of a rank's logits. Shapes: n rows, V_tp columns of this rank."""

import torch
from torch import Tensor

from srpo_kernels.vocab_shard import BANNED_BIAS, VocabShard


def sampling_scores(logits: Tensor, vocab: VocabShard) -> Tensor:
    """[n, V_tp] fp32, for fp64 logits fp64: (logit + bias) / temperature; the logits are left alone."""
    scores = logits.to(torch.float64 if logits.dtype == torch.float64 else torch.float32, copy=True)
    if vocab.banned_columns is not None:
        scores[:, vocab.banned_columns] += BANNED_BIAS
    return scores / vocab.temperature


def label_scores(scores: Tensor, labels: Tensor, vocab: VocabShard) -> Tensor:
    """[n]: the score of each row's label [n] int64, a token id; 0 where another rank holds its column."""
    columns = labels - vocab.start
    is_here = (columns >= 0) & (columns < scores.shape[1])
    return scores.gather(1, torch.where(is_here, columns, 0)[:, None]).squeeze(1).where(is_here, 0.0)
