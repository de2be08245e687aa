"""table.md: a run beside the paper's rows, and runs beside each other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from srpo_fast.config import UserError
from srpo_fast.evaluation.intervals import paired_difference
from srpo_fast.evaluation.paper_rows import MMK12_SUBJECTS, ROWS, UNSAID

Results = Mapping[str, Any]  # what results.json holds
ANSWERS = ("last", "first")
_ARROWS = {"wr": "W>R", "rr": "R>R", "rw": "R>W", "ww": "W>W"}


def table_of(results: Results) -> str:
    """The whole of table.md."""
    totals, settings = results["totals"], results["settings"]
    limit = "" if settings["limit"] is None else f"; only the first {settings['limit']:,} items"
    lines = [
        f"# {results['title']}, {settings['split']}: {totals['items']:,} items",
        "",
        f"{settings['responses_of']}; data {settings['data']}; protocol {settings['protocol']}{limit}; "
        "accuracy in % with Wilson's 95 % interval.",
        "",
        *_accuracy_table(results),
        *_remarks(results),
        *_transition_lines(totals),
        *_quality_lines(results),
        *(line for breakdown, values in totals["by_tag"].items() for line in _tag_table(results, breakdown, values)),
        *_figure_lines(totals),
    ]
    return "\n".join(lines) + "\n"


def compare(runs: Sequence[tuple[str, Results]]) -> str:
    """Runs of any benchmarks side by side, each against the first one of its benchmark, on the items both have."""
    groups: dict[tuple[str, str], list[tuple[str, Results]]] = {}
    for name, results in runs:
        groups.setdefault((results["title"], results["settings"]["split"]), []).append((name, results))
    parts = [
        line
        for (title, split), members in groups.items()
        for line in (f"# {title}, {split}", "", *_comparison(members), "")
    ]
    parts += [
        "Accuracy of the headline answer in %, with Wilson's 95 % interval. Difference: to the first run, on the items "
        "both have, with Agresti and Min's 95 % interval for pairs."
    ]
    return "\n".join(parts) + "\n"


# --- one run ---


def _accuracy_table(results: Results) -> list[str]:
    totals, headline = results["totals"], results["totals"]["headline"]
    rows = [
        [f"**this run, {answer} answer**" if answer == headline else f"this run, {answer} answer",
         *_with_interval(totals[answer]), ""]
        for answer in sorted(ANSWERS, key=lambda answer: answer != headline)
    ]  # fmt: skip
    paper = results["paper"]
    rows += [[f"paper, {row}", f"{figure:.1f}", "", _over(totals[headline], figure)] for row, figure in paper.items()]
    lines = _table(["", "accuracy", "95 %", "this run minus the paper's" if paper else ""], rows)
    unsaid = UNSAID.get(results["benchmark"]) if paper else None
    return [*lines, unsaid, ""] if unsaid else lines


def _remarks(results: Results) -> Iterator[str]:
    totals = results["totals"]
    mine, responses = totals[totals["headline"]], totals["responses"]
    if mine["undecided"]:
        yield (
            f"{mine['undecided']:,} answers are undecided: only a judge can mark them, and they count as wrong. "
            f"Were all of them right, the accuracy would be {_percent(mine['bound'])} %."
        )
        yield ""
    deciders = totals["decided_by"][totals["headline"]]
    if deciders["judge"] or deciders["nobody"]:
        yield (
            f"Of {totals['items']:,} answers rules decided {deciders['rules']:,}, the judge {deciders['judge']:,}, "
            f"nobody {deciders['nobody']:,}."
        )
        yield ""
    counts = {
        "without blocks": responses["without_blocks"],
        "with one answer": responses["one_answer"],
        "with two": responses["two_answers"],
        "missing": responses["missing"],
    }
    yield "Responses: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()) + "."
    yield ""
    for note in results["notes"]:
        yield f"- {note}"
    if results["notes"]:
        yield ""


def _transition_lines(totals: Mapping[str, Any]) -> list[str]:
    moves, total = totals["transitions"], totals["responses"]["two_answers"]
    if not total:
        return []
    cells = [f"{moves[key]:,} ({_percent(moves[key] / total)} %)" for key in _ARROWS]
    rates = [_percent(moves[rate]) for rate in ("fix_rate", "break_rate")]
    head = [*_ARROWS.values(), "wrong ones fixed, %", "right ones broken, %"]
    return [f"From the first to the last answer, {total:,} responses:", "", *_table(head, [[*cells, *rates]])]


def _quality_lines(results: Results) -> Iterator[str]:
    quality = results["reflection"]
    if not quality["reflections"]:
        return
    ratio = quality["length_ratio"]
    yield (
        f"Reflections: {quality['reflections']:,}; effective {_percent(quality['effective'])} %, redundant "
        f"{_percent(quality['redundant'])} %, detrimental {_percent(quality['detrimental'])} % (right afterwards, "
        f"still wrong, broken: the signs of equation 8); all that follows the first answer is "
        f"{'-' if ratio is None else f'{ratio:.2f}'} times as long as it."
    )
    yield ""
    if scores := results["reflection_judged"]:
        named = ", ".join(f"{name} {score:.2f}" for name, score in scores.items() if name not in ("asked", "scored"))
        yield f"A judge's scores from 0 to 5, {scores['scored']} of {scores['asked']} reflections: {named or 'none'}."
        yield ""


def _tag_table(results: Results, breakdown: str, values: Mapping[str, Any]) -> list[str]:
    headline = results["totals"]["headline"]
    other = "first" if headline == "last" else "last"
    paper = MMK12_SUBJECTS if (results["benchmark"], breakdown) == ("mmk12", "subject") else {}
    rows = [row for row in ROWS if any(row in figures for figures in paper.values())]
    lines = [
        [value, f"{each['items']:,}", *_with_interval(each[headline]), *_with_interval(each[other]),
         *(f"{paper[value][row]:.1f}" if row in paper.get(value, {}) else "" for row in rows)]
        for value, each in values.items()
    ]  # fmt: skip
    head = [
        breakdown,
        "items",
        f"{headline} answer",
        "95 %",
        f"{other} answer",
        "95 %",
        *(f"paper, {row}" for row in rows),
    ]
    return _table(head, lines)


def _figure_lines(totals: Mapping[str, Any]) -> list[str]:
    first, last = totals["figures"]["first"], totals["figures"]["last"]
    names = list(last | first)  # a share of nothing may be missing on one side
    rows = [[name, _percent(last.get(name)), _percent(first.get(name))] for name in names]
    return _table(["figure", "last answer", "first answer"], rows) if names else []


# --- several runs ---


def _comparison(members: Sequence[tuple[str, Results]]) -> list[str]:
    reference = _verdicts(members[0][1])
    rows = []
    for name, results in members:
        totals, verdicts = results["totals"], _verdicts(results)
        shared = [item for item in reference if item in verdicts]
        if not shared:
            raise UserError(f"{name} and {members[0][0]} have no item in common; compare runs of the same data")
        moves, difference = totals["transitions"], ""
        if results is not members[0][1]:
            change, low, high = paired_difference([reference[i] for i in shared], [verdicts[i] for i in shared])
            difference = f"{100 * change:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}), {len(shared):,} items"
        rows.append(
            [name, *_with_interval(totals[totals["headline"]]), *_with_interval(totals["first"]),
             _percent(moves["fix_rate"]), _percent(moves["break_rate"]), difference]
        )  # fmt: skip
    paper = members[0][1]["paper"]
    rows += [[f"paper, {row}", f"{figure:.1f}", "", "", "", "", "", ""] for row, figure in paper.items()]
    return _table(["", "accuracy", "95 %", "first answer", "95 %", "fixed, %", "broken, %", "difference"], rows)


def _verdicts(results: Results) -> dict[str, bool]:
    headline = results["totals"]["headline"]
    return {item["id"]: item[headline]["verdict"] == "right" for item in results["items"]}


# --- cells ---


def _with_interval(accuracy: Mapping[str, Any]) -> list[str]:
    return [_percent(accuracy["accuracy"]), f"{_percent(accuracy['low'])} to {_percent(accuracy['high'])}"]


def _over(accuracy: Mapping[str, Any], paper: float) -> str:
    """This run's distance from a figure of the paper, which comes without an error of its own."""
    ends = (100 * accuracy[key] - paper for key in ("accuracy", "low", "high"))
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*ends)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return [*("| " + " | ".join(map(_cell, row)) + " |" for row in (head, rule, *rows)), ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
