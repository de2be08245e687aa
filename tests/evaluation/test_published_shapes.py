"""Records of our own in the exact shape of what authors publish, JSON and JSON lines beside the hub's tables."""

import json

import pytest

from srpo_fast.config import UserError
from srpo_fast.evaluation.benchmarks import load_benchmark
from tests.evaluation.eval_case import read, write_lines

VISTA = {  # github lupantech/MathVista, data/testmini.json: an object by id
    "question": "How far is it?", "image": "images/1.jpg", "choices": None, "unit": None, "precision": 1,
    "answer": "1.2", "question_type": "free_form", "answer_type": "float", "pid": "1",
    "metadata": {"split": "testmini", "language": "english", "img_width": 9, "img_height": 9, "source": "own",
                 "category": "math-targeted-vqa", "task": "textbook question answering",
                 "context": "scientific figure", "grade": "college", "skills": ["scientific reasoning"]},
}  # fmt: skip
VISION = {  # github mathllm/MATH-V, data/testmini.jsonl
    "id": "4", "question": "Which side is opposite to <image1>?\n<image2>", "options": [], "answer": "C",
    "solution": None, "level": 1, "subject": "solid geometry", "image": "images/4.jpg",
}  # fmt: skip
VERSE = {  # github ZrrSkywalker/MathVerse, output_templates/output_testmini.json: an array
    "sample_index": "5", "problem_index": "1", "problem_version": "Vision Only", "question": "",
    "image": "images_version_6/image_1.png", "answer": "14", "question_type": "free-form",
    "metadata": {"split": "testmini", "source": "own", "subject": "Solid Geometry", "subfield": "Length"},
    "query_wo": "Answer.", "query_cot": "Reason, then answer.", "model_answer": "It is 14 cm.",
}  # fmt: skip
WEMATH = {  # github We-Math/We-Math, data/testmini.json: an array
    "ID": "2steps_9", "split": "testmini", "knowledge concept": "Position", "question": "What is right of H?",
    "option": "A. F;    B. D;    C. B;    D. I; E. No correct answer", "answer": "D",
    "image_path": "2steps/image/9-1.png", "key": "2steps_1", "question number": 9,
    "knowledge concept description": "Position: own.",
}  # fmt: skip
PRO = {  # github MMMU-Benchmark/MMMU, mmmu-pro/output: the data set's fields without pictures, which the hub has
    "id": "test_Agriculture_1", "question": "<image 1> What is missing?", "explanation": "?", "answer": "C",
    "options": "['Zinc', 'Slope 7\u00b016\\'26.7\"', \"Don't know\"]", "img_type": "['Photographs']",
    "topic_difficulty": "Easy", "subject": "Agriculture", "image_1": "images/1.png",
}  # fmt: skip
MMMU = {  # the hub's fields; the authors' answer_dict_val.json calls open questions "short-answer"
    "id": "validation_Architecture_and_Engineering_14", "question": "How long is it in <image 1>?", "options": "[]",
    "explanation": "", "image_1": "1.png", **{f"image_{n}": None for n in range(2, 8)}, "img_type": "['Tables']",
    "answer": "1.06", "topic_difficulty": "Easy", "question_type": "short-answer", "subfield": "own",
}  # fmt: skip
EMMA = {  # the hub's fields
    "pid": "math_1", "question": "How many?", "options": [], "answer": "12", "image_1": "1.png",
    **{f"image_{n}": None for n in range(2, 6)}, "solution": None, "subject": "Math", "task": None, "category": "own",
    "source": "own", "type": "Open-ended", "context": None,
}  # fmt: skip
K12 = {  # github ModalMinds/MM-EUREKA, eval/k12/k12.json: an array
    "id": "4d613249-84c9-401f-bd27-ac6869e87a8b", "question": "What is angle B?", "answer": "25\u00b0.",
    "image_path": "images/1.png",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "record", "right", "wrong"),
    [
        ("mathvision", VISION, r"\boxed{C}", r"\boxed{D}"), ("mathverse", VERSE, "The answer is 14 cm.", "It is 13."),
        ("wemath", WEMATH, "Answer: <<D>>", "Answer: <<B>>"), ("mmmu_pro", PRO, "Answer: C", "Answer: A"),
        ("mmmu", MMMU, "So it is 1.06.", "It is 2."), ("emma", EMMA, r"\boxed{12}", r"\boxed{13}"),
        ("mmk12", K12, r"$\boxed{25^\circ}$", r"$\boxed{26}$"),
        ("mmk12", K12 | {"answer": "18."}, r"\boxed{18}", r"\boxed{19.5}"),
        ("mmk12", K12 | {"answer": "$$0.49$$"}, "0.49", "0.94"),
        ("mmk12", K12 | {"answer": "30${}^\\circ $"}, r"\boxed{30^{\circ}}", r"\boxed{60^{\circ}}"),
        ("mmk12", K12 | {"answer": "$$\\dfrac{3}{2}$$"}, r"\boxed{1.5}", r"\boxed{2.5}"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)  # fmt: skip
def test_records_in_their_authors_files_are_read_and_marked(name, record, right, wrong, tmp_path, grader):
    benchmark = load_benchmark(name)
    problems = []
    (item,) = read(write_lines(tmp_path / "a.jsonl", record), benchmark.splits[0], benchmark, problems=problems)
    assert problems == []
    marks = benchmark.mark([(item, right), (item, wrong)], grader)
    assert [mark.is_right for mark in marks] == [True, False]


def test_a_file_without_prompts_says_where_they_are(tmp_path):
    (tmp_path / "testmini.json").write_text(json.dumps({"1": VISTA}))
    with pytest.raises(UserError, match=r"key 1: .* 'query', which GitHub's testmini.json lacks; take the data set of"):
        read(tmp_path / "testmini.json", "testmini", load_benchmark("mathvista"))
    (tmp_path / "testmini.json").write_text(json.dumps({"1": VISTA | {"query": "How far?"}}))
    (item,) = read(tmp_path / "testmini.json", "testmini", load_benchmark("mathvista"))
    assert (item.details["places"], item.images) == (1, ("images/1.jpg",))


def test_families_of_the_authors_file_are_put_together(tmp_path, grader):
    benchmark = load_benchmark("wemath")
    records = [WEMATH | {"ID": f"2steps_{n}", "key": key} for n in (9, 10) for key in ("2steps_1", "2steps_2",
                                                                                       "2steps_multi")]  # fmt: skip
    items = read(write_lines(tmp_path / "a.jsonl", *records), "testmini", benchmark)
    assert len(items) == 6
    marks = benchmark.mark([(item, "D" if "10" not in item.id else "A") for item in items], grader)
    figures = benchmark.figures(list(zip(items, marks, strict=True)))
    assert figures["complete_mastery_strict"] == figures["insufficient_knowledge"] == 0.5
