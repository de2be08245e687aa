from pathlib import Path

import pytest

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmarks.olympiadbench import BENCHMARK
from srpo_fast.images import load_image
from tests.evaluation.golden_case import disagreements, items_of, records_of

RECORDS = records_of("olympiadbench")


def test_golden_answers_are_marked_as_by_hand(grader):
    assert disagreements(BENCHMARK, grader) == []


def test_items_hold_what_is_asked():
    items = {item.id: item for item in items_of(BENCHMARK, RECORDS)}
    roots, triangle, ramp, energy = (items[name] for name in ("1601", "1602", "1607", "1608"))
    assert roots.gold == ("2", "5")
    assert "several answers, each a number" in roots.prompt
    assert r"So the final answer is \boxed{all answers, separated by commas}." in roots.prompt
    assert triangle.prompt.endswith("What is the area of the triangle in <image>, with legs $3$ and $4$?")
    assert load_image(triangle.images[0], Path()).size == (96, 64)
    assert ramp.prompt.endswith("of height 3 m, <image>.\nHow fast is the ball when it leaves the ramp?")
    assert r"\boxed{answer} (unit)" in ramp.prompt
    assert (ramp.details["unit"], ramp.details["tolerances"]) == ("m/s", (0.1,))
    assert energy.prompt.startswith("<image><image>\n")  # mentioned nowhere
    assert len(energy.images) == 2
    assert energy.tags == {"subject": ("Physics",), "subfield": ("Mechanics",), "answer_type": ("Expression",)}


def test_kinds_of_answers_are_told_but_tuples():
    prompts = {item.id: item.prompt for item in items_of(BENCHMARK, RECORDS)}
    assert "The answer is an interval." in prompts["1603"]
    assert "The answer is an equation." in prompts["1604"]
    assert "several answers, each" not in prompts["1605"]
    mixed = items_of(BENCHMARK, [RECORDS[9] | {"answer_type": "Numerical,Expression"}])[0]
    assert "several answers, in this order: a number, an expression." in mixed.prompt


def test_proofs_are_left_out():
    assert "1606" not in {item.id for item in items_of(BENCHMARK, RECORDS)}
    assert items_of(BENCHMARK, [RECORDS[0] | {"_config": "TP_TO_maths_en_COMP"}]) == []
    assert len(items_of(BENCHMARK, [RECORDS[0] | {"_config": "OE_TO_maths_en_COMP"}])) == 1


def test_text_only_files_have_no_image_fields():
    record = {name: value for name, value in RECORDS[0].items() if not name.startswith("image_")}
    assert items_of(BENCHMARK, [record])[0].images == ()


def test_parts_are_read_by_name_or_all():
    part = "OE_MM_physics_en_COMP"
    assert BENCHMARK.reads is not None
    assert BENCHMARK.reads(part, "train", "en")
    assert BENCHMARK.reads(part, part, part)
    assert not BENCHMARK.reads(part, part, "OE_TO_maths_en_COMP")
    assert not BENCHMARK.reads("TP_MM_physics_en_COMP", "train", "en")
    assert not BENCHMARK.reads("OE_MM_maths_zh_COMP", "train", "en")


@pytest.mark.parametrize(
    ("error", "kind", "tolerances"),
    [
        (None, "Numerical", (1e-8, 1e-8)), ("1e-2", "Numerical", (0.01, 0.01)), ("1e6,1e-1", "Numerical", (1e6, 0.1)),
        (",0.1", "Numerical", (1e-8, 0.1)), ("0.5", "Tuple", (1e-8, 1e-8)),
    ],
)  # fmt: skip
def test_every_answer_has_its_tolerance(error, kind, tolerances):
    item = items_of(BENCHMARK, [RECORDS[9] | {"error": error, "answer_type": kind}])[0]
    assert item.details["tolerances"] == tolerances


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"error": "small"}, "'error', got 'small'"),
        ({"final_answer": ["$$"]}, "'final_answer'"),
        ({"id": None}, "'id'"),
    ],
)
def test_records_that_cannot_be_marked_are_refused(change, message):
    with pytest.raises(BadRecord, match=message):
        items_of(BENCHMARK, [RECORDS[0] | change])
