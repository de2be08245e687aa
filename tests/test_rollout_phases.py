"""The phases of an engine whose KV cache sleeps, on a device that is a few numbers."""

import inspect
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from srpo_fast import train
from srpo_fast.config import ColdStartConfig, ConfigError, RolloutConfig
from srpo_fast.rollout import vllm_touch_points
from srpo_fast.rollout.phases import GIB, PhaseError, TwoPhases, require_device

KV, TOTAL = 16 * GIB, 80 * GIB


class Machine:
    """An engine and its device, whose bytes it accounts for."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.requests = 0
        self.mapped = KV  # of the KV cache
        self.kept, self.used = 3 * GIB, 30 * GIB  # by torch's allocator: what it could give back, and what tensors use
        self.parameters = {"norm": (4096, 512), "head": (8192, 1024)}
        self.lost = 0  # bytes of the next release or mapping that do not arrive

    def is_busy(self) -> bool:
        return self.requests > 0

    def kv_cache_bytes(self) -> int:
        return KV

    def weights(self) -> dict[str, tuple[int, int]]:
        return dict(self.parameters)

    def release_kv_cache(self) -> None:
        self.calls.append("release")
        self.mapped = self.lost

    def map_kv_cache(self) -> None:
        self.calls.append("map")
        self.give_back()  # as vLLM does
        assert self.free() >= KV, "out of memory"
        self.mapped = KV - self.lost

    def free(self) -> int:
        return TOTAL - self.mapped - self.kept - self.used

    def held_beside_torch(self) -> int:
        return self.mapped

    def give_back(self) -> None:
        self.calls.append("give back")
        self.kept = 0


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def phases(machine) -> TwoPhases:
    return TwoPhases(machine, machine)


def test_the_cache_is_gone_while_the_policy_trains_and_back_when_the_engine_samples(machine, phases):
    for _ in range(2):
        phases.begin_training()
        assert (phases.phase, machine.mapped) == ("training", 0)
        machine.kept = 40 * GIB  # of the update, more than the cache leaves
        phases.begin_sampling()
        assert (phases.phase, machine.mapped) == ("sampling", KV)
    assert machine.calls == ["release", "give back", "map", "give back"] * 2


def test_a_phase_that_is_there_does_not_begin_again(machine, phases):
    phases.begin_sampling()
    assert machine.calls == []
    phases.begin_training()
    phases.begin_training()
    assert machine.calls == ["release"]
    phases.begin_sampling()
    phases.begin_sampling()
    assert machine.calls.count("map") == 1


def test_requests_under_way_keep_their_cache(machine, phases):
    machine.requests = 1
    with pytest.raises(PhaseError, match="requests under way"):
        phases.begin_training()
    assert (phases.phase, machine.calls) == ("sampling", [])


def test_memory_that_does_not_come_back_ends_the_run(machine, phases):
    machine.lost = KV // 10
    with pytest.raises(PhaseError, match=r"16.00 GiB gave back 14.40 GiB of the device as training began"):
        phases.begin_training()


def test_a_cache_that_is_mapped_in_part_is_noticed(machine, phases):
    phases.begin_training()
    machine.lost = KV // 10
    with pytest.raises(PhaseError, match=r"16.00 GiB took 14.40 GiB of the device as sampling began"):
        phases.begin_sampling()


def test_a_little_that_others_take_meanwhile_is_no_error(machine, phases):
    machine.lost = KV // 100
    phases.begin_training()
    assert phases.phase == "training"
    phases.begin_sampling()
    assert phases.phase == "sampling"


def test_without_room_the_cache_stays_asleep_and_the_remedy_is_named(machine, phases):
    phases.begin_training()
    machine.used = 70 * GIB
    for _ in range(2):
        with pytest.raises(
            PhaseError, match=r"needs 16.00 GiB again and the device has 10.00 free; lower rollout.kv_c"
        ):
            phases.begin_sampling()
        assert (phases.phase, machine.mapped) == ("training", 0)
    assert "map" not in machine.calls


@pytest.mark.parametrize("moved", [{"norm": (4096, 512)}, {"norm": (4096, 512), "head": (0, 1024)}])
def test_weights_stay_where_they_are(machine, phases, monkeypatch, moved):
    release = machine.release_kv_cache
    monkeypatch.setattr(machine, "release_kv_cache", lambda: (release(), setattr(machine, "parameters", moved)))
    with pytest.raises(AssertionError, match="head of the engine moved as training began"):
        phases.begin_training()


def test_what_each_phase_left_free_is_told(machine, phases):
    assert phases.metrics() == {}
    phases.begin_training()
    machine.kept = 45 * GIB
    phases.begin_sampling()
    assert phases.metrics() == {"memory/free_after_sampling_gib": 31.0, "memory/free_after_training_gib": 5.0}


def test_a_cache_can_sleep_on_cuda_only():
    sleeps = RolloutConfig(kv_cache="sleeps")
    require_device(RolloutConfig(), torch.device("cpu"))
    require_device(sleeps, torch.device("cuda"))
    with pytest.raises(ConfigError, match=r"rollout.kv_cache=sleeps needs a CUDA device, got cpu"):
        require_device(sleeps, torch.device("cpu"))


# --- what the trainer tells the engine ---


@pytest.fixture
def order(monkeypatch) -> list[str]:
    """Of what is done, with nothing behind it."""
    order: list[str] = []
    collected = SimpleNamespace(kept=[], groups=[], kept_P=None, metrics={})
    monkeypatch.setattr(train, "collect_step", lambda *_: order.append("sample") or collected)
    monkeypatch.setattr(train, "rollout_sampling", lambda *_: None)
    monkeypatch.setattr(train, "training_sequences", lambda *_: [])
    monkeypatch.setattr(train, "update_policy", lambda *_: order.append("update") or {})
    monkeypatch.setattr(train, "rollout_metrics", lambda *_: {})
    monkeypatch.setattr(train, "examples_of_policy", lambda *_: order.append("sample"))
    monkeypatch.setattr(train.cold_start, "open_sequences", lambda *_: [])
    monkeypatch.setattr(train.cold_start, "run_cold_start", lambda *_: order.append("update"))
    return order


@pytest.fixture
def trainer(order) -> SimpleNamespace:
    phases = SimpleNamespace(begin_training=lambda: order.append("begin training"), metrics=lambda: {"memory/x": 1.0})
    monitor = SimpleNamespace(
        timer=nullcontext, phase=lambda *_, **__: nullcontext(SimpleNamespace(advance=None)), note=None
    )
    return SimpleNamespace(
        config=SimpleNamespace(
            advantage=None, rollout=RolloutConfig(), optimizer=None, cold_start=ColdStartConfig()
        ),
        monitor=monitor, prompts=None, policy=None, pack=None, quarantine=[], parallel=SimpleNamespace(engines=1),
        encoder=None, rollout_format=None, one_answer=None, sample=print, engine=SimpleNamespace(phases=phases),
        weight_sync=SimpleNamespace(run=lambda: order.append("sync")),
    )  # fmt: skip


def test_a_step_trains_after_the_engine_was_told(order, trainer):
    metrics, _ = train.Trainer.step(trainer, 0)
    assert order == ["sample", "begin training", "update", "sync"]
    assert metrics["memory/x"] == 1.0


def test_stage_1_trains_after_the_engine_was_told(order, trainer):
    train.Trainer.stage_1(trainer)
    assert order == ["sample", "begin training", "update", "sync"]


def test_vllm_has_what_puts_its_cache_to_sleep():
    from vllm import LLM
    from vllm.v1.worker.gpu_worker import Worker

    assert list(inspect.signature(LLM.release_kv_cache_memory).parameters) == ["self"]
    assert list(inspect.signature(LLM.wake_up).parameters) == ["self", "tags"]
    assert inspect.signature(LLM.wake_up).return_annotation is bool
    assert "level" in inspect.signature(LLM.sleep).parameters
    assert list(inspect.signature(Worker.discard).parameters) == ["self", "tags"]
    assert list(inspect.signature(Worker.wake_up).parameters) == ["self", "tags"]
    assert list(inspect.signature(Worker._maybe_get_memory_pool_context).parameters) == ["self", "tag"]
    for tag in ("kv_cache", "weights"):  # by which a worker asks for memory
        assert f'_maybe_get_memory_pool_context(tag="{tag}")' in inspect.getsource(Worker)


def test_only_the_cache_is_taken_from_the_pool_that_sleeps(monkeypatch):
    from vllm.v1.worker.gpu_worker import Worker

    monkeypatch.setattr(Worker, "_maybe_get_memory_pool_context", lambda self, tag: f"pool of {tag}")
    worker = SimpleNamespace()
    with vllm_touch_points.only_the_kv_cache_sleeps():
        assert Worker._maybe_get_memory_pool_context(worker, tag="kv_cache") == "pool of kv_cache"
        for tag in ("weights", "runtime", "workspace"):
            assert isinstance(Worker._maybe_get_memory_pool_context(worker, tag), nullcontext)
    assert Worker._maybe_get_memory_pool_context(worker, "weights") == "pool of weights"
