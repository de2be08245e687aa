"""Run under torchrun: weight syncs of both kinds into real engines; rank 0 prints what was found as one JSON line."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import is_tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from srpo_fast.agreement import measure_agreement
from srpo_fast.batch import Completion, Prompt, Score
from srpo_fast.config import LossConfig, ParallelConfig, RolloutConfig
from srpo_fast.loss import objective_of, srpo_loss
from srpo_fast.parallel import Parallel, gather_from_ranks, start, stop
from srpo_fast.rollout import Features, Sampling, VllmEngine, sample_groups
from srpo_fast.weight_sync import EngineMismatch, WeightSync, fill_engine
from tests.policy_case import OPTIMIZER, QUESTIONS, SYSTEM, make_sequences, open_encoder, open_policy, packer

LAYOUTS: dict[str, dict[str, Any]] = {
    "tp_sp": {"tp": 2, "sequence_parallel": True},
    "pp": {"pp": 2},
    "dp": {"distributed_optimizer": True},
}
MAX_TOKENS = 32
LR = 1e-3  # moves log-probs by far more than the tolerance


class Case:
    """A policy, its engine, and what is done to them."""

    def __init__(self, model_dir: Path, parallel: Parallel, train_vision: bool) -> None:
        encoder = open_encoder(model_dir)
        self.parallel, self.pack = parallel, packer(model_dir, parallel, 512)
        self.policy = open_policy(model_dir, parallel, train_vision=train_vision)
        self.policy.new_optimizer(OPTIMIZER)
        self.prompts = [encoder.encode(question, SYSTEM) for question in QUESTIONS]
        self.batch = self.pack(make_sequences(model_dir))
        self.engine = VllmEngine(
            model_dir, RolloutConfig(max_tokens=MAX_TOKENS, kv_cache_gib=0.0625, max_num_seqs=32), dtype="float32",
            seed=0, max_prompt_tokens=96, banned_ids=encoder.banned_ids, decode=encoder.decode,
            images=Features(self.policy.vision.features_for_engine), parallel=parallel,
            fill=partial(fill_engine, self.policy, "alias"),
        )  # fmt: skip

    def update(self) -> None:
        self.policy.forward_backward(self.batch, srpo_loss(objective_of(LossConfig())))
        self.policy.step(LR)

    def mismatch_unsynced(self) -> float:
        """After an update of which the engine is only told."""
        self.update()
        self.engine.weights_changed(self.policy.version)
        return self.mismatch()

    def mismatch(self) -> float:
        """The largest |engine - policy| log-prob of tokens sampled now, on any rank."""
        return measure_agreement(self.policy, self.engine, self.prompts, self.pack, self.parallel).largest


class Allocations(TorchDispatchMode):
    """Remembers the largest tensor that an operation made."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = {tensor.untyped_storage().data_ptr() for tensor in tree_leaves((args, kwargs)) if is_tensor(tensor)}
        for tensor in tree_leaves(result):
            if is_tensor(tensor) and tensor.untyped_storage().data_ptr() not in made:
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return result


def largest_allocation(action: Callable[[], object]) -> int:
    with Allocations() as allocations:
        action()
    return allocations.largest


def of_mode(case: Case, sync: WeightSync) -> dict[str, Any]:
    """Three updates, each followed by a sync after which every parameter is compared."""
    mismatches = []
    for _ in range(3):
        case.update()
        sync.run()
        sync.verify(sync.links)
        mismatches.append(case.mismatch())
    own = [link for link in sync.links if link.source is not None and not link.name.startswith("visual.")]
    return {
        "mismatches": mismatches,
        "bytes_copied": sync.bytes_copied,
        "shard_bytes": sum(link.source.nbytes for link in own),
    }


def sampled(case: Case, sharing: Literal["by_length", "on_demand"]) -> list[list[tuple[int, ...]]]:
    """The tokens of groups that the engines share."""
    how = Sampling(samples=2, temperature=1.0, max_tokens=8, stream=("ranks",), sharing=sharing)
    version, parallel = case.policy.version, case.parallel
    groups = sample_groups(case.engine, case.prompts, how, no_scores, policy_version=version, parallel=parallel)
    return [[completion.token_ids for completion in group.completions] for group in groups]


def no_scores(groups: Sequence[tuple[Prompt, Sequence[Completion]]]) -> list[tuple[Score, ...]]:
    return [() for _ in groups]


def sabotaged(case: Case, sync: WeightSync) -> str:
    """What a sync says on every rank when one of the engine's parameters is changed behind its back on the last.

    Where there are stages, it is one that another stage sent.
    """
    if case.parallel.rank == case.parallel.world - 1:
        was_sent = case.parallel.pp > 1
        link = next(link for link in sync.links if (link.source is None) == was_sent and "down_proj" in link.name)
        link.target.view(-1)[3] += 1e-6
    try:
        sync.verify(sync.links)
    except EngineMismatch as error:
        messages = gather_from_ranks(str(error), case.parallel)
        return messages[0] if len(set(messages)) == 1 else "the ranks say different things"
    return "nothing"


def main(model_dir: Path, layout: str, train_vision: bool) -> None:
    parallel = start(ParallelConfig(**LAYOUTS[layout]))
    case = Case(model_dir, parallel, train_vision)
    alias = WeightSync(case.policy, case.engine, RolloutConfig(weights="alias"), parallel)
    alias.run()
    shared = {"start": case.mismatch(), "alias": of_mode(case, alias)}
    for parameter in case.engine.parameters().values():
        parameter.data = torch.zeros_like(parameter)
    copy = WeightSync(case.policy, case.engine, RolloutConfig(), parallel)
    copy.run()
    by_length = sampled(case, "by_length")
    shards = [tensor for (name, *_), tensor in case.policy.shards() if not name.startswith("visual.")]
    found: dict[str, Any] = {
        "policy_bytes": sum(shard.nbytes for shard in shards),
        "largest_shard": max(gather_from_ranks(max(shard.nbytes for shard in shards), parallel)),
        **shared,
        "by_length": by_length,
        "on_demand": sampled(case, "on_demand"),
        "copy": of_mode(case, copy),
        "largest_allocation": largest_allocation(copy.run),
        "sabotaged": sabotaged(case, copy),
        "unsynced": case.mismatch_unsynced(),
    }
    everyone = gather_from_ranks(found, parallel)
    if parallel.is_main:
        print(json.dumps(everyone), flush=True)
    case.engine.close()
    stop()


if __name__ == "__main__":
    torch.manual_seed(0)
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "vision")
