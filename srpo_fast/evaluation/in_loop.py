"""Benchmarks that are measured while a run trains: greedily, by the run's own engines, marked by rank 0."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from srpo_fast.bad_record import Problem
from srpo_fast.config import BenchmarkConfig, Config
from srpo_fast.evaluation.benchmark import Benchmark, Item
from srpo_fast.evaluation.benchmarks import load_benchmark
from srpo_fast.evaluation.data import chosen_split, open_source
from srpo_fast.evaluation.directory import Said
from srpo_fast.evaluation.marked_items import mark_all
from srpo_fast.evaluation.sampling import AHEAD, ItemQuestion, ask, encoded
from srpo_fast.evaluation.totals import totals_of
from srpo_fast.evaluation.usable_items import left_out, usable_items
from srpo_fast.grading.grader import Grader
from srpo_fast.parallel import Parallel, agree, from_main, gather_from_engines
from srpo_fast.prompts import PromptEncoder
from srpo_fast.rollout import Progress, RolloutEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBenchmark:
    benchmark: Benchmark
    items: Sequence[Item]
    question_of: ItemQuestion
    left_out: str | None  # records that are no items: how many and why; None: there are none


def open_benchmarks(config: Config, parallel: Parallel, note: Callable[[str], None]) -> list[OpenBenchmark]:
    """Those the config names, on every rank. A collective; raises UserError where data cannot be read."""
    every = agree(lambda: [open_benchmark(settings, config) for settings in config.evaluation.benchmarks], parallel)
    for opened in every:
        if opened.left_out:
            note(f"evaluation, {opened.benchmark.name}: {opened.left_out}: left out")
    return every


def open_benchmark(settings: BenchmarkConfig, config: Config) -> OpenBenchmark:
    """A benchmark with its items read. Raises UserError where that cannot be."""
    benchmark = load_benchmark(settings.name)
    split = chosen_split(benchmark, settings.split, settings.data)
    source = open_source(benchmark, settings.data, split)
    question_of = ItemQuestion(
        image_root=settings.image_root or source.root, min_pixels=config.data.min_pixels,
        max_pixels=config.data.max_pixels,
    )  # fmt: skip
    problems: list[Problem] = []
    items = list(usable_items(benchmark, source, split, settings.limit, config.data, problems))
    why = left_out(problems, len(items) + len(problems)) if problems else None
    return OpenBenchmark(benchmark=benchmark, items=items, question_of=question_of, left_out=why)


def measure(
    opened: OpenBenchmark, engine: RolloutEngine, encoder: PromptEncoder, system: str, config: Config,
    parallel: Parallel, progress: Progress,
) -> dict[str, float]:  # fmt: skip
    """evaluation/NAME/acc_first and acc_last, the same on every rank. A collective.

    Every engine answers its share. What cannot be asked, or marked without a judge, counts as wrong.
    """
    share = opened.items[parallel.engine_rank :: parallel.engines]
    answers = ask(
        share, partial(encoded, encoder, opened.question_of, system), lambda: engine, config.rollout.max_tokens,
        AHEAD * config.rollout.max_num_seqs,
    )  # fmt: skip
    mine: dict[str, str] = {}
    for result in answers:
        progress(parallel.engines)  # the others are about as far
        if isinstance(result, Said):
            mine[result.id] = result.text
    responses: dict[str, str] = {}
    for theirs in gather_from_engines(mine, parallel):
        responses |= theirs
    return from_main(partial(_figures, opened, responses, config), parallel)


def _figures(opened: OpenBenchmark, responses: dict[str, str], config: Config) -> dict[str, float]:
    with closing(Grader(config.reward)) as grader:
        marked = mark_all(opened.benchmark, opened.items, responses, "reflective", grader, lambda done: None)
    totals, name = totals_of(opened.benchmark, marked, "reflective"), opened.benchmark.name
    figures = {f"evaluation/{name}/acc_{answer}": totals[answer]["accuracy"] for answer in ("first", "last")}
    if opened.benchmark.judge is not None:
        figures[f"evaluation/{name}/undecided"] = totals["last"]["undecided"] / len(marked)
    return figures
