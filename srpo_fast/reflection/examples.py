r"""The SFT example of a reflected answer: first solution, reflection, second answer.

think_blocks 1, the published form: <think>..</think><answer>..</answer><reflection>..</reflection><answer>..</answer>
think_blocks 2, stage 2's form:     the same with the improved reasoning in a second think block before the last answer

The blocks stand as far apart as the two the policy wrote itself. The last answer is the ground truth, boxed (gold.py).
"""

import re
from dataclasses import dataclass
from typing import Literal

from srpo_fast.batch import Question
from srpo_fast.reflection.gold import GoldCheck, boxed_gold
from srpo_fast.reflection.leaks import cites_key, leaks
from srpo_fast.reflection.records import FirstAnswer, Reason, Reflection, Rejection, Step
from srpo_fast.responses import SINGLE_FORM, SRPO_FORM, Form, parse

ThinkBlocks = Literal[1, 2]

FORMS: dict[ThinkBlocks, Form] = {1: (*SINGLE_FORM, "reflection", "answer"), 2: SRPO_FORM}
REASONING_CITES_KEY = "reasoning_cites_key"  # beside leaks.Leak, which is about the reflection
_GAP = re.compile(r"</think>(\s*)<answer>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A record for the SFT file."""

    answer: FirstAnswer
    reflection: Reflection
    completion: str  # what the assistant says
    leaks: tuple[str, ...]  # how the reflection gives the answer away


def check_first_answer(answer: FirstAnswer) -> Rejection | None:
    """Why a first answer is no first solution; None when it is one."""
    if not answer.is_finished:
        return _rejection(answer, Step.ANSWER, Reason.CUT_OFF, "the answer reached reflection.max_tokens")
    response = parse(answer.text)
    if not response.has_form(SINGLE_FORM):
        return _rejection(answer, Step.ANSWER, Reason.BAD_FORM, ", ".join(response.faults(SINGLE_FORM)))
    return None


def example_of(
    answer: FirstAnswer,
    reflection: Reflection,
    check: GoldCheck,
    *,
    think_blocks: ThinkBlocks,
    on_leak: Literal["count", "refuse"],
) -> Example | Rejection:
    """The example, or why it would be a bad one."""
    text = _completion(answer, reflection, think_blocks)
    response, form = parse(text), FORMS[think_blocks]
    if not response.has_form(form):
        return _rejection(answer, Step.EXAMPLE, Reason.BAD_EXAMPLE, ", ".join(response.faults(form)))
    if not check.is_right(response.second_answer or "", answer.question, answer.gold):
        return _rejection(answer, Step.EXAMPLE, Reason.UNGRADABLE_GOLD, f"ground truth {answer.gold!r:.100}")
    found = _leaks(answer, reflection)
    if found and on_leak == "refuse":
        return _rejection(answer, Step.EXAMPLE, Reason.LEAK, ", ".join(found))
    return Example(answer=answer, reflection=reflection, completion=text, leaks=found)


def _leaks(answer: FirstAnswer, reflection: Reflection) -> tuple[str, ...]:
    first = parse(answer.text)
    question = Question(id=answer.id, text=answer.question, images=(), answer=answer.gold)  # its words are enough
    found = leaks(reflection.text, question, think=first.first_think or "", answer=first.first_answer or "")
    return (*found, *([REASONING_CITES_KEY] if cites_key(reflection.reasoning or "") else []))


def _completion(answer: FirstAnswer, reflection: Reflection, think_blocks: ThinkBlocks) -> str:
    gap = _GAP.search(answer.text)
    second = [f"<answer>{boxed_gold(answer.gold)}</answer>"]
    if think_blocks == 2:
        assert reflection.reasoning is not None, f"{reflection=}"
        second.insert(0, f"<think>{reflection.reasoning}</think>")
    blocks = [answer.text.strip(), f"<reflection>{reflection.text}</reflection>", *second]
    return (gap[1] if gap else "\n").join(blocks)


def _rejection(answer: FirstAnswer, step: Step, reason: Reason, detail: str) -> Rejection:
    return Rejection(id=answer.id, step=step, reason=reason, detail=detail, is_final=False)
