from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.published_records import image_of, text_of, texts_of, with_images
from srpo_fast.images import load_image


def test_texts_and_numbers_are_texts():
    assert [text_of({"a": value}, "a") for value in ("x", 3, 0.5, "")] == ["x", "3", "0.5", ""]


@pytest.mark.parametrize("record", [{}, {"a": None}, {"a": ["x"]}])
def test_missing_texts_are_said(record):
    with pytest.raises(BadRecord, match="field 'a'"):
        text_of(record, "a")


def test_lists_come_in_every_form():
    lists = (["1", "x"], ("1", "x"), "['1', 'x']", '["1", "x"]', [1, "x"])
    assert {texts_of({"a": value}, "a") for value in lists} == {("1", "x")}
    assert [texts_of(record, "a") for record in ({}, {"a": None}, {"a": ""}, {"a": []})] == [()] * 4


@pytest.mark.parametrize("value", ["no list", "['open", "{'a': 1}", 3])
def test_what_is_no_list_is_said(value):
    with pytest.raises(BadRecord, match="expected a list"):
        texts_of({"a": value}, "a")


def test_pictures_stay_undecoded():
    file = BytesIO()
    Image.new("RGB", (4, 3), "red").save(file, "PNG")
    stored = {"bytes": file.getvalue(), "path": "1.png"}
    assert image_of({"image": stored}, "image") is stored["bytes"]
    assert load_image(stored["bytes"], Path()).size == (4, 3)
    assert image_of({"image": {"bytes": None, "path": "a/1.png"}}, "image") == "a/1.png"
    assert image_of({"decoded": None, "image": "a/1.png"}, "decoded", "image") == "a/1.png"
    assert image_of({"image": b"not decoded"}, "image") == b"not decoded"
    with pytest.raises(BadRecord, match="expected a picture in the field 'image'"):
        image_of({"image": {"bytes": None, "path": None}}, "image")


def test_numbered_marks_become_plain_ones_in_order_of_use():
    text, images = with_images("<image 2> or <image 1>? <image 2>, <image>", lambda number: f"{number}.png")
    assert text == "<image> or <image>? <image>, < image>"
    assert images == ("2.png", "1.png", "2.png")
