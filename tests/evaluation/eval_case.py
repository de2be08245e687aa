"""A benchmark small enough to work out by hand: its answer is the text's last word; "?WORD" only a judge can mark."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from srpo_fast.bad_record import Problem
from srpo_fast.config import DEFAULT_CONFIG, EndpointConfig, load_config
from srpo_fast.evaluation.benchmark import Answer, Benchmark, Item, JudgeTask, Mark, MarkedItem
from srpo_fast.evaluation.data import open_source
from srpo_fast.evaluation.judging import Budget
from srpo_fast.evaluation.marked_items import Marked, mark_all
from srpo_fast.evaluation.run import Evaluation, Task
from srpo_fast.evaluation.solutions import Protocol
from srpo_fast.evaluation.usable_items import usable_items
from srpo_fast.grading.grader import Grader
from srpo_fast.monitor.progress import PlainDisplay


def items(records: Iterator[Mapping[str, Any]], split: str) -> Iterator[Item]:
    for record in records:
        images = tuple(image["bytes"] or image["path"] for image in record.get("images") or ())
        yield Item(
            id=str(record["qid"]), prompt="<image>" * len(images) + record["q"], images=images, gold=(record["a"],),
            tags={"kind": tuple(record.get("kinds") or ())},
        )  # fmt: skip


def mark(answers: Sequence[Answer], grader: Grader) -> list[Mark]:
    return [_mark(item, text) for item, text in answers]


def _mark(item: Item, text: str) -> Mark:
    word = text.split()[-1]
    if word.startswith("?"):
        return Mark(is_right=None, extracted=word, rule="unclear")
    return Mark(is_right=word == item.gold[0], extracted=word, rule="last word")


def judge(item: Item, text: str) -> JudgeTask:
    def read(reply: str) -> Mark | None:
        verdicts = {"yes": True, "no": False}
        return Mark(is_right=verdicts[reply], extracted=text, rule="judge") if reply in verdicts else None

    return JudgeTask(system="yes or no", user=f"{item.prompt}: is {text} <image> {item.gold[0]}?", read=read)


def figures(marked: Sequence[MarkedItem]) -> dict[str, float]:
    assert all(isinstance(each.is_right, bool) for _, each in marked)
    return {"of_the_first_two": sum(bool(each.is_right) for _, each in marked[:2]) / 2}


TOY = Benchmark(
    name="toy", title="Toy", hub_id=None, splits=("test", "dev"), items=items, mark=mark, judge=judge, figures=figures
)


def two(first: str, last: str, reflection: str = "hm") -> str:
    """A response of the reflective form."""
    return (
        f"<think>a</think><answer>{first}</answer><reflection>{reflection}</reflection>"
        f"<think>b</think><answer>{last}</answer>"
    )


def one(answer: str) -> str:
    return f"<think>a</think><answer>{answer}</answer>"


def item(name: str = "0", gold: str = "right", **tags: tuple[str, ...]) -> Item:
    return Item(id=name, prompt="say it", images=(), gold=(gold,), tags=tags)


def marked(responses: Mapping[str, str], *of: Item, protocol: Protocol = "reflective") -> list[Marked]:
    """Marks of responses to items of these ids, whose gold is "right"."""
    every = of or tuple(item(name) for name in responses)
    return mark_all(TOY, every, responses, protocol, None, lambda done: None)  # type: ignore[arg-type]


def write_lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def question(name: str | int, gold: str = "right", **more: Any) -> dict[str, Any]:
    return {"qid": name, "q": "say it", "a": gold, **more}


def read(
    data: Path | None, split: str = "test", benchmark: Benchmark = TOY, limit: int | None = None,
    problems: list[Problem] | None = None, overrides: tuple[str, ...] = (),
) -> list[Item]:  # fmt: skip
    """The usable items of a file or folder; `problems` takes the others."""
    settings = load_config(DEFAULT_CONFIG, list(overrides)).data
    source = open_source(benchmark, data, split)
    return list(usable_items(benchmark, source, split, limit, settings, [] if problems is None else problems))


def evaluate(
    tmp_path: Path, responses: Mapping[str, str], judge: EndpointConfig | None = None, **changes: Any
) -> dict[str, Any]:
    """results.json of saved responses to questions of these ids."""
    task = Task(
        benchmark=TOY, split="test", data=write_lines(tmp_path / "data.jsonl", *map(question, responses)),
        image_root=None, limit=None, model=None, system="", protocol="reflective", max_tokens=1,
        responses=write_lines(tmp_path / "said.jsonl", *({"id": n, "response": t} for n, t in responses.items())),
        config=load_config(DEFAULT_CONFIG, []), judge=judge, budget=Budget(), judged_reflections=0,
        out=tmp_path / "out",
    )  # fmt: skip
    with (tmp_path / "shown").open("w") as shown:
        return Evaluation(replace(task, **changes), None, PlainDisplay(shown)).run()
