"""The small tokenizer and its chat template."""

import pytest

from srpo_fast.embedded.task import SYSTEM_CAREFUL, SYSTEM_DIRECT, SYSTEM_REFLECT, careful_answer, load_samples
from srpo_fast.embedded.tokenizer import SPECIAL_TOKENS, TAGS, VOCAB_SIZE, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_every_id_below_the_vocabulary_size_has_a_token(tokenizer):
    assert len(tokenizer) == VOCAB_SIZE == 384
    assert sorted(tokenizer.get_vocab().values()) == list(range(VOCAB_SIZE))
    assert all(tokenizer.decode([token]) for token in range(VOCAB_SIZE))


def test_tags_and_special_tokens_are_single_tokens(tokenizer):
    for token in (*TAGS, *SPECIAL_TOKENS):
        assert len(tokenizer(token)["input_ids"]) == 1
    assert tokenizer.eos_token == "<|im_end|>"


def test_tags_survive_the_removal_of_special_tokens(tokenizer):
    ids = tokenizer("".join(TAGS) + "<|im_end|>")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "".join(TAGS)


@pytest.mark.parametrize(
    "text",
    [
        "<think>3141;4,8,9</think><answer>$\\boxed{9}$</answer><reflection>reading wrong; 2 is 7</reflection>",
        "What is the largest of the digits?",
        "Caf\u00e9 \u4f60\u597d \U0001f600\n\n  tabs\tand 12345.678",
    ],
)
def test_any_text_comes_back_whole(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_are_single_tokens_and_words_at_most_two(tokenizer):
    assert tokenizer.tokenize("31415") == list("31415")
    words = {word for s in load_samples("train", 50, 0) for word in s.question.text.removeprefix("<image>").split()}
    words |= {"reading", "wrong", "ok", SYSTEM_DIRECT, SYSTEM_CAREFUL, SYSTEM_REFLECT}
    assert all(len(tokenizer.tokenize(word)) <= 2 for word in words - {"digits?", "bars?"})


def test_completions_are_short(tokenizer):
    lengths = [len(tokenizer(careful_answer(sample))["input_ids"]) for sample in load_samples("train", 200, 0)]
    assert max(lengths) <= 23


def test_chat_template_writes_turns_and_image_marks(tokenizer):
    parts = [{"type": "image"}, {"type": "text", "text": "What?"}]
    messages = [{"role": "system", "content": "answer"}, {"role": "user", "content": parts}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nanswer<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_two_builds_are_the_same(tokenizer):
    again = build_tokenizer()
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
