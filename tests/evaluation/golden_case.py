"""Benchmarks on files in their published form, and answers to those items that were judged by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from srpo_fast.evaluation.benchmark import Benchmark, Item, Mark
from srpo_fast.grading.grader import Grader

FIXTURES = Path(__file__).with_name("fixtures")
GOLDEN = Path(__file__).parents[1] / "golden"


def records_of(name: str) -> list[dict[str, Any]]:
    """Of a fixture, as published: pictures are bytes and a path."""
    return pq.read_table(FIXTURES / f"{name}.parquet").to_pylist()


def items_of(benchmark: Benchmark, records: Sequence[Mapping[str, Any]], split: str | None = None) -> list[Item]:
    return list(benchmark.items(iter(records), split or benchmark.splits[0]))


def disagreements(benchmark: Benchmark, grader: Grader) -> list[tuple[dict[str, Any], Mark]]:
    """The golden answers to the items of the benchmark's fixture that get another mark than by hand.

    A case may change its item's record.
    """
    records = {item.id: record for record in records_of(benchmark.name) for item in items_of(benchmark, [record])}
    cases = [json.loads(line) for line in (GOLDEN / f"evaluation_{benchmark.name}.jsonl").open()]
    assert len(cases) >= 40
    items = [items_of(benchmark, [records[case["item"]] | case.get("record", {})])[0] for case in cases]
    marks = benchmark.mark([(item, case["response"]) for item, case in zip(items, cases, strict=True)], grader)
    return [(case, mark) for case, mark in zip(cases, marks, strict=True) if mark.is_right is not case["verdict"]]
