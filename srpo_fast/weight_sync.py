"""Policy -> engine: after this the engine samples from exactly the policy's weights.

A plan is made once: which shard of the policy goes into which parameter of the engine on the same rank. Both cut the
model alike and keep queries, keys and values, gate and up in the same order, so a sync is one copy a parameter, or none
where the engine's parameters are the policy's (`alias`). Nothing is gathered. With several pipeline stages each fills
its own layers in its engines, then sends them to the other stages' engines, in place; and the first one a trained
vision tower to the other stages' copies, which encode images for their engines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from srpo_fast.config import RolloutConfig
from srpo_fast.parallel import Parallel, agree, gather_from_ranks
from srpo_fast.policy import Policy
from srpo_fast.rollout import RolloutEngine
from srpo_fast.rollout.engine_names import engine_name

_ADVICE = "was srpo_fast's name table or vLLM's version changed?"


class EngineMismatch(RuntimeError):
    """The engine's weights, or their log-probs, are not the policy's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One shard of the policy and its place in the engine."""

    name: str  # of the engine's parameter
    target: Tensor  # in the engine, or in a copy of the vision tower
    source: Tensor | None  # in the policy, the target itself where they share it; None: another pipeline stage has it
    stage: int


@torch.no_grad()
def fill_engine(policy: Policy, weights: Literal["copy", "alias"], parameters: Mapping[str, nn.Parameter]) -> None:
    """What the policy has on this rank goes into an engine's parameters: its values, or its memory (`alias`).

    For an engine that starts, before anything is captured that knows where they are. What is with other pipeline
    stages is zero until the first sync; of what does not fit the plan will tell, on every rank.
    """
    sources = {engine_name(hf_names): source.data for hf_names, source in policy.shards()}
    for name, parameter in parameters.items():
        source = sources.get(name)
        if source is None or source.dtype != parameter.dtype or not _fits(source.shape, parameter.shape):
            parameter.data.zero_()
        elif weights == "alias" and source.shape == parameter.shape:
            parameter.data = source
        else:
            parameter.data[: len(source)].copy_(source)
            parameter.data[len(source) :].zero_()


class WeightSync:
    """The plan and its transaction. It stands for the life of both: their tensors stay where they are.

    links: all that is kept equal, on every rank of a model in the same order.
    bytes_copied: by the last run on this rank, from the policy into the engine.
    """

    def __init__(self, policy: Policy, engine: RolloutEngine, settings: RolloutConfig, parallel: Parallel) -> None:
        """Parameters of the engine that share the policy's memory by now (fill_engine) are never copied.

        Raises EngineMismatch, on every rank, if the two are not the same model cut in the same way.
        """
        self._policy, self._engine, self._parallel = policy, engine, parallel
        self._parameters = engine.parameters() | policy.tower_parameters()
        self._sources = {engine_name(hf_names): parameter for hf_names, parameter in policy.shards()}
        self.links = agree(
            lambda: _links(self._sources, self._parameters, settings, parallel), parallel, EngineMismatch
        )
        self._copied = [link for link in self.links if link.source is not None and link.source is not link.target]
        self.bytes_copied = 0
        self._runs, self._check_every = 0, min(int(1 / settings.checked_share), len(self.links))

    @torch.no_grad()
    def run(self) -> None:
        """A collective over all ranks. Raises EngineMismatch, on every rank, when a weight did not arrive."""
        if self._copied:
            torch._foreach_copy_([link.target for link in self._copied], [link.source for link in self._copied])
        self.bytes_copied = sum(link.target.nbytes for link in self._copied)
        if self._parallel.pp > 1:
            self._exchange()
        self.verify(self.links[self._runs % self._check_every :: self._check_every] if self._runs else self.links)
        self._engine.weights_changed(self._policy.version)
        self._runs += 1

    def verify(self, links: Sequence[Link]) -> None:
        """Compares the engine's parameters with the policy's, bit by bit; a collective."""
        different = self._different_from_their_stage(links) if self._parallel.pp > 1 else []

        def complain() -> None:
            own = [link.name for link in links if link.source is not None and not _is_same(link.target, link.source)]
            if wrong := self._moved() + own + different:
                raise EngineMismatch(
                    f"after the sync to policy version {self._policy.version} the engine's {wrong[0]} is not the "
                    f"policy's ({len(wrong)} of {len(links)} compared); the last checkpoint is intact"
                )

        agree(complain, self._parallel, EngineMismatch)

    def _moved(self) -> list[str]:
        """Parameters of policy or engine that have other memory than when the plan was made."""
        return [
            link.name
            for link in self.links
            if not _is_at(self._parameters[link.name], link.target)
            or (link.source is not None and not _is_at(self._sources[link.name], link.source))
        ]

    def _exchange(self) -> None:
        """Every stage's layers, to the engines of the other stages' ranks."""
        group = self._policy.stage_group
        for link in self.links:
            dist.broadcast(link.target, src=dist.get_global_rank(group, link.stage), group=group)

    def _different_from_their_stage(self, links: Sequence[Link]) -> list[str]:
        sums = torch.stack([_checksum(link.target) for link in links])
        everyone = [torch.empty_like(sums) for _ in range(self._parallel.pp)]
        dist.all_gather(everyone, sums, group=self._policy.stage_group)
        mine, theirs = sums.tolist(), [stage.tolist() for stage in everyone]
        return [link.name for n, link in enumerate(links) if theirs[link.stage][n] != mine[n]]


def check_mismatch(mean_difference: float, bound: float, step: int) -> None:
    """Raises EngineMismatch when the mean |engine - policy| log-prob of a step's tokens exceeds the bound."""
    if not mean_difference <= bound:  # also catches NaN
        raise EngineMismatch(
            f"step {step}: engine and policy disagree by {mean_difference:.2e} in log-prob on average, more than "
            f"loss.mismatch_stop={bound:.0e}; the weight sync or a cache reset failed. The last checkpoint is intact."
        )


def _links(
    sources: Mapping[str, nn.Parameter], parameters: Mapping[str, nn.Parameter], settings: RolloutConfig,
    parallel: Parallel,
) -> list[Link]:  # fmt: skip
    """Stage by stage, so that the ranks that share a model have them in the same order."""
    shapes = gather_from_ranks({name: tuple(source.shape) for name, source in sources.items()}, parallel)
    links = [
        _link(name, shape, sources[name].data if stage == parallel.pp_rank else None, stage, parameters)
        for stage in range(parallel.pp)
        for name, shape in shapes[parallel.rank_of_stage(stage)].items()
    ]
    if missing := sorted(parameters.keys() - {link.name for link in links}):
        raise EngineMismatch(f"no part of the policy fills the engine's {missing[0]}; {_ADVICE}")
    if settings.weights == "alias" and (apart := [link.name for link in links if _could_be_shared(link, parameters)]):
        raise EngineMismatch(f"rollout.weights=alias, but the engine's {apart[0]} has memory of its own; {_ADVICE}")
    return links


def _link(
    name: str, shape: tuple[int, ...], source: Tensor | None, stage: int, parameters: Mapping[str, nn.Parameter]
) -> Link:
    if name not in parameters:
        raise EngineMismatch(f"the engine has no {name}, which the policy has; {_ADVICE}")
    whole = parameters[name].data
    target = whole[: shape[0]]
    if not _fits(shape, whole.shape) or (source is not None and source.dtype != whole.dtype):
        ours = f"{shape} {whole.dtype if source is None else source.dtype}"
        raise EngineMismatch(f"the engine's {name} is {tuple(whole.shape)} {whole.dtype}, the policy's {ours}")
    if source is not None and _is_at(target, source):
        target = source
    return Link(name=name, target=target, source=source, stage=stage)


def _could_be_shared(link: Link, parameters: Mapping[str, nn.Parameter]) -> bool:
    """And is not. A shard that fills a part of its parameter cannot be."""
    source = link.source
    return source is not None and source is not link.target and source.shape == parameters[link.name].shape


def _fits(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Rows may be left over: the engine may have padded its vocabulary."""
    return shape[0] <= whole[0] and shape[1:] == whole[1:]


def _is_at(tensor: Tensor, other: Tensor) -> bool:
    return tensor.data_ptr() == other.data_ptr()


def _is_same(tensor: Tensor, other: Tensor) -> bool:
    """Bit by bit: a weight that is not a number is a matter for the loss, not for the sync."""
    return torch.equal(_bits(tensor), _bits(other))


def _checksum(tensor: Tensor) -> Tensor:
    """The sum of the bits, read as whole numbers."""
    return _bits(tensor).sum(dtype=torch.int64)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int16 if tensor.element_size() == 2 else torch.int32)
