"""However ranks share the policy, its logits and every gradient are transformers'."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.launch import run_on_ranks
from tests.parity_on_ranks import LAYOUTS
from tests.policy_case import open_encoder, packer
from tests.policy_parity import (
    TOKENS_PER_MICRO_BATCH,
    Parity,
    each_relative_error,
    largest_difference,
    parity_sequences,
    transformers_parity,
    write_parity_model,
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity_models")
    for name in ("tied", "untied"):
        write_parity_model(folder / name, tied=name == "tied")
    return folder


@pytest.fixture(scope="module")
def expected(models) -> dict[str, Parity]:
    banned = torch.tensor(open_encoder(models / "tied").banned_ids)
    return {name: transformers_parity(models / name, banned) for name in ("tied", "untied")}


@pytest.fixture(scope="module")
def two_ranks(models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_layouts(2, models, tmp_path_factory)


@pytest.fixture(scope="module")
def four_ranks(models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_layouts(4, models, tmp_path_factory)


def run_layouts(ranks: int, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(f"parity_on_{ranks}")
    result = run_on_ranks(ranks, "tests/parity_on_ranks.py", str(models), str(folder))
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


@pytest.mark.parametrize("layout", LAYOUTS[2])
def test_two_ranks_agree_with_transformers(expected, two_ranks, layout):
    check(expected, two_ranks, LAYOUTS[2][layout], layout)


@pytest.mark.parametrize("layout", LAYOUTS[4])
def test_four_ranks_agree_with_transformers(expected, four_ranks, layout):
    check(expected, four_ranks, LAYOUTS[4][layout], layout)


def check(expected: dict[str, Parity], folder: Path, settings: dict[str, Any], layout: str) -> None:
    reference = expected[settings.get("model", "tied")]
    of_ranks = [torch.load(file) for file in sorted(folder.glob(f"{layout}_rows_*.pt"))]
    scored = [key for rank in of_ranks for key in rank["logits"]]
    assert len(scored) == len(set(scored)), "a row is scored on two ranks"
    assert largest_difference({k: v for rank in of_ranks for k, v in rank["logits"].items()}, reference.logits) < 1e-5

    found = torch.load(folder / f"{layout}.pt")
    assert found["metrics"]["loss"] == pytest.approx(reference.loss, abs=1e-5)
    assert found["metrics"]["tokens"] == len(reference.logits)
    trained = {
        name: gradient for name, gradient in reference.gradients.items()
        if settings.get("train_vision") or not name.startswith("visual.")
    }  # fmt: skip
    errors = each_relative_error(found["gradients"], trained)
    assert max(errors.values()) < 1e-5, sorted(errors.items(), key=lambda item: -item[1])[:3]
    norm = torch.stack([gradient.norm() for gradient in trained.values()]).norm().item()
    assert found["grad_norm"] == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS[2])
def test_log_probs_of_two_ranks_cover_every_row(expected, two_ranks, layout):
    """Every rank that returns log-probs returns whole micro-batches, those of its data-parallel share."""
    of_ranks = [torch.load(file)["logprobs"] for file in sorted(two_ranks.glob(f"{layout}_rows_*.pt"))]
    together = {key: value for rank in of_ranks for key, value in rank.items()}
    assert together.keys() == expected["tied"].logits.keys()
    assert all(value < 0 for value in together.values())
    if "cp" in LAYOUTS[2][layout]:
        assert of_ranks[0] == of_ranks[1] == together


def test_the_case_has_images_of_every_count_and_odd_micro_batches(models, one_process):
    sequences = parity_sequences(models / "tied")
    assert {len(s.prompt.image_grid_thw) for s in sequences} == {0, 1, 2, 5}
    micro_batches = packer(models / "tied", one_process, TOKENS_PER_MICRO_BATCH)(sequences).micro_batches
    assert len(micro_batches) >= 3
    assert any(len(m.input_ids) % 2 for m in micro_batches)
