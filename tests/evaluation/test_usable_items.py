"""One broken record costs itself and is said, in every benchmark; more than the config allows end the command."""

import json

import pytest

from srpo_fast.config import UserError
from srpo_fast.evaluation.benchmarks import load_benchmark
from tests.evaluation.eval_case import evaluate, one, question, read, write_lines
from tests.evaluation.golden_case import records_of

ALLOWING = "data.max_bad_share=0.3"
BROKEN = {  # benchmark -> what may be wrong with a record of it
    "mathvista": [
        {"decoded_image": None, "image": None}, {"answer": None}, {"answer": ""}, {"answer": ["3"]},
        {"choices": [None]}, {"choices": []}, {"metadata": "{}"}, {"query": ["x"]},
    ],
    "mathverse": [{"image": None}, {"image": ""}, {"answer": ""}, {"answer": None}, {"question_type": 3}],
    "mathvision": [
        {"decoded_image": None, "image": None}, {"answer": " ", "options": []}, {"answer": None}, {"options": "A"},
        {"options": [None, {}], "answer": "A"},
    ],
    "mmmu_pro": [{"image_1": None}, {"answer": ""}, {"answer": None}, {"options": "[]"}, {"options": 3}],
    "olympiadbench": [
        {"image_1": None}, {"image_1": {"bytes": None, "path": None}}, {"final_answer": [""]}, {"final_answer": [None]},
        {"final_answer": 3}, {"subfield": 4}, {"unit": 5}, {"context": ["x"]}, {"error": "small"},
    ],
    "wemath": [{"image_path": None}, {"answer": ""}, {"answer": "G"}, {"option": ""}, {"key": None}],
    "mmmu": [
        {"image_1": None}, {"answer": ""}, {"answer": None}, {"options": "[]"}, {"topic_difficulty": 3},
        {"id": "validation_Cooking_1"},
    ],
    "emma": [
        {"image_1": None}, {"answer": ""}, {"answer": "AB"}, {"options": None}, {"options": []}, {"context": 3},
    ],
    "mmk12": [{"image": None}, {"answer": ""}, {"answer": None}, {"question": ["x"]}],
}  # fmt: skip


def stored(record: dict) -> dict:
    """A record of a fixture as JSON: pictures as paths."""
    return {name: value["path"] if isinstance(value, dict) and "bytes" in value else value
            for name, value in record.items()}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_costs_itself_and_is_said(name, tmp_path):
    benchmark = load_benchmark(name)
    records = [stored(record) for record in records_of(name)]
    place = 2 if name == "olympiadbench" else 0  # one with a picture, and with options where there are such
    whole = [item.id for item in read(write_lines(tmp_path / "whole.jsonl", *records), benchmark.splits[0], benchmark)]
    (item,) = read(write_lines(tmp_path / "one.jsonl", records[place]), benchmark.splits[0], benchmark)
    for change in BROKEN[name]:
        broken = [*records[:place], records[place] | change, *records[place + 1 :]]
        path, problems = write_lines(tmp_path / "broken.jsonl", *broken), []
        found = [each.id for each in read(path, benchmark.splits[0], benchmark, None, problems, (ALLOWING,))]
        assert found == [each for each in whole if each != item.id], change
        assert [problem.place for problem in problems] == [f"line {place + 1}"], change
        assert "\n" not in problems[0].message


def test_broken_lines_cost_themselves(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", *(question(n) for n in range(30)))
    lines = file.read_text().splitlines()
    lines[4] = lines[4][:9]
    file.write_text("\n".join(lines))
    problems = []
    assert len(read(file, problems=problems)) == 29
    assert str(problems.pop()).startswith("line 5: expected one JSON object a line")
    (tmp_path / "a.json").write_text(json.dumps([question(n) for n in range(30)] + [3]))
    assert len(read(tmp_path / "a.json", problems=problems)) == 30
    assert problems[0].place == "item 31"


def test_too_many_end_the_command_in_one_line(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", *(question(n) for n in range(18)), {"qid": "x"}, {"qid": "y"})
    with pytest.raises(UserError, match=r"2 of 20 items .* first, line 19: .*more than data.max_bad_share=0.05 allows"):
        read(file)
    assert len(read(file, limit=19, overrides=("data.max_bad_share=0.06",))) == 18
    with pytest.raises(UserError, match=r"data\.bad_records=stop allows"):
        read(file, limit=19, overrides=("data.bad_records=stop",))


def test_results_and_table_say_what_is_left_out(tmp_path):
    data = write_lines(tmp_path / "few.jsonl", *(question(n) for n in range(30)), {"qid": "x"})
    results = evaluate(tmp_path, {str(n): one("right") for n in range(30)}, data=data)
    assert results["totals"]["items"] == 30
    assert [problem["place"] for problem in results["problems"]] == ["line 31"]
    assert "- 1 of 31 items cannot be used; the first, line 31: " in (tmp_path / "out" / "table.md").read_text()
