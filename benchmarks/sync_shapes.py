"""The matrices of a Qwen2.5-VL decoder on one rank, as a weight sync copies them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from srpo_kernels.reference import RowCopy, RowOrder

HEAD_ROWS = 128  # of one attention head


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    layers: int
    hidden: int
    intermediate: int
    queries: int  # heads
    groups: int  # key and value heads
    vocabulary: int


DECODERS = {
    "7b": Decoder(layers=28, hidden=3_584, intermediate=18_944, queries=28, groups=4, vocabulary=152_064),
    "32b": Decoder(layers=64, hidden=5_120, intermediate=27_648, queries=40, groups=8, vocabulary=152_064),
    "tiny": Decoder(layers=2, hidden=64, intermediate=96, queries=4, groups=2, vocabulary=128),
}


def sync_copies(model: str, ranks: int, dtype: torch.dtype, device: str) -> list[RowCopy]:
    """Every matrix of one of `ranks` tensor-parallel ranks: Megatron's groups of heads are stacked for vLLM."""
    return list(_copies(DECODERS[model], ranks, dtype, device))


def _copies(decoder: Decoder, ranks: int, dtype: torch.dtype, device: str) -> Iterator[RowCopy]:
    def copy(rows: int, columns: int, **order: int) -> RowCopy:
        source = torch.randn(rows, columns, device=device).to(dtype)
        return RowCopy(source=source, target=torch.empty_like(source), **order)  # type: ignore[arg-type]

    D, F = decoder.hidden, decoder.intermediate // ranks
    groups, per_group = max(1, decoder.groups // ranks), decoder.queries // decoder.groups
    for _ in range(decoder.layers):
        yield copy(
            groups * (per_group + 2) * HEAD_ROWS, D, order=RowOrder.STACK, head_rows=HEAD_ROWS,
            queries_per_group=per_group, groups=groups,
        )  # fmt: skip
        yield copy(D, groups * per_group * HEAD_ROWS)
        gate_up = copy(2 * F, D)
        yield RowCopy(source=gate_up.source[:F], target=gate_up.target[:F])
        yield RowCopy(source=gate_up.source[F:], target=gate_up.target[F:])
        yield copy(D, F)
        yield copy(1, D)
        yield copy(1, D)
    yield copy(decoder.vocabulary // ranks, D)
    yield copy(decoder.vocabulary // ranks, D)
