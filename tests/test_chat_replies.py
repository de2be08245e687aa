"""Reading what came back, and reading how long to wait, without a server."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from srpo_fast.chat.model import FailureReason
from srpo_fast.chat.pacing import Pacer, pause, retry_after
from srpo_fast.chat.replies import Completion, Setback, one_line, read_completion, read_fields
from srpo_fast.reflection.asking import REFLECTION_SCHEMA, VERDICT_SCHEMA


@pytest.mark.parametrize(
    "text",
    [
        '{"reflection": "r"}',
        '  {"reflection":\n"r"}\n',
        '```json\n{"reflection": "r"}\n```',
        'Here it is: {"reflection": "r"} I hope this helps {really}.',
        '<think>perhaps {"reflection": "no"}</think>{"reflection": "r"}',
        'a set {1, 2} and {"reflection": "r"}',
    ],
)
def test_the_last_object_in_a_text_is_read(text):
    assert read_fields(text, REFLECTION_SCHEMA) == {"reflection": "r"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no object", FailureReason.BAD_JSON),
        ('{"reflection": "r', FailureReason.BAD_JSON),
        ('["reflection"]', FailureReason.BAD_JSON),
        ('{"a":' * 20_000, FailureReason.BAD_JSON),
        ('{"reflection": "\\ud83d"}', FailureReason.BAD_JSON),
        ('{"reflection": ' + "9" * 5000 + "}", FailureReason.BAD_JSON),  # more digits than Python reads
        ('{"reflection": 5}', FailureReason.SCHEMA_MISMATCH),
        ('{"reflection": "r", "more": 1}', FailureReason.SCHEMA_MISMATCH),
        ("{}", FailureReason.SCHEMA_MISMATCH),
    ],
)
def test_what_is_no_such_object_has_a_reason(text, reason):
    setback = read_fields(text, REFLECTION_SCHEMA)
    assert isinstance(setback, Setback)
    assert setback.reason == reason


@pytest.mark.parametrize("score", ["0", "6", "true", '"3"', "2.5", "null"])
def test_a_score_outside_the_scale_is_refused(score):
    setback = read_fields(f'{{"score": {score}, "reason": "r"}}', VERDICT_SCHEMA)
    assert isinstance(setback, Setback)
    assert setback.detail.startswith("$.score: ")


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"<html>", b"{}", b'{"choices": []}', b'{"choices": null}', b'{"choices": [{}]}',
     b'{"choices": [{"message": {"content": 7}}]}', b'{"error": {"message": "no"}}', b"\xff\xfe"],
)  # fmt: skip
def test_a_body_that_is_no_completion_is_a_bad_response(body):
    setback = read_completion(body)
    assert isinstance(setback, Setback)
    assert setback.reason == FailureReason.BAD_RESPONSE


def test_a_server_may_leave_the_counts_out():
    completion = read_completion(b'{"choices": [{"message": {"content": "x"}}], "usage": null}')
    assert isinstance(completion, Completion)
    assert (completion.prompt_tokens, completion.completion_tokens) == (0, 0)


def test_a_detail_is_one_line_of_readable_length():
    assert one_line("a\n b\t c") == "a b c"
    assert len(one_line("x" * 1000)) == 300


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, 0),
        ({"retry-after": in_seconds(-100)}, 0),
    ],
)
def test_the_pause_a_server_asks_for(headers, seconds):
    assert retry_after(headers) == seconds


def test_the_pause_until_a_date():
    wait = retry_after({"retry-after": in_seconds(100)})
    assert wait is not None
    assert 97 < wait <= 100  # the date has whole seconds


def test_pauses_double_within_their_spread_and_stop_at_the_limit():
    for retry, full in enumerate((1, 2, 4, 8, 10, 10)):
        drawn = [pause(retry, 1.0, 10.0) for _ in range(200)]
        assert full / 2 <= min(drawn) < 0.6 * full
        assert 0.9 * full < max(drawn) <= full
    assert pause(10_000, 1.0, 10.0) <= 10


def test_moments_are_spaced_evenly():
    pacer = Pacer(per_minute=60)
    waits = [pacer.reserve() for _ in range(4)]
    assert waits == pytest.approx([0, 1, 2, 3], abs=0.2)


def test_without_a_limit_nobody_waits_unless_told_to():
    pacer = Pacer(None)
    assert [pacer.reserve() for _ in range(3)] == [0, 0, 0]
    pacer.hold(5)
    pacer.hold(1)
    assert pacer.reserve() == pytest.approx(5, abs=0.2)
