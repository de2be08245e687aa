"""Run under torchrun on four ranks: heads whose vocabulary 1, 2 and 4 ranks share; each prints how far they are apart.

The case has 56 columns, chunks of 12 rows, and banned columns on both sides of a border.
"""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from srpo_kernels import VocabShard, cross_entropy_head, head_logprobs, head_products, reference, srpo_head
from srpo_kernels.reference import HeadOutput
from tests.ops.head_case import OBJECTIVES, HeadCase, make_case, results
from tests.ops.work_counter import WorkCounter

V, CHUNK = 56, 12
BANNED = torch.tensor([3, 27, 28, 41])
LossOf = Callable[[HeadCase, Tensor, Tensor], HeadOutput]


def losses() -> dict[str, LossOf]:
    """Every objective, and cross-entropy."""

    def of(objective: Any) -> LossOf:
        return lambda c, hidden, weight: srpo_head(
            hidden, weight, c.loss_rows, c.labels, c.rows, objective=objective, vocab=c.vocab
        )

    return {name: of(objective) for name, objective in OBJECTIVES.items()} | {
        "cross_entropy": lambda c, hidden, weight: cross_entropy_head(
            hidden, weight, c.loss_rows, c.labels, c.rows.token_weights, vocab=c.vocab
        )
    }


def shard_of(case: HeadCase, group: ProcessGroup | None) -> HeadCase:
    """This rank's columns of the whole case."""
    size, rank = (1, 0) if group is None else (group.size(), group.rank())
    start, stop = rank * V // size, (rank + 1) * V // size
    banned = BANNED[(start <= BANNED) & (stop > BANNED)] - start
    vocab = VocabShard(start=start, temperature=0.7, banned_columns=banned, group=group)
    return replace(case, weight=case.weight[start:stop], vocab=vocab)


def whole(found: dict[str, Tensor], group: ProcessGroup | None) -> dict[str, Tensor]:
    """As one rank has it: the sum of what comes back for hidden states, the weight's gradient joined."""
    if group is None:
        return found
    shards = [torch.empty_like(found["dweight"]) for _ in range(group.size())]
    dist.all_gather(shards, found["dweight"], group=group)
    dist.all_reduce(found["dhidden"], group=group)
    return found | {"dweight": torch.cat(shards)}


def spread(found: dict[str, Tensor], group: ProcessGroup) -> float:
    """How far what ranks must have in common is from the first one's: 0 for the same bits."""
    common = torch.cat([value.double().flatten() for name, value in found.items() if name[0] != "d"])
    first = common.clone()
    dist.broadcast(first, group=group, group_src=0)
    return (common - first).abs().max().item()


def largest_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Relative to the largest number of each result."""
    assert found.keys() == expected.keys()
    return max(
        ((found[name] - e).abs().max() / e.abs().max().clamp(min=1e-3)).item() for name, e in expected.items()
    )  # fmt: skip


def check(case: HeadCase, group: ProcessGroup | None, of_one: dict[str, dict[str, Tensor]]) -> dict[str, float]:
    mine = shard_of(case, group)
    errors: dict[str, float] = {}
    for name, loss_of in losses().items():
        found = results(lambda hidden, weight, loss_of=loss_of: loss_of(mine, hidden, weight), mine)
        errors[f"{name} spread"] = 0.0 if group is None else spread(found, group)
        errors[name] = largest_error(whole(found, group), of_one[name])
    logprobs, entropy = head_logprobs(mine.hidden, mine.weight, mine.loss_rows, mine.labels, vocab=mine.vocab)
    expected = reference.head_logprobs(
        *(getattr(shard_of(case, None), f.name) for f in fields(case)[:4]), vocab=shard_of(case, None).vocab
    )  # fmt: skip
    errors["logprobs"] = max((logprobs - expected[0]).abs().max().item(), (entropy - expected[1]).abs().max().item())
    return errors


def collectives(case: HeadCase, group: ProcessGroup) -> dict[str, int]:
    mine, counts = shard_of(case, group), {}
    for name in ("grpo", "gspo"):
        with WorkCounter() as work:
            results(lambda hidden, weight, name=name: losses()[name](mine, hidden, weight), mine)
        counts[name] = work.collectives
    return counts


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    head_products.CPU_ROWS, head_products.CPU_BYTES = CHUNK, 0
    pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    groups = {"1": None, "2": pairs[rank // 2], "4": dist.group.WORLD}
    case = make_case(V=V, temperature=0.7, banned_columns=BANNED)
    alone = shard_of(case, None)
    of_one = {
        name: results(lambda hidden, weight, loss_of=loss_of: loss_of(alone, hidden, weight), alone)
        for name, loss_of in losses().items()
    }
    errors = {size: check(case, group, of_one) for size, group in groups.items()}
    counted = collectives(case, dist.group.WORLD)
    print(json.dumps({"rank": rank, "errors": errors, "collectives": counted}) + "\n", end="", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
