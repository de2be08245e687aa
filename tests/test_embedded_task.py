"""The embedded task: who may see what, and whether its answers are right."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest

from srpo_fast.embedded.drawing import bar_cells, scan_glyphs, scan_labels
from srpo_fast.embedded.task import (
    SCANS,
    TABLES,
    answer,
    careful_answer,
    direct_answer,
    load_questions,
    load_samples,
    split_scans,
    split_series,
)

SPLITS = ("train", "validation", "heldout")


def recount(text: str, digits: tuple[int, ...]) -> int:
    """The answer from the question's words alone."""
    ordered = sorted(digits)
    if "sum of" in text:
        return sum(ordered)
    return ordered[3] - ordered[0] if "range of" in text else ordered[3]


def test_no_scan_and_no_table_is_in_two_splits():
    scans = np.concatenate([split_scans(split) for split in SPLITS])
    assert sorted(scans.tolist()) == list(range(1797))
    assert [len(split_scans(split)) for split in SPLITS] == [SCANS[s].stop - SCANS[s].start for s in SPLITS]
    tables = [table for split in SPLITS for table in TABLES[split]]
    assert len(tables) == len(set(tables)) == 15


def test_every_picture_of_a_digit_comes_from_its_own_split():
    glyphs = scan_glyphs()
    known = {split: {glyph.tobytes() for glyph in glyphs[split_scans(split)].reshape(-1, 28, 28)} for split in SPLITS}
    for split in SPLITS:
        others = set().union(*(known[other] for other in SPLITS if other != split))
        for sample in load_samples(split, 60, 3):
            if sample.subject == "digits":
                picture = np.asarray(sample.question.images[0])[:, :, 0]
                cells = [picture[:, left : left + 28].tobytes() for left in range(0, 112, 28)]
                assert all(cell in known[split] and cell not in others for cell in cells)


@pytest.mark.parametrize("split", SPLITS)
def test_answers_agree_with_an_independent_recount(split):
    for sample in load_samples(split, 300, 5):
        right = str(recount(sample.question.text, sample.digits))
        assert sample.question.answer == right
        reading = "".join(map(str, sample.digits))
        assert direct_answer(sample) == f"<think>{reading}</think><answer>$\\boxed{{{right}}}$</answer>"
        assert careful_answer(sample).endswith(f"</think><answer>$\\boxed{{{right}}}$</answer>")


@pytest.mark.parametrize(
    ("kind", "thought"), [("sum", "3+1=4,4+9=13"), ("range", "3149;9-1"), ("max", "3149;9")], ids=lambda value: value
)
def test_careful_answers_show_the_way(kind, thought):
    sample = replace(load_samples("train", 1, 0)[0], kind=kind, digits=(3, 1, 4, 9))
    assert careful_answer(sample).startswith(f"<think>{thought}</think>")


def test_pictures_show_the_digits_they_are_said_to_show():
    labels_of = {glyph.tobytes(): label for glyph, label in zip(scan_glyphs()[:, 0], scan_labels(), strict=True)}
    for sample in load_samples("heldout", 100, 1):
        picture = np.asarray(sample.question.images[0])
        for left, digit in zip(range(0, 112, 28), sample.digits, strict=True):
            cell = picture[:, left : left + 28]
            if sample.subject == "digits":
                assert labels_of[cell[:, :, 0].tobytes()] == digit
            else:
                blue = (cell[:, 14] == (31, 119, 180)).all(axis=1)
                assert blue.sum() == round(digit * 24 / 9)


def test_questions_have_the_form_the_prompt_builder_wants():
    questions = load_questions("heldout", 50, 0)
    assert [question.id for question in questions] == [f"heldout-{index}" for index in range(50)]
    for question in questions:
        assert re.fullmatch(r"<image>What is the (sum|range|largest) of the (digits|bars)\?", question.text)
        assert [(image.mode, image.size) for image in question.images] == [("RGB", (112, 28))]


def test_a_list_is_a_function_of_split_and_seed_and_begins_with_the_shorter_one():
    def facts(split, count, seed):
        return [(s.kind, s.digits, s.question.images[0].tobytes()) for s in load_samples(split, count, seed)]

    assert facts("train", 40, 7) == facts("train", 80, 7)[:40]
    assert facts("train", 40, 7) != facts("train", 40, 8)
    assert facts("validation", 40, 7) != facts("heldout", 40, 7)


def test_half_of_the_questions_are_sums_and_half_show_digits():
    samples = load_samples("train", 2000, 0)
    assert sum(sample.kind == "sum" for sample in samples) / 2000 == pytest.approx(0.5, abs=0.05)
    assert sum(sample.kind == "max" for sample in samples) / 2000 == pytest.approx(0.25, abs=0.05)
    assert sum(sample.subject == "digits" for sample in samples) / 2000 == pytest.approx(0.5, abs=0.05)


def test_chart_values_fill_the_axis_and_heights_differ():
    values = np.concatenate(split_series("heldout"))
    assert set(values.tolist()) == set(range(10))
    assert len({cell.tobytes() for cell in bar_cells()}) == 10


def test_ten_thousand_questions_take_seconds():
    start = time.process_time()
    assert len(load_questions("train", 10_000, 0)) == 10_000
    assert time.process_time() - start < 10


def test_answer_of_known_digits():
    assert [answer(kind, (3, 1, 4, 1)) for kind in ("sum", "range", "max")] == [9, 3, 4]
