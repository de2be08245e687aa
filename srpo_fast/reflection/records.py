"""From questions to reflection records (paper 3.1): answers of the policy, reflections of the teacher, the mix kept."""

import random
from collections.abc import Sequence

from srpo_fast.batch import Group
from srpo_fast.reflection.teacher import ReflectionRecord, Teacher


def reflect_on(groups: Sequence[Group], teacher: Teacher) -> list[ReflectionRecord]:
    """One record a finished first answer the teacher has a reflection for. `groups` hold one completion each."""
    records = []
    for group in groups:
        completion, score = group.completions[0], group.scores[0]
        if not completion.is_finished:
            continue
        question = group.prompt.question
        if reflection := teacher.reflect(question, completion.text):
            records.append(
                ReflectionRecord(
                    question=question,
                    first=completion.text,
                    reflection=reflection.text,
                    second=reflection.second,
                    first_correct=score.first_correct,
                )
            )
    return records


def balance(records: Sequence[ReflectionRecord], right_share: float | None, seed: int) -> list[ReflectionRecord]:
    """Shuffled records of which `right_share` have a right first answer; as many as there can be. None: all of them."""
    shuffled = random.Random(seed).sample(records, len(records))
    if right_share is None:
        return shuffled
    right = [r for r in shuffled if r.first_correct]
    wrong = [r for r in shuffled if not r.first_correct]
    total = len(shuffled)
    if right_share > 0:
        total = min(total, int(len(right) / right_share))
    if right_share < 1:
        total = min(total, int(len(wrong) / (1 - right_share)))
    kept_right = round(total * right_share)
    kept = right[:kept_right] + wrong[: total - kept_right]
    return random.Random(seed).sample(kept, len(kept))
