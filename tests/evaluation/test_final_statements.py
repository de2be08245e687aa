import time

import pytest

from srpo_fast.evaluation.final_statements import MAX_CHARACTERS, final_statements


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"So $x=\boxed{4}$. The answer is B.", [("4", "box"), ("B.", "answer phrase"), ("The answer is B.", "last")]),
        ("The answer is C. No, that is wrong. The answer is B", [("B", "answer phrase"), ("The answer is B", "last")]),
        ("The best choice among the graphs is:\n\n**D. up**", [("D. up", "answer phrase"), ("D. up", "last")]),
        ("To answer this, note that r is 5. Then the area grows.", [("Then the area grows.", "last")]),
        ("### Final Answer:\n14 cm.", [("14 cm.", "answer phrase"), ("14 cm.", "last")]),
        ("answer: 3.5 m", [("3.5 m", "answer phrase"), ("answer: 3.5 m", "whole")]),
        ("\u7b54\u6848\u662fB\u3002", [("B\u3002", "answer phrase"), ("\u7b54\u6848\u662fB\u3002", "whole")]),
        ("x = 5\n\\]\n$$\n", [("x = 5", "whole")]),
        ("<answer> 12 </answer>", [("12", "whole")]),
        (r"\boxed{}", [(r"\boxed{}", "whole")]),
        ("?!", []),
    ],
)  # fmt: skip
def test_statements_come_in_the_order_of_trust(text, expected):
    assert [(s.text, s.place.split()[0] if "last" in s.place or "whole" in s.place else s.place)
            for s in final_statements(text)] == expected  # fmt: skip


def test_long_arguments_state_nothing():
    assert list(final_statements("so " * MAX_CHARACTERS)) == []
    assert [s.place for s in final_statements(rf"\boxed{{{'1+' * MAX_CHARACTERS}1}} = 5")] == []


@pytest.mark.parametrize("piece", ["answer ", "The answer is ", "answer is: ", r"\boxed{", ". A", "A.\n", "**", "1. "])
def test_statements_are_found_in_linear_time(piece):
    start = time.process_time()
    list(final_statements(piece * (40_000 // len(piece))))
    assert time.process_time() - start < 2
