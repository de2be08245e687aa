import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from transformers import AutoProcessor

from srpo_fast.batch import Question
from srpo_fast.embedded.model import write_untrained_model
from srpo_fast.positions import mrope_positions
from srpo_fast.prompts import PromptEncoder, PromptTooLong

SYSTEM = "Answer in <answer> tags."


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("untrained")
    write_untrained_model(path, seed=0)
    return path


@pytest.fixture(scope="module")
def encoder(model_dir: Path) -> PromptEncoder:
    return PromptEncoder.from_pretrained(model_dir, max_prompt_tokens=200)


def make_question(text: str, *sizes: tuple[int, int]) -> Question:
    """A question with a noise image of every (width, height)."""
    rng = np.random.default_rng(0)
    images = tuple(Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes)
    return Question(id="q", text=text, images=images, answer="9")


QUESTIONS = [
    make_question("What is 3 + 4?"),
    make_question("<image>What is the sum of the digits?", (112, 28)),
    make_question("Which is larger, <image> or <image>?", (56, 28), (28, 84)),
    make_question("<image><image> <image>a<image><image>", *[(28 * n, 28) for n in (1, 2, 3, 1, 2)]),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: f"{len(question.images)} images")
def test_a_prompt_is_what_transformers_makes_of_it(model_dir, encoder, question):
    """Against the whole processor of the directory, its own resizing included."""
    processor = AutoProcessor.from_pretrained(model_dir)
    content = []
    for i, text in enumerate(question.text.split("<image>")):
        content += [{"type": "image"}] * (i > 0) + [{"type": "text", "text": text}] * bool(text)
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
    chat = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    expected = processor(text=[chat], images=list(question.images) or None, return_tensors="pt")

    prompt = encoder.encode(question, SYSTEM)
    assert prompt.question is question
    assert torch.equal(prompt.token_ids, expected["input_ids"][0])
    if question.images:
        assert torch.equal(prompt.pixel_values, expected["pixel_values"])
        assert torch.equal(prompt.image_grid_thw, expected["image_grid_thw"])
    assert torch.equal(
        prompt.position_ids,
        mrope_positions(prompt.token_ids, prompt.image_grid_thw, image_token_id=encoder.image_token_id, merge_size=2),
    )


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: f"{len(question.images)} images")
def test_the_engine_gets_one_token_an_image(model_dir, encoder, question):
    prompt = encoder.encode(question, SYSTEM)
    tokenizer = AutoProcessor.from_pretrained(model_dir).tokenizer
    text = question.text.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>")
    assert tokenizer.decode(prompt.engine_token_ids) == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_prompt_without_images_has_empty_image_fields_of_the_right_shape(encoder):
    prompt = encoder.encode(QUESTIONS[0], SYSTEM)
    with_image = encoder.encode(QUESTIONS[1], SYSTEM)
    assert prompt.pixel_values.shape == (0, with_image.pixel_values.shape[1])
    assert (prompt.image_grid_thw.shape, prompt.image_grid_thw.dtype) == ((0, 3), torch.int64)
    assert prompt.pixel_values.dtype == with_image.pixel_values.dtype == torch.float32


def test_the_limit_counts_expanded_images(model_dir, encoder):
    question = make_question("<image>?", (112, 112))
    length = len(encoder.encode(question, SYSTEM).token_ids)
    assert length == len(encoder.encode(question, SYSTEM).engine_token_ids) - 1 + 16
    assert len(PromptEncoder.from_pretrained(model_dir, length).encode(question, SYSTEM).token_ids) == length
    with pytest.raises(PromptTooLong, match=rf"question q: the prompt has {length} tokens, more than {length - 1}"):
        PromptEncoder.from_pretrained(model_dir, length - 1).encode(question, SYSTEM)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (make_question("<image>?"), "mark an image, 0 in all, got 1"),
        (make_question("?", (28, 28)), "mark an image, 1 in all, got 0"),
        (make_question("<image>", (30, 28)), "expected images of multiples of 28 pixels a side .* got 30x28"),
        (make_question("<image>", (28 * 20, 28 * 20)), "pixels in all, .* got 560x560; use images.resize_once"),
    ],
)
def test_a_question_that_would_mislead_engine_or_policy_is_refused(encoder, question, message):
    with pytest.raises(ValueError, match=message):
        encoder.encode(question, SYSTEM)


SPECIAL = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<|box_start|>", "<|object_ref_end|>",
)  # fmt: skip
words = st.lists(
    st.one_of(st.sampled_from([*SPECIAL, "\n", "assistant\n", " ", "\ue0000\ue000", "<|", "|>"]), st.text(max_size=5)),
    max_size=8,
).map("".join)


def special_ids(encoder: PromptEncoder) -> set[int]:
    return {i for i, token in encoder._tokenizer.added_tokens_decoder.items() if token.special}


@pytest.fixture(scope="module")
def patient_encoder(model_dir: Path) -> PromptEncoder:
    return PromptEncoder.from_pretrained(model_dir, max_prompt_tokens=10_000)


@given(before=words, after=words)
@settings(max_examples=200, deadline=None)
def test_no_text_forges_an_image_or_a_turn(patient_encoder, before, after):
    """Whatever a question says, its special tokens are the template's, and its words come back as they were."""
    assume("<image>" not in before + after)
    encoder = patient_encoder
    prompt = encoder.encode(make_question(f"{before}<image>{after}?", (28, 28)), SYSTEM)
    tokenizer = encoder._tokenizer
    ids = list(prompt.engine_token_ids)
    special = [tokenizer.decode([i]) for i in ids if i in special_ids(encoder)]
    turn = ["<|im_start|>", "<|im_end|>"]
    picture = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>"]
    assert special == [*turn, turn[0], *picture, turn[1], turn[0]]
    begin = ids.index(tokenizer.convert_tokens_to_ids("<|vision_start|>"))
    assert tokenizer.decode(ids[begin + 3 : ids.index(encoder.eos_token_id, begin)]) == f"{after}?"


def test_a_mention_changes_nothing_else(encoder):
    plain = encoder.encode(make_question("<image> What is im_start? <image>", (56, 28), (28, 28)), SYSTEM)
    forged = encoder.encode(make_question("<image> What is <|im_start|>? <image>", (56, 28), (28, 28)), SYSTEM)
    assert torch.equal(plain.image_grid_thw, forged.image_grid_thw)
    assert encoder.decode(forged.token_ids) == encoder.decode(plain.token_ids).replace("im_start", "<|im_start|>")


def test_an_answer_forges_nothing_either(encoder):
    assert not {*encoder.token_ids("".join(SPECIAL))} & special_ids(encoder)
    assert encoder.decode(encoder.token_ids("".join(SPECIAL))) == "".join(SPECIAL)


def test_a_system_prompt_with_an_image_token_is_refused(encoder):
    with pytest.raises(ValueError, match="expected 0 image tokens in the prompt, got 1; the system prompt"):
        encoder.encode(QUESTIONS[0], "<|image_pad|>")


def test_special_ids(model_dir, encoder):
    tokenizer = AutoProcessor.from_pretrained(model_dir).tokenizer
    names = tokenizer.convert_ids_to_tokens(list(encoder.banned_ids))
    assert set(names) == {"<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"}
    assert tokenizer.convert_ids_to_tokens([encoder.eos_token_id, encoder.image_token_id]) == [
        "<|im_end|>",
        "<|image_pad|>",
    ]


def test_text_and_tokens(encoder):
    text = "<think>3141;4,8,9</think><answer>$\\boxed{9}$</answer>"
    ids = encoder.token_ids(text)
    assert encoder.decode(ids) == text
    assert encoder.count_tokens([text, ""]) == [len(ids), 0]
    assert len(ids) < len(text)
    assert encoder.decode([encoder.eos_token_id, encoder.image_token_id]) == ""


def test_the_files_of_older_transformers_give_the_same_prompt(tmp_path, model_dir, encoder):
    """As Qwen2.5-VL is published: the tokenizer's own template is for text, min_pixels and max_pixels stand alone."""
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(model_dir / name, tmp_path)
    processor = AutoProcessor.from_pretrained(model_dir)
    images = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "min_pixels": processor.image_processor.size["shortest_edge"],
        "max_pixels": processor.image_processor.size["longest_edge"],
    }
    for name, content in {
        "tokenizer_config.json": {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": "<|im_end|>",
            "chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
        },
        "chat_template.json": {"chat_template": processor.chat_template},
        "preprocessor_config.json": images,
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
    older = PromptEncoder.from_pretrained(tmp_path, 200)
    assert (older.banned_ids, older.eos_token_id) == (encoder.banned_ids, encoder.eos_token_id)
    for question in QUESTIONS:
        one, other = older.encode(question, SYSTEM), encoder.encode(question, SYSTEM)
        assert one.engine_token_ids == other.engine_token_ids
        assert torch.equal(one.pixel_values, other.pixel_values)


def test_a_directory_that_is_not_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"expected a Hugging Face model directory, found no config\.json"):
        PromptEncoder.from_pretrained(tmp_path, 10)


def test_a_text_model_is_refused(tmp_path, model_dir):
    shutil.copy(model_dir / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(ValueError, match=r"expected an image processor in .*copy the tokenizer and processor files"):
        PromptEncoder.from_pretrained(tmp_path, 10)


def test_a_directory_without_its_processor_files_is_named(tmp_path, model_dir):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_dir / name, tmp_path)
    with pytest.raises(ValueError, match=r"expected a readable processor in .*copy the tokenizer and processor files"):
        PromptEncoder.from_pretrained(tmp_path, 10)
