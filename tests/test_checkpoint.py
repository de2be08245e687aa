"""A checkpoint is complete or absent, verified when read, refused when it does not fit."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from megatron.core.dist_checkpointing import ShardedTensor

from srpo_fast.checkpoint import BEST, KEEP, MANIFEST, TRAINER, Checkpoint, best_score, load_latest, save
from srpo_fast.config import ConfigError

DATA = "policy/__0_0.distcp"


@pytest.fixture(autouse=True)
def _megatron(one_process):
    """Megatron's checkpoints ask for the current CUDA device."""
    from srpo_fast.policy.megatron_start import start_megatron

    start_megatron(one_process, seed=0)


def shard_of(value: float, size: int = 6) -> ShardedTensor:
    return ShardedTensor.from_rank_offsets("w", torch.full((2, size // 2), value))


def make_checkpoint(step: int, score: float | None = None) -> Checkpoint:
    return Checkpoint(
        step=step,
        policy={"version": step, "weights": {"w": shard_of(step)}},
        prompt_source={"steps": step},
        reward_watch={"flat_steps": step},
        rng=torch.get_rng_state(),
        score=score,
    )


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_everything_comes_back(one_process, tmp_path):
    saved = make_checkpoint(7)
    save(tmp_path, saved, one_process)
    loaded = load_latest(tmp_path, one_process)
    assert loaded
    assert (loaded.step, loaded.prompt_source) == (7, {"steps": 7})
    assert torch.equal(loaded.rng, saved.rng)
    policy = loaded.read_policy({"version": 0, "weights": {"w": shard_of(0)}})
    assert policy["version"] == 7
    assert torch.equal(policy["weights"]["w"], torch.full((2, 3), 7.0))


def test_a_run_without_checkpoints_starts_anew(one_process, tmp_path):
    assert load_latest(tmp_path, one_process) is None
    assert load_latest(tmp_path / "absent", one_process) is None


def test_the_newest_is_loaded_and_the_last_two_are_kept(one_process, tmp_path):
    for step in (0, 9, 10, 100):
        save(tmp_path, make_checkpoint(step), one_process)
    assert KEEP == 2
    assert folders(tmp_path) == ["step_000010", "step_000100"]
    loaded = load_latest(tmp_path, one_process)
    assert loaded
    assert loaded.step == 100


def test_saving_a_step_again_replaces_it(one_process, tmp_path):
    save(tmp_path, make_checkpoint(3), one_process)
    save(tmp_path, replace(make_checkpoint(3), prompt_source={"steps": 33}), one_process)
    loaded = load_latest(tmp_path, one_process)
    assert loaded
    assert loaded.prompt_source == {"steps": 33}
    assert folders(tmp_path) == ["step_000003"]


def test_a_folder_without_a_manifest_is_no_checkpoint(one_process, tmp_path):
    save(tmp_path, make_checkpoint(1), one_process)
    save(tmp_path, make_checkpoint(2), one_process)
    (tmp_path / "step_000002" / MANIFEST).unlink()
    loaded = load_latest(tmp_path, one_process)
    assert loaded
    assert loaded.step == 1


def test_what_an_interrupted_save_left_is_ignored_and_overwritten(one_process, tmp_path):
    unfinished = tmp_path / ".step_000005.tmp"
    unfinished.mkdir()
    (unfinished / TRAINER).write_bytes(b"half")
    (unfinished / "rubbish").touch()
    assert load_latest(tmp_path, one_process) is None
    save(tmp_path, make_checkpoint(5), one_process)
    assert folders(tmp_path) == ["step_000005"]
    assert folders(tmp_path / "step_000005") == [MANIFEST, "policy", TRAINER]


def test_the_manifest_names_every_file(one_process, tmp_path):
    save(tmp_path, make_checkpoint(5), one_process)
    folder = tmp_path / "step_000005"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(json.loads((folder / MANIFEST).read_text())["files"]) == files - {MANIFEST}
    assert {TRAINER, DATA, "policy/.metadata", "policy/common.pt"} <= files


@pytest.mark.parametrize("file", [DATA, TRAINER, "policy/.metadata", "policy/common.pt"])
def test_a_damaged_file_is_refused_and_the_way_out_is_named(one_process, tmp_path, file):
    save(tmp_path, make_checkpoint(1), one_process)
    damage(tmp_path / "step_000001" / file)
    with pytest.raises(ConfigError, match=rf"{file} is missing or damaged; delete .*step_000001 to use an older"):
        load_latest(tmp_path, one_process)


@pytest.mark.parametrize("file", [DATA, TRAINER])
def test_a_missing_file_is_refused(one_process, tmp_path, file):
    save(tmp_path, make_checkpoint(1), one_process)
    (tmp_path / "step_000001" / file).unlink()
    with pytest.raises(ConfigError, match=rf"{file} is missing or damaged"):
        load_latest(tmp_path, one_process)


def test_a_failed_write_leaves_no_checkpoint(one_process, tmp_path, monkeypatch):
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    save(tmp_path, make_checkpoint(1), one_process)
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(Exception, match="No space left on device"):
        save(tmp_path, make_checkpoint(2), one_process)
    monkeypatch.undo()
    loaded = load_latest(tmp_path, one_process)
    assert loaded
    assert loaded.step == 1


def test_a_policy_of_another_shape_is_refused(one_process, tmp_path):
    save(tmp_path, make_checkpoint(1), one_process)
    loaded = load_latest(tmp_path, one_process)
    assert loaded
    with pytest.raises(ConfigError, match=r"step_000001 is not one of this policy .*; was model\.path or"):
        loaded.read_policy({"version": 0, "weights": {"w": shard_of(0, size=8)}})


@pytest.mark.parametrize(("saved", "resumed"), [(False, True), (True, False)])
def test_another_kind_of_optimizer_is_refused(one_process, tmp_path, saved, resumed):
    save(tmp_path, make_checkpoint(1), replace(one_process, distributed_optimizer=saved))
    with pytest.raises(ConfigError, match=f"distributed_optimizer={str(saved).lower()}; resume with the same"):
        load_latest(tmp_path, replace(one_process, distributed_optimizer=resumed))


def test_the_best_checkpoint_stays_and_is_pointed_to(one_process, tmp_path):
    assert best_score(tmp_path) == -math.inf
    best = []
    for step, score in enumerate([0.1, 0.5, None, 0.5, 0.4, None]):
        save(tmp_path, make_checkpoint(step, score), one_process)
        best.append((tmp_path / BEST).resolve().name)
    assert best == ["step_000000", *["step_000001"] * 5]  # the first of equals
    assert folders(tmp_path) == [BEST, "step_000001", "step_000004", "step_000005"]
    assert best_score(tmp_path) == 0.5
    loaded = load_latest(tmp_path, one_process)
    assert loaded
    assert loaded.step == 5


def test_a_better_one_takes_the_place_of_the_best_and_of_its_copy(one_process, tmp_path):
    save(tmp_path, make_checkpoint(1, 0.5), one_process)
    (tmp_path / BEST).unlink()
    shutil.copytree(tmp_path / "step_000001", tmp_path / BEST)  # as `cp -rL` leaves a link
    for step, score in ((2, 0.6), (3, None), (4, None)):
        save(tmp_path, make_checkpoint(step, score), one_process)
    assert (tmp_path / BEST).is_symlink()
    assert folders(tmp_path) == [BEST, "step_000002", "step_000003", "step_000004"]


def test_without_scores_there_is_no_best(one_process, tmp_path):
    for step in range(KEEP + 1):
        save(tmp_path, make_checkpoint(step), one_process)
    assert folders(tmp_path) == [f"step_{step:06d}" for step in range(1, KEEP + 1)]
