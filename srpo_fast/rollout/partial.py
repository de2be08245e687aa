"""Partial rollouts: an engine stops before its longest completions are done, and the next step goes on with them.

What goes on is one request a completion: the prompt and the tokens so far, then new tokens of the new weights. Nothing
is sampled twice and nothing is lost: a group waits until all its completions are done, then it trains once. Each token
keeps the log-prob and the version of the weights that sampled it.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from srpo_fast.batch import Completion, Group, Prompt
from srpo_fast.rollout import vllm_touch_points
from srpo_fast.rollout.engine import Done, RolloutEngine, Sampling, logprobs_of

NOTHING = Completion(token_ids=(), rollout_logprobs=(), text="", is_finished=False, policy_version=-1)


def begin(prompt: Prompt, samples: int) -> Group:
    """A group of which nothing is sampled yet."""
    return Group(prompt=prompt, completions=(NOTHING,) * samples, scores=())


def extend_groups(
    engine: RolloutEngine, groups: Sequence[Group], sampling: Sampling, *, policy_version: int, done: Done
) -> list[tuple[Completion, ...]]:
    """The groups' completions, in order, the open ones sampled further; some are open still if finish_share is below 1.

    A completion that begins here has the tokens that RolloutEngine.generate would give it. done: as there.
    """
    engine.require_version(policy_version)
    work = _Work(engine, groups, sampling, done)
    if work.places:
        asked = engine.requests_of([group.prompt for group in groups])
        engine.phases.begin_sampling()
        requests = [_going_on(asked[g], groups[g].completions[s]) for g, s in work.places]
        parameters = [_parameters(engine, groups[g], s, sampling) for g, s in work.places]
        with vllm_touch_points.each_finished(engine.llm, work.finished, work.cut, work.is_enough):
            engine.llm.generate(requests, parameters, use_tqdm=False)
    return [tuple(completions) for completions in work.found]


class _Work:
    """The completions of one call, as they grow. places: group and sample of every request."""

    def __init__(self, engine: RolloutEngine, groups: Sequence[Group], sampling: Sampling, done: Done) -> None:
        self._engine, self._done, self._max_tokens = engine, done, sampling.max_tokens
        self.found = [list(group.completions) for group in groups]
        places = [(g, s) for g, group in enumerate(groups) for s in self._open(group.completions)]
        self.places = sorted(places, key=lambda at: not groups[at[0]].completions[at[1]].token_ids)  # begun ones first
        total = sum(len(group.completions) for group in groups)
        self._may_be_open = total - ceil(sampling.finish_share * total)
        self._num_open, self._whole_groups = len(self.places), 0

    def finished(self, place: int, output: Any) -> None:
        group, _ = self.places[place]
        self._grow(place, output.outputs[0].token_ids, output.outputs[0].logprobs, output.outputs[0].finish_reason)
        self._num_open -= 1
        if not self._open(self.found[group]):
            self._whole_groups += 1
            self._done(group, tuple(self.found[group]))

    def is_enough(self) -> bool:
        return self._num_open <= self._may_be_open and self._whole_groups > 0

    def cut(self, place: int, token_ids: list[int], logprobs: Any) -> None:
        if token_ids:
            self._grow(place, token_ids, logprobs, None)

    def _open(self, completions: Sequence[Completion]) -> list[int]:
        return [s for s, completion in enumerate(completions) if completion.is_open(self._max_tokens)]

    def _grow(self, place: int, new_ids: Sequence[int], logprobs: Any, finish_reason: str | None) -> None:
        group, sample = self.places[place]
        begun, version = self.found[group][sample], self._engine.policy_version
        versions = begun.token_versions or (begun.policy_version,) * len(begun.token_ids)
        token_ids = (*begun.token_ids, *new_ids)
        self.found[group][sample] = replace(
            begun,
            token_ids=token_ids,
            rollout_logprobs=begun.rollout_logprobs + logprobs_of(new_ids, logprobs),
            text=self._engine.decode(token_ids),
            is_finished=finish_reason == "stop",
            policy_version=version,
            token_versions=(*versions, *(version,) * len(new_ids)) if versions else (),
        )


def _going_on(request: dict[str, Any], begun: Completion) -> dict[str, Any]:
    """The request of a prompt and the tokens that there are after it."""
    return request | {"prompt_token_ids": [*request["prompt_token_ids"], *begun.token_ids]}


def _parameters(engine: RolloutEngine, group: Group, sample: int, sampling: Sampling) -> Any:
    name, length = group.prompt.question.id, len(group.completions[sample].token_ids)
    seed = sampling.seed(name, sample, length) if length else sampling.seed(name) + sample  # as vLLM numbers samples
    rest = replace(sampling, samples=1, max_tokens=sampling.max_tokens - length)
    return engine.sampling_params(rest, seed=seed)
