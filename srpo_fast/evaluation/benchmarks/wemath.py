"""We-Math: school geometry in families of questions, each a problem of two or three steps and its single steps.

Rules: the authors' scripts (github We-Math/We-Math, evaluation/four_dimensional_metrics.py and accuracy.py). A question
is multiple choice. A family whose whole problem is solved wrongly shows insufficient knowledge if a step is wrong, and
inadequate generalization if none is. One whose whole problem is solved shows complete mastery if its steps are right,
and else rote memorization; under the loose reading mastery needs one right step only. Shares are of all families, but
rote memorization's is of the families solved. score = 1 - IK - IG / 2 - RM, where RM counts as a share of all families.

The authors divide by 525, the families of testmini. We divide by the families that are complete, the same number there,
and leave out a share of nothing. Their parser takes the letter after the last "Answer"; ours also takes boxes and the
option's text.

Which of these the paper's column is, it does not say, and its rows point both ways. Plain accuracy: from the published
accuracies by step of Qwen2-VL-7B (59.1, 43.6, 26.7) it is 52.8, where its scores are 25.6 strict and 43.0 loose, and
the paper has 51.6. The loose score: for Qwen2.5-VL-7B others publish 63.5 (github XenoZLH/Shuffle-R1), and the paper
has 62.1. It is hardly the strict score. lmms-eval reports all three.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmark import Answer, Benchmark, Item, Mark, MarkedItem
from srpo_fast.evaluation.marking import Pending, marks_of
from srpo_fast.evaluation.option_answers import lettered, option_lines, read_option
from srpo_fast.evaluation.published_records import image_of, text_of
from srpo_fast.grading.grader import Grader
from srpo_fast.image_marks import IMAGE_MARK, without_marks

_KEY = re.compile(r"(?P<steps>[23])steps_(?P<part>[123]|multi)")
_OPTION = re.compile(r"(?:^|[;\uff1b\n])\s*(?P<letter>[A-H])\s*[.\uff0e\u3001:)]\s*")
_ANGLES = re.compile(r"<<|>>")  # around the answer in the authors' prompt

Family = dict[str, bool]  # part -> is it right?


def _items(records: Iterator[Mapping[str, Any]], split: str) -> Iterator[Item]:
    for record in records:
        key = _KEY.fullmatch(text_of(record, "key"))
        if key is None:
            raise BadRecord(
                "unreadable_record", f"expected 2steps_1 .. 3steps_multi in the field 'key', got {record['key']!r:.80}"
            )
        yield _item(record, key)


def _item(record: Mapping[str, Any], key: re.Match[str]) -> Item:
    family = text_of(record, "ID")
    options, answer = split_options(text_of(record, "option")), text_of(record, "answer").strip().upper()
    if answer not in dict(lettered(options)):
        raise BadRecord("bad_answer", f"expected the letter of one of {len(options)} options, got {answer!r:.80}")
    question = without_marks(text_of(record, "question").strip())
    lines = without_marks(option_lines(options, "{}. {}"))
    is_whole = key["part"] == "multi"
    return Item(
        id=f"{family}-{key[0]}",
        prompt=f"{IMAGE_MARK}\n{question}\n{lines}\nGive the letter of the right option.",
        images=(image_of(record, "image_path", "image"),),
        gold=(answer,),
        options=options,
        answer_type="multi-choice",
        tags={
            "step": (f"{key['steps'] if is_whole else 1}-step",),
            "knowledge": () if is_whole else (text_of(record, "knowledge concept"),),
        },
        details={"family": f"{key['steps']}/{family}", "part": key["part"], "steps": int(key["steps"])},
    )


def split_options(text: str) -> tuple[str, ...]:
    """The options of "A. 3;B. 4; C. 5". Raises BadRecord unless they are A, B, .. in order."""
    found = list(_OPTION.finditer(text))
    letters = "".join(option["letter"] for option in found)
    if len(letters) < 2 or not "ABCDEFGH".startswith(letters):
        raise BadRecord("bad_question", f"expected options as in 'A. 3;B. 4' in the field 'option', got {text!r:.80}")
    ends = [option.start() for option in found[1:]] + [len(text)]
    return tuple(text[option.end() : end].strip(" ;\uff1b\n") for option, end in zip(found, ends, strict=True))


def _mark(answers: Sequence[Answer], grader: Grader) -> list[Mark]:
    return marks_of(answers, grader, _read)


def _read(item: Item, text: str) -> Mark | Pending:
    return read_option(item, _ANGLES.sub(" ", text), if_open=False)


def _figures(marked: Sequence[MarkedItem]) -> dict[str, float]:
    """Accuracy by number of steps is among the tags."""
    families: dict[str, Family] = defaultdict(dict)
    sizes: dict[str, int] = {}
    for item, mark in marked:
        families[item.details["family"]][item.details["part"]] = bool(mark.is_right)
        sizes[item.details["family"]] = item.details["steps"] + 1
    return four_dimensions([family for name, family in families.items() if len(family) == sizes[name]])


def four_dimensions(families: Sequence[Family]) -> dict[str, float]:
    """The authors' figures over complete families, as shares; {} without any."""
    if not families:
        return {}
    steps = [[is_right for part, is_right in family.items() if part != "multi"] for family in families]
    solved = [family["multi"] for family in families]
    unsolved = [known for known, is_solved in zip(steps, solved, strict=True) if not is_solved]
    mastered = [known for known, is_solved in zip(steps, solved, strict=True) if is_solved]
    total = len(families)
    ignorance = sum(not all(known) for known in unsolved) / total
    generalization = sum(all(known) for known in unsolved) / total
    figures = {"insufficient_knowledge": ignorance, "inadequate_generalization": generalization}
    for name, suffices in (("strict", all), ("loose", any)):
        complete = sum(suffices(known) for known in mastered)
        rote = len(mastered) - complete
        figures[f"complete_mastery_{name}"] = complete / total
        if mastered:
            figures[f"rote_memorization_{name}"] = rote / len(mastered)
        figures[f"score_{name}"] = 1 - ignorance - generalization / 2 - rote / total
    return figures


BENCHMARK = Benchmark(
    name="wemath",
    title="We-Math",
    hub_id="We-Math/We-Math",
    splits=("testmini",),
    items=_items,
    mark=_mark,
    figures=_figures,
)
