"""Prompts from a real file with a real encoder: what is bad is written down and replaced, alike on every start."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from srpo_fast import prompt_source
from srpo_fast.bad_record import Problem
from srpo_fast.batch import Group, Score
from srpo_fast.config import DEFAULT_CONFIG, load_config
from srpo_fast.dataset import QuestionFile, read_questions
from srpo_fast.embedded.task import load_questions
from srpo_fast.group_collection import collect_step
from srpo_fast.monitor.metrics import PhaseTimer
from srpo_fast.monitor.samples import REWARD_PARTS
from srpo_fast.parallel import Parallel
from srpo_fast.prompt_source import PromptSource, encode_usable
from srpo_fast.prompts import PromptEncoder
from srpo_fast.quarantine import Quarantine
from srpo_fast.rollout.group_growth import begin
from tests.launch import run_on_ranks

SYSTEM = "answer"
BAD = {3: "image_unreadable", 5: "bad_answer", 8: "prompt_too_long", 11: "image_missing", 14: "image_unreadable"}


@pytest.fixture(scope="module")
def encoder(untrained_model: Path) -> PromptEncoder:
    return PromptEncoder.from_pretrained(untrained_model, max_prompt_tokens=60)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 lines, numbers 1 to 20, of which BAD are bad: two show it only when decoded, one only when encoded."""
    root = tmp_path_factory.mktemp("data")
    Image.effect_noise((112, 28), 80).convert("RGB").save(root / "good.png")
    whole = (root / "good.png").read_bytes()
    (root / "cut.png").write_bytes(whole[: len(whole) // 2])
    lines = []
    for number in range(1, 21):
        image = {3: "cut.png", 14: "cut.png", 11: "nowhere.png"}.get(number, "good.png")
        text = "<image>?" + "long " * (40 if number == 8 else 0)
        answer = "" if number == 5 else str(number)
        lines.append(json.dumps({"id": number, "question": text, "image": image, "answer": answer}))
    (root / "q.jsonl").write_text("\n".join(lines))
    return root / "q.jsonl"


def read(data: Path) -> QuestionFile:
    return read_questions(data, None, min_pixels=784, max_pixels=640 * 784)


class Run:
    """One start of a run: its source, its quarantine file, and the ids of the steps it draws."""

    def __init__(self, data: Path, encoder: PromptEncoder, file: Path, parallel: Parallel, share: float = 0.5) -> None:
        questions = read(data)
        self.file = file
        self.quarantine = Quarantine(file, "quarantine", share)
        self.quarantine.add(questions, questions.problems)
        self.source = PromptSource(
            questions, encoder, SYSTEM, per_step=4, seed=1, quarantine=self.quarantine, parallel=parallel
        )  # fmt: skip

    def step(self, *counts: int) -> list[int]:
        self.source.start_step()
        return [int(prompt.question.id) for count in counts for prompt in self.source.draw(count)]

    def written(self) -> dict[int, str]:
        lines = [json.loads(line) for line in self.file.read_text().splitlines()]
        assert len({line["id"] for line in lines}) == len(lines)
        return {int(line["id"]): line["reason"] for line in lines}


@pytest.fixture
def start(data, encoder, one_process, tmp_path):
    return lambda name="quarantine.jsonl", share=0.5: Run(data, encoder, tmp_path / name, one_process, share)


def test_steps_are_full_and_hold_good_questions_only(start):
    run = start()
    steps = [run.step(4) for _ in range(9)]
    assert all(len(set(step)) == 4 for step in steps)
    met = [number for step in steps for number in step]
    assert set(met) == set(range(1, 21)) - BAD.keys()
    assert sorted(met[:15]) == sorted(set(met))  # an epoch is every good question once
    assert run.written() == BAD
    assert len(run.quarantine) == len(BAD)


def test_a_step_may_be_drawn_in_parts_without_a_question_twice(start):
    run, whole = start(), start("other.jsonl")
    for _ in range(8):
        parts = run.step(3, 2, 4)
        assert len(set(parts)) == 9
        assert parts == whole.step(9)


@pytest.mark.parametrize("steps", range(5))
def test_a_resume_repeats_and_skips_nothing(start, steps):
    whole, first = start("whole.jsonl"), start()
    for _ in range(steps):
        assert first.step(4) == whole.step(4)
    state = json.loads(json.dumps(first.source.state_dict()))
    first.step(4)  # lost by the crash, its finds already written
    resumed = start()
    resumed.source.load_state_dict(state)
    assert [resumed.step(4) for _ in range(7)] == [whole.step(4) for _ in range(7)]
    assert resumed.written() == whole.written() == BAD
    assert len(resumed.quarantine) == len(whole.quarantine)


def test_good_data_keeps_the_samplers_order(encoder, one_process):
    questions = load_questions("train", 12, 0)
    source = PromptSource(
        questions, encoder, SYSTEM, per_step=12, seed=3, quarantine=Quarantine(None, "stop", 0.0), parallel=one_process
    )
    source.start_step()
    drawn = [prompt.question.id for prompt in source.draw(12)]
    assert sorted(drawn) == sorted(question.id for question in questions)
    assert drawn != [question.id for question in questions]
    assert source.left_in_step == 0
    with pytest.raises(ValueError, match="expected 1 more questions for a step that has 12, got 0"):
        source.draw(1)


def test_a_step_larger_than_the_data_is_refused_at_the_start(data, encoder, one_process):
    quarantine = Quarantine(None, "quarantine", 1.0)
    with pytest.raises(ValueError, match=r"got 18 questions for 19 prompts; lower data\.prompts_per_step"):
        PromptSource(
            read(data), encoder, SYSTEM, per_step=19, seed=1, quarantine=quarantine, parallel=one_process
        )  # fmt: skip


def test_too_much_bad_data_ends_the_run(start):
    with pytest.raises(ValueError, match=r"2 of 20 questions cannot be used"):
        start(share=0.05)
    run = start(share=0.2)
    with pytest.raises(ValueError, match=r"(?s)5 of 20 questions .*2 image_unreadable.*line 3: image cut\.png"):
        run.step(16)


def test_a_set_to_be_measured_is_left_shorter(data, encoder, one_process, tmp_path):
    quarantine = Quarantine(tmp_path / "q.jsonl", "quarantine", 0.5)
    prompts = encode_usable(read(data)[:10], encoder, SYSTEM, quarantine=quarantine, parallel=one_process)
    # record 5 was never a question: ten questions are the records 1 to 11 without it, and 11 has no image
    assert [int(prompt.question.id) for prompt in prompts] == [1, 2, 4, 6, 7, 9, 10, 12]
    assert len(quarantine) == 2


def test_a_set_of_which_nothing_is_left_is_an_error(data, encoder, one_process):
    quarantine = Quarantine(None, "quarantine", 1.0)
    with pytest.raises(ValueError, match=r"none of 1 questions can be used; the first: line 3: image cut\.png"):
        encode_usable(read(data)[2:3], encoder, SYSTEM, quarantine=quarantine, parallel=one_process)


def test_what_another_rank_cannot_use_is_bad_here_too(data, encoder, one_process, monkeypatch):
    """As if rank 1 had lost the image of whatever question is drawn first."""
    lost = Problem(id="1", place="line 1", reason="image_missing", message="gone on rank 1")
    monkeypatch.setattr(prompt_source, "merge_over_world", lambda mine, parallel: {0: lost} | mine)
    quarantine = Quarantine(None, "quarantine", 0.5)
    prompts = encode_usable(read(data)[:2], encoder, SYSTEM, quarantine=quarantine, parallel=one_process)
    assert [prompt.question.id for prompt in prompts] == ["2"]
    assert len(quarantine) == 1


def test_ranks_that_see_different_images_draw_alike(untrained_model, tmp_path):
    roots = [tmp_path / "rank0", tmp_path / "rank1"]
    for root in roots:
        root.mkdir()
        for number in range(10):
            Image.effect_noise((112, 28), 80).convert("RGB").save(root / f"{number}.png")
    whole = (roots[1] / "5.png").read_bytes()
    (roots[1] / "5.png").write_bytes(whole[: len(whole) // 2])
    lines = [{"id": str(i), "question": "?", "image": f"{i}.png", "answer": "1"} for i in range(10)]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    arguments = [untrained_model, tmp_path / "q.jsonl", *roots, tmp_path / "quarantine.jsonl"]
    result = run_on_ranks(2, "tests/prompts_on_ranks.py", *map(str, arguments))
    assert result.returncode == 0, result.stderr[-3000:]

    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first["drawn"] == second["drawn"]
    assert all(len(set(step)) == 6 and "5" not in step for step in first["drawn"])
    (line,) = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert (line["id"], line["reason"]) == ("5", "image_unreadable")
    assert first["error"] == second["error"]
    assert "ranks read different questions (0 on rank 0, 1 on rank 1 cannot be used)" in first["error"]


def test_open_groups_go_on_in_the_next_step_and_every_prompt_trains_once_also_after_a_resume(start):
    """Questions take two steps, but for the first of a step, which ends in it as one always does."""
    config = load_config(
        DEFAULT_CONFIG, ["data.prompts_per_step=4", "rollout.finish_share=0.5", "rollout.group_size=2"]
    )
    score = Score(**dict.fromkeys(("total", *REWARD_PARTS), 0.0), first_correct=True, second_correct=True, reasons=())

    def sample(asked):
        """Begins what is new and ends what was begun."""
        asked_for.append([isinstance(one, Group) for one in asked])
        assert len({(one.prompt if isinstance(one, Group) else one).question.id for one in asked}) == 4
        groups = [one if isinstance(one, Group) else begin(one, 2) for one in asked]
        grown = [
            replace(g, completions=tuple(replace(c, token_ids=(*c.token_ids, 7)) for c in g.completions))
            for g in groups
        ]
        ends = [place == 0 or isinstance(one, Group) for place, one in enumerate(asked)]
        return [replace(g, scores=(score,) * 2 if end else ()) for g, end in zip(grown, ends, strict=True)]

    def steps(source, count):
        trained = []
        for _ in range(count):
            collected = collect_step(source, sample, config, PhaseTimer())
            trained.append([(int(g.prompt.question.id), g.completions[0].token_ids) for g in collected.groups])
            carried.append(collected.metrics["rollout/carried"])
        return trained

    asked_for, carried = [], []
    whole = steps(start().source, 40)
    assert max(carried) > 0
    assert all(len(asked) == 4 and asked == sorted(asked, reverse=True) for asked in asked_for)  # carried ones first
    assert {ids for step in whole for _, ids in step} == {(7,), (7, 7)}
    met = [number for step in whole for number, _ in step]
    assert len(set(met[:12])) == 12  # of 15 good questions none again before the epoch is nearly over

    first = start("first.jsonl").source
    assert steps(first, 2) == whole[:2]
    state = torch.load(io.BytesIO(saved(first.state_dict())), weights_only=False)
    second = start("second.jsonl").source
    second.load_state_dict(state)
    assert steps(second, 38) == whole[2:]


def saved(state) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()
