"""First answers of the policy: rounds, what cannot be asked, and a start that goes on from a journal."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from srpo_fast.batch import Completion, Group, Prompt, Score
from srpo_fast.config import DEFAULT_CONFIG, load_config
from srpo_fast.embedded.task import load_samples
from srpo_fast.formats.sft import read_sft
from srpo_fast.parallel import Parallel
from srpo_fast.prompts import PromptEncoder
from srpo_fast.reflection.policy_answers import PolicyAnswerer, examples_of_policy
from srpo_fast.reflection.records import FirstAnswer, Rejection
from srpo_fast.rollout import Sampling
from tests.test_reflection_stage import Quiet

ALONE = Parallel(rank=0, world=1, tp=1, pp=1, device=torch.device("cpu"))
SCORE = Score(
    total=0, format=0, accuracy=0, effectiveness=0, reflection_format=0, length=0, first_correct=True,
    second_correct=True, reasons=(),
)  # fmt: skip


class Sampled:
    """In the engine's place: the right reading of every picture; it breaks off after some rounds."""

    def __init__(self, rounds: int = 99) -> None:
        self.rounds, self.asked, self.samplings = rounds, [], set()
        self._digits = {s.question.id: "".join(map(str, s.digits)) for s in load_samples("train", 40, 0)}

    def __call__(self, prompts: list[Prompt], sampling: Sampling, *, progress) -> list[Group]:
        if len(self.asked) == self.rounds:
            raise KeyboardInterrupt
        self.asked.append([prompt.question.id for prompt in prompts])
        self.samplings.add(sampling)
        progress(len(prompts))
        return [self._group(prompt) for prompt in prompts]

    def _group(self, prompt: Prompt) -> Group:
        question = prompt.question
        text = f"<think>{self._digits[question.id]}</think><answer>$\\boxed{{{question.answer}}}$</answer>"
        completion = Completion(
            token_ids=(1, 2, 3), rollout_logprobs=(-1.0,) * 3, text=text, is_finished=True, policy_version=0
        )
        return Group(prompt=prompt, completions=(completion,), scores=(SCORE,))


@pytest.fixture(scope="module")
def encoder(untrained_model: Path) -> PromptEncoder:
    return PromptEncoder.from_pretrained(untrained_model, max_prompt_tokens=64)


def config_in(folder: Path):
    overrides = ["reflection.prompts=40", "rollout.max_num_seqs=2", f"run.dir={folder / 'run'}"]
    return load_config(DEFAULT_CONFIG, overrides)


def test_questions_are_sampled_in_rounds_and_those_that_are_too_long_left_out(encoder, tmp_path):
    questions = [sample.question for sample in load_samples("train", 20, 0)]
    questions[3] = replace(questions[3], text=questions[3].text + " and" * 90)
    broken = Rejection(id="broken", step="pool", reason="image_unreadable", detail="half of it")
    sample, done = Sampled(), []
    policy = PolicyAnswerer(config_in(tmp_path), encoder, sample, ALONE)
    results = list(policy.answers(iter([*questions, broken]), done.append))
    assert [len(members) for members in sample.asked] == [15, 4]  # 8 rounds of 2 sequences
    assert sum(done) == len(results) == 21
    by_id = {result.id: result for result in results}
    assert by_id["broken"] == broken
    assert by_id["train-3"].reason == "prompt_too_long"
    first = by_id["train-0"]
    assert isinstance(first, FirstAnswer)
    assert first.gold == questions[0].answer
    assert first.image_files == [None]
    assert (first.prompt_tokens, first.completion_tokens) == (len(encoder.encode(questions[0], "answer").token_ids), 3)
    (sampling,) = sample.samplings
    assert (sampling.samples, sampling.max_tokens, sampling.stream) == (1, 32, (0, "stage 1"))


def test_a_run_that_was_killed_among_its_answers_asks_the_policy_for_the_others_only(encoder, tmp_path):
    config, killed, again, calm = config_in(tmp_path / "a"), Sampled(rounds=1), Sampled(), Sampled()
    with pytest.raises(KeyboardInterrupt):
        examples_of_policy(config, encoder, killed, ALONE, Quiet())
    found = read_sft(examples_of_policy(config, encoder, again, ALONE, Quiet()))
    assert [len(members) for members in killed.asked + again.asked] == [16, 16, 8]
    assert len({name for members in killed.asked + again.asked for name in members}) == 40
    expected = read_sft(examples_of_policy(config_in(tmp_path / "b"), encoder, calm, ALONE, Quiet()))
    assert found == expected
    assert len(found) == 40
    assert examples_of_policy(config, encoder, Sampled(rounds=0), ALONE, Quiet()).is_file()  # nothing is left to ask
