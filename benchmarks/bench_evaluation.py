"""Seconds in which `srpo eval` goes from a file of saved responses to results.json, by the reward's own comparison.

A fifth of the answers needs symbolic comparison, each with a gold of its own. Processor time includes the workers'. The
last line of stdout is one JSON document.
"""

import argparse
import json
import random
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import psutil

from benchmarks.machine import machine
from benchmarks.options import at_least
from srpo_fast.config import DEFAULT_CONFIG, load_config
from srpo_fast.evaluation.benchmark import Item
from srpo_fast.evaluation.benchmarks import load_benchmark
from srpo_fast.evaluation.judging import Budget
from srpo_fast.evaluation.run import Evaluation, Task
from srpo_fast.monitor.progress import PlainDisplay

GOAL_S = 60.0  # for 10,000 responses on two cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", type=at_least(1), default=10_000, help="(default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open("/dev/stderr", "w") as shown:
        task = _task(Path(folder), arguments.responses)
        start, cpu = time.perf_counter(), _cpu_seconds()
        with redirect_stdout(shown):
            results = Evaluation(task, None, PlainDisplay(shown)).run()
        seconds, cpu_s = time.perf_counter() - start, _cpu_seconds() - cpu
    totals = results["totals"]
    print(
        f"{arguments.responses:,} responses with two answers: {seconds:.1f} s, {cpu_s:.1f} s of processor time; goal "
        f"{GOAL_S:g} s for 10,000; last answers right: {100 * totals['last']['accuracy']:.1f} %"
    )
    row = {
        "responses": arguments.responses,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "marking_s": results["seconds"]["marking"],
    }
    print(json.dumps({"rows": [row], "goal_s": GOAL_S, **machine()}))


def _task(folder: Path, number: int) -> Task:
    draw = random.Random(0)
    questions = [_question(index, draw) for index in range(number)]
    file = folder / "responses.jsonl"
    lines = ({"id": str(index), "response": text} for index, (_, text) in enumerate(questions))
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    items = [Item(id=str(i), prompt="?", images=(), gold=(gold,)) for i, (gold, _) in enumerate(questions)]
    return Task(
        benchmark=replace(load_benchmark("embedded"), items=lambda records, split: iter(items)), split="heldout",
        data=None, image_root=None, limit=None, model=None, responses=file, system="", protocol="reflective",
        max_tokens=1, config=load_config(DEFAULT_CONFIG, []), judge=None, budget=Budget(), judged_reflections=0,
        out=folder / "out",
    )  # fmt: skip


def _question(index: int, draw: random.Random) -> tuple[str, str]:
    """A gold and a response of about 500 words."""
    kinds = {
        "number": (str(index), f"{index}.0"),
        "letter": ("B", "B"),
        "text": (f"a triangle of kind {index}", f"A triangle of kind {index}"),
        "fraction": (rf"\frac{{{index}}}{{7}}", f"{index}/7"),
        "expression": (rf"\sqrt{{{index + 2}}} + x^2", rf"x^2 + ({index + 2})^{{1/2}}"),
    }
    gold, right = kinds[list(kinds)[index % len(kinds)]]
    first, last = (right if draw.random() < share else f"{index + 1}" for share in (0.5, 0.7))
    think = "so the angle is larger than that, " * 35
    solution = "<think>{}</think><answer>The answer is $\\boxed{{{}}}$</answer>"
    return gold, f"{solution.format(think, first)}<reflection>{think}</reflection>{solution.format(think, last)}"


def _cpu_seconds() -> float:
    times = psutil.Process().cpu_times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
