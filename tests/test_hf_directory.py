"""A model directory is read by published names, refused when it is none, and exported whole."""

import json
import shutil

import pytest
import torch

from srpo_fast.config import ConfigError
from srpo_fast.policy import safetensors_shards
from srpo_fast.policy.hf_directory import HFDirectory
from srpo_fast.policy.name_map import canonical


@pytest.fixture
def copied(untrained_model, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(untrained_model, tmp_path / "model")


def contents(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def new_weights(directory):
    """Other values for every language tensor."""
    return {n: directory.tensor(n) + 1 for n in directory.tensor_names if not n.startswith("visual.")}


def test_tensors_are_found_by_their_published_names(untrained_model):
    directory = HFDirectory(untrained_model)
    assert directory.tensor("model.embed_tokens.weight").shape == (384, 128)
    assert directory.tensor("visual.patch_embed.proj.weight").ndim == 5
    assert "lm_head.weight" not in directory.tensor_names


def test_an_export_has_the_new_weights_and_all_else_of_the_base(untrained_model, tmp_path):
    base = HFDirectory(untrained_model)
    new = new_weights(base)
    base.export(tmp_path / "hf", new.items(), writes=True)
    exported = HFDirectory(tmp_path / "hf")
    assert exported.tensor_names == base.tensor_names
    for name in base.tensor_names:
        assert torch.equal(exported.tensor(name), new.get(name, base.tensor(name))), name
    before, after = contents(untrained_model), contents(tmp_path / "hf")
    assert before.keys() == after.keys()
    assert [str(file) for file in before if before[file] != after[file]] == ["model.safetensors"]


def test_an_export_loads_in_transformers_with_head_and_embedding_tied(untrained_model, tmp_path):
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    base = HFDirectory(untrained_model)
    new = new_weights(base)
    base.export(tmp_path / "hf", new.items(), writes=True)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "hf")
    assert torch.equal(model.lm_head.weight, new["model.embed_tokens.weight"])
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert AutoProcessor.from_pretrained(tmp_path / "hf").tokenizer.get_vocab()["<think>"] > 0


def test_an_export_replaces_an_older_one_and_leaves_nothing_beside_it(untrained_model, tmp_path):
    base = HFDirectory(untrained_model)
    base.export(tmp_path / "hf", {}.items(), writes=True)
    (tmp_path / "hf" / "of_an_older_export").touch()
    new = new_weights(base)
    base.export(tmp_path / "hf", new.items(), writes=True)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
    assert not (tmp_path / "hf" / "of_an_older_export").exists()
    assert torch.equal(HFDirectory(tmp_path / "hf").tensor("model.norm.weight"), new["model.norm.weight"])


def test_an_export_larger_than_a_file_is_sharded_and_loads_in_transformers(untrained_model, tmp_path, monkeypatch):
    from transformers import Qwen2_5_VLForConditionalGeneration

    monkeypatch.setattr(safetensors_shards, "SHARD_BYTES", 500_000)
    base = HFDirectory(untrained_model)
    new = new_weights(base)
    base.export(tmp_path / "hf", new.items(), writes=True)
    files = sorted(file.name for file in (tmp_path / "hf").glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert all((tmp_path / "hf" / file).stat().st_size < 510_000 for file in files)
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "hf")
    assert index["metadata"]["total_size"] == sum(p.numel() * p.element_size() for p in model.parameters())
    for name, parameter in model.named_parameters():
        expected = new.get(canonical(name))
        assert torch.equal(parameter, base.tensor(canonical(name)) if expected is None else expected)


def test_a_rank_that_does_not_write_only_gathers(untrained_model, tmp_path):
    asked = []
    HFDirectory(untrained_model).export(
        tmp_path / "hf", ((asked.append(n) or (n, torch.zeros(1))) for n in ("a", "b")), writes=False
    )
    assert asked == ["a", "b"]
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_another_shape_is_refused_and_the_older_one_stays(untrained_model, tmp_path):
    base = HFDirectory(untrained_model)
    base.export(tmp_path / "hf", {}.items(), writes=True)
    before = contents(tmp_path / "hf")
    with pytest.raises(RuntimeError, match=r"model\.norm\.weight"):
        base.export(tmp_path / "hf", [("model.norm.weight", torch.ones(3))], writes=True)
    assert contents(tmp_path / "hf") == before


def test_a_sharded_directory_reads_like_a_single_file(untrained_model, tmp_path):
    from transformers import Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(untrained_model)
    model.save_pretrained(tmp_path, max_shard_size="500KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    single, sharded = HFDirectory(untrained_model), HFDirectory(tmp_path)
    assert sorted(single.tensor_names) == sorted(sharded.tensor_names)
    assert all(torch.equal(single.tensor(n), sharded.tensor(n)) for n in single.tensor_names)


def test_a_directory_of_no_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"is not a Hugging Face directory: it has no config\.json"):
        HFDirectory(tmp_path / "nowhere")


def test_a_directory_without_weights_is_refused(copied):
    (copied / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"has no \*\.safetensors file"):
        HFDirectory(copied)


def test_another_architecture_is_refused(copied):
    config = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="holds a qwen2 model; only qwen2_5_vl is supported"):
        HFDirectory(copied)


def test_a_missing_tensor_is_named(untrained_model):
    with pytest.raises(ConfigError, match=r"lacks the tensor model\.layers\.9\.mlp\.up_proj\.weight.*complete"):
        HFDirectory(untrained_model).tensor("model.layers.9.mlp.up_proj.weight")
