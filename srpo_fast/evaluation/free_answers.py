"""Free answers: numbers are compared as numbers, everything else as grading compares it."""

from collections.abc import Sequence

from srpo_fast.evaluation.benchmark import Item, Mark
from srpo_fast.evaluation.final_statements import final_statements
from srpo_fast.evaluation.marking import Pending
from srpo_fast.evaluation.number_answers import final_number
from srpo_fast.grading import EXACT, Gold, Tolerance, Verdict
from srpo_fast.grading.answer_text import normalized
from srpo_fast.grading.literals import decimals
from srpo_fast.grading.quantities import Quantity, quantity


def read_free(item: Item, text: str, *, tolerance: Tolerance = EXACT, if_unequal: bool | None) -> Mark | Pending:
    """What becomes of an answer to an item with one free gold.

    if_unequal: of an answer that is not equal to it. None leaves the rest to a judge, but for numbers that differ by
    more than a rounding and have no different units: those are wrong.
    """
    (gold,) = item.gold
    said, truth = final_number(text), quantity(normalized(gold))
    if said and truth:
        is_near = said.number.is_near(truth, tolerance)
        is_right = is_near or (if_unequal if _may_be_the_same(said.number, truth) else False)
        return Mark(is_right=is_right, extracted=said.number.text, rule=said.rule)
    statement = next(final_statements(text), None)
    if statement is None:
        return Mark(is_right=if_unequal, extracted="", rule="no statement")

    def settle(verdicts: Sequence[Verdict]) -> Mark:
        is_right = verdicts[0] is Verdict.RIGHT or if_unequal
        return Mark(is_right=is_right, extracted=statement.text, rule=f"expression, {statement.place}")

    return Pending(((statement.text, Gold(text=gold, tolerance=tolerance)),), settle)


def _may_be_the_same(said: Quantity, truth: Quantity) -> bool:
    """Whether a unit may have been converted, or one number rounded to the other's places."""
    if said.unit and truth.unit and said.unit != truth.unit:
        return True
    places = decimals(said.text)
    return places is not None and said.is_near(truth, Tolerance(decimals=places))
