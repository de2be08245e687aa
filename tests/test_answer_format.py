"""What a completion is asked to look like decides how it is scored."""

from pathlib import Path

import pytest

from srpo_fast.answer_format import AnswerFormat, one_answer_format, rollout_format
from srpo_fast.batch import Completion, Question, Score
from srpo_fast.config import DEFAULT_CONFIG, RewardConfig, load_config
from srpo_fast.grading.grader import Grader
from srpo_fast.prompts import PromptEncoder

GRADER = Grader(RewardConfig())
FIRST = "<think>1234</think><answer>$\\boxed{9}$</answer>"
REFLECTED = f"{FIRST}<reflection>answer wrong</reflection><think>1234;3,6,10</think><answer>$\\boxed{{10}}$</answer>"


@pytest.fixture(scope="module")
def encoder(untrained_model: Path) -> PromptEncoder:
    return PromptEncoder.from_pretrained(untrained_model, max_prompt_tokens=64)


def score(answer_format: AnswerFormat, encoder: PromptEncoder, text: str, *, ends: bool = True) -> Score:
    question = Question(id="q", text="What is the sum?", images=(), answer="10")
    ids = (*encoder.token_ids(text), *([encoder.eos_token_id] if ends else []))
    completion = Completion(
        token_ids=ids, rollout_logprobs=(-1.0,) * len(ids), text=text, is_finished=ends, policy_version=0
    )
    prompt = encoder.encode(question, answer_format.system_prompt)
    ((scored,),) = answer_format.score([(prompt, [completion])])
    return scored


def test_stage_1_asks_for_one_answer_and_scores_it(encoder):
    one = one_answer_format(load_config(DEFAULT_CONFIG, []), encoder, GRADER)
    assert one.num_answers == 1
    assert one.system_prompt == "answer"
    assert not score(one, encoder, FIRST).first_correct
    assert score(one, encoder, FIRST.replace("9", "10")).first_correct


def test_stage_2_asks_for_two_answers_and_rewards_the_repair(encoder):
    two = rollout_format(load_config(DEFAULT_CONFIG, []), encoder, GRADER)
    assert two.num_answers == 2
    assert two.system_prompt == "reflect"
    scored = score(two, encoder, REFLECTED)
    assert (scored.first_correct, scored.second_correct) == (False, True)
    assert scored.effectiveness == 0.5


def test_the_grpo_control_asks_for_one_answer_in_stage_2_as_well(encoder):
    config = load_config(DEFAULT_CONFIG.with_name("embedded_grpo.yaml"), [])
    assert rollout_format(config, encoder, GRADER).num_answers == 1


def test_the_end_of_turn_is_no_part_of_the_length(encoder):
    two = rollout_format(load_config(DEFAULT_CONFIG, []), encoder, GRADER)
    assert score(two, encoder, REFLECTED).length == score(two, encoder, REFLECTED, ends=False).length > 0
