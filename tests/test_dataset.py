import json
import sys
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srpo_fast.dataset import MAX_PROBLEMS, PromptSampler, QuestionFile, read_questions
from srpo_fast.images import ImageError

CELL = 28 * 28


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a.png (red, 56x28) and b.png (blue, 60x60)."""
    Image.new("RGB", (56, 28), "red").save(tmp_path / "a.png")
    Image.new("RGB", (60, 60), "blue").save(tmp_path / "b.png")
    return tmp_path


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


def test_a_chat_may_be_text_alone(folder):
    message = json.dumps([{"role": "user", "content": "1 + 1?"}])
    question = read(write_lines(folder / "rl.jsonl", {"message": message, "answer": "2"}))[0]
    assert (question.text, question.images) == ("1 + 1?", ())


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


def test_an_array_holds_the_same_records_as_lines(folder):
    records = [{"question": f"{i}?", "image": "a.png", "answer": str(i)} for i in range(3)]
    lines = read(write_lines(folder / "q.jsonl", *records))
    (folder / "array").mkdir()
    array = folder / "array" / "q.json"
    array.write_text(json.dumps(records, indent=2))
    array = read(array, image_root=folder)
    assert len(lines) == len(array) == 3
    for one, other in zip(lines, array, strict=True):
        assert (one.id, one.text, one.answer) == (other.id, other.text, other.answer)


def test_blank_lines_and_unicode_line_ends_do_not_count_as_lines(folder):
    path = folder / "q.jsonl"
    path.write_text('{"question": "a\u2028b", "answer": "1"}\n\n{"question": "c", "answer": "2"}\n', encoding="utf-8")
    questions = read(path)
    assert [(q.id, q.text) for q in questions] == [("q-1", "a\u2028b"), ("q-3", "c")]


GOOD = {"question": "1?", "answer": "1"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"question": "1?", ', "expected one JSON object a line, got: .*repair the line"),
        ("17", "expected an object with a question and an answer, got 17"),
        ({"answer": "1"}, "expected the question in one field, .*got the fields answer"),
        ({**GOOD, "problem": "2?"}, "expected the question in one field, .*rename or remove"),
        ({"question": " ", "answer": "1"}, "field question: expected text, got ' '"),
        ({"question": "1?"}, "field answer: expected text or a number, got None"),
        ({"question": "1?", "answer": " "}, "field answer: expected text or a number, got ' '"),
        ({"question": "1?", "answer": True}, "field answer: expected text or a number, got True"),
        ({"question": "1?", "answer": ["1"]}, r"field answer: expected text or a number, got \['1'\]"),
        ({**GOOD, "image": "none.png"}, r"image none\.png: expected an image file at .*check data\.image_root"),
        ({**GOOD, "image": "q.jsonl"}, r"image q\.jsonl: expected a readable JPEG"),
        ({**GOOD, "image": 3}, "field images: expected paths or files' bytes, got 3"),
        ({**GOOD, "image": "a.png", "images": ["a.png"]}, "expected one of them, got both"),
        ({"question": "<image><image>?", "image": "a.png", "answer": "1"}, "one <image> mark for each of the 1 images"),
        ({"message": "[{", "answer": "1"}, "field message: expected a chat as JSON text"),
        (
            {"message": chat(text("x"), role="system"), "answer": "1"},
            "field message: expected a list of one user message",
        ),
        ({"message": "[]", "answer": "1"}, "field message: expected a list of one user message"),
        ({"message": chat(), "answer": "1"}, "field message: expected content of text and image parts"),
        ({"message": chat({"type": "video", "video": "v.mp4"}), "answer": "1"}, "expected text parts and image parts"),
        ({"message": chat(image("a.png"), text("<image>?")), "answer": "1"}, "each of the 1 images, got 2 marks"),
    ],
)
def test_a_bad_line_is_named_with_its_field(folder, record, message):
    path = write_lines(folder / "q.jsonl", GOOD, record)
    with pytest.raises(ValueError, match=rf"(?s)q\.jsonl has records .*line 2: .*{message}"):
        read(path)


def test_an_id_given_twice_is_refused(folder):
    with pytest.raises(ValueError, match=r"line 3: field id: 7 is also that of line 1.*make ids unique"):
        read(write_lines(folder / "q.jsonl", {**GOOD, "id": 7}, GOOD, {**GOOD, "id": "7"}))


def test_a_slice_is_lazy_too(folder):
    (folder / "bad.png").write_bytes((folder / "b.png").read_bytes()[:60])  # the header alone
    questions = read(write_lines(folder / "q.jsonl", GOOD, {**GOOD, "image": "bad.png"}, {**GOOD, "image": "a.png"}))
    assert [q.id for q in questions[::2]] == ["q-1", "q-3"]
    assert len(questions[1:]) == 2


def test_problems_are_reported_together_and_at_most_twenty(folder):
    bad = {"question": "1?"}
    with pytest.raises(ValueError, match=r"(?s)line 2: field answer.*line 4: field answer") as few:
        read(write_lines(folder / "q.jsonl", GOOD, bad, GOOD, bad))
    assert "stopped" not in str(few.value)
    with pytest.raises(ValueError, match="stopped after 20 problems") as many:
        read(write_lines(folder / "q.jsonl", *[bad] * 50))
    assert str(many.value).count("field answer") == MAX_PROBLEMS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "expected a file of questions at .*found none"),
        ("q.csv", b"question,answer", "expected a .jsonl, .json or .parquet file"),
        ("q.jsonl", b"\n", "holds no questions"),
        ("q.json", b'[{"question": ', "expected JSON in UTF-8 in .*repair the file"),
        ("q.jsonl", b'{"question": "\xff"}', "expected JSON in UTF-8 in "),
    ],
)
def test_an_unusable_file_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)


def test_a_damaged_body_is_reported_with_file_and_question(folder):
    Image.effect_noise((90, 90), 50).save(folder / "cut.png")
    whole = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    questions = read(write_lines(folder / "q.jsonl", {**GOOD, "image": "cut.png"}))
    with pytest.raises(ImageError, match=r"q\.jsonl, question q-1: image cut\.png"):
        questions[0]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "q.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="needs pyarrow, which is not installed; pip install pyarrow"):
        read(tmp_path / "q.parquet")


def test_parquet_rows_with_the_images_inside(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = BytesIO()
    Image.new("RGB", (28, 28), "red").save(file, "PNG")
    rows = [
        {
            "problem": "<image>How red?",
            "answer": "very",
            "images": [{"bytes": file.getvalue(), "path": None}],
            "level": 3,
        },
        {"problem": "1 + 1?", "answer": "2", "images": [], "level": 1},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "q.parquet")
    first, second = read(tmp_path / "q.parquet")
    assert (first.id, first.text, first.answer) == ("q-1", "<image>How red?", "very")
    assert first.images[0].getpixel((1, 1)) == (255, 0, 0)
    assert (second.text, second.images, second.answer) == ("1 + 1?", (), "2")


@given(num_questions=st.integers(1, 40), share=st.integers(1, 40), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_epoch_is_a_permutation(num_questions, share, seed):
    per_step = min(share, num_questions)
    sampler = PromptSampler(num_questions, per_step, seed)
    seen = [index for _ in range(3 * num_questions) for index in sampler.next()]
    assert len(seen) == 3 * num_questions * per_step
    for begin in range(0, 3 * num_questions, num_questions):
        assert sorted(seen[begin : begin + num_questions]) == list(range(num_questions))


@given(num_questions=st.integers(1, 12), share=st.integers(1, 12), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_no_step_has_a_question_twice(num_questions, share, seed):
    sampler = PromptSampler(num_questions, min(share, num_questions), seed)
    for _ in range(30):
        step = sampler.next()
        assert len(set(step)) == len(step)


def test_epochs_and_seeds_differ_and_runs_repeat():
    def epochs(seed: int) -> list[list[int]]:
        sampler = PromptSampler(50, 50, seed)
        return [sampler.next(), sampler.next()]

    assert epochs(3) == epochs(3)
    assert len({tuple(epoch) for seed in (3, 4) for epoch in epochs(seed)}) == 4


@pytest.mark.parametrize("steps", range(8))
def test_resuming_repeats_and_skips_nothing(steps):
    whole, first = PromptSampler(10, 3, 7), PromptSampler(10, 3, 7)
    for _ in range(steps):
        assert first.next() == whole.next()
    state = json.loads(json.dumps(first.state_dict()))
    resumed = PromptSampler(10, 3, 7)
    resumed.load_state_dict(state)
    assert [resumed.next() for _ in range(9)] == [whole.next() for _ in range(9)]


@pytest.mark.parametrize("other", [PromptSampler(11, 3, 7), PromptSampler(10, 4, 7), PromptSampler(10, 3, 8)])
def test_a_state_of_other_data_is_refused(other):
    with pytest.raises(ValueError, match="resume with the data and settings of the checkpoint"):
        other.load_state_dict(PromptSampler(10, 3, 7).state_dict())


def test_a_step_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"lower data\.prompts_per_step"):
        PromptSampler(3, 4, 0)
