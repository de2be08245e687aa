"""Files of responses: the forms that are read, and what is said about the rest."""

import json

import pytest

from srpo_fast.config import UserError
from srpo_fast.evaluation.saved import read_saved
from tests.evaluation.eval_case import write_lines

ODD = "line\u2028end, 答え, \x00, \\n"


def test_lines_an_array_and_an_object_by_id_say_the_same(tmp_path):
    expected = {"1": "one", "two": ODD}
    lines = write_lines(tmp_path / "a.jsonl", {"id": "two", "response": ODD}, {"id": 1, "completion": "one"})
    array, by_id, plain = (tmp_path / name for name in ("b.json", "c.json", "d.json"))
    array.write_text(json.dumps([{"id": 1, "response": "one"}, {"id": "two", "response": ODD}]))
    by_id.write_text(json.dumps({"1": {"pid": 1, "response": "one"}, "two": {"response": ODD}}, ensure_ascii=False))
    plain.write_text("\ufeff" + json.dumps({"1": "one", "two": ODD}))
    for path in (lines, array, by_id, plain):
        saved = read_saved(path, ["1", "two"])
        assert saved.by_id == expected
        assert saved.notes == ()


def test_one_line_is_a_response_and_not_an_object_by_id(tmp_path):
    assert read_saved(write_lines(tmp_path / "a.jsonl", {"id": "a", "response": "x"}), ["a"]).by_id == {"a": "x"}


def test_repeated_unknown_and_missing_ids_are_counted(tmp_path):
    path = write_lines(
        tmp_path / "a.jsonl", *({"id": i, "response": "x"} for i in ("a", "a", "b", "zz", "yy")),
    )  # fmt: skip
    saved = read_saved(path, ["a", "b", "c"])
    assert saved.by_id == {"a": "x", "b": "x"}
    repeated, unknown, missing = saved.notes
    assert repeated.startswith("1 responses are in")
    assert unknown.startswith("2 responses have ids of none of the 3 items, such as zz")
    assert missing.startswith("1 of 3 items have no response, such as c")


def test_half_a_character_is_spelt_out(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "a", "response": "\\ud83d"}\n')
    assert read_saved(tmp_path / "a.jsonl", ["a"]).by_id == {"a": "\\ud83d"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"id": 1, "response": "a"}\n{"id": "1", "response": "b"}', "different ones to 1 at line 1 and at line 2"),
        ('{"id": 7, "response": "a"}', "none of its 1 ids is one of the benchmark's, which begin 1, 2"),
        ("", "holds no responses"),
        ('{"id": 1, "response": "a"}\n{"id": 2, "resp', "line 2: expected a JSON object"),
        ('{"id": 1, "response": "a"}\n[1]', "line 2: expected an object with id and response, got [1]"),
        ('[{"id": 1, "response": 5}]', "item 1: expected text in the field response or completion, got 5"),
        ('{"id": 1, "text": "a"}', "line 1: expected text in the field response or completion, got id, text"),
        ('[{"response": "a"}]', "item 1: field id: expected text or a whole number, got None"),
        ('{"id": 1.5, "response": "a"}', "field id: expected text or a whole number, got 1.5"),
        ('{"1": {"response": null}}', "key 1: expected text in the field response or completion, got response, id"),
        ('{"id": 1, "response": "a", "completion": "b"}', "got both"),
        ("[" * 100_000, "expected a JSON object"),
    ],
)  # fmt: skip
def test_what_is_no_response_is_named(tmp_path, content, says):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError) as error:
        read_saved(tmp_path / "a.json", ["1", "2"])
    message = str(error.value)
    assert says in message
    assert "\n" not in message
    assert len(message) < 500


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(UserError, match="found none; check --responses"):
        read_saved(tmp_path / "none.jsonl", ["1"])
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        read_saved(tmp_path / "a.jsonl", ["1"])
