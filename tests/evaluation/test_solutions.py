"""Where the two answers of a response are."""

import pytest

from srpo_fast.evaluation.solutions import MAX_CHARACTERS, find_solutions
from tests.evaluation.eval_case import one, two


@pytest.mark.parametrize(
    ("text", "reflective", "published", "number"),
    [
        (two("A", "B"), ("A", "B"), ("A", "B"), 2),
        (two("A", "B") + one(" C "), ("A", "C"), ("A", "C"), 3),
        (one("A"), ("A", "A"), ("A", "A"), 1),
        (one(""), ("", ""), ("", ""), 1),
        (r"so \boxed{1}, no: \boxed{2}.", (r"so \boxed{1}, no: \boxed{2}.",) * 2, ("2", "2"), 0),
        ("I say four", ("I say four",) * 2, ("I say four",) * 2, 0),
        (r"<think>x</think><answer>\boxed{3", (r"<think>x</think><answer>\boxed{3",) * 2, None, 0),
        ("", ("", ""), ("", ""), 0),
    ],
)
def test_first_and_last_answers_by_protocol(text, reflective, published, number):
    for protocol, expected in (("reflective", reflective), ("published", published or reflective)):
        found = find_solutions(text, protocol)
        assert (found.first, found.last, found.num_answers) == (*expected, number)


def test_of_a_very_long_text_the_end_is_looked_at():
    found = find_solutions("x" * 100_000 + "42", "reflective")
    assert len(found.last) == MAX_CHARACTERS
    assert found.last.endswith("42")


def test_lengths_are_those_of_the_blocks_without_tags():
    found = find_solutions(two("four", "five5", reflection="no no"), "reflective")
    assert (found.first_length, found.rest_length, found.reflection) == (5, 11, "no no")
