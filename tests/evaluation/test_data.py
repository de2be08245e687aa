"""Records of files and folders in the layouts that data sets are published in."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from srpo_fast.config import UserError
from srpo_fast.evaluation.benchmarks import NAMES, load_benchmark
from srpo_fast.evaluation.data import chosen_split, open_source
from tests.evaluation.eval_case import TOY, question, read, write_lines
from tests.evaluation.golden_case import records_of

PICTURE = {"bytes": b"not decoded", "path": "1.png"}


def ids(data: Path | None, split: str = "test", benchmark=TOY, limit: int | None = None) -> list[str]:
    return [item.id for item in read(data, split, benchmark, limit)]


def write_table(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([question(name, images=[PICTURE]) for name in names]), path)
    return path


def test_a_split_is_read_from_its_shards_in_order(tmp_path):
    write_table(tmp_path / "data" / "test-00001-of-00002-0a1b2c.parquet", "c")
    write_table(tmp_path / "data" / "test-00000-of-00002-0a1b2c.parquet", "a", "b")
    write_table(tmp_path / "data" / "dev-00000-of-00001.parquet", "d")
    write_lines(tmp_path / "test.jsonl", question("beside the tables"))
    assert ids(tmp_path) == ["a", "b", "c"]
    assert ids(tmp_path, "dev") == ["d"]
    assert ids(tmp_path, limit=2) == ["a", "b"]


def test_a_split_may_be_of_every_config_or_a_config_itself(tmp_path):
    for config in ("Art", "Math"):
        write_table(tmp_path / config / "test-00000-of-00001.parquet", config)
        write_table(tmp_path / config / "train-00000-of-00001.parquet", f"{config} train")
    assert ids(tmp_path) == ["Art", "Math"]
    assert ids(tmp_path, "Art") == ["Art", "Art train"]
    picky = replace(TOY, reads=lambda config, part, split: (config, part) == ("Math", "train"))
    assert ids(tmp_path, "test", picky) == ["Math train"]


def test_records_say_which_part_they_are_of_and_their_images_are_as_stored(tmp_path):
    write_table(tmp_path / "Art" / "test-00000-of-00001.parquet", "a")
    seen = []

    def watched(records, split):
        for record in records:
            seen.append(record)
            yield from TOY.items(iter([record]), split)

    watching = replace(TOY, items=watched)
    (item,) = read(tmp_path, "test", watching)
    assert (seen[0]["_config"], seen[0]["_split"]) == ("Art", "test")
    assert item.images == (b"not decoded",)


def test_json_lines_an_array_and_an_object_by_id_are_read(tmp_path):
    records = [question(1), question("b")]
    (tmp_path / "array.json").write_text(json.dumps(records))
    (tmp_path / "object.json").write_text(json.dumps({str(record["qid"]): record for record in records}))
    write_lines(tmp_path / "lines.json", *records)
    write_lines(tmp_path / "lines.jsonl", *records)
    for name in ("array.json", "object.json", "lines.json", "lines.jsonl"):
        assert ids(tmp_path / name) == ["1", "b"], name


def test_a_data_set_saved_to_disk_is_read(tmp_path):
    import datasets

    rows = datasets.Dataset.from_list([question("a"), question("b")])
    datasets.DatasetDict({"test": rows, "dev": rows.select([1])}).save_to_disk(str(tmp_path / "saved"))
    assert ids(tmp_path / "saved") == ["a", "b"]
    assert ids(tmp_path / "saved", "dev") == ["b"]


def say(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_what_cannot_be_read_is_one_clear_line(tmp_path):
    assert "found nothing; check --data" in say(lambda: ids(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "files in" in say(lambda: ids(tmp_path / "empty"))
    write_table(tmp_path / "few" / "dev-00000-of-00001.parquet", "d")
    assert "found default/dev; check --data and --split" in say(lambda: ids(tmp_path / "few"))
    (tmp_path / "a.csv").write_text("a,b")
    assert "got " + str(tmp_path / "a.csv") in say(lambda: ids(tmp_path / "a.csv"))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    assert "expected a readable table" in say(lambda: ids(tmp_path / "a.parquet"))
    (tmp_path / "a.json").write_text('{"a": ')
    assert "expected JSON" in say(lambda: ids(tmp_path / "a.json"))
    (tmp_path / "a.jsonl").write_text('{"qid": 1, "q": "x", "a": "y"}\n{"qid"')
    assert "line 2: expected one JSON object a line" in say(lambda: ids(tmp_path / "a.jsonl"))


def test_records_of_something_else_are_one_clear_line(tmp_path):
    other = write_lines(tmp_path / "a.jsonl", {"pid": 1, "query": "x"})
    assert "line 1: expected a record of Toy, got one with the fields pid, query (KeyError: 'qid')" in (
        say(lambda: ids(other))
    )
    twice = write_lines(tmp_path / "b.jsonl", question("a"), question("a"))
    assert "expected every id once, got a again" in say(lambda: ids(twice))
    (tmp_path / "c.json").write_text("[]")
    assert "found none" in say(lambda: ids(tmp_path / "c.json"))


def test_a_data_set_that_is_not_cached_is_one_clear_line_offline():
    from huggingface_hub.constants import HF_HUB_OFFLINE

    assert HF_HUB_OFFLINE, "tests/conftest.py says so"
    said = say(lambda: ids(None, benchmark=replace(TOY, hub_id="nobody/has-this")))
    assert "nobody/has-this of the Hugging Face hub, which cannot be had here" in said
    assert said.endswith("give its folder with --data")


def test_of_a_data_set_on_the_hub_only_the_split_is_fetched(tmp_path, monkeypatch):
    import huggingface_hub

    fetched = []

    def fetch(hub_id, *, repo_type, allow_patterns):
        fetched.extend(allow_patterns)
        write_table(tmp_path / allow_patterns[0], "a")
        return str(tmp_path)

    names = ["README.md", "data/test-00000-of-00001.parquet", "data/dev-00000-of-00001.parquet", "test.json"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, hub_id, repo_type: names)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    published = replace(TOY, hub_id="nobody/has-this")
    assert ids(None, benchmark=published) == ["a"]
    assert fetched == ["data/test-00000-of-00001.parquet"]
    assert "found default/dev, default/test" in say(lambda: ids(None, "train", published))


def test_an_unknown_split_or_benchmark_names_those_that_are_there():
    assert chosen_split(TOY, None) == "test"
    assert say(lambda: chosen_split(TOY, "train")) == "Toy has the splits test, dev, got 'train'"
    assert "mathvista, mathverse" in say(lambda: load_benchmark("mathvisat"))


def test_the_embedded_questions_are_those_of_a_run():
    from srpo_fast.embedded.task import load_questions

    assert NAMES[-1] == "embedded"
    benchmark = load_benchmark("embedded")
    found = read(None, "heldout", benchmark, 20)
    drawn = load_questions("heldout", 20, 0)
    assert [(item.id, item.prompt, item.gold[0]) for item in found] == [(q.id, q.text, q.answer) for q in drawn]


@pytest.mark.parametrize(
    ("name", "place", "told"),
    [
        ("mathvision", "testmini.jsonl", "testmini"), ("mathvision", "data/test-00000-of-00001.parquet", "test"),
        ("mathvision", "test/testmini.jsonl", "testmini"), ("mathvision", "mine.jsonl", None),
        ("mmmu", "Accounting/dev-00000-of-00001.parquet", "dev"),
        ("mmmu_pro", "vision/test-00000-of-00002.parquet", "vision"),
        ("emma", "Physics/test-00000-of-00001.parquet", "Physics"),
        ("olympiadbench", "OE_MM_maths_en_COMP/OE_MM_maths_en_COMP.parquet", "OE_MM_maths_en_COMP"),
        ("olympiadbench", "OE_TO_physics_en_COMP/train.parquet", "OE_TO_physics_en_COMP"),
    ],
)  # fmt: skip
def test_a_single_file_is_the_split_that_its_name_tells(name, place, told, tmp_path):
    benchmark, file = load_benchmark(name), tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.touch()
    assert chosen_split(benchmark, None, file) == (told or benchmark.splits[0])
    for split in benchmark.splits:
        if told in (None, split) or (split == benchmark.splits[0] and benchmark.reads):  # all parts, of which it is one
            assert open_source(benchmark, file, split).parts[0].file == file
        else:
            said = say(lambda split=split: open_source(benchmark, file, split))
            assert f"split {told} by its name, not {split}: leave --split out" in said


def test_training_data_are_no_benchmark(tmp_path):
    (tmp_path / "train-00000-of-00001.parquet").touch()
    said = say(lambda: open_source(load_benchmark("mmk12"), tmp_path / "train-00000-of-00001.parquet", "test"))
    assert "is training data by its name, not MMK12's split test" in said


@pytest.mark.parametrize("name", ["mathvista", "mathverse", "mmmu"])
def test_records_of_another_split_are_passed_over(name):
    benchmark = load_benchmark(name)
    other = {"mathvista": {"metadata": {"split": "test"}}, "mathverse": {"problem_version": "Text Only"},
             "mmmu": {"id": "dev_Biology_1"}}[name]  # fmt: skip
    records = records_of(name)
    assert [each.id for each in benchmark.items(iter([records[0] | other, records[1]]), benchmark.splits[0])] == [
        each.id for each in benchmark.items(iter([records[1]]), benchmark.splits[0])
    ]
