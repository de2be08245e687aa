"""The model directory, and a training run of a few steps."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from srpo_fast.embedded.base import RECIPE, Stage, ensure_base_model, train_base_model
from srpo_fast.embedded.lessons import NO_LOSS, build_lessons, prompt_ids
from srpo_fast.embedded.model import build_processor, build_untrained_model, write_untrained_model
from srpo_fast.embedded.task import (
    SYSTEM_CAREFUL,
    SYSTEM_DIRECT,
    SYSTEM_REFLECT,
    careful_answer,
    direct_answer,
    load_samples,
)
from srpo_fast.embedded.tokenizer import build_tokenizer

TINY = replace(
    RECIPE,
    text=Stage(steps=6, batch_size=8, lr=2e-3, last_lr=1e-3),
    align=Stage(steps=2, batch_size=4, lr=2e-3, last_lr=1e-3),
    joint=Stage(steps=2, batch_size=4, lr=1e-3, last_lr=1e-3),
    samples=64,
)


def ignore(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "untrained"
    write_untrained_model(path, seed=0)
    return path


def test_directory_loads_in_transformers_and_reads_a_picture(directory):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, processor = AutoModelForImageTextToText.from_pretrained(directory), AutoProcessor.from_pretrained(directory)
    question = load_samples("train", 1, 0)[0].question
    parts = [{"type": "image"}, {"type": "text", "text": question.text.removeprefix("<image>")}]
    messages = [{"role": "system", "content": SYSTEM_DIRECT}, {"role": "user", "content": parts}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(text=[prompt], images=list(question.images), return_tensors="pt")
    assert inputs["image_grid_thw"].tolist() == [[1, 2, 8]]
    assert inputs["input_ids"][0].tolist() == prompt_ids(SYSTEM_DIRECT, question.text, build_tokenizer())
    with torch.no_grad():
        first = model(**inputs).logits
        second = model(**{**inputs, "pixel_values": -inputs["pixel_values"]}).logits
    assert first.shape[-1] == 384
    assert not torch.equal(first[0, -1], second[0, -1])


def test_directory_says_what_other_readers_need(directory):
    config = json.loads((directory / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    assert config["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    assert config["tie_word_embeddings"] is True
    assert text["rope_parameters"]["mrope_section"] == [4, 6, 6]
    assert text["hidden_size"] // text["num_attention_heads"] == vision["hidden_size"] // vision["num_heads"] == 32
    assert vision["out_hidden_size"] == text["hidden_size"]
    assert json.loads((directory / "generation_config.json").read_text())["eos_token_id"] == text["eos_token_id"]
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        assert (directory / name).is_file()


def test_untrained_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = build_untrained_model(1), build_untrained_model(1), build_untrained_model(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


def test_lessons_hold_what_the_samples_say():
    tokenizer, samples = build_tokenizer(), load_samples("train", 20, 0)
    lessons = build_lessons(samples, tokenizer)
    direct, careful = lessons.texts
    for row, sample in enumerate(samples):
        told = careful.completion_ids[row]
        assert tokenizer.decode(told[told != NO_LOSS]) == careful_answer(sample) + "<|im_end|>"
        assert f"system\n{SYSTEM_DIRECT}<|im_end|>" in tokenizer.decode(direct.prompt_ids[row])
        assert f"system\n{SYSTEM_CAREFUL}<|im_end|>" in tokenizer.decode(careful.prompt_ids[row])
        assert tokenizer.decode(lessons.digit_ids[row]) == "".join(map(str, sample.digits))
        picture = np.asarray(sample.question.images[0]).transpose(2, 0, 1)
        assert np.array_equal(lessons.pictures[row].numpy(), picture)
    reflecting = tokenizer(SYSTEM_REFLECT)["input_ids"]
    assert len(reflecting) == 1
    assert not (direct.prompt_ids == reflecting[0]).any()


def test_training_changes_every_weight_and_counts_its_steps():
    seen = []
    model = train_base_model(0, lambda done, total: seen.append((done, total)), TINY)
    assert seen == [(step, 10) for step in range(1, 11)]
    for (name, before), after in zip(build_untrained_model(0).named_parameters(), model.parameters(), strict=True):
        assert not torch.equal(before, after), name
        assert after.isfinite().all(), name


def test_base_model_is_trained_once_for_a_seed_and_recipe(tmp_path):
    path = ensure_base_model(tmp_path, 0, ignore, TINY)
    stamp = (path / "model.safetensors").stat().st_mtime_ns
    assert ensure_base_model(tmp_path, 0, ignore, TINY) == path
    assert (path / "model.safetensors").stat().st_mtime_ns == stamp
    other = ensure_base_model(tmp_path, 0, ignore, replace(TINY, samples=65))
    assert sorted(tmp_path.iterdir()) == sorted([path, other])
    assert build_processor().tokenizer.get_vocab() == build_tokenizer().get_vocab()


def test_the_second_of_two_runs_at_once_takes_what_the_first_made(tmp_path):
    made = []

    def first_is_faster(done: int, total: int) -> None:
        if done == total:
            made.append(ensure_base_model(tmp_path, 0, ignore, TINY))
            (made[0] / "mine").touch()

    assert ensure_base_model(tmp_path, 0, first_is_faster, TINY) == made[0]
    assert list(tmp_path.iterdir()) == made
    assert (made[0] / "mine").exists()


def test_a_change_of_what_is_taught_makes_another_base_model(tmp_path, monkeypatch):
    path = ensure_base_model(tmp_path, 0, ignore, TINY)
    monkeypatch.setattr("srpo_fast.embedded.base.careful_answer", direct_answer)
    assert ensure_base_model(tmp_path, 0, ignore, TINY) != path
