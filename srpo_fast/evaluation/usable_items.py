"""The items of a benchmark that can be used: a broken record costs only itself, too many end the command."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from srpo_fast.bad_record import BadRecord, Problem
from srpo_fast.config import DataConfig, UserError
from srpo_fast.evaluation.benchmark import Benchmark, Item
from srpo_fast.evaluation.data import Part, Source
from srpo_fast.evaluation.record_files import Record, read_records
from srpo_fast.image_marks import IMAGE_MARK, images_in_words

_NOT_OF_ITS_FORM = (KeyError, IndexError, TypeError, ValueError, AttributeError)  # what a foreign record makes of code


def usable_items(
    benchmark: Benchmark, source: Source, split: str, limit: int | None, settings: DataConfig, problems: list[Problem]
) -> Iterator[Item]:
    """The items in their order; the records that are none go to `problems`. `limit` counts both.

    Raises UserError for files that cannot be read or hold no item, and, at the end, for more problems than allowed.
    """
    seen: set[str] = set()
    try:
        for each in islice(_read(benchmark, source, split, seen), limit):
            if isinstance(each, Problem):
                problems.append(each)
            else:
                yield each
        if not seen and not problems:
            raise UserError(f"expected items of the split {split}, found none; check --data and --split")
        require_few(problems, len(seen) + len(problems), settings)
    except UserError as error:
        raise UserError(f"{benchmark.title}, {_place(source)}: {error}") from error


def require_few(problems: list[Problem], total: int, settings: DataConfig) -> None:
    """Raises UserError when more of `total` cannot be used than the config allows."""
    allowed = 0.0 if settings.bad_records == "stop" else settings.max_bad_share
    if len(problems) > allowed * total:
        limit = "data.bad_records=stop" if settings.bad_records == "stop" else f"data.max_bad_share={allowed}"
        raise UserError(f"{left_out(problems, total)}; more than {limit} allows: check data and images, or raise it")


def left_out(problems: list[Problem], total: int) -> str:
    """How many, and why the first."""
    return f"{len(problems):,} of {total:,} items cannot be used; the first, {problems[0]}"


def _read(benchmark: Benchmark, source: Source, split: str, seen: set[str]) -> Iterator[Item | Problem]:
    if not source.parts:
        found = benchmark.items(iter(()), split)
        yield from (_distinct(item, "its own task", seen) for item in found)
    for part in source.parts:
        for place, record in read_records(part.file):
            place = place if len(source.parts) == 1 else f"{_name(part)}, {place}"
            for each in _items_of(benchmark, part, split, record, place):
                yield each if isinstance(each, Problem) else _distinct(each, place, seen)


def _items_of(
    benchmark: Benchmark, part: Part, split: str, record: Record | BadRecord, place: str
) -> list[Item] | list[Problem]:
    """What one record holds: an item, none of this split, or a problem."""
    try:
        if isinstance(record, BadRecord):
            raise record
        items = list(benchmark.items(iter([record | {"_config": part.config, "_split": part.split}]), split))
        for item in items:
            _require_whole(item)
        return items
    except BadRecord as error:
        return [Problem(id=place, place=place, reason=error.reason, message=" ".join(str(error).split()))]
    except _NOT_OF_ITS_FORM as error:
        assert isinstance(record, dict)
        message = (
            f"expected a record of {benchmark.title}, got one with the fields {', '.join(map(str, record))!s:.300} "
            f"({type(error).__name__}: {error!s:.100})"
        )
        return [Problem(id=place, place=place, reason="unreadable_record", message=" ".join(message.split()))]


def _require_whole(item: Item) -> None:
    """Raises BadRecord for what would go wrong later, or be marked wrong whatever a model says."""
    if not item.gold or not all(gold.strip() for gold in item.gold):
        raise BadRecord("bad_answer", f"{item.id:.80}: expected an answer, got none")
    if not all(isinstance(value, str) for values in item.tags.values() for value in values):
        raise BadRecord("unreadable_record", f"{item.id:.80}: expected texts in {', '.join(item.tags)}")
    if item.prompt.count(IMAGE_MARK) != len(item.images):
        marks = item.prompt.count(IMAGE_MARK)
        raise BadRecord(
            "image_marks", f"{item.id:.80}: expected {images_in_words(marks)}, as it mentions, got {len(item.images)}"
        )


def _distinct(item: Item, place: str, seen: set[str]) -> Item | Problem:
    if item.id in seen:
        message = f"expected every id once, got {item.id:.80} again"
        return Problem(id=item.id, place=place, reason="unknown_fields", message=message)
    seen.add(item.id)
    return item


def _name(part: Part) -> str:
    return str(Path(part.file.parent.name) / part.file.name)


def _place(source: Source) -> str:
    files = [str(part.file) for part in source.parts]
    return f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else files[0] if files else "its own task"
