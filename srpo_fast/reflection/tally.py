"""What stage 1 has to show: counts, shares, lengths, tokens, reasons; as a dictionary and as a table."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from srpo_fast.reflection.directory import ReflectionDirectory
from srpo_fast.reflection.examples import Example
from srpo_fast.reflection.pool import Pool
from srpo_fast.reflection.records import FirstAnswer, Judgement, Reflection
from srpo_fast.responses import parse

Statistics = dict[str, Any]  # plain values, as statistics.json has them


def statistics_of(
    directory: ReflectionDirectory, pool: Pool, drawn: Sequence[str], candidates: Sequence[FirstAnswer],
    examples: Sequence[Example], *, wanted: int, seconds: Mapping[str, float], usage: Mapping[str, Any],
) -> Statistics:  # fmt: skip
    """All of it. candidates: first solutions that are good enough. seconds, usage: of this process, by step."""
    answers = [directory.answers[each] for each in drawn if each in directory.answers]
    judgements = [directory.judgements[each] for each in drawn if each in directory.judgements]
    reflections = [directory.reflections[each] for each in drawn if each in directory.reflections]
    rejected = [directory.rejected[each] for each in drawn if each in directory.rejected]
    return {
        "pool": {"usable": len(pool), "unusable": len(pool.problems)},
        "drawn": len(drawn),
        "first_answers": _right_and_wrong(answers),
        "judgements": len(judgements),
        "quality": dict(sorted(Counter(str(judgement.quality) for judgement in judgements).items())),
        "candidates": _right_and_wrong(candidates),
        "reflections": len(reflections),
        "examples": _right_and_wrong([example.answer for example in examples]),
        "wanted": wanted,
        "leaks": dict(Counter(leak for example in examples for leak in example.leaks)),
        "examples_with_leaks": sum(bool(example.leaks) for example in examples),
        "rejected": dict(Counter(f"{each.step}: {each.reason}" for each in rejected).most_common()),
        "words": _lengths(examples),
        "tokens": {
            "first answers": _tokens(answers), "judgements": _tokens(judgements), "reflections": _tokens(reflections)
        },
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "usage": dict(usage),
    }  # fmt: skip


def _right_and_wrong(answers: Sequence[FirstAnswer]) -> dict[str, int]:
    right = sum(answer.is_right for answer in answers)
    return {"all": len(answers), "right": right, "wrong": len(answers) - right}


def _lengths(examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Of the examples' parts in words between white space: mean, median, largest."""
    parts = {
        "first answer": [example.answer.text for example in examples],
        "reflection": [example.reflection.text for example in examples],
        "second reasoning": [parse(example.completion).second_think or "" for example in examples],
    }
    lengths = {name: [len(text.split()) for text in texts] for name, texts in parts.items()}
    return {
        name: {"mean": round(mean(words), 1), "median": median(words), "max": max(words)}
        for name, words in lengths.items()
        if any(words)
    }


def _tokens(results: Iterable[FirstAnswer | Judgement | Reflection]) -> dict[str, int]:
    results = list(results)
    return {
        "prompt": sum(result.prompt_tokens for result in results),
        "completion": sum(result.completion_tokens for result in results),
    }


def as_text(s: Statistics) -> str:
    """One line: how many of what were made of how many."""
    return (
        f"{_shares(s['examples'])} of {s['wanted']:,} examples, from {s['reflections']:,} reflections on "
        f"{_shares(s['first_answers'])} first answers to {s['drawn']:,} questions; "
        f"rejected: {_counts(s['rejected']) or 'none'}"
    )


def as_table(statistics: Statistics) -> Table:
    """Two columns, for eyes."""
    table = Table(box=SIMPLE_HEAD, show_header=False, padding=(0, 1))
    table.add_column("", style="bold")
    table.add_column("")
    for name, value in _rows(statistics):
        table.add_row(name, value)
    return table


def _rows(s: Statistics) -> list[tuple[str, str]]:
    words = [f"{name} {found['mean']:g} (at most {found['max']})" for name, found in s["words"].items()]
    tokens = [f"{name} {t['prompt']:,} + {t['completion']:,}" for name, t in s["tokens"].items() if any(t.values())]
    rows = [
        ("questions drawn", f"{s['drawn']:,} of {s['pool']['usable']:,}"),
        ("unusable records", f"{s['pool']['unusable'] or ''}"),
        ("first answers", _shares(s["first_answers"])),
        ("judged, by quality", _counts(s["quality"])),
        ("first solutions kept", _shares(s["candidates"])),
        ("reflections", f"{s['reflections']:,}"),
        ("examples", f"{_shares(s['examples'])}; {s['wanted']:,} wanted"),
        ("first to second", f"wrong to right {s['examples']['wrong']:,}, right to right {s['examples']['right']:,}"),
        ("that leak the answer", f"{s['examples_with_leaks']:,}  {_counts(s['leaks'])}"),
        ("rejected", _counts(s["rejected"])),
        ("words", ", ".join(words)),
        ("tokens, in + out", ", ".join(tokens)),
        ("requests now", ", ".join(_usage(name, usage) for name, usage in s["usage"].items())),
        ("seconds now", ", ".join(f"{name} {value:g}" for name, value in s["seconds"].items())),
    ]
    return [(name, value.strip()) for name, value in rows if value.strip()]


def _shares(counts: Mapping[str, int]) -> str:
    share = f" ({counts['right'] / counts['all']:.0%} right)" if counts["all"] else ""
    return f"{counts['all']:,}{share}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _usage(name: str, usage: Mapping[str, Any]) -> str:
    price = "" if usage["dollars"] is None else f", {usage['dollars']:.2f} dollars"
    return f"{name} {usage['requests']:,} ({usage['retries']:,} retries{price})"
