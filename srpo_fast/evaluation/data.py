"""Where a benchmark's records are: a local file or folder, or its data set on the hub."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from srpo_fast.config import UserError
from srpo_fast.evaluation.benchmark import Benchmark
from srpo_fast.evaluation.record_files import TABLES, TEXTS

_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?")
_NO_CONFIG = ("", "data")  # folders that only hold files


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


def chosen_split(benchmark: Benchmark, split: str | None, data: Path | None = None) -> str:
    """The split asked for, else the one that the name of a single file tells, else the usual one.

    Raises UserError when the benchmark has none of that name.
    """
    if split not in (None, *benchmark.splits):
        raise UserError(f"{benchmark.title} has the splits {', '.join(benchmark.splits)}, got {split!r:.80}")
    told = _told(benchmark, data) if data is not None and data.is_file() else []
    return split or (told or benchmark.splits[:1])[-1]  # the last: of "all" and a part the part


def open_source(benchmark: Benchmark, data: Path | None, split: str) -> Source:
    """The files to read; none where the benchmark makes its own items. Raises UserError when there are none."""
    if data is None:
        if benchmark.hub_id is None:
            return Source(parts=(), root=Path())
        data = _downloaded(benchmark, benchmark.hub_id, split)
    if data.is_file():
        _require_split(benchmark, data, split)
        return Source(parts=(Part(file=data, config="", split=""),), root=data.parent)
    if not data.is_dir():
        raise UserError(f"expected {benchmark.title}'s data at {data}, found nothing; check --data")
    every = _parts(data)
    if not every:
        raise UserError(f"expected {', '.join(TABLES + TEXTS)} files in {data}, found none; check --data")
    return Source(parts=tuple(_chosen(benchmark, every, split, str(data))), root=data)


def _require_split(benchmark: Benchmark, file: Path, split: str) -> None:
    """Raises UserError for a file that is another split by its name; a name that tells nothing passes."""
    told = _told(benchmark, file)
    if told and split not in told:
        raise UserError(
            f"{file} is {benchmark.title}'s split {told[-1]} by its name, not {split}: leave --split out, or rename "
            "the file"
        )
    if not told and _labels(file)[1] == "train":
        raise UserError(f"{file} is training data by its name, not {benchmark.title}'s split {split}; check --data")


def _told(benchmark: Benchmark, file: Path) -> list[str]:
    """The splits that may be in a file by its name, or else by its folder's."""
    (config, named), reads = _labels(file), _reads(benchmark)
    for place in ("default", config):
        if told := [split for split in benchmark.splits if reads(place, named, split)]:
            return told
    return []


def _reads(benchmark: Benchmark) -> Callable[[str, str, str], bool]:
    return benchmark.reads or (lambda config, part_split, split: split in (config, part_split))


def _chosen(benchmark: Benchmark, parts: Sequence[Part], split: str, place: str) -> list[Part]:
    """The parts that make up a split. Raises UserError when there are none."""
    reads = _reads(benchmark)
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
    tables = [name for name in visible if name.suffix in TABLES]
    labels = ((name, _labels(name)) for name in tables or [name for name in visible if name.suffix in TEXTS])
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
