"""Stage 1: answers become records of the wanted mix, records become training sequences, sequences become updates."""

from dataclasses import replace
from pathlib import Path

import pytest

from srpo_fast.batch import Completion, Group, Question, Score
from srpo_fast.config import ColdStartConfig, OptimizerConfig, UserError
from srpo_fast.embedded.task import SYSTEM_REFLECT, load_samples
from srpo_fast.embedded.teacher import EmbeddedTeacher, Reflection
from srpo_fast.prompts import PromptEncoder
from srpo_fast.reflection.cold_start import num_updates, run_cold_start, training_sequence
from srpo_fast.reflection.records import balance, reflect_on
from srpo_fast.reflection.teacher import ReflectionRecord
from tests.policy_case import open_policy, packer

SAMPLES = load_samples("train", 6, 0)


@pytest.fixture(scope="module")
def encoder(untrained_model: Path) -> PromptEncoder:
    return PromptEncoder.from_pretrained(untrained_model, max_prompt_tokens=64)


def make_group(encoder: PromptEncoder, question: Question, text: str, *, right: bool, finished: bool = True) -> Group:
    score = Score(
        total=0, format=0, accuracy=0, effectiveness=0, reflection_format=0, length=0, first_correct=right,
        second_correct=right, reasons=(),
    )  # fmt: skip
    completion = Completion(
        token_ids=(1, 2), rollout_logprobs=(-1.0, -1.0), text=text, is_finished=finished, policy_version=0
    )
    return Group(prompt=encoder.encode(question, SYSTEM_REFLECT), completions=(completion,), scores=(score,))


def make_record(number: int, *, right: bool) -> ReflectionRecord:
    return ReflectionRecord(
        question=replace(SAMPLES[0].question, id=str(number)),
        first="<think>1</think><answer>2</answer>",
        reflection="ok",
        second="<think>3</think><answer>4</answer>",
        first_correct=right,
    )


def test_a_record_holds_the_answer_the_judgement_and_the_solution(encoder):
    class Teacher:
        def reflect(self, question: Question, first: str) -> Reflection | None:
            return Reflection(text=f"on {question.id}: {first}", second="<think>b</think><answer>9</answer>")

    question = SAMPLES[0].question
    (record,) = reflect_on([make_group(encoder, question, "<think>a</think><answer>8</answer>", right=True)], Teacher())
    assert record.question is question
    assert record.first_correct
    assert record.completion == (
        f"<think>a</think><answer>8</answer><reflection>on {question.id}: <think>a</think><answer>8</answer>"
        "</reflection><think>b</think><answer>9</answer>"
    )


def test_unfinished_answers_and_those_without_a_reflection_make_no_record(encoder):
    digits = "".join(map(str, SAMPLES[0].digits))
    proper = f"<think>{digits}</think><answer>$\\boxed{{{SAMPLES[0].question.answer}}}$</answer>"
    groups = [
        make_group(encoder, SAMPLES[0].question, proper, right=True, finished=False),
        make_group(encoder, SAMPLES[1].question, "no form at all", right=False),
        make_group(encoder, SAMPLES[0].question, proper, right=True),
    ]
    (record,) = reflect_on(groups, EmbeddedTeacher(SAMPLES))
    assert record.first == proper
    assert record.reflection == "ok"


@pytest.mark.parametrize(
    ("right", "wrong", "share", "expected"),
    [
        (30, 70, 0.3, (30, 70)),
        (50, 70, 0.3, (30, 70)),  # wrong ones are scarce
        (10, 90, 0.3, (10, 23)),  # right ones are scarce
        (10, 90, 0.0, (0, 90)),
        (10, 90, 1.0, (10, 0)),
        (10, 90, None, (10, 90)),
        (0, 5, 0.5, (0, 0)),
    ],
)
def test_the_mix_has_the_wanted_share_and_is_as_large_as_it_can_be(right, wrong, share, expected):
    records = [make_record(i, right=i < right) for i in range(right + wrong)]
    kept = balance(records, share, seed=0)
    assert (sum(r.first_correct for r in kept), sum(not r.first_correct for r in kept)) == expected
    assert len({r.question.id for r in kept}) == len(kept)


def test_the_mix_is_shuffled_by_the_seed_alone():
    records = [make_record(i, right=i < 20) for i in range(40)]
    order = [r.question.id for r in balance(records, 0.5, seed=1)]
    assert order == [r.question.id for r in balance(records, 0.5, seed=1)]
    assert order != [r.question.id for r in balance(records, 0.5, seed=2)]
    assert order != sorted(order, key=int)


def test_the_loss_covers_the_whole_completion_and_its_end(encoder):
    record = make_record(0, right=True)
    sequence = training_sequence(record, encoder, SYSTEM_REFLECT, ColdStartConfig())
    assert encoder.decode(sequence.completion_ids) == record.completion
    assert sequence.completion_ids[-1] == encoder.eos_token_id
    assert sequence.loss_mask == (True,) * len(sequence.completion_ids)
    assert len(sequence.rollout_logprobs) == len(sequence.completion_ids)
    assert sequence.prompt.token_ids.tolist() == encoder.encode(record.question, SYSTEM_REFLECT).token_ids.tolist()


@pytest.mark.parametrize(("policy", "right", "learned"), [("always", False, True), ("when_right", True, True),
                                                          ("when_right", False, False)])  # fmt: skip
def test_a_wrong_first_answer_can_be_left_out_of_the_loss(encoder, policy, right, learned):
    record = make_record(0, right=right)
    sequence = training_sequence(record, encoder, SYSTEM_REFLECT, ColdStartConfig(first_answer_loss=policy))
    first = len(encoder.token_ids(record.first))
    assert sequence.loss_mask[:first] == (learned,) * first
    assert all(sequence.loss_mask[first:])
    assert encoder.decode(sequence.completion_ids[:first]) == record.first


@pytest.mark.parametrize(
    ("records", "epochs", "batch_size", "expected"),
    [(64, 1.0, 16, 4), (65, 1.0, 16, 5), (64, 0.5, 16, 2), (3, 1, 16, 1)],
)
def test_the_number_of_updates(records, epochs, batch_size, expected):
    assert num_updates(records, ColdStartConfig(epochs=epochs, batch_size=batch_size)) == expected


def test_the_cold_start_learns_the_records_in_as_many_updates_as_announced(encoder, untrained_model, one_process):
    settings = ColdStartConfig(epochs=8, batch_size=2, lr=5e-3, warmup_share=0.0)
    sequences = [training_sequence(make_record(i, right=True), encoder, SYSTEM_REFLECT, settings) for i in range(3)]
    policy = open_policy(untrained_model, one_process)
    losses: list[float] = []
    run_cold_start(
        policy, sequences, packer(untrained_model, one_process, 512), settings, OptimizerConfig(),
        lambda loss: losses.append(loss),
    )  # fmt: skip
    assert len(losses) == policy.version == num_updates(3, settings) == 12
    assert losses[0] > 5.5  # every token alike
    assert losses[-1] < 1.0


def test_a_cold_start_without_records_is_a_clear_error(untrained_model, one_process):
    policy, pack = open_policy(untrained_model, one_process), packer(untrained_model, one_process, 512)
    with pytest.raises(UserError, match=r"has no records.*raise reflection\.prompts"):
        run_cold_start(policy, [], pack, ColdStartConfig(), OptimizerConfig(), lambda loss: None)
