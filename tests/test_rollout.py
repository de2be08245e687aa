"""One real engine: it samples from the policy's weights, by seeds that say what they are for, and never a banned token.

The engine lives until the session ends: closing it takes the default process group along.
"""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from srpo_fast.batch import Group, Prompt
from srpo_fast.config import RolloutConfig
from srpo_fast.loss import supervised_loss
from srpo_fast.policy import Policy
from srpo_fast.prompts import PromptEncoder
from srpo_fast.rollout import (
    Features,
    PhaseError,
    Sampling,
    StaleEngine,
    VllmEngine,
    sample_all,
    sample_groups,
    sample_stream,
    vllm_touch_points,
)
from srpo_fast.rollout.group_growth import begin
from srpo_fast.rollout.phases import TwoPhases
from srpo_fast.weight_sync import EngineMismatch, WeightSync, fill_engine
from tests.policy_case import OPTIMIZER, QUESTIONS, SYSTEM, make_sequences, open_encoder, open_policy, packer, perturb
from tests.rollout_case import (
    MAX_TOKENS,
    Pages,
    cut_off,
    extend,
    largest_mismatch,
    mismatches,
    sampling,
    score,
    tokens,
)


@pytest.fixture(scope="session")
def policy(one_process, untrained_model) -> Policy:
    return open_policy(untrained_model, one_process)


@pytest.fixture(scope="session")
def encoder(untrained_model) -> PromptEncoder:
    return open_encoder(untrained_model)


@pytest.fixture(scope="session")
def process_before() -> Callable[[int], None]:
    return torch.set_num_threads


@pytest.fixture(scope="session")
def engine(one_process, untrained_model, encoder, policy, process_before) -> Iterator[VllmEngine]:
    rng_state = torch.get_rng_state()
    engine = VllmEngine(
        untrained_model, RolloutConfig(max_tokens=MAX_TOKENS, kv_cache_gib=0.0625, max_num_seqs=64), dtype="float32",
        seed=0, max_prompt_tokens=96, banned_ids=encoder.banned_ids, decode=encoder.decode,
        images=Features(policy.vision.features_for_engine), parallel=one_process,
        fill=partial(fill_engine, policy, "copy"),
    )  # fmt: skip
    assert torch.equal(torch.get_rng_state(), rng_state)
    WeightSync(policy, engine, RolloutConfig(), one_process).run()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def prompts(encoder) -> list[Prompt]:
    """With no, one and two images."""
    return [encoder.encode(question, SYSTEM) for question in QUESTIONS]


def test_engine_and_policy_agree_on_what_was_sampled(policy, engine, prompts, untrained_model, one_process):
    assert largest_mismatch(policy, engine, prompts, untrained_model, one_process) <= 1e-5


def test_a_sync_brings_new_weights_and_forgets_what_the_old_ones_cached(
    policy, engine, prompts, untrained_model, one_process
):
    sync = WeightSync(policy, engine, RolloutConfig(), one_process)
    before = tokens(sample_all(engine, prompts, sampling(1, 0.0), policy_version=policy.version))
    for seed in (1, 2):
        perturb(policy, 0.02, seed)
        policy.version += 1
        # the prompts' keys, values and image features of the old weights are in the engine's caches
        sync.run()
        assert largest_mismatch(policy, engine, prompts, untrained_model, one_process) <= 1e-5
    assert tokens(sample_all(engine, prompts, sampling(1, 0.0), policy_version=policy.version)) != before


def test_unsynced_weights_are_noticed(policy, engine, prompts, untrained_model, one_process):
    """The measure above can fail."""
    state = {name: p.detach().clone() for name, p in policy.language_model.named_parameters()}
    perturb(policy, 0.02, 3)
    assert largest_mismatch(policy, engine, prompts, untrained_model, one_process) > 1e-3
    policy.language_model.load_state_dict(state, strict=False)
    assert largest_mismatch(policy, engine, prompts, untrained_model, one_process) <= 1e-5


def test_a_stale_engine_refuses_to_sample(policy, engine, prompts):
    with pytest.raises(StaleEngine, match=f"holds policy version {policy.version}, asked for {policy.version + 1}"):
        sample_all(engine, prompts, sampling(), policy_version=policy.version + 1)


def test_the_same_stream_draws_the_same_tokens_in_whatever_company(policy, engine, prompts):
    together = tokens(sample_all(engine, prompts, sampling(), policy_version=policy.version))
    again = tokens(sample_all(engine, prompts, sampling(), policy_version=policy.version))
    assert again == together
    for prompt, expected in zip(prompts, together, strict=True):
        assert tokens(sample_all(engine, [prompt], sampling(), policy_version=policy.version)) == [expected]


def test_every_run_step_prompt_and_sample_draws_its_own(policy, engine, encoder):
    question = QUESTIONS[1]
    renamed = [encoder.encode(q, SYSTEM) for q in (question, type(question)(**fields(question) | {"id": "other"}))]
    drawn: list[tuple[int, ...]] = []
    for stream in ((0, "rollout", 0), (0, "rollout", 1), (1, "rollout", 0), (0, "heldout", 0)):
        for group in tokens(sample_all(engine, renamed, sampling(stream=stream), policy_version=policy.version)):
            drawn += group
    assert len(drawn) == 4 * 2 * 4
    assert len(set(drawn)) == len(drawn)


def fields(question) -> dict[str, object]:
    return {name: getattr(question, name) for name in question.__slots__}


def test_banned_tokens_are_never_sampled(policy, engine, encoder, prompts):
    """Of 384 tokens that are nearly equally likely, 5 are banned: among 3,000 draws, 40 would be."""
    groups = sample_all(engine, prompts, sampling(samples=48), policy_version=policy.version)
    drawn = [token for group in groups for completion in group for token in completion.token_ids]
    assert len(encoder.banned_ids) == 5
    assert len(drawn) > 2500
    assert len(set(drawn)) > 300
    assert not set(drawn) & set(encoder.banned_ids)


def test_a_completion_says_what_it_is(policy, engine, encoder, prompts):
    for group in sample_all(engine, prompts, sampling(samples=32), policy_version=policy.version):
        assert len(group) == 32
        for completion in group:
            assert len(completion.rollout_logprobs) == len(completion.token_ids) <= MAX_TOKENS
            assert completion.is_finished == (completion.token_ids[-1] == encoder.eos_token_id)
            assert completion.is_finished or len(completion.token_ids) == MAX_TOKENS
            assert completion.text == encoder.decode(completion.token_ids)
            assert completion.policy_version == policy.version
            assert max(completion.rollout_logprobs) < 0


def test_greedy_completions_take_the_likeliest_token_whatever_the_stream(policy, engine, prompts):
    one, other = (
        tokens(sample_all(engine, prompts, sampling(1, 0.0, stream), policy_version=policy.version))
        for stream in ((0, "a"), (1, "b"))
    )
    assert one == other


def test_groups_come_scored_and_in_the_order_of_their_prompts(policy, engine, prompts, one_process):
    done = []
    groups = sample_groups(
        engine, prompts[::-1], sampling(), score, policy_version=policy.version, parallel=one_process,
        progress=done.append,
    )  # fmt: skip
    assert [group.prompt for group in groups] == prompts[::-1]
    for group in groups:
        assert [s.total for s in group.scores] == [c.token_ids[0] for c in group.completions]
        assert {s.reasons for s in group.scores} == {(group.prompt.question.id,)}
    assert sum(done) == len(prompts) * 4


def test_no_prompts_make_no_groups(policy, engine, one_process):
    assert sample_groups(engine, [], sampling(), score, policy_version=policy.version, parallel=one_process) == []


def test_starting_an_engine_leaves_the_process_as_it_was(process_before, engine):
    assert torch.set_num_threads is process_before
    assert torch.get_num_threads() == 1
    assert gc.get_freeze_count() == 0


def test_syncs_without_an_update_change_no_bit(policy, engine, prompts, untrained_model, one_process):
    """Twenty steps at a learning rate of 0: neither the weights nor what the engine says of them move."""
    policy.new_optimizer(OPTIMIZER)
    batch = packer(untrained_model, one_process, 512)(make_sequences(untrained_model))
    sync = WeightSync(policy, engine, RolloutConfig(), one_process)
    sync.run()
    before = {name: tensor.clone() for name, tensor in policy.hf_weights()}
    said = sample_all(engine, prompts, sampling(), policy_version=policy.version)
    for _ in range(20):
        policy.forward_backward(batch, supervised_loss)
        policy.step(0.0)
        sync.run()
        again = sample_all(engine, prompts, sampling(), policy_version=policy.version)
        assert [[(c.token_ids, c.rollout_logprobs) for c in group] for group in again] == [
            [(c.token_ids, c.rollout_logprobs) for c in group] for group in said
        ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.hf_weights())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda names: {**names, "language_model.model.norm.scale": names["language_model.model.norm.weight"]},
            "fills",
        ),
        (lambda names: {n: p for n, p in names.items() if "norm.weight" not in n}, "the engine has no"),
        (lambda names: {n: p[:-1] if p.ndim == 2 else p for n, p in names.items()}, "the policy's"),
    ],
    ids=["more", "fewer", "smaller"],
)
def test_an_engine_of_other_parameters_is_refused(policy, engine, one_process, monkeypatch, change, says):
    names = change(engine.parameters())
    monkeypatch.setattr(engine, "parameters", lambda: names)
    with pytest.raises(EngineMismatch, match=says):
        WeightSync(policy, engine, RolloutConfig(), one_process)


def test_an_engine_that_should_share_its_weights_and_does_not_is_refused(policy, engine, one_process):
    with pytest.raises(EngineMismatch, match=r"rollout\.weights=alias, but the engine's language_model"):
        WeightSync(policy, engine, RolloutConfig(weights="alias"), one_process)


def test_an_engine_that_shares_its_weights_notices_when_they_move(policy, engine, prompts, one_process):
    own = {name: parameter.data for name, parameter in engine.parameters().items()}
    fill_engine(policy, "alias", engine.parameters())
    sync = WeightSync(policy, engine, RolloutConfig(weights="alias"), one_process)
    sync.run()
    assert sync.bytes_copied == 0
    name = sync.links[0].name
    engine.parameters()[name].data = engine.parameters()[name].data.clone()
    with pytest.raises(EngineMismatch, match=rf"{name} is not the policy's \(1 of"):
        sync.run()
    for name, parameter in engine.parameters().items():
        parameter.data = own[name]


def test_a_partial_call_begins_the_completions_that_a_whole_one_would_end(policy, engine, prompts):
    whole = tokens(sample_all(engine, prompts, sampling(), policy_version=policy.version))
    begun = [begin(prompt, 4) for prompt in prompts]
    assert tokens([g.completions for g in extend(engine, begun, sampling())]) == whole
    # four tokens before its end the first group takes the others no further than their fourth
    begun[0] = cut_off(extend(engine, begun[:1], sampling())[0], MAX_TOKENS - 4)
    nearly = extend(engine, begun, replace(sampling(), finish_share=1 / 3))
    for group, expected in zip(nearly[1:], whole[1:], strict=True):
        for completion, ids in zip(group.completions, expected, strict=True):
            assert completion.is_open(MAX_TOKENS) or len(ids) <= 4
            assert 0 < len(completion.token_ids) <= 5
            assert completion.token_ids == ids[: len(completion.token_ids)]
            assert len(completion.rollout_logprobs) == len(completion.token_ids)


def test_what_was_begun_is_kept_and_goes_on_with_the_new_weights(policy, engine, prompts, untrained_model, one_process):
    old = policy.version
    ended = extend(engine, [begin(prompt, 4) for prompt in prompts], sampling())
    begun = [cut_off(group, 7) for group in ended]
    perturb(policy, 0.02, 7)
    policy.version += 1
    WeightSync(policy, engine, RolloutConfig(), one_process).run()
    after = extend(engine, begun, sampling(stream=(0, "rollout", 1)))
    assert extend(engine, begun, sampling(stream=(0, "rollout", 1))) == after
    for before, group in zip(begun, after, strict=True):
        for first, completion in zip(before.completions, group.completions, strict=True):
            assert not completion.is_open(MAX_TOKENS)
            if not first.is_open(MAX_TOKENS):
                assert completion == first
                continue
            assert completion.token_ids[:7] == first.token_ids
            assert completion.rollout_logprobs[:7] == first.rollout_logprobs
            assert completion.token_versions == (old,) * 7 + (policy.version,) * (len(completion.token_ids) - 7)
    # the same numbers are not drawn again: with the begin's seeds the first new tokens would be alike
    assert tokens([g.completions for g in after]) != tokens([g.completions for g in ended])
    differences = mismatches(policy, after, untrained_model, one_process)
    versions = [c.token_versions or (c.policy_version,) * len(c.token_ids) for g in after for c in g.completions]
    stale = torch.tensor([version == old for of_completion in versions for version in of_completion])
    assert differences[~stale].max() <= 1e-5
    assert differences[stale].mean() > 1e-3


def test_open_groups_come_back_without_scores_and_end_when_given_again(policy, engine, prompts, one_process):
    def sample(asked: list, how: Sampling) -> list[Group]:
        return sample_groups(engine, asked, how, score, policy_version=policy.version, parallel=one_process)

    nearly = cut_off(sample([prompts[1]], sampling())[0], MAX_TOKENS - 4)
    first = sample([prompts[0], replace(nearly, scores=()), prompts[2]], replace(sampling(), finish_share=1 / 3))
    assert [group.prompt for group in first] == prompts
    assert [len(group.scores) for group in first] == [0, 4, 0]
    second = sample([first[0], first[2]], sampling(stream=(0, "rollout", 1)))
    assert [[s.total for s in g.scores] for g in second] == [[c.token_ids[0] for c in g.completions] for g in second]


@pytest.mark.parametrize("mode", ["copy", "alias"])
def test_a_policy_whose_weights_went_elsewhere_is_noticed(policy, engine, one_process, mode):
    own = {name: parameter.data for name, parameter in engine.parameters().items()}
    fill_engine(policy, mode, engine.parameters())
    sync = WeightSync(policy, engine, RolloutConfig(), one_process)
    parameter = next(policy.language_model.parameters())
    before = parameter.data
    parameter.data = before.clone()
    with pytest.raises(EngineMismatch, match="is not the policy's"):
        sync.run()
    parameter.data = before
    sync.run()
    for name, other in engine.parameters().items():
        other.data = own[name]


# --- a KV cache that sleeps ---


@pytest.fixture
def pages(engine, monkeypatch) -> Pages:
    """Of an engine whose KV cache sleeps: all of vLLM but its worker's memory is real."""
    from vllm.v1.worker.cpu_worker import CPUWorker

    memory = vllm_touch_points.EngineMemory(engine.llm)
    pages = Pages(memory)
    monkeypatch.setattr(CPUWorker, "discard", lambda *arguments: pages.discard(*arguments))
    monkeypatch.setattr(CPUWorker, "wake_up", lambda self, tags: pages.wake_up(self, tags))
    monkeypatch.setattr(engine, "phases", TwoPhases(memory, pages))
    return pages


def test_samples_are_the_same_before_and_after_the_cache_slept(policy, engine, prompts, one_process, pages):
    assert pages.size == pytest.approx(0.0625 * 2**30, rel=0.01)
    sync = WeightSync(policy, engine, RolloutConfig(), one_process)
    few, version = replace(sampling(samples=2), max_tokens=8), policy.version
    said = sample_all(engine, prompts, few, policy_version=version)
    begun = [begin(prompt, 2) for prompt in prompts]
    one = replace(few, samples=1)
    streamed = [completion for _, completion in sample_stream(engine, prompts[:1], one, ahead=1)]
    ways = {
        "whole": lambda: sample_all(engine, prompts, few, policy_version=version) == said,
        "in parts": lambda: [g.completions for g in extend(engine, begun, replace(few, finish_share=0.99))] == said,
        "as a stream": lambda: [c for _, c in sample_stream(engine, prompts[:1], one, ahead=1)] == streamed,
    }
    for way, is_same in ways.items():
        engine.phases.begin_training()
        assert pages.mapped == 0
        assert sample_all(engine, [], few, policy_version=version) == []
        sync.run()  # while the cache sleeps
        assert pages.mapped == 0
        assert is_same(), way
        assert pages.mapped == pages.size
    engine.phases.begin_training()
    engine.phases.begin_sampling()
    assert not any(part.any() for part in pages.cache)


def test_requests_under_way_keep_the_cache(engine, prompts, pages):
    engine.llm.enqueue(*engine.inputs([replace(sampling(samples=1), max_tokens=2).request(prompts[0])]), use_tqdm=False)
    with pytest.raises(PhaseError, match="requests under way"):
        engine.phases.begin_training()
    assert pages.mapped == pages.size
    while engine.llm.llm_engine.has_unfinished_requests():
        engine.llm.llm_engine.step()
    engine.phases.begin_training()
    assert pages.mapped == 0
    engine.phases.begin_sampling()


def test_an_engine_starts_on_a_gpu_that_holds_a_policy(engine):
    """What vLLM's CUDA worker asks before it loads anything; it does so whatever kv_cache_memory_bytes says."""
    from vllm.v1.worker.utils import request_memory

    gib = 2**30
    policy_there = SimpleNamespace(total_memory=80 * gib, free_memory=50 * gib, device_="cuda:0")
    cache = engine.llm.llm_engine.vllm_config.cache_config
    assert request_memory(policy_there, cache) < 50 * gib
    with pytest.raises(ValueError, match="less than desired GPU memory utilization"):
        request_memory(policy_there, replace(cache, gpu_memory_utilization=0.92))
