"""What the marks of a benchmark add up to."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from srpo_fast.evaluation.benchmark import Benchmark, Mark
from srpo_fast.evaluation.intervals import wilson
from srpo_fast.evaluation.marked_items import Marked
from srpo_fast.evaluation.solutions import Protocol

Totals = dict[str, Any]
TRANSITIONS = (("wr", False, True), ("rr", True, True), ("rw", True, False), ("ww", False, False))


def totals_of(benchmark: Benchmark, marked: Sequence[Marked], protocol: Protocol) -> Totals:
    """The figures of a whole run; undecided answers count as wrong, and `bound` is what they could add."""
    return {
        "items": len(marked),
        "headline": "first" if protocol == "published" else "last",
        "first": _accuracy([each.first for each in marked]),
        "last": _accuracy([each.last for each in marked]),
        "second": _second(marked),
        "responses": {
            "missing": sum(each.solutions is None for each in marked),
            "without_blocks": _with_answers(marked, lambda number: number == 0),
            "one_answer": _with_answers(marked, lambda number: number == 1),
            "two_answers": _with_answers(marked, lambda number: number > 1),
        },
        "transitions": transitions_of(marked),
        "judged": {
            "first": _share_of(each.first.rule.startswith("judge") for each in marked),
            "last": _share_of(each.last.rule.startswith("judge") for each in marked),
        },
        "decided_by": {
            "first": _deciders([each.first for each in marked]),
            "last": _deciders([each.last for each in marked]),
        },
        "by_tag": _by_tag(marked),
        "figures": {
            "first": _figures(benchmark, [(each, each.first) for each in marked]),
            "last": _figures(benchmark, [(each, each.last) for each in marked]),
        },
    }


def transitions_of(marked: Iterable[Marked]) -> Totals:
    """From the first to the last answer, where a response has two; shares of wrong ones fixed, right ones broken."""
    pairs = [(bool(each.first.is_right), bool(each.last.is_right)) for each in marked if has_two_answers(each)]
    counts = {name: pairs.count((first, last)) for name, first, last in TRANSITIONS}
    wrong, right = counts["wr"] + counts["ww"], counts["rr"] + counts["rw"]
    return {
        **counts,
        "fix_rate": counts["wr"] / wrong if wrong else None,
        "break_rate": counts["rw"] / right if right else None,
    }


def has_two_answers(marked: Marked) -> bool:
    return marked.solutions is not None and marked.solutions.num_answers > 1


def _accuracy(marks: Sequence[Mark]) -> Totals:
    right = sum(mark.is_right is True for mark in marks)
    undecided = sum(mark.is_right is None for mark in marks)
    total = len(marks)
    low, high = wilson(right, total)
    return {
        "right": right,
        "accuracy": right / total if total else 0.0,
        "low": low,
        "high": high,
        "undecided": undecided,
        "bound": (right + undecided) / total if total else 0.0,
    }


def _deciders(marks: Sequence[Mark]) -> dict[str, int]:
    judged = sum(mark.rule.startswith("judge") for mark in marks)
    undecided = sum(mark.is_right is None for mark in marks)
    return {"rules": len(marks) - judged - undecided, "judge": judged, "nobody": undecided}


def _second(marked: Sequence[Marked]) -> Totals:
    """The last answer where there are two, as a training run counts: one answer alone is no second one."""
    return _accuracy([each.last if has_two_answers(each) else replace(each.last, is_right=False) for each in marked])


def _by_tag(marked: Sequence[Marked]) -> Totals:
    """Breakdown -> value -> accuracies, values by their names."""
    groups: dict[str, dict[str, list[Marked]]] = {}
    for each in marked:
        for breakdown, values in each.item.tags.items():
            for value in values:
                groups.setdefault(breakdown, {}).setdefault(value, []).append(each)
    return {
        breakdown: {
            value: {
                "items": len(members),
                "first": _accuracy([each.first for each in members]),
                "last": _accuracy([each.last for each in members]),
            }
            for value, members in sorted(values.items())
        }
        for breakdown, values in groups.items()
    }


def _figures(benchmark: Benchmark, pairs: Sequence[tuple[Marked, Mark]]) -> dict[str, float]:
    if benchmark.figures is None:
        return {}
    return benchmark.figures([(each.item, replace(mark, is_right=bool(mark.is_right))) for each, mark in pairs])


def _with_answers(marked: Iterable[Marked], is_meant: Callable[[int], bool]) -> int:
    return sum(each.solutions is not None and is_meant(each.solutions.num_answers) for each in marked)


def _share_of(flags: Iterable[bool]) -> float:
    listed = list(flags)
    return sum(listed) / len(listed) if listed else 0.0
