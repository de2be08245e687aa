"""Run under torchrun: each rank holds half of the vocabulary and prints its errors against one rank's result."""

import json
from dataclasses import replace

import torch
import torch.distributed as dist

from srpo_kernels import VocabShard
from srpo_kernels.reference import token_logprobs_and_entropy

R, V = 23, 64
TEMPERATURE = 0.7
BANNED = torch.tensor([3, 31, 32, 60])  # some on each rank, two on the border


def main() -> None:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    whole = (4 * torch.randn(R, V, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(V, (R,))
    weights = torch.randn(R, dtype=torch.float64)
    vocab = VocabShard(temperature=TEMPERATURE, banned_columns=BANNED)
    expected = token_logprobs_and_entropy(whole, labels, vocab=vocab)
    # as a loss with an entropy bonus has it
    (weights * expected[0] + weights.flip(0) * expected[1]).sum().backward()

    columns = slice(rank * V // size, (rank + 1) * V // size)
    shard = whole.detach()[:, columns].clone().requires_grad_()
    mine = BANNED[(columns.start <= BANNED) & (columns.stop > BANNED)] - columns.start
    logprobs, entropy = token_logprobs_and_entropy(
        shard, labels, vocab=replace(vocab, start=columns.start, banned_columns=mine, group=dist.group.WORLD)
    )
    (weights * logprobs + weights.flip(0) * entropy).sum().backward()

    from_first_rank = logprobs.detach().clone()
    dist.broadcast(from_first_rank, src=0)
    errors = {
        "rank": rank,
        "logprobs": (logprobs - expected[0]).abs().max().item(),
        "entropy": (entropy - expected[1]).abs().max().item(),
        "gradient": (shard.grad - whole.grad[:, columns]).abs().max().item(),
        "spread": (logprobs - from_first_rank).abs().max().item(),
    }
    print(json.dumps(errors) + "\n", end="", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
