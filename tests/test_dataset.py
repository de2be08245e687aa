import base64
import json
import re
import sys
from io import BytesIO
from pathlib import Path

import datasets
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from srpo_fast.dataset import QuestionFile, read_questions
from srpo_fast.images import ImageError

CELL = 28 * 28


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a.png (red, 56x28) and b.png (blue, 60x60)."""
    Image.new("RGB", (56, 28), "red").save(tmp_path / "a.png")
    Image.new("RGB", (60, 60), "blue").save(tmp_path / "b.png")
    return tmp_path


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reading tables makes on disk goes to the test's folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write_lines(path: Path, *records: object) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return path


def read(path: Path, image_root: Path | None = None) -> QuestionFile:
    return read_questions(path, image_root, min_pixels=CELL, max_pixels=16 * CELL)


def chat(*parts: object, role: str = "user") -> str:
    return json.dumps([{"role": role, "content": list(parts)}])


def image(path: str) -> dict[str, str]:
    return {"type": "image", "image": path}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_published_chats_become_marked_text(folder):
    message = chat(image(f"file://{folder}/a.png"), text("Which of these is larger?"), image("b.png"))
    questions = read(write_lines(folder / "rl.jsonl", {"message": message, "answer": "$\\boxed{B}$", "id": 12}))
    question = questions[0]
    assert (question.id, question.text, question.answer) == (
        "12",
        "<image>Which of these is larger?<image>",
        "$\\boxed{B}$",
    )
    assert [picture.getpixel((5, 5)) for picture in question.images] == [(255, 0, 0), (0, 0, 255)]
    assert [picture.size for picture in question.images] == [(56, 28), (56, 56)]


@pytest.mark.parametrize("field", ["question", "problem", "query"])
@pytest.mark.parametrize(
    ("pictures", "written", "read_as"),
    [
        ({"image": "a.png"}, "What?", "<image>What?"),
        ({"images": ["a.png"]}, "See <image> what?", "See <image> what?"),
        ({"images": ["a.png", {"path": "b.png", "bytes": None}]}, "What?", "<image><image>What?"),
        ({"images": None}, "What?", "What?"),
        ({}, "What?", "What?"),
    ],
)
def test_plain_records(folder, field, pictures, written, read_as):
    question = read(write_lines(folder / "plain.jsonl", {field: written, **pictures, "answer": 7}))[0]
    assert (question.id, question.text, question.answer) == ("plain-1", read_as, "7")
    assert len(question.images) == read_as.count("<image>")


def test_byte_order_marks_and_windows_line_ends(folder):
    (folder / "q.jsonl").write_bytes(
        b'\xef\xbb\xbf{"question": "a", "answer": "1"}\r\n{"question": "b", "answer": "2"}\r\n'
    )
    (folder / "q.json").write_bytes(b'\xef\xbb\xbf [{"question": "a", "answer": "1"}]')
    lines, array = read(folder / "q.jsonl"), read(folder / "q.json")
    assert [q.text for q in lines] + [q.text for q in array] == ["a", "b", "a"]
    assert not lines.problems


def test_a_folder_without_tables_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"expected parquet files or a saved data set at .*empty"):
        read(tmp_path / "empty")


def test_blank_lines_and_unicode_line_ends_do_not_count_as_lines(folder):
    path = folder / "q.jsonl"
    path.write_text('{"question": "a\u2028b", "answer": "1"}\n\n{"question": "c", "answer": "2"}\n', encoding="utf-8")
    questions = read(path)
    assert [(q.id, q.text) for q in questions] == [("q-1", "a\u2028b"), ("q-3", "c")]


GOOD = {"question": "1?", "answer": "1"}


@pytest.mark.parametrize(
    ("record", "reason", "message"),
    [
        ('{"question": "1?", ', "unreadable_record", "expected one JSON object a line, got: .*repair the line"),
        ('{"question": "\\ud8', "unreadable_record", "expected one JSON object a line"),
        ("[" * 100_000, "unreadable_record", "expected one JSON object a line"),
        ("17", "unreadable_record", "expected an object with a question and an answer, got 17"),
        ({"answer": "1"}, "unknown_fields", "expected the question in one field, .*got the fields answer"),
        ({}, "unknown_fields", "got the fields none"),
        ({**GOOD, "problem": "2?"}, "unknown_fields", "expected the question in one field, .*rename or remove"),
        ({"question": " ", "answer": "1"}, "bad_question", "field question: expected text, got ' '"),
        ({"question": ["1?"], "answer": "1"}, "bad_question", r"field question: expected text, got \['1\?'\]"),
        ({"question": "<image>", "image": "a.png", "answer": "1"}, "bad_question", "got no words beside 1 images"),
        ({"question": "1?"}, "bad_answer", "field answer: expected text or a number, got None"),
        ({"question": "1?", "answer": " "}, "bad_answer", "field answer: expected text or a number, got ' '"),
        ({"question": "1?", "answer": True}, "bad_answer", "field answer: expected text or a number, got True"),
        ({"question": "1?", "answer": ["1"]}, "bad_answer", r"expected text or a number, got \['1'\]"),
        ({**GOOD, "image": "none.png"}, "image_missing", r"none\.png: expected an image file at .*--image-root"),
        ({**GOOD, "image": "q.jsonl"}, "image_unreadable", r"image q\.jsonl: expected a readable JPEG"),
        ({**GOOD, "image": 3}, "image_missing", "field images: expected paths or files' bytes, got 3"),
        ({**GOOD, "image": "a.png", "images": ["a.png"]}, "unknown_fields", "expected one of them, got both"),
        ({"question": "<image>, <image>?", "image": "a.png", "answer": "1"}, "image_marks", "each of the 1 images"),
        ({"question": "<image>?", "answer": "1"}, "image_marks", "each of the 0 images, got 1 marks"),
        ({"message": "[{", "answer": "1"}, "unreadable_record", "field message: expected a chat as JSON text"),
        ({"message": chat(text("x"), role="system"), "answer": "1"}, "bad_question", "a list of one user message"),
        ({"message": "[]", "answer": "1"}, "bad_question", "field message: expected a list of one user message"),
        ({"message": chat(), "answer": "1"}, "bad_question", "expected content of text and image parts"),
        ({"message": chat({"type": "video", "video": "v"}), "answer": "1"}, "bad_question", "expected text parts and"),
    ],
)
def test_a_bad_line_is_a_problem_with_its_field(folder, record, reason, message):
    questions = read(write_lines(folder / "q.jsonl", GOOD, record, GOOD))
    assert [q.id for q in questions] == ["q-1", "q-3"]
    (problem,) = questions.problems
    assert (problem.place, problem.reason, questions.num_records) == ("line 2", reason, 3)
    assert re.search(message, problem.message), problem.message


def test_more_images_than_the_engine_takes_are_a_problem(folder):
    question = {"question": "Which?", "answer": "A"}
    records = [question | {"images": ["a.png"] * number} for number in (8, 9)]
    questions = read(write_lines(folder / "many.jsonl", *records))
    assert len(questions) == 1
    assert [(p.place, p.reason) for p in questions.problems] == [("line 2", "too_many_images")]
    assert "expected at most 8 images, got 9" in questions.problems[0].message


def test_a_line_that_is_no_text_is_a_problem(folder):
    (folder / "q.jsonl").write_bytes(b'{"question": "1?", "answer": "1"}\n{"question": "\xff"}\n\x00\x01\n')
    questions = read(folder / "q.jsonl")
    assert len(questions) == 1
    assert [(p.place, p.reason) for p in questions.problems] == [
        ("line 2", "unreadable_record"),
        ("line 3", "unreadable_record"),
    ]


def test_problems_keep_the_ids_of_their_records(folder):
    questions = read(write_lines(folder / "q.jsonl", {"id": 12, "question": "1?"}, {"answer": "1"}))
    assert [problem.id for problem in questions.problems] == ["12", "q-2"]


def test_an_id_given_twice_is_told_apart(folder):
    questions = read(write_lines(folder / "q.jsonl", {**GOOD, "id": 7}, GOOD, {**GOOD, "id": "7"}))
    assert [q.id for q in questions] == ["7", "q-2", "7#3"]


def test_the_fingerprint_tells_what_could_be_read(folder):
    one = read(write_lines(folder / "q.jsonl", GOOD, {**GOOD, "image": "a.png"}))
    same = read(folder / "q.jsonl")
    (folder / "a.png").rename(folder / "c.png")
    assert one.fingerprint == same.fingerprint != read(folder / "q.jsonl").fingerprint


def test_a_question_says_where_its_images_came_from(folder):
    data = base64.b64encode((folder / "b.png").read_bytes()).decode()
    record = {**GOOD, "images": ["a.png", f"file://{folder}/b.png", f"data:image/png;base64,{data}"]}
    (question,) = read(write_lines(folder / "q.jsonl", record))
    assert question.image_files == (folder / "a.png", folder / "b.png", None)
    assert [picture.getpixel((5, 5)) for picture in question.images] == [(255, 0, 0), (0, 0, 255), (0, 0, 255)]


def test_a_slice_is_lazy_too(folder):
    (folder / "bad.png").write_bytes((folder / "b.png").read_bytes()[:60])  # the header alone
    questions = read(write_lines(folder / "q.jsonl", GOOD, {**GOOD, "image": "bad.png"}, {**GOOD, "image": "a.png"}))
    assert [q.id for q in questions[::2]] == ["q-1", "q-3"]
    assert len(questions[1:]) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "expected a file of questions at .*found none"),
        ("q.csv", b"question,answer", "expected a .jsonl, .json or .parquet file"),
        ("q.parquet", b"PAR1 or not", "expected parquet files or a saved data set at .*download or convert it again"),
        ("q.jsonl", b"\n", "holds no questions"),
        ("q.json", b'[{"question": ', "expected JSON in UTF-8 in .*repair the file"),
    ],
)
def test_an_unusable_file_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)


def test_a_damaged_body_shows_when_the_question_is_asked_for(folder):
    Image.effect_noise((90, 90), 50).save(folder / "cut.png")
    whole = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    questions = read(write_lines(folder / "q.jsonl", GOOD, {**GOOD, "image": "cut.png"}))
    assert (questions.problems, questions.id(1), questions.place(1)) == ((), "q-2", "line 2")
    with pytest.raises(ImageError, match=r"image cut\.png") as caught:
        questions[1]
    assert caught.value.reason == "image_unreadable"


# --- tables ---


def png(colour: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (28, 28), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def rows() -> list[dict]:
    """As EasyR1's data sets have them."""
    return [
        {"problem": "<image>How red?", "answer": "very", "images": [{"bytes": png("red"), "path": None}], "level": 3},
        {"problem": "1 + 1?", "answer": "2", "images": [], "level": 1},
        {"problem": "<image>?", "answer": "", "images": [{"bytes": png("blue"), "path": None}], "level": 1},
    ]


def check_rows(questions: QuestionFile, name: str) -> None:
    first, second = questions
    assert (first.id, first.text, first.answer, first.image_files) == (f"{name}-1", "<image>How red?", "very", (None,))
    assert first.images[0].getpixel((1, 1)) == (255, 0, 0)
    assert (second.text, second.images, second.answer) == ("1 + 1?", (), "2")
    (problem,) = questions.problems
    assert (problem.id, problem.place, problem.reason) == (f"{name}-3", "row 3", "bad_answer")


def test_parquet_rows_with_the_images_inside(tmp_path, rows):
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "q.parquet")
    check_rows(read(tmp_path / "q.parquet"), "q")


IMAGES = datasets.Features(
    {
        "problem": datasets.Value("string"),
        "answer": datasets.Value("string"),
        "images": datasets.List(datasets.Image()),
        "level": datasets.Value("int64"),
    }
)


def test_a_saved_data_set_of_decoded_images(tmp_path, rows):
    datasets.Dataset.from_list(rows, features=IMAGES).save_to_disk(tmp_path / "saved")
    check_rows(read(tmp_path / "saved"), "saved")


def test_a_folder_of_shards_and_its_splits(tmp_path, rows):
    table = datasets.Dataset.from_list(rows, features=IMAGES)
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for i in range(2):
        table.shard(2, i).to_parquet(tmp_path / "hub" / "data" / f"train-0000{i}-of-00002.parquet")
    table.select([1]).to_parquet(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet")
    check_rows(read(tmp_path / "hub#train"), "hub#train")
    assert len(read(tmp_path / "hub#test")) == 1
    with pytest.raises(ValueError, match=r"holds the splits .*train.*; name one of them as .*hub#"):
        read(tmp_path / "hub")
    with pytest.raises(ValueError, match="got dev"):
        read(tmp_path / "hub#dev")


def test_a_saved_dictionary_of_one_split_needs_no_name(tmp_path, rows):
    table = datasets.Dataset.from_list(rows, features=IMAGES)
    datasets.DatasetDict({"train": table}).save_to_disk(tmp_path / "saved")
    check_rows(read(tmp_path / "saved"), "saved")


def test_a_table_without_questions_is_named_with_its_columns(tmp_path, rows):
    parquet.write_table(pyarrow.Table.from_pylist([{"level": 1, "topic": "x"}]), tmp_path / "q.parquet")
    with pytest.raises(ValueError, match=r"expected columns of questions in .*got level, topic"):
        read(tmp_path / "q.parquet")


def test_tables_without_the_library_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "q.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="needs the package datasets; pip install datasets"):
        read(tmp_path / "q.parquet")
