"""The whole of stage 1 against a server that fails now and then."""

import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from srpo_fast.config import Config, UserError
from srpo_fast.formats.entry import Entry
from srpo_fast.formats.sft import SftExample, read_sft
from srpo_fast.formats.writers import write_parquet
from srpo_fast.monitor.progress import SilentBar
from srpo_fast.monitor.run_directory import read_jsonl
from srpo_fast.parallel import Parallel
from srpo_fast.reflection.opening import open_stage_1
from srpo_fast.reflection.stage import write_examples
from srpo_fast.responses import SRPO_FORM, parse
from tests.chat_server import REPLY_FAULTS, TRANSPORT_FAULTS, ChatServer, serve
from tests.reflect_case import ENDPOINT, config_of, replies, write_pool

ALONE = Parallel(rank=0, world=1, tp=1, pp=1, device=torch.device("cpu"))
COUNT = 60
FAULTS = tuple(fault for fault in TRANSPORT_FAULTS + REPLY_FAULTS if fault != "hang")  # which only takes time


class Quiet:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def phase(self, name: str, total: int, *, done: int = 0, label: str | None = None) -> Any:
        return nullcontext(SilentBar())

    def note(self, text: str) -> None:
        self.notes.append(text)


def run(config: Config, out: Path) -> tuple[list[SftExample], dict[str, Any]]:
    """The examples and the statistics."""
    stage = open_stage_1(config, out, Quiet())
    file = write_examples(stage, None, ALONE)
    assert file == out / "sft.json"
    return read_sft(file), json.loads((out / "statistics.json").read_text())


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pool(tmp_path_factory.mktemp("pool"), COUNT)


def asked(server: ChatServer) -> Counter[str]:
    """How often every request came, without those that were made to fail."""
    return Counter(record.key for record in server.records if record.fault is None)


def test_a_pool_becomes_a_file_of_the_wanted_mix(pool, tmp_path):
    with serve(replies=replies(COUNT)) as server:
        examples, statistics = run(config_of(pool, server.base_url, think_blocks=2), tmp_path)
    assert len(examples) == 10
    numbers = [int(example.text[-4:-1]) for example in examples]
    assert sum(number % 3 == 0 for number in numbers) == 3
    assert numbers != sorted(numbers)
    for number, example in zip(numbers, examples, strict=True):
        response = parse(example.assistant)
        assert response.has_form(SRPO_FORM)
        assert response.first_answer == str(number if number % 3 == 0 else -1)
        assert response.second_answer == f"$\\boxed{{{number}}}$"
        assert response.reflection.startswith("Made-up reflection")
        assert response.second_think.startswith("Made-up improved reasoning")
        assert example.system == "reflect"
        assert example.images == (str(pool.parent / f"{number}.png"),)
        assert example.id == f"q{number:03d}"
    assert statistics["examples"] == {"all": 10, "right": 3, "wrong": 7}
    assert statistics["first_answers"]["all"] == statistics["drawn"] == 40
    assert statistics["rejected"]["judge: low_quality"] == statistics["quality"]["1"] > 0
    assert statistics["tokens"]["reflections"]["completion"] > 0
    # nobody was asked for more than was needed
    assert len(server.records) == 40 + 40 + 10
    assert max(server.tries.values()) == 1


def test_with_one_think_block_no_second_reasoning_is_asked_for(pool, tmp_path):
    with serve(replies=replies(COUNT)) as server:
        examples, _ = run(config_of(pool, server.base_url, think_blocks=1, judge=None), tmp_path)
    assert len(examples) == 10
    for example in examples:
        assert [segment.kind for segment in parse(example.assistant).segments] == [
            "think",
            "answer",
            "reflection",
            "answer",
        ]
    assert not any("improved reasoning" in record.text for record in server.records)


def test_faults_change_nothing_but_the_time_it_takes(pool, tmp_path):
    with serve(replies=replies(COUNT)) as server:
        expected, _ = run(config_of(pool, server.base_url), tmp_path / "calm")
        calm = asked(server)
    # of first answers no form is asked, so a refusal or a cut text is theirs and not the protocol's
    with serve(
        replies=replies(COUNT), fault_rate=0.3, faults=TRANSPORT_FAULTS[:2] + TRANSPORT_FAULTS[4:], seed=3
    ) as server:
        found, statistics = run(config_of(pool, server.base_url), tmp_path / "rough")
        assert sum(server.faults.values()) > 15
        assert asked(server).keys() == calm.keys()
        assert sum(asked(server).values()) == sum(calm.values())
    assert found == expected
    assert sum(usage["retries"] for usage in statistics["usage"].values()) > 15


def test_what_came_to_nothing_is_replaced_and_kept_with_its_reason(pool, tmp_path):
    with serve(replies=replies(COUNT), fault_rate=0.35, faults=REPLY_FAULTS, max_faults=99, seed=1) as server:
        config = config_of(pool, server.base_url)
        impatient = config.reflection.teacher.model_copy(update={"reply_retries": 0})
        update = {"teacher": impatient, "judge": None, "records": 8}
        config = config.model_copy(update={"reflection": config.reflection.model_copy(update=update)})
        examples, statistics = run(config, tmp_path)
    assert len(examples) == 8  # in spite of them
    rejected = read_jsonl(tmp_path / "rejected.jsonl")
    by_step = Counter(line["step"] for line in rejected)
    assert by_step["reflect"] > 3
    assert all(line["reason"] and line["detail"] for line in rejected)
    reasons = {line["reason"] for line in rejected if line["step"] == "reflect"}
    assert reasons <= {"bad_json", "schema_mismatch", "truncated", "empty", "refused", "content_filter"}
    assert not {line["id"] for line in rejected} & {example.id for example in examples}
    assert sum(statistics["rejected"].values()) == len(rejected)


def test_leaks_are_refused_and_replaced_until_nobody_is_left(pool, tmp_path):
    with serve(replies=replies(COUNT)) as server:
        counted, statistics = run(config_of(pool, server.base_url, judge=None), tmp_path)
        assert statistics["examples_with_leaks"] == 0
        reflections = read_jsonl(tmp_path / "reflections.jsonl")
        first = counted[0].id
        for line in reflections:
            if line["id"] == first:
                line["text"] = f"The correct answer is {int(first[1:])}, as the key says."
        (tmp_path / "reflections.jsonl").write_text("".join(json.dumps(line) + "\n" for line in reflections))
        _, statistics = run(config_of(pool, server.base_url, judge=None), tmp_path)
        assert statistics["examples_with_leaks"] == 1
        before = len(server.records)
        refused, statistics = run(config_of(pool, server.base_url, judge=None, leaks="refuse"), tmp_path)
        assert len(server.records) == before + 1  # the stand-in's reflection
    assert len(refused) == 10
    assert first not in [example.id for example in refused]
    assert statistics["rejected"] == {"example: leak": 1}
    assert {example.id for example in counted} - {example.id for example in refused} == {first}


def test_more_may_be_made_of_what_is_there(pool, tmp_path):
    """records, the share, the threshold: none of them was asked of anybody."""
    with serve(replies=replies(COUNT)) as server:
        few, _ = run(config_of(pool, server.base_url, prompts=30), tmp_path)
        assert len(server.records) == 30 + 30 + 10
        more, _ = run(config_of(pool, server.base_url, prompts=30, records=12, right_share=0.25), tmp_path)
        assert len(server.records) == 30 + 30 + 12
        others, _ = run(config_of(pool, server.base_url, prompts=40, records=12, right_share=0.25), tmp_path)
        assert len(server.records) <= 40 + 40 + 12 + 12
        assert max(server.tries.values()) == 1
    assert {example.id for example in few} < {example.id for example in more}
    assert len(others) == 12


def test_a_mix_that_cannot_be_had_is_as_large_as_it_can_be(pool, tmp_path):
    with serve(replies=replies(COUNT)) as server:
        examples, statistics = run(config_of(pool, server.base_url, judge=None, right_share=0.9, records=30), tmp_path)
    right = statistics["first_answers"]["right"]
    assert len(examples) == int(right / 0.9) < 30
    assert statistics["wanted"] == 30


def test_bad_records_and_images_are_kept_with_their_reasons(pool, tmp_path):
    folder = tmp_path / "pool"
    folder.mkdir()
    copy = write_pool(folder, 12)
    good = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(good[: len(good) // 2])  # its header is fine
    with copy.open("a") as file:
        file.write('{"query": "cut o\n{"query": "<image>Where?", "image": "nowhere.png", "answer": "1"}\n')
    with serve(replies=replies(COUNT)) as server:
        examples, statistics = run(config_of(copy, server.base_url, judge=None, right_share=None), tmp_path / "out")
    assert statistics["pool"] == {"usable": 12, "unusable": 2}
    rejected = {line["id"]: line["reason"] for line in read_jsonl(tmp_path / "out" / "rejected.jsonl")}
    assert sorted(rejected.values()) == ["image_missing", "image_unreadable", "unreadable_record"]
    assert rejected["q005"] == "image_unreadable"
    assert len(examples) == 10


def test_a_split_of_a_data_set_may_be_the_pool(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    entries = [(f"{i}", Entry(text=f"{i}?", images=(), answer="1")) for i in range(3)]
    for split in ("train", "test"):
        write_parquet(tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet", entries, tmp_path)
    stage = open_stage_1(config_of(Path(f"{tmp_path}/hub#train"), "http://127.0.0.1:9/v1"), None, Quiet())
    assert sorted(stage.drawn) == ["0", "1", "2"]


def test_stage_1_without_any_example_says_how_it_came_to_that(pool, tmp_path):
    with (
        serve(replies={"number": "I do not know."}) as server,
        pytest.raises(UserError, match=r"without an example: .*answer: bad_form 40; see .*out"),
    ):
        run(config_of(pool, server.base_url), tmp_path / "out")
    with serve(replies=replies(COUNT)) as server:  # the directory was let go
        with pytest.raises(UserError, match="without an example"):
            run(config_of(pool, server.base_url), tmp_path / "out")
        assert not server.records  # every answer was on disk


def test_what_failed_for_the_servers_sake_is_asked_again_by_the_next_start(tmp_path):
    pool = write_pool(tmp_path, 12)
    pool.write_text(pool.read_text().replace("number 005?", "number 005? [fault:error_503*7]"))  # the retries are 6
    with serve(replies=replies(12)) as server:
        config = config_of(pool, server.base_url, right_share=None, records=12, judge=None)
        seen = []
        for _ in range(3):
            examples, statistics = run(config, tmp_path)
            seen.append((len(examples), statistics["rejected"]))
        assert seen == [(11, {"answer: server_error": 1}), (11, {"reflect: server_error": 1}), (12, {})]
        assert len(server.records) == 2 * 12 + 7 + 7  # nothing else twice


def test_what_failed_under_settings_that_gave_no_result_is_asked_again_under_others(pool, tmp_path):
    with serve(replies=replies(COUNT)) as server:
        config = config_of(pool, server.base_url, judge=None, teacher=ENDPOINT | {"base_url": server.base_url})
        with serve(fault_rate=1.0, faults=("refusal",), max_faults=99) as other:
            refusing = config_of(
                pool, server.base_url, judge=None,
                teacher=ENDPOINT | {"base_url": other.base_url, "model": "other", "reply_retries": 0},
            )  # fmt: skip
            with pytest.raises(UserError, match="reflect: refused 40"):
                run(refusing, tmp_path)
        answered = len(server.records)
        examples, statistics = run(config, tmp_path)
    assert len(examples) == 10
    assert statistics["rejected"] == {}
    assert len(server.records) == answered + 10  # the first answers stand


def test_verdicts_of_another_tolerance_are_refused(pool, tmp_path):
    with serve(replies=replies(COUNT)) as server:
        config = config_of(pool, server.base_url)
        run(config, tmp_path)
        lax = config.model_copy(update={"reward": config.reward.model_copy(update={"absolute_tolerance": 1.0})})
        with pytest.raises(UserError, match=r"answers\.jsonl .*: grading\.absolute_tolerance=0\.0, now"):
            run(lax, tmp_path)


def test_models_of_texts_are_told_what_images_show(tmp_path):
    pool = write_pool(tmp_path, COUNT)
    records = [json.loads(line) | {"content": "<CAPTION>A patch.</CAPTION>"} for line in pool.read_text().splitlines()]
    pool.write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "d.jsonl").write_text(json.dumps({"image": "7.png", "description": "A square."}))
    with serve(replies=replies(COUNT)) as server:
        teacher = ENDPOINT | {"base_url": server.base_url, "sees_images": False}
        config = config_of(
            pool, server.base_url, prompts=COUNT, records=COUNT, right_share=None, judge=None, teacher=teacher,
            descriptions=str(tmp_path / "d.jsonl"),
        )  # fmt: skip
        run(config, tmp_path / "out")
        texts = {record.text for record in server.records if "it shows" in record.text}
        assert len(texts) == COUNT  # every reflection; the answerer sees the images
        for text in texts:
            shown = "A square." if "number 007?" in text else "A patch."
            assert f"it shows: {shown})What is number" in text

        (tmp_path / "d.jsonl").write_text(json.dumps({"image": "7.png", "description": "A circle."}) + "\n\n")
        with pytest.raises(UserError, match=r"reflections\.jsonl .*: teacher\.descriptions_bytes=\d+, now teacher"):
            run(config, tmp_path / "out")
        (tmp_path / "d.jsonl").write_text(json.dumps({"image": "images/7.png", "description": "A circle."}))
        with pytest.raises(UserError, match=r"d\.jsonl describes no image of .*pool\.jsonl"):
            run(config, tmp_path / "out")


def test_a_server_that_is_gone_ends_it_and_the_next_start_goes_on(pool, tmp_path):
    with serve(replies=replies(COUNT)) as server:
        gone = server.base_url
    with pytest.raises(UserError, match="127"):
        run(config_of(pool, gone), tmp_path)
    with serve(replies=replies(COUNT)) as server:
        examples, _ = run(config_of(pool, server.base_url), tmp_path)
    assert len(examples) == 10
