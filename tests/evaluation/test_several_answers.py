import time

import pytest

from srpo_fast.evaluation.several_answers import can_be_paired, separated, stated_answers


@pytest.mark.parametrize(
    ("text", "expected", "answers"),
    [
        (r"So the final answer is \boxed{2, 5}.", 2, ("2", "5")), (r"\boxed{2} and \boxed{5}", 2, ("2", "5")),
        ("\\boxed{2}\n\\boxed{5}", 2, ("2", "5")), ("\\boxed{2}\n\\boxed{5}", 1, ("5",)),
        (r"\boxed{2} or \boxed{5}", 1, ("2", "5")), (r"\boxed{7}, again \boxed{7}", 1, ("7",)),
        ("\\boxed{1}\nThe final answer is $\\boxed{2}$", 2, ("2",)), ("The final answer is 2 or 5.", 2, ("2", "5")),
        ("\\boxed{3} holds for a cube.\nThe final answer is $5$.", 1, ("5",)), ("", 1, ()),
        ("\\boxed{6}\nSo the final answer is correct.", 1, ("6",)), ("x + " * 100 + "1", 1, ("x + " * 100 + "1",)),
        (r"\boxed{\boxed{4}}", 1, (r"\boxed{4}",)),
    ],
)  # fmt: skip
def test_a_texts_last_boxes_are_its_answers(text, expected, answers):
    assert stated_answers(text, expected) == answers


@pytest.mark.parametrize(
    ("text", "has_several", "answers"),
    [
        ("1,000", False, ("1,000",)), ("1,000", True, ("1", "000")), (r"6,\!000", False, (r"6,\!000",)),
        ("(2,1),(3,1)", True, ("(2,1)", "(3,1)")), ("[0,1)", True, ("[0,1)",)),
        (r"\frac{1,5}{2}", True, (r"\frac{1,5}{2}",)),
        (r"\{1,2\}", True, ("1", "2")), (r"\left\{1,2\right\}", True, ("1", "2")), (r"\{1,2\}", False, (r"\{1,2\}",)),
        (r"\pm 3", True, (" 3", "- 3")), (r"-1 \pm \sqrt{2}", True, (r"-1 + \sqrt{2}", r"-1 - \sqrt{2}")),
        (r"x=1 \text{ or } x=2", True, ("x=1", "x=2")), (r"1,\quad 2; 3", True, ("1", r"\quad 2", "3")),
        ("$1$ and $2$.", True, ("1", "2")), ("1) 4, 2) 5", True, ("1) 4", "2) 5")),
        (r"\sin\alpha and x", True, (r"\sin\alpha", "x")), (r"\Delta", True, (r"\Delta",)),
        ("random", True, ("random",)),
    ],
)  # fmt: skip
def test_lists_are_parted_outside_brackets(text, has_several, answers):
    assert separated(text, has_several=has_several) == answers


@pytest.mark.parametrize(
    ("matches", "can"),
    [
        ([{0, 1}, {0}], True),
        ([{0}, {0}], False),
        ([{0, 1}, {1, 2}, {0}], True),
        ([set(), {0}], False),
        ([], True),
        ([{0, 1}, {0, 1}, {0, 1}], False),
    ],
)
def test_rows_are_paired_with_columns_of_their_own(matches, can):
    assert can_be_paired([frozenset(row) for row in matches]) is can


@pytest.mark.parametrize(
    "piece", [r"\boxed{", r"\boxed{1}", r"\boxed{1,", "{", ",", "(1,", r"\pm ", "final answer is ", " and "]
)
def test_long_texts_take_linear_time(piece):
    start = time.process_time()
    stated_answers(piece * (20_000 // len(piece)), 3)
    assert time.process_time() - start < 2  # what is quadratic takes minutes
