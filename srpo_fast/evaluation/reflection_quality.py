"""What reflections are worth: by the two answers alone, and, if a judge is asked, by what they say."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from srpo_fast.chat.replies import Setback, read_fields
from srpo_fast.evaluation.judging import Judge
from srpo_fast.evaluation.marked_items import Marked
from srpo_fast.evaluation.totals import Totals, has_two_answers, transitions_of

DIMENSIONS = {  # the paper's four (appendix B.1), each from 0 to 5
    "logic": "it finds the flaws and contradictions in the reasoning, or rightly confirms that there are none",
    "assumptions": "it finds what was assumed without grounds or left out, in the problem or in the image",
    "clarity": "it is clear, specific about this attempt, and no longer than it has to be",
    "suggestions": "what it suggests can be acted on and leads towards a better solution",
}
_SYSTEM = "You review how people reflect on their own solutions of problems. You reply in JSON."
_TASK = (
    "Below are a problem, its true answer, a first attempt, and the reflection that followed. Rate the reflection, not "
    "the attempt, with a whole number from 0 (worthless or misleading) to 5 (excellent) in each of four dimensions:"
)
_SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "integer", "enum": [0, 1, 2, 3, 4, 5]} for name in DIMENSIONS},
    "required": list(DIMENSIONS),
    "additionalProperties": False,
}
_LONGEST = 20_000  # characters of a section


def quality_of(marked: Sequence[Marked]) -> Totals:
    """Shares of the responses with two answers and a reflection between them.

    As equation 8 pays: effective is a reflection after which the answer is right, redundant one that leaves it wrong,
    detrimental one that breaks it. length_ratio: characters of all that follows the first answer over those up to it.
    """
    reflected = reflections_in(marked)
    counts = transitions_of(reflected)
    total = len(reflected)
    ratios = [s.rest_length / s.first_length for each in reflected if (s := each.solutions) and s.first_length]
    return {
        "reflections": total,
        "effective": (counts["wr"] + counts["rr"]) / total if total else None,
        "redundant": counts["ww"] / total if total else None,
        "detrimental": counts["rw"] / total if total else None,
        "fix_rate": counts["fix_rate"],
        "length_ratio": sum(ratios) / len(ratios) if ratios else None,
    }


def reflections_in(marked: Sequence[Marked]) -> list[Marked]:
    return [each for each in marked if has_two_answers(each) and each.solutions and each.solutions.reflection]


def judge_reflections(marked: Sequence[Marked], count: int, judge: Judge, advance: Callable[[int], object]) -> Totals:
    """Mean scores of `count` reflections, drawn alike for the same items."""
    reflected = reflections_in(marked)
    drawn = random.Random(0).sample(reflected, min(count, len(reflected)))
    requests = [judge.request(_SYSTEM, _question(each), _SCHEMA) for each in drawn]
    replies = judge.replies(requests, advance)
    scores: list[dict[str, Any]] = []
    for request in requests:
        fields = read_fields(replies.get(request.key, ""), _SCHEMA)
        if not isinstance(fields, Setback):
            scores.append(fields)
    means = {name: sum(int(each[name]) for each in scores) / len(scores) for name in DIMENSIONS} if scores else {}
    overall = {"mean": sum(means.values()) / len(means)} if means else {}
    return {"asked": len(drawn), "scored": len(scores), **means, **overall}


def _question(each: Marked) -> str:
    assert each.solutions is not None
    assert each.response is not None
    first, _, _ = each.response.partition("<reflection>")
    sections = {
        "Problem": each.item.prompt,
        "True answer": ", ".join(each.item.gold),
        "First attempt": first,
        "Reflection": each.solutions.reflection or "",
    }
    task = "\n".join([_TASK, *(f"- {name}: {meaning}" for name, meaning in DIMENSIONS.items())])
    return "\n\n".join([task, *(f"# {title}\n{text.strip()[:_LONGEST]}" for title, text in sections.items())])
