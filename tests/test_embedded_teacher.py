"""The teacher's judgement of first answers."""

from dataclasses import replace

import pytest

from srpo_fast.embedded.task import careful_thought, direct_answer, load_samples
from srpo_fast.embedded.teacher import EmbeddedTeacher


@pytest.fixture
def sample():
    return next(s for s in load_samples("train", 50, 0) if s.kind == "sum" and s.digits[1] != 5)


def first_answer(digits, result):
    return f"<think>{''.join(map(str, digits))}</think><answer>$\\boxed{{{result}}}$</answer>"


def test_a_right_answer_is_ok(sample):
    reflection = EmbeddedTeacher([sample]).reflect(sample.question, direct_answer(sample))
    assert reflection.text == "ok"
    assert reflection.reasoning == careful_thought(sample)


def test_the_first_digit_read_wrong_is_named(sample):
    read = (sample.digits[0], 5, 10 - 1 - sample.digits[2], sample.digits[3])
    reflection = EmbeddedTeacher([sample]).reflect(sample.question, first_answer(read, 1))
    assert reflection.text == f"reading wrong; 5 is {sample.digits[1]}"


def test_a_wrong_reading_is_named_even_when_the_answer_is_right(sample):
    read = (sample.digits[0], 5, *sample.digits[2:])
    reflection = EmbeddedTeacher([sample]).reflect(sample.question, first_answer(read, sample.question.answer))
    assert reflection.text.startswith("reading wrong; 5 is ")


def test_a_right_reading_with_a_wrong_answer_is_called_wrong(sample):
    reflection = EmbeddedTeacher([sample]).reflect(sample.question, first_answer(sample.digits, 37))
    assert reflection.text == "answer wrong"
    assert reflection.reasoning == careful_thought(sample)


def test_a_first_answer_that_goes_on_after_its_reading_is_judged_too(sample):
    first = direct_answer(sample).replace("</think>", ";9</think>")
    assert EmbeddedTeacher([sample]).reflect(sample.question, first).text == "ok"


@pytest.mark.parametrize(
    "first",
    ["", "<think>3141</think>", "<think>314</think><answer>$\\boxed{8}$</answer>", "<think>3141<answer>9</answer>"],
)
def test_an_answer_without_its_form_gets_no_reflection(sample, first):
    assert EmbeddedTeacher([sample]).reflect(sample.question, first) is None


def test_an_unknown_question_is_refused(sample):
    with pytest.raises(ValueError, match="stranger"):
        EmbeddedTeacher([sample]).reflect(replace(sample.question, id="stranger"), direct_answer(sample))
