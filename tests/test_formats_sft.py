import json
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from srpo_fast.formats.sft import SftExample, read_sft, write_sft
from srpo_fast.images import load_image

ANSWER = "<think>2 + 2</think><answer>4</answer><reflection>ok</reflection><answer>4</answer>"


def example(**changes) -> SftExample:
    fields = {
        "id": "q-1",
        "system": "Reflect.",
        "text": "<image>How many?",
        "images": ("a/b.png",),
        "assistant": ANSWER,
    }
    return SftExample(**fields | changes)


def test_what_is_written_is_read(tmp_path):
    examples = [
        example(),
        example(id="q-2", system=None, text="\u00fc: <image>, <image>", images=("/abs/c.jpg", Path("d.png"))),
        example(id="q-3", text="no image", images=()),
    ]
    write_sft(tmp_path / "new" / "sft.json", examples)
    read = read_sft(tmp_path / "new" / "sft.json")
    assert read == [examples[0], example(**{**as_dict(examples[1]), "images": ("/abs/c.jpg", "d.png")}), examples[2]]


def as_dict(one: SftExample) -> dict:
    return {name: getattr(one, name) for name in SftExample.__slots__}


def test_the_file_is_what_llama_factory_calls_sharegpt(tmp_path):
    write_sft(tmp_path / "sft.json", [example()])
    (item,) = json.loads((tmp_path / "sft.json").read_text())
    assert item["images"] == ["a/b.png"]
    assert item["messages"] == [
        {"role": "system", "content": "Reflect."},
        {"role": "user", "content": "<image>How many?"},
        {"role": "assistant", "content": ANSWER},
    ]


def test_marks_that_an_answer_only_mentions_are_not_counted_by_any_reader(tmp_path):
    write_sft(tmp_path / "sft.json", [example(assistant="the <image> shows", system="see <image>")])
    (item,) = json.loads((tmp_path / "sft.json").read_text())
    assert sum(message["content"].count("<image>") for message in item["messages"]) == len(item["images"]) == 1
    assert read_sft(tmp_path / "sft.json")[0].assistant == "the < image> shows"


def test_half_a_character_does_not_stop_a_file(tmp_path):
    write_sft(tmp_path / "sft.json", [example(assistant="cut \ud83d")])
    assert read_sft(tmp_path / "sft.json")[0].assistant == "cut ?"


def test_an_empty_file_is_an_array(tmp_path):
    write_sft(tmp_path / "sft.json", [])
    assert json.loads((tmp_path / "sft.json").read_text()) == []


def test_images_in_memory_become_files_once(tmp_path):
    picture = Image.new("RGB", (8, 6), "red")
    buffer = BytesIO()
    picture.save(buffer, "JPEG")
    write_sft(tmp_path / "sft.json", [example(images=(picture,)), example(images=(picture,), id="2")])
    write_sft(tmp_path / "more.json", [example(images=(buffer.getvalue(),))])
    (first,), (second,) = (one.images for one in read_sft(tmp_path / "sft.json"))
    assert first == second
    assert len(list((tmp_path / "sft_images").iterdir())) == 1
    assert load_image(first, tmp_path).getpixel((1, 1)) == (255, 0, 0)
    (third,) = read_sft(tmp_path / "more.json")[0].images
    assert (tmp_path / third).read_bytes() == buffer.getvalue()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_sft(tmp_path / "sft.json", [example()])
    with pytest.raises(ValueError, match=r"example q-9: expected one <image> mark .* the 1 images, got 0"):
        write_sft(tmp_path / "sft.json", [example(id="q-8"), example(id="q-9", text="no mark")])
    assert [one.id for one in read_sft(tmp_path / "sft.json")] == ["q-1"]
    assert [file.name for file in tmp_path.iterdir()] == ["sft.json"]


USER, ASSISTANT = {"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}


def test_the_published_items_have_no_id(tmp_path):
    (tmp_path / "sft.json").write_text(json.dumps([{"messages": [USER, ASSISTANT], "images": []}]))
    assert read_sft(tmp_path / "sft.json") == [SftExample(id="sft-1", system=None, text="?", images=(), assistant="!")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected an SFT file at .*found none"),
        ("[{", "expected a JSON array in UTF-8"),
        ("{}", "expected a JSON array of conversations"),
        ("[3]", "item 1: expected an object with a list of messages, got 3"),
        (json.dumps([{"messages": [USER]}]), r"item 1: field messages: .* got the roles \['user'\]"),
        (json.dumps([{"messages": [USER, ASSISTANT] * 2}]), "several turns have to be split"),
        (json.dumps([{"messages": [USER, {**ASSISTANT, "content": None}]}]), "field messages: expected texts"),
        (json.dumps([{"messages": [USER, ASSISTANT], "images": [3]}]), r"expected a list of paths, got \[3\]"),
        (json.dumps([{"messages": [USER, ASSISTANT], "images": ["a"]}]), "each of the 1 images, got 0 marks"),
    ],
)
def test_an_unusable_file_or_item_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "sft.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_sft(tmp_path / "sft.json")


def test_an_id_names_one_prompt_only(tmp_path):
    """Merged files number their items alike; an image under another's id would be the wrong image."""

    def item(image: str, said: str) -> dict[str, object]:
        messages = [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": said}]
        return {"id": 7, "messages": messages, "images": [image]}

    file = tmp_path / "merged.json"
    file.write_text(json.dumps([item("a.png", "a cat"), item("b.png", "a dog"), item("a.png", "still a cat")]))
    assert [example.id for example in read_sft(file)] == ["7", "7#2", "7"]
