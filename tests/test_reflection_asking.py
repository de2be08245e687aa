"""What models are asked: the right things in hand, none of the wrong ones, and no markup that would do something."""

from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from srpo_fast.batch import Question
from srpo_fast.reflection.asking import (
    IMPROVEMENT_SCHEMA,
    REFLECTION_SCHEMA,
    VERDICT_SCHEMA,
    first_answer_request,
    improvement_request,
    neutral,
    reflection_request,
    verdict_request,
)  # fmt: skip
from srpo_fast.reflection.leaks import cites_key, holds_tags

IMAGE = Image.new("RGB", (28, 28), "red")
QUESTION = Question(id="q-1", text="<image>How many apples?", images=(IMAGE,), answer="gold-17")
ATTEMPT = {"think": "I count five.", "answer": "5"}


def test_the_first_answer_is_asked_of_the_question_alone():
    request = first_answer_request(QUESTION, "answer")
    assert (request.key, request.text, request.images, request.schema) == ("q-1", QUESTION.text, (IMAGE,), None)
    assert request.system == "answer"


def test_the_judge_sees_the_reasoning_and_not_the_ground_truth():
    request = verdict_request(QUESTION, **ATTEMPT)
    assert all(part in request.text for part in (QUESTION.text, "I count five.", "5"))
    assert QUESTION.answer not in request.text
    assert (request.images, request.schema) == ((IMAGE,), VERDICT_SCHEMA)


@pytest.mark.parametrize(
    ("ask", "schema"), [(reflection_request, REFLECTION_SCHEMA), (improvement_request, IMPROVEMENT_SCHEMA)]
)
def test_the_teacher_has_everything_in_hand(ask, schema):
    request = ask(QUESTION, **ATTEMPT)
    places = [request.text.index(part) for part in (QUESTION.text, "I count five.", "\n5\n", "gold-17")]
    assert places == sorted(places)
    assert (request.key, request.images, request.schema) == ("q-1", (IMAGE,), schema)


def test_a_second_reasoning_is_asked_for_only_where_it_is_wanted():
    assert "improved reasoning" in improvement_request(QUESTION, **ATTEMPT).text
    assert "improved reasoning" not in reflection_request(QUESTION, **ATTEMPT).text


@pytest.mark.parametrize(
    ("schema", "fields", "fits"),
    [
        (VERDICT_SCHEMA, {"score": 3, "reason": "gaps"}, True),
        (VERDICT_SCHEMA, {"score": 6, "reason": "gaps"}, False),
        (VERDICT_SCHEMA, {"score": "3", "reason": "gaps"}, False),
        (VERDICT_SCHEMA, {"score": 3}, False),
        (REFLECTION_SCHEMA, {"reflection": "r"}, True),
        (REFLECTION_SCHEMA, {"reflection": "r", "improved_reasoning": "i"}, False),
        (IMPROVEMENT_SCHEMA, {"reflection": "r", "improved_reasoning": "i"}, True),
        (IMPROVEMENT_SCHEMA, {"reflection": "r"}, False),
    ],
)
def test_the_schemas_admit_what_is_asked_for(schema, fields, fits):
    assert Draft202012Validator(schema).is_valid(fields) == fits


@pytest.mark.parametrize("ask", [verdict_request, reflection_request, improvement_request])
def test_markup_in_texts_does_nothing(ask):
    question = Question(
        id="q", text="<think>Two: <image> and <image> <|im_end|>", images=(IMAGE, IMAGE), answer="</answer>"
    )
    request = ask(question, think="see <image> </think><reflection>", answer="<|image_pad|> <video> a < b")
    assert request.text.count("<image>") == 2
    assert not holds_tags(request.text.replace("<image>", ""))
    assert "<|" not in request.text
    assert "a < b" in request.text


def test_markup_in_a_question_alone_does_nothing():
    question = Question(id="q", text="<image>Write <answer> twice", images=(IMAGE,), answer="1")
    assert first_answer_request(question, "answer").text == "<image>Write [answer] twice"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>a</think>", "[think]a[/think]"),
        ("<IMAGE>", "[IMAGE]"),
        ("<<image>>", "<[image]>"),
        ("<|im_start|>system", "[|im_start|]system"),
        ("<|vision_start|><|image_pad|>", "[|vision_start|][|image_pad|]"),
        ("1 < 2 > 0, <b>x</b>, |x|", "1 < 2 > 0, <b>x</b>, |x|"),
    ],
)
def test_neutral_text_says_the_same(text, expected):
    assert neutral(text) == expected
    assert neutral(expected) == expected


@pytest.mark.parametrize("ask", [first_answer_request, verdict_request, reflection_request, improvement_request])
def test_descriptions_come_along_without_markup(ask):
    question = replace(QUESTION, descriptions=("<think> Five <|image_pad|> apples.",))
    attempt = {"system": "answer"} if ask is first_answer_request else ATTEMPT
    assert ask(question, **attempt).descriptions == ("[think] Five [|image_pad|] apples.",)


def test_empty_parts_are_said_to_be_empty():
    assert "# Reasoning\n(nothing)\n" in verdict_request(QUESTION, think=" ", answer="5").text


def test_the_leak_check_knows_the_words_of_our_own_prompt():
    # a teacher that repeats what it was told gives the key away
    assert cites_key("The solution key says otherwise.")
