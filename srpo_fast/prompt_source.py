"""Prompts from questions: those that cannot be used go to the quarantine and, where a step needs its number, others
take their places, the same on every rank and after every resume.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from srpo_fast.bad_record import BadRecord, Problem
from srpo_fast.batch import Completion, Group, Prompt, Question
from srpo_fast.config import UserError
from srpo_fast.dataset import QuestionFile
from srpo_fast.expected_lengths import ExpectedLengths
from srpo_fast.parallel import Parallel, merge_over_world
from srpo_fast.prompts import PromptEncoder
from srpo_fast.quarantine import Quarantine
from srpo_fast.sampler import PromptSampler


class PromptSource:
    """The training prompts, drawn step by step. Every rank draws alike: `draw` is a collective.

    A question is bad for all ranks when one of them cannot use it; what takes its place is simply the next of the
    sampler's stream, so it does not matter whether it was known before.
    """

    def __init__(
        self, questions: Sequence[Question], encoder: PromptEncoder, system_prompt: str, *, per_step: int, seed: int,
        quarantine: Quarantine, parallel: Parallel,
    ) -> None:  # fmt: skip
        """per_step: the fewest prompts a step needs. Raises UserError when there are not so many questions."""
        if per_step > len(questions):
            raise UserError(
                f"expected at least as many questions as prompts in a step, got {len(questions)} questions for "
                f"{per_step} prompts; lower data.prompts_per_step or add questions"
            )
        self._questions, self._encoder, self._system_prompt = questions, encoder, system_prompt
        self._quarantine, self._parallel = quarantine, parallel
        self._sampler = PromptSampler(len(questions), seed)
        self._in_step: set[int] = set()
        self._carried: dict[int, Group] = {}  # open groups that the next step goes on with, by their questions
        self._index_of: dict[str, int] = {}  # of the step's prompts
        self._bad: dict[int, Problem] = {}
        self.lengths = ExpectedLengths()

    def start_step(self) -> None:
        """From here on every question may be drawn once, whatever was drawn before; carried ones are in the step."""
        self._in_step = set(self._carried)
        self._index_of = {group.prompt.question.id: index for index, group in self._carried.items()}

    def carry(self, groups: Sequence[Group]) -> None:
        """Keeps the step's open groups for the next one, and in checkpoints."""
        self._carried = {self._index_of[group.prompt.question.id]: group for group in groups}

    def take_carried(self) -> list[Group]:
        """The groups that the step before left open, once."""
        carried, self._carried = list(self._carried.values()), {}
        return carried

    def draw(self, count: int) -> list[Prompt]:
        """`count` prompts of different questions, none drawn before in this step.

        Raises UserError when so many are not left, or too many cannot be used.
        """
        prompts: list[Prompt] = []
        while len(prompts) < count:
            indices = self._sampler.take(count - len(prompts), self._in_step, self._bad.keys())
            self._in_step.update(indices)
            encoded, problems = _encode(self._questions, indices, self._encoder, self._system_prompt, self._parallel)
            self._bad |= problems
            self._quarantine.add(self._questions, problems.values())
            prompts += [encoded[index] for index in indices if index in encoded]
            self._index_of |= {prompt.question.id: index for index, prompt in encoded.items()}
        return prompts

    @property
    def left_in_step(self) -> int:
        """How many questions `draw` can still give before the next `start_step`, as far as known."""
        return len(self._questions) - len(self._in_step | self._bad.keys())

    def state_dict(self) -> dict[str, Any]:
        """Between two steps."""
        bad = [(index, asdict(problem)) for index, problem in self._bad.items()]
        carried = [(index, [asdict(c) for c in group.completions]) for index, group in self._carried.items()]
        lengths = self.lengths.state_dict()
        return {"sampler": self._sampler.state_dict(), "bad": bad, "carried": carried, "lengths": lengths}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sampler.load_state_dict(state["sampler"])
        self._in_step = set()
        self._bad = {index: Problem(**problem) for index, problem in state["bad"]}
        self._quarantine.add(self._questions, self._bad.values())
        self._carried = self._reopened(dict(state["carried"]))
        self.lengths.load_state_dict(state["lengths"])

    def _reopened(self, carried: dict[int, list[dict[str, Any]]]) -> dict[int, Group]:
        """A collective. Raises UserError when a question can no longer be used."""
        encoded, problems = _encode(self._questions, list(carried), self._encoder, self._system_prompt, self._parallel)
        if problems:
            raise UserError(
                "the checkpoint holds the begun completions of a question that cannot be used any more: "
                f"{next(iter(problems.values())).message}; bring the data back as it was"
            )
        return {
            index: Group(prompt=encoded[index], completions=tuple(Completion(**c) for c in completions), scores=())
            for index, completions in carried.items()
        }


def encode_usable(
    questions: Sequence[Question], encoder: PromptEncoder, system_prompt: str, *, quarantine: Quarantine,
    parallel: Parallel,
) -> list[Prompt]:  # fmt: skip
    """The prompts of `questions` in order, without those that cannot be used. A collective."""
    encoded, problems = _encode(questions, range(len(questions)), encoder, system_prompt, parallel)
    quarantine.add(questions, problems.values())
    if questions and not encoded:
        raise UserError(f"none of {len(questions)} questions can be used; the first: {next(iter(problems.values()))}")
    return list(encoded.values())


def _encode(
    questions: Sequence[Question], indices: Sequence[int], encoder: PromptEncoder, system_prompt: str,
    parallel: Parallel,
) -> tuple[dict[int, Prompt], dict[int, Problem]]:  # fmt: skip
    """Prompts and problems by index. Every rank encodes every prompt: cheaper than sending tokens and pixels around."""
    encoded: dict[int, Prompt] = {}
    problems: dict[int, Problem] = {}
    for index in indices:
        try:
            encoded[index] = encoder.encode(questions[index], system_prompt)
        except BadRecord as error:
            is_file = isinstance(questions, QuestionFile)
            name = questions.id(index) if is_file else questions[index].id
            problems[index] = error.at(name, questions.place(index) if is_file else name)
    problems = merge_over_world(problems, parallel)
    return {index: prompt for index, prompt in encoded.items() if index not in problems}, problems
