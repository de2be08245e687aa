"""Cold-start SFT: examples of any SFT file become sequences, sequences become updates."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from srpo_fast.config import (
    DEFAULT_CONFIG,
    ColdStartConfig,
    Config,
    OptimizerConfig,
    RewardConfig,
    UserError,
    load_config,
)
from srpo_fast.embedded.task import SYSTEM_REFLECT, load_samples
from srpo_fast.formats.sft import SftExample, write_sft
from srpo_fast.prompts import PromptEncoder
from srpo_fast.reflection.cold_start import (
    SftSequences,
    end_of_first,
    learns_first,
    num_updates,
    open_sequences,
    run_cold_start,
)
from tests.policy_case import open_policy, packer

SAMPLES = load_samples("train", 6, 0)
FIRST = "<think>1</think><answer>2</answer>"
REST = "<reflection>ok</reflection><think>3</think><answer>$\\boxed{4}$</answer>"
EXAMPLE = SftExample(
    id="e", system=SYSTEM_REFLECT, text=SAMPLES[0].question.text, images=SAMPLES[0].question.images,
    assistant=FIRST + REST,
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder(untrained_model: Path) -> PromptEncoder:
    return PromptEncoder.from_pretrained(untrained_model, max_prompt_tokens=64)


def sequences_of(
    examples: list[SftExample], encoder: PromptEncoder, *, first: bool = True, max_pixels: int = 10**6
) -> SftSequences:
    return SftSequences(
        examples, [first] * len(examples), encoder, system_prompt=SYSTEM_REFLECT, image_root=Path("/"), min_pixels=784,
        max_pixels=max_pixels,
    )  # fmt: skip


def test_the_loss_covers_the_whole_completion_and_its_end(encoder):
    sequence = sequences_of([EXAMPLE], encoder)[0]
    assert encoder.decode(sequence.completion_ids) == EXAMPLE.assistant
    assert sequence.completion_ids[-1] == encoder.eos_token_id
    assert sequence.loss_mask == (True,) * len(sequence.completion_ids)
    assert len(sequence.rollout_logprobs) == len(sequence.completion_ids)
    prompt = encoder.encode(SAMPLES[0].question, SYSTEM_REFLECT)
    assert sequence.prompt.token_ids.tolist() == prompt.token_ids.tolist()
    assert torch.equal(sequence.prompt.pixel_values, prompt.pixel_values)


def test_the_first_solution_can_be_left_out_of_the_loss(encoder):
    sequence = sequences_of([EXAMPLE], encoder, first=False)[0]
    masked = sequence.loss_mask.index(True)
    assert all(sequence.loss_mask[masked:])
    assert encoder.decode(sequence.completion_ids[:masked]) == FIRST
    assert encoder.decode(sequence.completion_ids[masked:]) == REST


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (FIRST + REST, FIRST),
        (f"{FIRST}\n<reflection>", f"{FIRST}\n"),
        (f"{FIRST}\n<answer>3</answer>", FIRST),  # two steps without a reflection
        ("no form at all", ""),
    ],
)
def test_where_the_first_solution_ends(text, first):
    assert text[: end_of_first(text)] == first


@pytest.mark.parametrize(
    ("first", "last", "right"),
    [("2", "$\\boxed{2}$", True), ("$\\boxed{0.5}$", "\\frac{1}{2}", True), ("2", "3", False), ("", "", False)],
)
def test_a_first_answer_is_right_when_it_is_the_last_one(first, last, right):
    text = f"<think>a</think><answer>{first}</answer><reflection>b</reflection><answer>{last}</answer>"
    examples = [replace(EXAMPLE, assistant=text)]
    assert learns_first(examples, "when_right", RewardConfig()) == [right]
    assert learns_first(examples, "always", RewardConfig()) == [True]
    assert learns_first(examples, "never", RewardConfig()) == [False]


def test_an_answer_that_never_changed_or_is_alone_is_not_called_right():
    alone = replace(EXAMPLE, assistant="<think>a</think><answer>2</answer>")
    assert learns_first([alone], "when_right", RewardConfig()) == [False]


@pytest.mark.parametrize(
    ("examples", "epochs", "batch_size", "expected"),
    [(64, 1.0, 16, 4), (65, 1.0, 16, 5), (64, 0.5, 16, 2), (3, 1, 16, 1)],
)
def test_the_number_of_updates(examples, epochs, batch_size, expected):
    assert num_updates(examples, ColdStartConfig(epochs=epochs, batch_size=batch_size)) == expected


def config_for(file: Path) -> Config:
    return load_config(
        DEFAULT_CONFIG, ["reflection=null", f"cold_start.data={file}", "cold_start.first_answer_loss=never"]
    )


def test_a_published_file_trains_and_the_loss_falls(tmp_path, encoder, untrained_model, one_process):
    """Saved images, system prompts of its own or none, first answers masked."""
    examples = [
        replace(EXAMPLE, id=f"{i}", text=s.question.text, images=s.question.images, system=(None, "steps")[i % 2])
        for i, s in enumerate(SAMPLES)
    ]
    write_sft(tmp_path / "sft.json", examples)
    items = json.loads((tmp_path / "sft.json").read_text())
    items.append(items[0] | {"images": ["nowhere.png"]})
    (tmp_path / "sft.json").write_text(json.dumps(items))
    notes: list[str] = []
    config = config_for(tmp_path / "sft.json")
    sequences = open_sequences(tmp_path / "sft.json", config, encoder, one_process, notes.append)
    assert len(sequences) == len(SAMPLES)
    assert any("1 of 7 examples" in note and "nowhere.png" in note for note in notes)
    assert any("3 examples" in note and "another system prompt" in note for note in notes)
    for sequence, sample, system in zip(sequences, SAMPLES, [SYSTEM_REFLECT, "steps"] * 3, strict=True):
        prompt = encoder.encode(sample.question, system)
        assert torch.equal(sequence.prompt.pixel_values, prompt.pixel_values)
        assert sequence.prompt.token_ids.tolist() == prompt.token_ids.tolist()
        assert not sequence.loss_mask[0]

    settings = ColdStartConfig(epochs=8, batch_size=3, lr=5e-3, warmup_share=0.0)
    policy = open_policy(untrained_model, one_process)
    losses: list[float] = []
    left_out = run_cold_start(
        policy, sequences, packer(untrained_model, one_process, 512), settings, OptimizerConfig(),
        lambda loss: losses.append(loss),
    )  # fmt: skip
    assert left_out == {}
    assert len(losses) == policy.version == num_updates(6, settings) == 16
    assert losses[0] > 5.5  # every token alike
    assert losses[-1] < 1.0


def test_prompts_that_are_too_long_are_left_out_and_named(encoder, untrained_model, one_process):
    long = replace(EXAMPLE, id="long", text=EXAMPLE.text + " and" * 90)
    settings = ColdStartConfig(batch_size=2, lr=1e-4)
    policy, pack = open_policy(untrained_model, one_process), packer(untrained_model, one_process, 512)
    losses: list[float] = []
    sequences = sequences_of([EXAMPLE, long, EXAMPLE, EXAMPLE], encoder)
    left_out = run_cold_start(policy, sequences, pack, settings, OptimizerConfig(), lambda loss: losses.append(loss))
    assert len(losses) == 2
    assert list(left_out) == [1]
    assert "question long" in left_out[1]
    with pytest.raises(UserError, match="no example that can be used, of 1: question long"):
        run_cold_start(policy, sequences_of([long], encoder), pack, settings, OptimizerConfig(), lambda loss: None)


def test_pictures_beyond_the_memory_for_them_are_encoded_again(encoder, monkeypatch):
    sequences = sequences_of([EXAMPLE, EXAMPLE], encoder)
    monkeypatch.setattr("srpo_fast.reflection.cold_start.KEPT_PIXELS", sequences[0].prompt.pixel_values.numel())
    first, second = sequences[0], sequences[1]
    assert sequences[0] is first
    assert sequences[1] is not second
    assert torch.equal(sequences[1].prompt.pixel_values, second.prompt.pixel_values)
