"""What rules cannot decide: asked once, within the budget, kept; without a judge it stays undecided."""

import pytest

from srpo_fast.config import EndpointConfig, UserError
from srpo_fast.evaluation.judging import UNUSABLE, Budget
from tests.chat_server import serve
from tests.evaluation.eval_case import evaluate, one, two

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
            assert results["notes"] == ["2 questions to the judge have no reply: beyond the budget, or refused"]
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
