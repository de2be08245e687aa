from pathlib import Path

import pytest

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmark import Mark
from srpo_fast.evaluation.benchmarks.wemath import BENCHMARK, four_dimensions, split_options
from srpo_fast.images import load_image
from tests.evaluation.golden_case import disagreements, items_of, records_of

RECORDS = records_of("wemath")
PARTS = ("1", "2", "3")
FAMILIES = [  # steps, the whole problem
    ("TT", "T"), ("TF", "T"), ("FF", "T"), ("TT", "F"), ("TF", "F"),
    ("TTT", "T"), ("FTT", "F"), ("FFF", "T"), ("TTT", "F"), ("FFT", "T"),
]  # fmt: skip


def family(steps, whole):
    return {part: step == "T" for part, step in zip(PARTS, steps, strict=False)} | {"multi": whole == "T"}


def test_golden_answers_are_marked_as_by_hand(grader):
    assert disagreements(BENCHMARK, grader) == []


def test_items_hold_what_is_asked():
    first, _, whole, *_ = items_of(BENCHMARK, RECORDS)
    assert (first.id, first.gold, first.options) == ("1-2steps_1", ("A",), ("3 cm", "4 cm", "7 cm"))
    assert first.prompt.startswith("<image>\nHow long is the side AB?\nA. 3 cm\nB. 4 cm\nC. 7 cm\n")
    assert first.tags == {"step": ("1-step",), "knowledge": ("Properties of rectangles",)}
    assert whole.tags == {"step": ("2-step",), "knowledge": ()}
    assert load_image(whole.images[0], Path()).size == (96, 64)
    assert len({item.id for item in items_of(BENCHMARK, RECORDS)}) == len(RECORDS)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("A. 200.96;B. 3215.36;C. 6280;D. 32; E. No correct answer",
         ("200.96", "3215.36", "6280", "32", "No correct answer")),
        ("A. \u2220A = \u2220B; B. AB; C. A", ("\u2220A = \u2220B", "AB", "A")), ("A.1\uff1bB.2", ("1", "2")),
    ],
)  # fmt: skip
def test_options_are_parted(text, options):
    assert split_options(text) == options


@pytest.mark.parametrize("text", ["", "yes or no", "A. 1;C. 2", "B. 1;C. 2"])
def test_other_options_are_refused(text):
    with pytest.raises(BadRecord, match="'option'"):
        split_options(text)


def test_another_key_is_refused():
    with pytest.raises(BadRecord, match="'key', got '4steps_1'"):
        items_of(BENCHMARK, [RECORDS[0] | {"key": "4steps_1"}])


def test_four_dimensions_are_those_worked_out_by_hand():
    """Two of ten families lack knowledge, two generality; six whole problems are solved, two with all steps right."""
    assert four_dimensions([family(*each) for each in FAMILIES]) == pytest.approx(
        {
            "insufficient_knowledge": 2 / 10, "inadequate_generalization": 2 / 10,
            "complete_mastery_strict": 2 / 10, "rote_memorization_strict": 4 / 6,
            "complete_mastery_loose": 4 / 10, "rote_memorization_loose": 2 / 6,
            "score_strict": (10 - 0.5 * 2 - 4 - 2) / 10, "score_loose": (10 - 0.5 * 2 - 2 - 2) / 10,
        }
    )  # fmt: skip


def test_nothing_solved_has_no_rote_memorization():
    figures = four_dimensions([family("TT", "F")])
    assert figures["inadequate_generalization"] == 1
    assert figures["score_strict"] == figures["score_loose"] == 0.5
    assert not any(name.startswith("rote") for name in figures)
    assert four_dimensions([]) == {}


def test_figures_are_of_complete_families():
    items = items_of(BENCHMARK, RECORDS)
    wrong = {"2-2steps_1", "3-3steps_multi"}
    marked = [(item, Mark(is_right=item.id not in wrong, extracted="", rule="")) for item in items]
    assert BENCHMARK.figures is not None
    figures = BENCHMARK.figures(marked)
    assert figures["complete_mastery_strict"] == pytest.approx(1 / 3)
    assert figures["complete_mastery_loose"] == pytest.approx(2 / 3)
    assert figures["inadequate_generalization"] == pytest.approx(1 / 3)
    assert BENCHMARK.figures(marked[1:])["complete_mastery_loose"] == pytest.approx(1 / 2)  # without the first family


def test_families_of_one_id_and_other_lengths_are_two():
    records = [record | {"ID": "1"} for record in RECORDS if record["ID"] != "2"]
    items = items_of(BENCHMARK, records)
    marked = [(item, Mark(is_right=item.id != "1-2steps_multi", extracted="", rule="")) for item in items]
    assert len({item.id for item in items}) == len(records)
    assert BENCHMARK.figures is not None
    assert BENCHMARK.figures(marked)["complete_mastery_strict"] == 0.5
