"""A checkpoint is complete or absent, verified when read, refused when it does not fit."""

from dataclasses import replace

import pytest
import torch

from srpo_fast.checkpoint import KEEP, MANIFEST, Checkpoint, load_latest, save
from srpo_fast.config import ConfigError


def make_checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        step=step,
        policy={"version": step, "weights": {"w": torch.full((2, 3), float(step))}, "optimizer": None},
        prompt_source={"steps": step},
        reward_watch={"flat_steps": step},
        rng=torch.get_rng_state(),
    )


def folders(root):
    return sorted(path.name for path in root.iterdir())


def damage(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_everything_comes_back(one_process, tmp_path):
    saved = make_checkpoint(7)
    save(tmp_path, saved, one_process)
    loaded = load_latest(tmp_path, one_process)
    assert loaded
    assert (loaded.step, loaded.prompt_source) == (7, {"steps": 7})
    assert loaded.policy["version"] == 7
    assert torch.equal(loaded.policy["weights"]["w"], saved.policy["weights"]["w"])
    assert torch.equal(loaded.rng, saved.rng)


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
    (unfinished / "tp0_pp0.pt").write_bytes(b"half")
    (unfinished / "rubbish").touch()
    assert load_latest(tmp_path, one_process) is None
    save(tmp_path, make_checkpoint(5), one_process)
    assert folders(tmp_path) == ["step_000005"]
    assert folders(tmp_path / "step_000005") == [MANIFEST, "tp0_pp0.pt"]


def test_a_damaged_file_is_refused_and_the_way_out_is_named(one_process, tmp_path):
    save(tmp_path, make_checkpoint(1), one_process)
    damage(tmp_path / "step_000001" / "tp0_pp0.pt")
    with pytest.raises(ConfigError, match=r"tp0_pp0\.pt is missing or damaged; delete .*step_000001"):
        load_latest(tmp_path, one_process)


def test_a_missing_file_is_refused(one_process, tmp_path):
    save(tmp_path, make_checkpoint(1), one_process)
    (tmp_path / "step_000001" / "tp0_pp0.pt").unlink()
    with pytest.raises(ConfigError, match=r"tp0_pp0\.pt is missing or damaged"):
        load_latest(tmp_path, one_process)


@pytest.mark.parametrize("size", ["tp", "pp"])
def test_another_tp_or_pp_is_refused_with_both_named(one_process, tmp_path, size):
    save(tmp_path, make_checkpoint(1), one_process)
    other = replace(one_process, world=2, **{size: 2})
    asked = (other.tp, other.pp)
    with pytest.raises(ConfigError) as error:
        load_latest(tmp_path, other)
    assert "saved with (tp, pp)=" in str(error.value)
    assert f"this run has {asked}" in str(error.value)


def test_other_numbers_of_data_parallel_ranks_may_load(one_process, tmp_path):
    save(tmp_path, make_checkpoint(1), one_process)
    loaded = load_latest(tmp_path, replace(one_process, world=4, rank=3))
    assert loaded
    assert loaded.step == 1
