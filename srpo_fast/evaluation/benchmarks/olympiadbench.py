r"""OlympiadBench: mathematics and physics olympiads, open answers in several parts, decided by symbolic comparison.

Rules: the authors' scorer (github OpenBMB/OlympiadBench, eval/auto_scoring_judge.py and inference/judge.py). The answer
is what follows the last "So the final answer is", the boxes in it, joined by commas; \pm is two answers; as many as the
gold has, in any order, each within its own `error` (1e-8 without one; tuples always 1e-8); an equation counts by its
right side where the gold names nothing. Theorem proofs cannot be scored and are left out. Only the first entry of
final_answer counts.

Where we leave it:
- A repeated box is one answer, and a question with one answer has its last line of boxes as the answer: there a model
  that corrected itself is not of two minds.
- A unit in the box is fine if it is the right one; the prompt asks to leave it out, and the scorer then finds a symbol.
- A number a hundred times too large counts only where a percent sign explains it; the scorer takes it everywhere.
- Decimals of six digits or more, rounded, are the gold (grading); unions of intervals come in any order.

The paper's scripts read the four English competition parts with open answers and ask GPT-4o instead of the scorer;
lmms-eval has the scorer. `--split` also takes one part's name.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmark import Answer, Benchmark, Item, Mark
from srpo_fast.evaluation.marking import Pending, marks_of
from srpo_fast.evaluation.published_records import image_of, text_of, texts_of, with_images
from srpo_fast.evaluation.several_answers import can_be_paired, separated, stated_answers
from srpo_fast.grading import Gold, Tolerance, Verdict
from srpo_fast.grading.answer_text import normalized
from srpo_fast.grading.grader import Grader
from srpo_fast.grading.quantities import quantity
from srpo_fast.grading.units import PERCENT, canonical_unit, split_unit

ALL = "en"  # the split of all parts
PARTS = ("OE_MM_maths_en_COMP", "OE_MM_physics_en_COMP", "OE_TO_maths_en_COMP", "OE_TO_physics_en_COMP")
MAX_IMAGES = 9
MAX_ANSWERS = 16  # more are not told apart: the comparisons would be their square

_PRECISION = 1e-8
_SLACK = 1.01  # the scorer's, on every precision
_KINDS = {"Numerical": "a number", "Expression": "an expression", "Equation": "an equation", "Interval": "an interval"}


# --- items ---


def _reads(config: str, split: str, asked: str) -> bool:
    return config in PARTS and asked in (ALL, config)


def _items(records: Iterator[Mapping[str, Any]], split: str) -> Iterator[Item]:
    for record in records:
        answers = texts_of(record, "final_answer")
        if answers and not record.get("_config", "").startswith("TP_"):
            yield _item(record, answers[0])


def _item(record: Mapping[str, Any], answer: str) -> Item:
    has_several = bool(record.get("is_multiple_answer"))
    kinds = text_of(record, "answer_type") if record.get("answer_type") else ""
    gold = separated(answer, has_several=has_several)
    if not gold:
        raise BadRecord("bad_answer", f"expected an answer first in the field 'final_answer', got {answer!r:.80}")
    unit = (record.get("unit") or "").strip()
    prompt, images = with_images(_prompt(record, kinds, has_several, unit), lambda n: image_of(record, f"image_{n}"))
    return Item(
        id=text_of(record, "id"),
        prompt=prompt,
        images=images,
        gold=gold,
        answer_type=kinds,
        tags={
            "subject": (text_of(record, "subject"),),
            "subfield": tuple(filter(None, [record.get("subfield")])),
            "answer_type": tuple(dict.fromkeys(kind.strip() for kind in kinds.split(",") if kind.strip())),
        },
        details={"tolerances": _tolerances(record, kinds, len(gold)), "unit": unit},
    )


def _prompt(record: Mapping[str, Any], kinds: str, has_several: bool, unit: str) -> str:
    """The question under what the authors tell a model about the form of its answer, in our words."""
    subject = "physics" if "phys" in text_of(record, "subject").casefold() else "mathematics"
    box = r"\boxed{all answers, separated by commas}" if has_several else r"\boxed{answer}"
    ending = f'"So the final answer is {box}{" (unit)" if unit else ""}."'
    aside = r" The unit stands behind the box, not in it." if unit else ""
    told = (
        f"Solve this open-ended problem from an international {subject} competition.{_kind_told(kinds, has_several)} "
        f"Derive the answer from what is given, and write variables and formulas in LaTeX. "
        f"End your solution with the sentence {ending}{aside}"
    )
    question = "\n".join(filter(None, [record.get("context"), text_of(record, "question")]))
    unnamed = [n for n in range(1, MAX_IMAGES + 1) if record.get(f"image_{n}") and f"<image_{n}>" not in question]
    return "\n".join(filter(None, ["".join(f"<image_{n}>" for n in unnamed), told, question]))


def _kind_told(kinds: str, has_several: bool) -> str:
    """What the answer is: nothing of tuples, which are points in one problem and values in another."""
    names = [name for kind in kinds.split(",") for key, name in _KINDS.items() if key in kind]
    if not names or "Tuple" in kinds:
        return ""
    if not has_several:
        return f" The answer is {names[0]}."
    if len(set(names)) == 1:
        return f" It has several answers, each {names[0]}."
    return f" It has several answers, in this order: {', '.join(names)}."


def _tolerances(record: Mapping[str, Any], kinds: str, answers: int) -> tuple[float, ...]:
    written = str(record.get("error") or "").strip()
    if not written or "Tuple" in kinds:
        return (_PRECISION,) * answers
    try:
        errors = [float(error) if error.strip() else _PRECISION for error in written.split(",")]
    except ValueError:
        raise BadRecord(
            "unreadable_record", f"expected numbers separated by commas in the field 'error', got {written!r:.80}"
        ) from None
    if len(errors) == 1:
        return (errors[0],) * answers
    return tuple((errors + [_PRECISION] * answers)[:answers])


# --- answers ---


def _mark(answers: Sequence[Answer], grader: Grader) -> list[Mark]:
    return marks_of(answers, grader, _read)


def _read(item: Item, text: str) -> Mark | Pending:
    stated = stated_answers(text, len(item.gold))
    extracted = ", ".join(stated)
    if len(stated) != len(item.gold) or len(stated) > MAX_ANSWERS:
        return _read_whole(item, extracted, len(stated))
    unit = _unit(item.details["unit"])
    golds = [
        Gold(text=gold + ("%" if unit == PERCENT else ""), tolerance=Tolerance(absolute=_SLACK * error))
        for gold, error in zip(item.gold, item.details["tolerances"], strict=True)
    ]
    fits = [not unit or _unit_of(said) in ("", unit) for said in stated]

    def settle(verdicts: Sequence[Verdict]) -> Mark:
        rows = [verdicts[start : start + len(golds)] for start in range(0, len(verdicts), len(golds))]
        is_gold = [
            frozenset(place for place, verdict in enumerate(row) if fit and verdict is Verdict.RIGHT)
            for fit, row in zip(fits, rows, strict=True)
        ]
        return Mark(is_right=can_be_paired(is_gold), extracted=extracted, rule=f"{len(golds)} of {len(golds)} answers")

    return Pending(tuple((said, gold) for said in stated for gold in golds), settle)


def _read_whole(item: Item, extracted: str, stated: int) -> Mark | Pending:
    """Of another number of answers than the gold has: 1, 2 is still the set {1, 2}."""
    rule = f"{stated} of {len(item.gold)} answers"
    if len(item.gold) > 1 or not extracted:
        return Mark(is_right=False, extracted=extracted, rule=rule if extracted else "no answer stated")
    gold = Gold(text=item.gold[0], tolerance=Tolerance(absolute=_SLACK * item.details["tolerances"][0]))
    return Pending(
        ((extracted, gold),),
        lambda verdicts: Mark(is_right=verdicts[0] is Verdict.RIGHT, extracted=extracted, rule=rule),
    )


def _unit(text: str) -> str:
    return canonical_unit(normalized(text)) or ""


def _unit_of(answer: str) -> str:
    said = normalized(answer)
    number = quantity(said)
    return number.unit if number else split_unit(said)[1]


BENCHMARK = Benchmark(
    name="olympiadbench",
    title="OlympiadBench",
    hub_id="Hothan/OlympiadBench",
    splits=(ALL, *PARTS),
    items=_items,
    mark=_mark,
    reads=_reads,
)
