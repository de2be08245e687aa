"""Responses become marks."""

from dataclasses import replace

from srpo_fast.evaluation.benchmark import Mark
from srpo_fast.evaluation.marked_items import CHUNK, NO_ANSWER, NO_RESPONSE, mark_all
from tests.evaluation.eval_case import TOY, item, marked, one, two


def test_both_answers_are_marked_and_nothing_said_is_wrong():
    each = marked({"a": two("wrong", "right"), "b": one("  "), "c": "I say right"}, *(item(n) for n in "abcd"))
    assert [(m.first.is_right, m.last.is_right) for m in each] == [
        (False, True), (False, False), (True, True), (False, False),
    ]  # fmt: skip
    assert (each[1].first, each[3].last) == (NO_ANSWER, NO_RESPONSE)
    assert each[0].last == Mark(is_right=True, extracted="right", rule="last word")


def test_each_text_is_marked_once_and_progress_counts_items():
    seen, done = [], []

    def mark(answers, grader):
        seen.extend((each.id, text) for each, text in answers)
        return TOY.mark(answers, grader)

    items = [item(str(number)) for number in range(CHUNK + 3)]
    responses = {each.id: two("right", "right") for each in items}
    result = mark_all(replace(TOY, mark=mark), items, responses, "reflective", None, done.append)
    assert [each.item.id for each in result] == [each.id for each in items]
    assert seen == [(each.id, "right") for each in items]
    assert done == [CHUNK, 3]
