"""A run whose rewards teach nothing ends early, with a line that says why and what to do."""

import pytest

from srpo_fast.batch import Completion, Group, Score
from srpo_fast.config import RewardConfig
from srpo_fast.rewards.watch import RewardAlarm, RewardWatch
from tests.prompt_case import bare_prompt

COMPLETION = Completion(token_ids=(1,), rollout_logprobs=(-1.0,), text="", is_finished=True, policy_version=0)
PROMPT = bare_prompt("q")


def score(total: float = 0.0, *reasons: str, failure: str | None = None) -> Score:
    return Score(
        total=total, format=total, accuracy=0.0, effectiveness=0.0, reflection_format=0.0, length=0.0,
        first_correct=False, second_correct=False, reasons=reasons, failure=failure,
    )  # fmt: skip


def groups(*scores: Score) -> list[Group]:
    """Groups of two."""
    return [
        Group(prompt=PROMPT, completions=(COMPLETION,) * 2, scores=scores[place : place + 2])
        for place in range(0, len(scores), 2)
    ]


FLAT = groups(*[score(0.5, "first_wrong")] * 4)
VARIED = groups(score(0.5), score(0.5), score(0.75), score(0.5))


@pytest.fixture
def notes() -> list[str]:
    return []


def watch(notes: list[str], **settings: float | None) -> RewardWatch:
    return RewardWatch(RewardConfig.model_validate(settings), notes.append)


def test_the_third_step_of_equal_rewards_is_one_too_many(notes):
    ours = watch(notes)
    ours.look(7, FLAT)
    ours.look(8, FLAT)
    with pytest.raises(RewardAlarm) as alarm:
        ours.look(9, FLAT)
    message = str(alarm.value)
    assert "every completion of steps 7 to 9 earned the same reward, 0.5 (first_wrong 4)" in message
    assert "completions/step_*.jsonl" in message
    assert "reward.max_flat_steps" in message
    assert "\n" not in message
    assert notes == []


def test_one_different_reward_starts_the_count_again(notes):
    ours = watch(notes)
    for step, sampled in enumerate([FLAT, FLAT, VARIED, FLAT, FLAT]):
        ours.look(step, sampled)
    assert ours.flat_steps == 2


def test_groups_that_differ_from_one_another_only_are_not_flat(notes):
    ours = watch(notes, max_flat_steps=1)
    ours.look(0, groups(score(0.5), score(0.5), score(1.0), score(1.0)))
    assert ours.flat_steps == 0


def test_the_count_goes_on_after_a_resume(notes):
    before, after = watch(notes), watch(notes)
    before.look(0, FLAT)
    before.look(1, FLAT)
    after.load_state_dict(before.state_dict())
    with pytest.raises(RewardAlarm, match="steps 0 to 2"):
        after.look(2, FLAT)


def test_flat_steps_may_be_allowed(notes):
    ours = watch(notes, max_flat_steps=None)
    for step in range(10):
        ours.look(step, FLAT)
    assert ours.flat_steps == 10


def failing(number: int, total: int = 100) -> list[Group]:
    bad = score(0.0, "grading_timeout", failure="comparing 'x' with the gold 'y': not done after 5 s")
    return groups(*[bad] * number, *[score(place / 100) for place in range(total - number)])


def test_errors_up_to_the_share_are_told_of_once(notes):
    ours = watch(notes)
    for step in range(3):
        ours.look(step, failing(2))
    (note,) = notes
    assert "comparing 'x' with the gold 'y': not done after 5 s" in note


def test_more_errors_end_the_run(notes):
    with pytest.raises(RewardAlarm) as alarm:
        watch(notes).look(12, failing(3))
    message = str(alarm.value)
    assert "3 of the 100 completions of step 12 could not be graded (grading_timeout 3)" in message
    assert "reward.max_error_share=0.02" in message
    assert "comparing 'x' with the gold 'y': not done after 5 s" in message
    assert "completions/step_000012.jsonl" in message
    assert "\n" not in message


def test_the_share_of_errors_is_a_setting(notes):
    watch(notes, max_error_share=0.5).look(0, failing(50))
    with pytest.raises(RewardAlarm):
        watch(notes, max_error_share=0.0).look(0, failing(1))


def test_golds_that_cannot_be_parsed_are_told_of_once_and_end_nothing(notes):
    ours = watch(notes)
    few = groups(*[score(0.5, "unparsable_gold")] * 2, *[score(place / 100) for place in range(98)])
    many = groups(*[score(0.5, "unparsable_gold")] * 30, *[score(place / 100) for place in range(70)])
    for step, sampled in enumerate([few, many, many]):
        ours.look(step, sampled)
    (note,) = notes
    assert "30 of 100 completions answer a question whose gold cannot be parsed" in note
