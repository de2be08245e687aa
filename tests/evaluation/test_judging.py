"""What rules cannot decide: asked once, within the budget, kept; without a judge it stays undecided."""

import pytest

from srpo_fast.config import EndpointConfig, UserError
from srpo_fast.evaluation.directory import read_results
from srpo_fast.evaluation.judging import UNUSABLE, Budget
from tests.chat_server import serve
from tests.endpoint_case import time_out_what_hangs
from tests.evaluation.eval_case import evaluate, one, two
from tests.waiting import PATIENCE_S

REPLIES = {"is ?1": "yes", "is ?2": "no", "is ?3": "perhaps", "is ?4": "yes"}
RESPONSES = {"a": two("?1", "?2"), "b": two("right", "?1"), "c": one("?3"), "d": one("?4"), "e": one("wrong")}


def endpoint(server, **more) -> EndpointConfig:
    return EndpointConfig(base_url=server.base_url, model="m", key_env=None, backoff_s=0.01, retries=1, **more)


def verdicts(results) -> list[str]:
    return [f"{item['first']['verdict']} {item['last']['verdict']}" for item in results["items"]]


def test_a_judge_decides_and_is_asked_once_for_good(tmp_path):
    with serve(replies=REPLIES) as server:
        results = evaluate(tmp_path, RESPONSES, endpoint(server))
        assert verdicts(results) == [
            "right wrong", "right right", "undecided undecided", "right right", "wrong wrong",
        ]  # fmt: skip
        assert results["items"][2]["last"]["rule"] == "unclear" + UNUSABLE
        assert len(server.records) == 4  # "?1" of a and of b is one question: the same words
        totals = results["totals"]
        assert totals["judged"] == pytest.approx({"first": 2 / 5, "last": 3 / 5})
        assert (totals["last"]["right"], totals["last"]["undecided"]) == (2, 1)
        again = evaluate(tmp_path, RESPONSES, endpoint(server))
        assert len(server.records) == 4
    assert without_seconds(again) == without_seconds(results)


def test_without_a_judge_nothing_is_guessed(tmp_path):
    results = evaluate(tmp_path, RESPONSES)
    assert verdicts(results)[0] == "undecided undecided"
    last = results["totals"]["last"]
    assert (last["right"], last["undecided"], last["bound"]) == (0, 4, 4 / 5)
    table = (tmp_path / "out" / "table.md").read_text()
    assert "4 answers are undecided" in table
    assert "the accuracy would be 80.0 %" in table


def test_a_budget_takes_the_first_questions_and_says_what_is_left(tmp_path):
    with serve(replies=REPLIES) as server:
        for _ in range(2):  # the second start has the same budget, not another one
            results = evaluate(tmp_path, RESPONSES, endpoint(server), budget=Budget(questions=2))
            assert len(server.records) == 2
            assert verdicts(results)[:2] == ["right wrong", "right right"]
            assert results["notes"] == [
                "2 questions to the judge have no reply (2 beyond the budget); the same command asks them again"
            ]
        evaluate(tmp_path, RESPONSES, endpoint(server), budget=Budget(questions=3))
        assert len(server.records) == 3


def test_money_that_is_spent_ends_the_questions(tmp_path):
    prices = {"price_per_million_prompt_tokens": 1e6, "price_per_million_completion_tokens": 0.0}  # a dollar a word
    with serve(replies=REPLIES) as server:
        evaluate(tmp_path, RESPONSES, endpoint(server, concurrency=1, **prices), budget=Budget(dollars=1.0))
        asked = len(server.records)
        assert asked < 4  # some were under way when the first reply came
        evaluate(tmp_path, RESPONSES, endpoint(server, concurrency=1, **prices), budget=Budget(dollars=1.0))
        assert len(server.records) == asked


def test_another_model_is_asked_anew(tmp_path):
    with serve(replies=REPLIES) as server:
        evaluate(tmp_path, RESPONSES, endpoint(server))
        evaluate(tmp_path, RESPONSES, endpoint(server).model_copy(update={"model": "other"}))
        assert len(server.records) == 8


def test_a_refusal_is_final_and_a_dead_server_an_error_that_loses_nothing(tmp_path):
    refused = {"a": one("?[fault:refusal]"), "b": one("?1")}
    with serve(replies=REPLIES) as server:
        settings = endpoint(server, reply_retries=0)
        assert verdicts(evaluate(tmp_path, refused, settings)) == ["undecided undecided", "right right"]
        evaluate(tmp_path, refused, settings)
        assert len(server.records) == 2
    with pytest.raises(UserError, match="nobody answers there"):
        evaluate(tmp_path, refused | {"c": one("?4")}, settings)
    assert (tmp_path / "out" / "judge.jsonl").read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("fault", "note", "is_asked_again"),
    [
        ("error_500", "(1 server error: ", True), ("hang", "(1 timeout: no reply within 120 s)", True),
        ("rate_limit", "(1 rate limited: ", True), ("empty", "(1 empty: a message without text)", True),
        ("length", "", False), ("refusal", "(1 refused: I cannot help with that.)", False),
        ("content_filter", "(1 content filter: ", False), ("bad_request", "(1 bad request: ", True),
        ("html", "(1 bad response: no chat completion", True),
    ],
)  # fmt: skip
def test_a_question_that_comes_to_nothing_costs_itself_and_says_why(fault, note, is_asked_again, tmp_path, monkeypatch):
    responses = {"a": one(f"?[fault:{fault}]"), "b": one("?1")}
    with serve(replies=REPLIES) as server:
        time_out_what_hangs(server, monkeypatch)
        settings = endpoint(server, reply_retries=0, timeout_s=PATIENCE_S)
        results = evaluate(tmp_path, responses, settings)
        assert verdicts(results) == ["undecided undecided", "right right"]
        (line,) = results["notes"]
        assert note in line
        assert line.endswith("; the same command asks them again") is is_asked_again
        assert results["totals"]["decided_by"]["last"] == {"rules": 0, "judge": 1, "nobody": 1}
        assert "Of 2 answers rules decided 0, the judge 1, nobody 1." in (tmp_path / "out" / "table.md").read_text()
        before = len(server.records)
        evaluate(tmp_path, responses, settings)
        assert (len(server.records) > before) is is_asked_again


def test_a_wait_that_the_server_asks_for_is_kept(tmp_path):
    with serve(replies=REPLIES, retry_after="1") as server:
        results = evaluate(tmp_path, {"a": one("?1[fault:rate_limit*1]")}, endpoint(server))
        first, second = (record.arrived for record in server.records)
    assert second - first >= 1.0
    assert results["notes"] == []


def test_a_reply_in_another_form_decides_nothing_and_is_shown(tmp_path):
    with serve(replies=REPLIES) as server:
        results = evaluate(tmp_path, {"a": one("?3"), "b": one("?1")}, endpoint(server))
    (line,) = results["notes"]
    assert line == "1 of the judge's replies decide nothing, not being in the form asked for; the first: 'perhaps'"


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ({"model": "other"}, "check model, and base_url"), ({"key": "secret"}, "check the key and key_env"),
        ({"retry_after": "7200"}, "asks to be left alone for 7200 s"),
    ],
)  # fmt: skip
def test_a_judge_that_cannot_be_asked_costs_its_verdicts_and_nothing_else(behaviour, says, tmp_path):
    responses = {"a": one("?[fault:rate_limit]"), "b": one("right"), "c": two("wrong", "right", "well")}
    with serve(replies=REPLIES, **behaviour) as server, pytest.raises(UserError, match=says) as error:
        evaluate(tmp_path, responses, endpoint(server), judged_reflections=1)
    assert str(error.value).endswith(f"; all but the judge's verdicts is in {tmp_path / 'out'}")
    results = read_results(tmp_path / "out")
    assert verdicts(results) == ["undecided undecided", "right right", "wrong right"]
    assert results["notes"] == ["2 questions to the judge have no reply (2 not asked any more); the same command "
                                "asks them again"]  # fmt: skip
    with serve(replies=REPLIES | {"is ?[": "yes"}) as server:
        again = evaluate(tmp_path, {**responses, "a": one("?[")}, endpoint(server), judged_reflections=1)
    assert verdicts(again) == ["right right", "right right", "wrong right"]


def test_reflections_are_scored_in_four_dimensions(tmp_path):
    with serve() as server:
        results = evaluate(
            tmp_path, {"a": two("wrong", "right"), "b": two("right", "right"), "c": one("right")}, endpoint(server),
            judged_reflections=5,
        )  # fmt: skip
        assert len(server.records) == 2
        text = next(record.text for record in server.records if "wrong" in record.text)
    assert "# Reflection\nhm" in text
    assert "# True answer\nright" in text
    scores = results["reflection_judged"]
    assert (scores["asked"], scores["scored"]) == (2, 2)
    four = [scores[name] for name in ("logic", "assumptions", "clarity", "suggestions")]
    assert all(0 <= score <= 5 for score in four)
    assert scores["mean"] == pytest.approx(sum(four) / 4)


def without_seconds(results) -> dict:
    return {key: value for key, value in results.items() if key != "seconds"}
