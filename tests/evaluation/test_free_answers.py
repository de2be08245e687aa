import pytest

from srpo_fast.evaluation.benchmark import Item
from srpo_fast.evaluation.free_answers import read_free
from srpo_fast.evaluation.marking import Pending, marks_of
from srpo_fast.grading import EXACT, Tolerance


@pytest.mark.parametrize(
    ("gold", "text", "tolerance", "with_judge", "without"),
    [
        ("22.3 m", "22.3", EXACT, True, True), ("22.3 m", "22.4", EXACT, False, False),
        ("22.3 m", "2230 cm", EXACT, None, False), ("22.34", "22.3", EXACT, None, False),
        ("22.3", "22.34", EXACT, False, False), ("2.36", "2.359", Tolerance(decimals=2), True, True),
        (r"\frac{1}{3}", "0.33", EXACT, None, False), (r"6\pi", r"2\cdot 3\pi", EXACT, True, True),
        (r"6\pi", r"9\pi", EXACT, None, False),
        ("red", "It is red", EXACT, True, True), ("red", "?", EXACT, None, False),
    ],
)  # fmt: skip
def test_a_judge_gets_what_may_be_the_same(gold, text, tolerance, with_judge, without, grader):
    item = Item(id="1", prompt="", images=(), gold=(gold,))
    for if_unequal, expected in ((None, with_judge), (False, without)):

        def read(item: Item, text: str, if_unequal=if_unequal):
            return read_free(item, text, tolerance=tolerance, if_unequal=if_unequal)

        assert [mark.is_right for mark in marks_of([(item, text)], grader, read)] == [expected]


def test_numbers_need_no_comparison():
    item = Item(id="1", prompt="", images=(), gold=("12",))
    assert not isinstance(read_free(item, "The answer is 12 cm.", if_unequal=False), Pending)
