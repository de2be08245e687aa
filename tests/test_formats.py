"""One record of every published layout, made up but laid out like the originals."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srpo_fast.bad_record import BadRecord
from srpo_fast.dataset import QuestionFile, read_questions
from srpo_fast.formats.descriptions import read_descriptions
from srpo_fast.formats.entry import Entry
from srpo_fast.formats.recognise import FIELDS, as_object, parse_record
from srpo_fast.formats.writers import write_parquet, write_rl_lines


def rl(*content: dict | str, answer: str = "4") -> dict:
    return {"id": "1", "message": json.dumps([{"role": "user", "content": list(content)}]), "answer": answer}


def part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


MULBERRY = {
    "messages": [
        {"role": "user", "content": "<image>\nQuestion: How many cubes are there?"},
        {
            "role": "assistant",
            "content": "### Image Description:\nThree cubes.\n\n### Rationales:\nCount.\n\n"
            "### Let's think step by step.\n\n### Step 1:\nOne, two, three.\n\n### The final answer is: 3",
        },
    ],
    "images": "cauldron/clevr/images/1.png",
}
LLAVA_COT = {
    "id": "sqa/train/12",
    "image": "sqa/train/12/image.png",
    "conversations": [
        {"from": "human", "value": "Which is hotter?\nA. ice\nB. steam"},
        {
            "from": "gpt",
            "value": "<SUMMARY>I compare.</SUMMARY>\n\n<CAPTION>Ice and steam.</CAPTION>\n\n<REASONING>Steam is hot."
            "</REASONING>\n\n<CONCLUSION>\n\nB\n\n</CONCLUSION>",
        },
    ],
}
HINT = (
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
    "Question: Find x.\nChoices:\n(A) 3\n(B) 4"
)
MATHV360K = {
    "id": "unigeo_7",
    "image": "UniGeo/images/7.png",
    "conversations": [{"from": "human", "value": f"<image>\n{HINT}"}, {"from": "gpt", "value": "The answer is B"}],
}


@pytest.mark.parametrize(
    ("record", "text", "images", "answer"),
    [
        (
            rl({"type": "image", "image": "file:///data/a.jpg"}, part("How many?")),
            "<image>How many?",
            ("file:///data/a.jpg",),
            "4",
        ),
        (
            rl(part("See "), {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}, part(".")),
            "See <image>.",
            ("data:image/png;base64,AA",),
            "4",
        ),
        (rl({"type": "image_url", "image_url": "a.png"}, part("?")), "<image>?", ("a.png",), "4"),
        ({"message": json.dumps([{"role": "user", "content": "1 + 3?"}]), "answer": 4}, "1 + 3?", (), "4"),
        ({"message": "1 + 3?", "answer": "4"}, "1 + 3?", (), "4"),
        ({"message": [{"role": "user", "content": [part("1 + 3?")]}], "answer": "4"}, "1 + 3?", (), "4"),
        ({"problem": "<image>Find x.", "answer": "3", "images": [b"x"]}, "<image>Find x.", (b"x",), "3"),
        (
            {"problem": "Find x.", "answer": "3", "images": [{"bytes": None, "path": "a.png"}]},
            "<image>Find x.",
            ("a.png",),
            "3",
        ),
        (
            {
                "data_source": "geometry3k",
                "prompt": [{"role": "user", "content": "<image>Find x."}],
                "images": [{"bytes": b"x", "path": "a.png"}],
                "reward_model": {"style": "rule", "ground_truth": "3"},
                "extra_info": {"answer": "never read"},
            },
            "<image>Find x.",
            (b"x",),
            "3",
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "Reflect."},
                    {"role": "user", "content": "<image>How many?"},
                    {
                        "role": "assistant",
                        "content": "<answer>3</answer><reflection>no</reflection><answer> 4 </answer>",
                    },
                ],
                "images": ["a.png"],
            },
            "<image>How many?",
            ("a.png",),
            "4",
        ),
        (MULBERRY, "<image>\nHow many cubes are there?", ("cauldron/clevr/images/1.png",), "3"),
        (LLAVA_COT, "<image>Which is hotter?\nA. ice\nB. steam", ("sqa/train/12/image.png",), "B"),
        (MATHV360K, f"<image>\n{HINT}", ("UniGeo/images/7.png",), "B"),
        (
            {"query": "Find x.", "image": "a.png", "answer": "3", "content": "<CAPTION>A line.</CAPTION>"},
            "<image>Find x.",
            ("a.png",),
            "3",
        ),
        (
            {"query": "Find x.", "image": "a.png", "standard_answer": "3", "cot": "so 5", "answer": "5"},
            "<image>Find x.",
            ("a.png",),
            "3",
        ),
        ({"question": "Find x.", "answer": 2.5}, "Find x.", (), "2.5"),
        # columns of a table that this row does not use
        ({"question": None, "problem": "Find x.", "image": None, "images": None, "answer": "3"}, "Find x.", (), "3"),
    ],
)
def test_every_layout_is_understood(record, text, images, answer):
    entry = parse_record(record)
    assert (entry.text, entry.images, entry.answer) == (text, images, answer)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The answer is 3.5", "3.5"),
        ("The answer is 3.", "3"),
        ("They add up, so the answer is: Yes", "Yes"),
        ("First, the answer is not 3. The answer is 4", "4"),
        ("<CONCLUSION>12 cm", "12 cm"),  # cut off
        ("<REASONING>the answer is 5</REASONING><CONCLUSION> 6 </CONCLUSION>", "6"),
    ],
)
def test_the_answer_of_a_reply(reply, answer):
    record = {**MATHV360K, "conversations": [MATHV360K["conversations"][0], {"from": "gpt", "value": reply}]}
    assert parse_record(record).answer == answer


def test_only_the_first_turn_of_a_conversation_is_a_question():
    more = [
        *LLAVA_COT["conversations"],
        {"from": "human", "value": "And?"},
        {"from": "gpt", "value": "The answer is C"},
    ]
    assert parse_record({**LLAVA_COT, "conversations": more}).answer == "B"


@pytest.mark.parametrize(
    ("record", "reason", "message"),
    [
        ({"prompt": "x", "answer": "1"}, "unknown_fields", "got the fields prompt, answer"),
        ({"message": "[]", "query": "x"}, "unknown_fields", "got the fields message, query; rename or remove"),
        ({"prompt": [], "reward_model": {}}, "bad_question", "field prompt: expected a list of one user message"),
        (
            {"prompt": [{"role": "user", "content": "x"}], "reward_model": "3"},
            "bad_answer",
            "field reward_model: expected ground_truth in it, got '3'",
        ),
        ({"messages": [{"role": "user", "content": "x"}]}, "bad_question", "expected texts of a user and an assistant"),
        ({"messages": "x"}, "bad_question", "expected texts of a user and an assistant, got 'x'"),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "It is 4."}]},
            "bad_answer",
            r"expected an answer after '### The final answer is:' or between <answer> .*got 'It is 4\.'",
        ),
        ({"conversations": []}, "bad_question", r"expected texts from human and gpt, got \[\]"),
        (
            {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "A cat."}]},
            "bad_answer",
            r"expected a <CONCLUSION> or 'The answer is \.\.\.' in the reply",
        ),
        (
            {"query": "x", "standard_answer": None, "answer": "5"},
            "bad_answer",
            "field standard_answer: expected text or a number, got None",
        ),
    ],
)
def test_what_no_layout_explains_is_refused(record, reason, message):
    with pytest.raises(BadRecord, match=message) as caught:
        parse_record(as_object(record))
    assert caught.value.reason == reason


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.binary(max_size=3),
    st.text(st.characters(codec=None), max_size=6),
    st.sampled_from(["<image>", "user", "assistant", "human", "gpt", "text", "[]"]),
)  # fmt: skip
fields = st.sampled_from(
    sorted(FIELDS | {"role", "content", "from", "value", "type", "text", "image_url", "url", "bytes"})
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=4), max_leaves=12
)


@given(record=st.dictionaries(fields, values, max_size=5))
@settings(max_examples=500)
def test_no_record_does_anything_but_be_read_or_refused(record):
    try:
        entry = parse_record(as_object(record))
    except BadRecord as error:
        _ = str(error).encode()
        return
    assert entry.text.count("<image>") == len(entry.images)
    assert (entry.text + entry.answer).encode()


@pytest.mark.parametrize("field", ["question", "answer", "image", "id", "\ud800"])
def test_halves_of_characters_reach_no_file(folder, field):
    record = {"question": "<image>?", "answer": "1", "image": "a.png", field: "\ud800"}
    (folder / "q.jsonl").write_text(json.dumps(record))
    questions = read(folder / "q.jsonl")
    for problem in questions.problems:
        assert str(problem).encode()
        assert problem.reason == "unreadable_record"
    assert bool(questions.problems) == (field in ("question", "answer", "image"))
    assert [question.id for question in questions if question.id.encode()] == {
        "id": ["\\ud800"],
        "\ud800": ["q-1"],
    }.get(field, [])


def test_a_record_nested_to_the_limit_is_only_refused(folder):
    deep = "[" * 900 + "]" * 900
    (folder / "q.jsonl").write_text(f'{{"message": {deep}, "answer": "1"}}\n{{"question": "?", "answer": {deep}}}')
    assert len(read(folder / "q.jsonl").problems) == 2


def test_a_chat_that_mentions_the_mark_has_no_image_there():
    record = rl({"type": "image", "image": "a.png"}, part("What does <image> mean? <image>"))
    assert parse_record(record).text == "<image>What does < image> mean? < image>"


POOL = {"query": "Find x.", "image": "a.png", "answer": "3", "content": "<CAPTION> A line.</CAPTION>"}


@pytest.mark.parametrize(
    ("record", "description"),
    [
        (LLAVA_COT, "Ice and steam."),
        (MULBERRY, "Three cubes."),
        (MATHV360K, None),
        (POOL, "A line."),
        (POOL | {"content": None}, None),
        (POOL | {"content": "<CAPTION> </CAPTION>"}, None),
        (POOL | {"image": ["a.png", "b.png"], "query": "<image><image>?"}, None),  # of which one, no one knows
    ],
)
def test_what_a_rationale_says_about_the_image(record, description):
    assert parse_record(record).description == description


def test_a_file_of_descriptions(tmp_path):
    lines = [{"image": "a.png", "description": "A line."}, {"image": "b.png", "description": ""}]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, lines)))
    root = tmp_path / "images"
    assert read_descriptions(tmp_path / "d.jsonl", root) == {root / "a.png": "A line.", root / "b.png": ""}
    (tmp_path / "d.jsonl").write_text('{"image": "a.png"}')
    with pytest.raises(ValueError, match=r"d\.jsonl, line 1: expected a path in image and a text in desc.*, got image"):
        read_descriptions(tmp_path / "d.jsonl", root)


# --- files ---


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (56, 56), colour).save(tmp_path / f"{name}.png")
    return tmp_path


def read(path: Path) -> QuestionFile:
    return read_questions(path, None, min_pixels=784, max_pixels=640 * 784)


def test_an_array_of_one_layout_is_read_like_lines(folder):
    records = [{**MULBERRY, "images": "a.png"}, {**LLAVA_COT, "image": "b.png"}, {**MATHV360K, "image": "b.png"}]
    (folder / "q.json").write_text(json.dumps(records, indent=1))
    (folder / "q.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    array, lines = read(folder / "q.json"), read(folder / "q.jsonl")
    assert not array.problems
    assert [question.id for question in array] == ["q-1", "sqa/train/12", "unigeo_7"]
    for one, other in zip(array, lines, strict=True):
        assert (one.id, one.text, one.answer, one.image_files) == (
            other.id,
            other.text,
            other.answer,
            other.image_files,
        )


ENTRIES = [
    ("one", Entry(text="<image>Left or <image>?", images=("a.png", "b.png"), answer="left")),
    ("two", Entry(text="\u00fc: 1 + 1?", images=(), answer="2")),
    ("three", Entry(text="What?<image>", images=(Image.new("RGB", (28, 28), "lime"),), answer="$\\frac{1}{2}$")),
]


@pytest.mark.parametrize(("name", "write"), [("q.jsonl", write_rl_lines), ("q.parquet", write_parquet)])
def test_what_is_written_is_read(folder, name, write):
    (folder / "out").mkdir()
    write(folder / "out" / name, ENTRIES, folder)
    questions = read(folder / "out" / name)
    assert not questions.problems
    assert [(q.id, q.text, q.answer) for q in questions] == [(i, e.text, e.answer) for i, e in ENTRIES]
    colours = [[np.asarray(image)[5, 5].tolist() for image in q.images] for q in questions]
    assert colours == [[[255, 0, 0], [0, 0, 255]], [], [[0, 255, 0]]]
    again = folder / "out" / f"again-{name}"
    write(again, [(questions.id(i), questions.entry(i)) for i in range(3)], folder / "out")
    assert [(q.id, q.text, q.answer) for q in read(again)] == [(q.id, q.text, q.answer) for q in questions]


def test_datasets_decodes_the_written_images(folder):
    write_parquet(folder / "q.parquet", ENTRIES, folder)
    table = datasets.load_dataset("parquet", data_files=str(folder / "q.parquet"), split="train")
    assert table[2]["images"][0].getpixel((3, 3)) == (0, 255, 0)
    assert table.column_names == ["id", "problem", "answer", "images"]


def test_many_rows_are_written_in_groups(folder):
    entries = [(str(i), Entry(text=f"{i}?", images=(), answer="1")) for i in range(150)]
    write_parquet(folder / "q.parquet", iter(entries), folder)
    assert [q.text for q in read(folder / "q.parquet")] == [f"{i}?" for i in range(150)]


def test_a_missing_image_leaves_no_file(folder):
    entries = [("x", Entry(text="<image>?", images=("none.png",), answer="1"))]
    with pytest.raises(ValueError, match=r"none\.png: expected an image file"):
        write_parquet(folder / "q.parquet", entries, folder)
    assert not list(folder.glob("*q.parquet*"))
