"""The records of a benchmark: of a local file or folder, or of its data set on the hub; images undecoded."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from srpo_fast.bad_record import BadRecord
from srpo_fast.config import UserError
from srpo_fast.evaluation.benchmark import Benchmark, Item
from srpo_fast.formats.recognise import as_object
from srpo_fast.formats.records import TextLines

_TABLES, _TEXTS = (".parquet", ".arrow"), (".jsonl", ".json")
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?")
_NO_CONFIG = ("", "data")  # folders that only hold files
_ROWS_AT_ONCE = 64
_NOT_OF_ITS_FORM = (KeyError, IndexError, TypeError, ValueError, AttributeError)  # what a foreign record makes of code


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file, and which part of the published data set it holds; "" of a file that was named by itself."""

    file: Path
    config: str
    split: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    parts: tuple[Part, ...]
    root: Path  # where relative image paths start


def chosen_split(benchmark: Benchmark, split: str | None) -> str:
    """The split asked for, or the usual one. Raises UserError when the benchmark has none of that name."""
    if split not in (None, *benchmark.splits):
        raise UserError(f"{benchmark.title} has the splits {', '.join(benchmark.splits)}, got {split!r:.80}")
    return split or benchmark.splits[0]


def open_source(benchmark: Benchmark, data: Path | None, split: str) -> Source:
    """The files to read; none where the benchmark makes its own items. Raises UserError when there are none."""
    if data is None:
        if benchmark.hub_id is None:
            return Source(parts=(), root=Path())
        data = _downloaded(benchmark, benchmark.hub_id, split)
    if data.is_file():
        return Source(parts=(Part(file=data, config="", split=""),), root=data.parent)
    if not data.is_dir():
        raise UserError(f"expected {benchmark.title}'s data at {data}, found nothing; check --data")
    every = _parts(data)
    if not every:
        raise UserError(f"expected {', '.join(_TABLES + _TEXTS)} files in {data}, found none; check --data")
    return Source(parts=tuple(_chosen(benchmark, every, split, str(data))), root=data)


def read_items(benchmark: Benchmark, source: Source, split: str, limit: int | None) -> Iterator[Item]:
    """The items of the benchmark in its order. Raises UserError for records that are not of its form, or equal ids."""
    last: dict[str, Any] = {}

    def watched() -> Iterator[Mapping[str, Any]]:
        for part in source.parts:
            for record in _records(part.file):
                last.clear()
                last.update(record)
                yield record | {"_config": part.config, "_split": part.split}

    seen: set[str] = set()
    try:
        for item in islice(benchmark.items(watched(), split), limit):
            if item.id in seen:
                raise BadRecord("unknown_fields", f"expected every id once, got {item.id:.80} again")
            seen.add(item.id)
            yield item
    except UserError as error:
        raise UserError(f"{benchmark.title}, {_place(source)}: {error}") from error
    except _NOT_OF_ITS_FORM as error:
        raise UserError(
            f"expected records of {benchmark.title} in {_place(source)}, got one with the fields "
            f"{', '.join(map(str, last)) or 'of none':.300} ({type(error).__name__}: {error!s:.100}); check --data"
        ) from error
    if not seen:
        raise UserError(f"expected items of {benchmark.title}'s split {split} in {_place(source)}, found none")


def _place(source: Source) -> str:
    files = [str(part.file) for part in source.parts]
    return f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else files[0] if files else "its own task"


def _chosen(benchmark: Benchmark, parts: Sequence[Part], split: str, place: str) -> list[Part]:
    """The parts that make up a split. Raises UserError when there are none."""
    reads = benchmark.reads or (lambda config, part_split, split: split in (config, part_split))
    chosen = [part for part in parts if reads(part.config, part.split, split)]
    if not chosen:
        held = sorted({f"{part.config}/{part.split}" for part in parts})
        raise UserError(
            f"expected files of {benchmark.title}'s split {split} in {place}, found {', '.join(held):.300}; check "
            "--data and --split, or name one file"
        )
    return chosen


def _parts(folder: Path) -> list[Part]:
    """What is in a folder by its layout: [data/ or CONFIG/]SPLIT[-00000-of-00001].parquet, or `save_to_disk`'s."""
    names = sorted(file.relative_to(folder) for file in folder.rglob("*"))
    return [replace(part, file=folder / part.file) for part in _labelled(names)]


def _labelled(names: Sequence[Path]) -> list[Part]:
    """The tables among the files of a data set; where there is none, the JSON files."""
    visible = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    tables = [name for name in visible if name.suffix in _TABLES]
    labels = ((name, _labels(name)) for name in tables or [name for name in visible if name.suffix in _TEXTS])
    return [Part(file=name, config=config, split=split) for name, (config, split) in labels]


def _labels(name: Path) -> tuple[str, str]:
    """The config and the split in a file's name within its data set."""
    shard = _SHARD.fullmatch(name.stem)
    split = shard[1] if shard else name.stem
    folder = name.parent.name
    if name.suffix == ".arrow":  # save_to_disk names the folder, not the file, after the split
        return "default", folder or split
    return "default" if folder in _NO_CONFIG else folder, split


def _downloaded(benchmark: Benchmark, hub_id: str, split: str) -> Path:
    """The folder of the hub's files in the local cache; those of the split are fetched unless they are there."""
    import huggingface_hub as hub
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import HfHubHTTPError

    try:
        if HF_HUB_OFFLINE:
            return Path(hub.snapshot_download(hub_id, repo_type="dataset", local_files_only=True))
        names = [Path(name) for name in hub.HfApi().list_repo_files(hub_id, repo_type="dataset")]
        wanted = [str(part.file) for part in _chosen(benchmark, _labelled(names), split, hub_id)]
        return Path(hub.snapshot_download(hub_id, repo_type="dataset", allow_patterns=wanted))
    except UserError:
        raise
    except (OSError, ValueError, HfHubHTTPError, *_connection_errors()) as error:
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise UserError(
            f"{benchmark.title} is the data set {hub_id} of the Hugging Face hub, which cannot be had here "
            f"({reason:.160}); download it elsewhere and give its folder with --data"
        ) from error


def _connection_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises without a network: its HTTP library differs between releases."""
    import importlib

    found: list[type[Exception]] = []
    for library, name in (("httpx", "HTTPError"), ("requests", "RequestException")):
        try:
            found.append(getattr(importlib.import_module(library), name))
        except ModuleNotFoundError:
            continue
    return tuple(found)


def _records(file: Path) -> Iterator[dict[str, Any]]:
    if file.suffix in _TABLES:
        yield from _rows(file)
    elif file.suffix in _TEXTS:
        yield from _objects(file)
    else:
        raise UserError(f"expected a {', '.join(_TABLES + _TEXTS)} file, got {file}; convert or rename it")


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table, images as their bytes and paths."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix == ".parquet":
            batches = pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE)
        else:
            batches = iter(pa.ipc.open_stream(pa.memory_map(str(file))))
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                yield from batch.slice(start, _ROWS_AT_ONCE).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"expected a readable table, got: {' '.join(str(error).split()):.200}; get it anew") from error


def _objects(file: Path) -> Iterator[dict[str, Any]]:
    """The records of JSON lines, of one array, or of one object whose values they are (`_key` then has the key)."""
    if file.suffix == ".json" and (whole := _whole_json(file)) is not None:
        pairs = whole.items() if isinstance(whole, dict) else ((None, record) for record in whole)
        for key, record in pairs:
            yield as_object(record) | ({} if key is None else {"_key": key})
        return
    lines = TextLines(file)
    for number, line in lines:
        try:
            yield as_object(line)
        except BadRecord as error:
            raise UserError(f"{lines.noun} {number}: {error}") from error


def _whole_json(file: Path) -> list[Any] | dict[str, Any] | None:
    """What one JSON document holds; None when the file has several, one a line."""
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        if "Extra data" in str(error):
            return None
        raise UserError(f"expected JSON in UTF-8, got: {error!s:.200}; repair the file") from error
    if isinstance(document, list | dict):
        return document
    raise UserError(f"expected a JSON array or object, got {document!r:.80}")
