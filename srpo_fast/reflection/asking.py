"""What models are asked in stage 1, in words: the policy for first answers, a judge for their quality, a teacher."""

import re
from typing import Any

from srpo_fast.batch import Question
from srpo_fast.chat.model import ChatRequest
from srpo_fast.image_marks import IMAGE_MARK

JUDGE_SYSTEM = "You review how problems are reasoned about. You reply in JSON."
_JUDGE = """Below are a problem and somebody's reasoning about it. Rate the reasoning as a piece of work:

- Does each step follow from what came before it?
- Does it describe what the image really shows, where there is one, and use that?
- Does it work on the question that was asked, and get as far as an answer?

Do not rate whether the result is right: honest, connected reasoning with a slip in it is good; a lucky guess is not.

Scores:
1: no reasoning, or none about this problem
2: disconnected, or mostly about things that are not there
3: it can be followed, with gaps or unfounded claims
4: sound in the main, with small gaps
5: complete, connected and grounded

Give the score and, in one sentence, the reason for it."""

TEACHER_SYSTEM = "You teach problem solving by constructive criticism. You reply in JSON."
_TEACHER = """Below are a problem, a student's first attempt at it and, for your eyes only, its solution key. Write the
reflection that the student should have had on reading this attempt again. It is put after the attempt as the student's
own thought, and a better attempt will follow from it.

In the reflection:
- say which steps are wrong or contradict each other, and why;
- say what was assumed without grounds, overlooked in the problem or in the image, or left unchecked;
- say which right steps are hard to follow or need a better foundation;
- say what to do differently: which quantity to read again, which relation to use, which case to check;
- where the attempt is right, confirm that with a check and say what can be left out: a reflection on a good attempt is
  short, and a shorter way to the same end is an improvement.

Be specific about this attempt. Speak of "the reasoning" and "the answer above".
The student does not have the key. So never write, quote or paraphrase the final answer unless the attempt already
arrived at it, never name the right option, and never let on that a key, a reference or a known answer exists: every
criticism has to rest on the problem, the image and the attempt alone. Use no tags."""
_IMPROVED = """

Write the improved reasoning as well: the student's second attempt from start to end, which heeds the reflection, is no
longer than it has to be, and arrives by its own steps at the result of the key. It must read as if nothing but the
problem and the reflection were known."""

_MARKUP = re.compile(r"<(/?(?:think|answer|reflection|image|video)\s*|\|[^<>|]*\|)>", re.IGNORECASE)


def _schema(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# an enumeration, because not every server understands minimum and maximum
VERDICT_SCHEMA = _schema(score={"type": "integer", "enum": [1, 2, 3, 4, 5]}, reason={"type": "string"})
REFLECTION_SCHEMA = _schema(reflection={"type": "string"})
IMPROVEMENT_SCHEMA = _schema(reflection={"type": "string"}, improved_reasoning={"type": "string"})


def first_answer_request(question: Question, system: str) -> ChatRequest:
    """Asks the question alone. system: asks for one think block and one answer block."""
    return _request(question, system, _question_text(question), None)


def verdict_request(question: Question, *, think: str, answer: str) -> ChatRequest:
    """Asks how good the reasoning is, right or wrong: a score from 1 to 5 and the reason (VERDICT_SCHEMA)."""
    text = _sections(_JUDGE, question, ("Reasoning", think), ("Answer it arrives at", answer))
    return _request(question, JUDGE_SYSTEM, text, VERDICT_SCHEMA)


def reflection_request(question: Question, *, think: str, answer: str) -> ChatRequest:
    """Asks for a reflection on the first attempt, the ground truth in hand (REFLECTION_SCHEMA)."""
    return _teacher_request(_TEACHER, question, think, answer, REFLECTION_SCHEMA)


def improvement_request(question: Question, *, think: str, answer: str) -> ChatRequest:
    """Asks for the reflection and for the second reasoning (IMPROVEMENT_SCHEMA)."""
    return _teacher_request(_TEACHER + _IMPROVED, question, think, answer, IMPROVEMENT_SCHEMA)


def neutral(text: str) -> str:
    """The text with our tags, image marks and control tokens in square brackets: they say the same and do nothing."""
    return _MARKUP.sub(r"[\1]", text)


def _teacher_request(task: str, question: Question, think: str, answer: str, schema: dict[str, Any]) -> ChatRequest:
    text = _sections(
        task, question, ("Reasoning of the attempt", think), ("Answer of the attempt", answer),
        ("Solution key, which must stay secret", question.answer),
    )  # fmt: skip
    return _request(question, TEACHER_SYSTEM, text, schema)


def _request(question: Question, system: str, text: str, schema: dict[str, Any] | None) -> ChatRequest:
    descriptions = tuple(each and neutral(each) for each in question.descriptions)
    return ChatRequest(
        key=question.id, system=system, text=text, images=question.images, descriptions=descriptions, schema=schema
    )


def _sections(task: str, question: Question, *sections: tuple[str, str]) -> str:
    parts = [("Problem", _question_text(question)), *((title, neutral(text)) for title, text in sections)]
    return "\n\n".join([task, *(f"# {title}\n{text.strip() or '(nothing)'}" for title, text in parts)])


def _question_text(question: Question) -> str:
    """The question with its image marks, and no other markup."""
    return IMAGE_MARK.join(neutral(text) for text in question.text.split(IMAGE_MARK))
