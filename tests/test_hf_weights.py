"""Published weights in every layout: each tensor once, each rank its slice, and little more memory than that."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from srpo_fast.model_shape import PUBLISHED
from tests.launch import run_on_ranks
from tests.published_config import config_of
from tests.shapes_of_layouts import published

LAYERS, HIDDEN, FFN, VOCABULARY = 12, 1024, 4096, 32768  # 0.4 GiB in bf16


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    result = run_on_ranks(1, "tests/shapes_of_layouts.py")
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("model", PUBLISHED)
def test_every_published_tensor_is_mapped_once_and_cut_without_rest(found, model):
    of_model = {layout: problems for layout, problems in found.items() if layout.startswith(f"{model} ")}
    assert {f"{model} {part}" for part in ("vision", "tp1 pp1 chunks1", "tp2 pp4 chunks1")} <= of_model.keys()
    assert {layout: problems for layout, problems in of_model.items() if problems} == {}


@pytest.fixture(scope="module")
def large_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 0.4 GiB in four files, of which only names, shapes and sums matter."""
    folder = tmp_path_factory.mktemp("large_model")
    config = config_of(PUBLISHED["7b"])
    text = {
        "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": 8,
        "num_key_value_heads": 4, "vocab_size": VOCABULARY,
    }  # fmt: skip
    for name, value in text.items():
        setattr(config.text_config, name, value)
    config.text_config.layer_types = ["full_attention"] * LAYERS
    config.vision_config.depth, config.vision_config.out_hidden_size = 1, HIDDEN
    config.save_pretrained(folder)
    names = [name for name in published(config) if not name.startswith("visual.")]
    index = published(config)
    for number in range(4):
        part = {name: torch.rand(index[name].shape).bfloat16() for name in names[number::4]}
        save_file(part, folder / f"model-{number}.safetensors")
    return folder


def test_an_import_needs_little_more_memory_than_the_ranks_slice(large_model):
    result = run_on_ranks(1, "tests/import_memory.py", str(large_model), "2", "1")
    assert result.returncode == 0, result.stderr[-4000:]
    cost = json.loads(result.stdout.splitlines()[-1])
    total = sum(file.stat().st_size for file in large_model.glob("*.safetensors"))
    assert total > 400 << 20
    assert 0.5 <= cost["slice"] / total < 0.51  # norms and their like are whole on every rank
    assert cost["slice"] <= cost["peak"] < 1.3 * cost["slice"]
    assert cost["sum"] / (cost["slice"] / 2) == pytest.approx(0.5, abs=1e-3)  # random numbers, not what was there
