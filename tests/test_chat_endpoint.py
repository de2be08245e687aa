"""An endpoint against a real server that fails in every way it knows: replies, failures, costs, the key."""

import base64
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from srpo_fast.chat.endpoint import Endpoint
from srpo_fast.chat.model import ChatFailure, ChatReply, FailureReason
from srpo_fast.config import EndpointConfig, UserError, config_error
from srpo_fast.reflection.asking import REFLECTION_SCHEMA
from tests.chat_server import PROMPT_TOKENS_PER_IMAGE, REPLY_FAULTS, TRANSPORT_FAULTS, ChatServer, serve
from tests.endpoint_case import make_endpoint, make_request, time_out_what_hangs

KEY = "sk-this-is-a-secret-0123456789"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serve() as running:
        yield running


def outcome(server: ChatServer, text: str, **changes: Any) -> ChatReply | ChatFailure:
    (result,) = make_endpoint(server, **changes).ask([make_request(0, text)])
    return result


# replies


def test_every_request_gets_one_reply_that_is_its_own(server):
    results = list(make_endpoint(server).ask(make_request(n) for n in range(50)))
    assert {r.key for r in results} == {f"k{n}" for n in range(50)}
    assert len(results) == len(server.records) == 50
    by_text = {record.text: record.key for record in server.records}
    for result in results:
        assert isinstance(result, ChatReply)
        assert result.fields is not None
        assert by_text[f"how many? [{result.key[1:]}]"] in result.fields["reflection"]
        assert result.is_finished


def test_nothing_asked_is_nothing_sent(server):
    assert list(make_endpoint(server).ask([])) == []
    assert server.records == []


def test_the_server_gets_what_the_request_says(server):
    endpoint = make_endpoint(server, temperature=0.3, max_tokens=77, extra_body={"top_k": 5})
    list(endpoint.ask([make_request(0)]))
    body = server.records[0].body
    assert body["messages"] == [
        {"role": "system", "content": "be good"},
        {"role": "user", "content": "how many? [0]"},
    ]
    assert (body["model"], body["temperature"], body["max_completion_tokens"], body["top_k"]) == ("teacher", 0.3, 77, 5)
    form = body["response_format"]["json_schema"]
    assert (form["schema"], form["strict"]) == (REFLECTION_SCHEMA, True)


def test_what_is_not_set_is_not_sent(server):
    list(make_endpoint(server, max_tokens_name="max_tokens").ask([make_request(0, schema=None, system=None)]))
    assert set(server.records[0].body) == {"messages", "model", "max_tokens"}
    assert [message["role"] for message in server.records[0].body["messages"]] == ["user"]


@pytest.mark.parametrize("structured", ["json_object", "none"])
def test_a_server_without_schemas_is_told_in_words(server, structured):
    result = outcome(server, "how many?", structured=structured)
    assert isinstance(result, ChatReply)
    assert result.fields is not None
    assert set(result.fields) == {"reflection"}
    assert "JSON schema" in server.records[0].text
    assert server.records[0].body.get("response_format") == ({"type": "json_object"} if structured != "none" else None)


def test_images_arrive_in_their_places_with_the_same_pixels(server):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 28, 56, 3), dtype=np.uint8)
    images = tuple(Image.fromarray(image) for image in pixels)
    list(make_endpoint(server).ask([make_request(0, "left <image> or <image>", images=images)]))
    content = server.records[0].body["messages"][-1]["content"]
    assert [part.get("text") for part in content] == ["left ", None, " or ", None, " [0]"]
    for image, part in zip(pixels, content[1::2], strict=False):
        kind, data = part["image_url"]["url"].split(",")
        assert kind == "data:image/png;base64"
        np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(base64.b64decode(data)))), image)


def test_a_model_of_texts_reads_what_the_images_show(server):
    image = Image.new("RGB", (28, 28))
    request = make_request(0, "<image> or <image>", images=(image, image), descriptions=("Ice <image>.", None))
    list(make_endpoint(server, sees_images=False).ask([request]))
    content = server.records[0].body["messages"][-1]["content"]
    assert content == ("(an image that you cannot see; it shows: Ice <image>.) or (an image that you cannot see) [0]")
    list(make_endpoint(server).ask([request]))
    assert "Ice" not in str(server.records[1].body)


def test_a_free_reply_may_be_cut_at_the_limit_and_says_so(server):
    (result,) = make_endpoint(server).ask([make_request(0, "[fault:length]", schema=None)])
    assert isinstance(result, ChatReply)
    assert not result.is_finished
    assert result.fields is None
    assert result.text.startswith("<think>")


# failures


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("rate_limit", FailureReason.RATE_LIMITED),
        ("error_500", FailureReason.SERVER_ERROR),
        ("error_503", FailureReason.SERVER_ERROR),
        ("hang", FailureReason.TIMEOUT),
        ("trickle", FailureReason.TIMEOUT),
        ("reset", FailureReason.CONNECTION),
        ("cut_body", FailureReason.BAD_RESPONSE),
        ("html", FailureReason.BAD_RESPONSE),
        ("cut_json", FailureReason.BAD_JSON),
        ("half_character", FailureReason.BAD_JSON),
        ("wrong_schema", FailureReason.SCHEMA_MISMATCH),
        ("length", FailureReason.TRUNCATED),
        ("empty", FailureReason.EMPTY),
        ("refusal", FailureReason.REFUSED),
        ("content_filter", FailureReason.CONTENT_FILTER),
    ],
)
def test_a_fault_is_retried_and_then_a_failure_with_its_reason(server, fault, reason, monkeypatch):
    time_out_what_hangs(server, monkeypatch)
    limits = {"retries": 2, "reply_retries": 1}
    tries = 3 if reason.may_pass else 2
    result = outcome(server, f"[fault:{fault}]", **limits)
    assert isinstance(result, ChatFailure)
    assert result.reason == reason
    assert result.detail
    assert "\n" not in result.detail
    assert server.tries.total() == server.faults[fault] == tries
    # one fault fewer than that, and there is a reply
    assert isinstance(outcome(server, f"[fault:{fault}*{tries - 1}]", **limits), ChatReply)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("bad_request", FailureReason.BAD_REQUEST), ("flagged", FailureReason.CONTENT_FILTER)],
)
def test_a_request_that_the_server_cannot_use_is_not_sent_again(server, fault, reason):
    result = outcome(server, f"[fault:{fault}]")
    assert isinstance(result, ChatFailure)
    assert result.reason == reason
    assert server.tries.total() == 1


def test_nothing_is_lost_or_asked_more_often_than_faults_explain(monkeypatch):
    with serve(fault_rate=0.4, seed=3) as server:
        time_out_what_hangs(server, monkeypatch)
        endpoint = make_endpoint(server, retries=3, reply_retries=3, concurrency=32)
        results = list(endpoint.ask(make_request(n) for n in range(150)))
        assert set(server.faults) == {*TRANSPORT_FAULTS, *REPLY_FAULTS}
        assert sorted(r.key for r in results) == sorted(f"k{n}" for n in range(150))
        assert all(isinstance(r, ChatReply) for r in results)
        assert server.tries.total() == 150 + server.faults.total()
        assert max(server.tries.values()) <= 4
        usage = endpoint.usage
        assert (usage.requests, usage.retries) == (server.tries.total(), server.faults.total())


def test_usage_and_cost_count_every_token_that_was_paid_for(server):
    endpoint = make_endpoint(
        server, price_per_million_prompt_tokens=2.0, price_per_million_completion_tokens=8.0, reply_retries=1
    )
    image = Image.new("RGB", (28, 28))
    requests = [
        make_request(0, "a b c"),
        make_request(1, "<image> d", images=(image,)),
        make_request(2, "[fault:wrong_schema] e"),
        make_request(3, "[fault:error_500*1] f"),
    ]
    results = list(endpoint.ask(requests))
    replies = [r for r in results if isinstance(r, ChatReply)]
    assert len(replies) == 3
    usage = endpoint.usage
    assert (usage.requests, usage.retries, usage.replies, usage.failures) == (6, 2, 3, 1)
    # a word is a token: 4, 3 and the image, twice 3, 3
    assert usage.prompt_tokens == 4 + 3 + PROMPT_TOKENS_PER_IMAGE + 2 * 3 + 3
    words = replies[0].completion_tokens  # in any reply; one more in the wrong ones, which wrap it
    assert usage.completion_tokens == 3 * words + 2 * (words + 1)
    assert usage.dollars == pytest.approx((2 * usage.prompt_tokens + 8 * usage.completion_tokens) / 1e6, rel=1e-12)
    assert make_endpoint(server).usage.dollars is None


# the settings


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"base_url": "api.openai.com/v1"}, "expected http://host:port/v1"),
        ({"base_url": "http:///v1"}, "expected http://host:port/v1"),
        ({"base_url": "https://me:secret@host/v1"}, "name the variable with the key in key_env"),
        ({"price_per_million_prompt_tokens": 1.0}, "give both or neither"),
        ({"concurrency": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(setting, message):
    with pytest.raises(ValidationError, match=message) as error:
        EndpointConfig.model_validate({"model": "m", **setting})
    assert "secret" not in str(config_error(error.value))


# the key


def test_the_key_is_sent_and_never_said(monkeypatch, caplog):
    monkeypatch.setenv("TEACHER_KEY", f"{KEY}\n")
    caplog.set_level("DEBUG")
    with serve(key=KEY) as server:
        result = outcome(server, "how many?", key_env="TEACHER_KEY")
        assert isinstance(result, ChatReply)
        assert server.authorizations == {f"Bearer {KEY}"}
    with serve(key="another") as server, pytest.raises(UserError, match=r"Bearer \*\*\*.*check the key") as error:
        outcome(server, "how many?", key_env="TEACHER_KEY")
    assert KEY not in str(error.value)
    assert KEY not in caplog.text


def test_a_missing_key_names_its_variable(monkeypatch):
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(UserError, match=r"environment variable TEACHER_KEY, got none.*key_env to null"):
        Endpoint(EndpointConfig(model="m", key_env="TEACHER_KEY"))


@pytest.mark.parametrize("key", ["two words", "with\nbreak", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_a_damaged_key_is_not_repeated(monkeypatch, key):
    monkeypatch.setenv("TEACHER_KEY", key)
    with pytest.raises(UserError, match="without blanks in TEACHER_KEY") as error:
        Endpoint(EndpointConfig(model="m", key_env="TEACHER_KEY"))
    assert key not in str(error.value)
